//! SIGHUP, handed on to whoever has registered for it: look for another model, read tokens and certificates again, open log
//! files anew.
//!
//! There is one handler for the whole process, set before anything that takes long: a hangup that comes while the model is
//! still loading must not end the sensor. Hangups that come while one is being dealt with are dealt with once, afterwards.

use anyhow::{Context as _, Result};
use log::{error, info};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::config;

/// Hangups to come. Each clone sees all that come after it was made.
#[derive(Clone)]
pub(super) struct Hangups(watch::Receiver<u64>);

impl Hangups {
    /// Takes the signal over from the system, which would end the process by it. Needs a runtime.
    ///
    /// # Errors
    /// When the handler cannot be set.
    pub(super) fn listen() -> Result<Self> {
        let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        let (sender, receiver) = watch::channel(0);
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                info!("SIGHUP: models, tokens, certificates and log files are looked at again");
                if let Some(file) = config::in_use() {
                    info!("SIGHUP: {} is read at start only; restart for what has changed in it", file.display());
                }
                sender.send_modify(|count| *count += 1);
            }
        });
        Ok(Self(receiver))
    }

    /// Waits for the next one. False when there will be none any more.
    pub(super) async fn next(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }

    /// Calls a function at each, on a thread that may wait, never twice at a time. It says itself what came of it.
    pub(super) fn each(&self, mut act: impl FnMut() + Send + 'static) {
        let mut hangups = self.clone();
        // One that came before this call is not this function's.
        hangups.0.mark_unchanged();
        tokio::spawn(async move {
            while hangups.next().await {
                let acted = tokio::task::spawn_blocking(move || {
                    act();
                    act
                });
                match acted.await {
                    Ok(again) => act = again,
                    Err(error) => {
                        error!("what is to be done at SIGHUP failed and will not be tried again: {error}");
                        return;
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn whoever_registers_is_called_at_each_hangup_and_not_for_those_before() {
        let (sender, receiver) = watch::channel(0);
        let hangups = Hangups(receiver);
        sender.send_replace(1);
        let (called, mut calls) = mpsc::unbounded_channel();
        for name in ["tokens", "logs"] {
            let called = called.clone();
            hangups.each(move || called.send(name).expect("the test listens"));
        }
        drop(called);
        for round in 2..4 {
            sender.send_replace(round);
            let mut found = [calls.recv().await, calls.recv().await];
            found.sort();
            assert_eq!(found, [Some("logs"), Some("tokens")]);
        }
        drop(sender);
        assert_eq!(calls.recv().await, None, "called without a hangup");
    }
}
