//! The scoring thread: takes batches of finished flows, judges them, hands the verdicts to the sinks.
//!
//! Its queue holds [`QUEUE_BATCHES`] batches; when it is full the drain thread waits (see `sensor::drain`), so nothing
//! is dropped here. It ends when the sender is dropped and the queue is empty.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use log::error;
use ml_ids_common::FlowRecord;

use super::{Judge, Judged, Shadow, Stats, drift::DriftWatch, verdict::is_judged};
use crate::{respond::Responder, sink::Sinks};

/// Most batches that wait for the scoring thread.
pub const QUEUE_BATCHES: usize = 64;

/// Who looks on and changes no verdict.
pub struct Watchers {
    /// The books.
    pub stats: Arc<Stats>,
    /// Whether traffic still looks like the training data.
    pub drift: Arc<DriftWatch>,
    /// A second model that scores the same flows.
    pub shadow: Option<Arc<Shadow>>,
}

/// The running thread.
pub struct Pipeline {
    thread: JoinHandle<()>,
}

impl Pipeline {
    /// Starts the thread. Returns where to send batches. `done` is told how many records of each have been dealt with, after
    /// the verdicts have been written.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        judge: Judge,
        responder: Arc<Responder>,
        sinks: Sinks,
        watchers: Watchers,
        done: impl Fn(u64) + Send + 'static,
    ) -> io::Result<(Self, SyncSender<Vec<FlowRecord>>)> {
        let (sender, receiver) = sync_channel(QUEUE_BATCHES);
        let thread = thread::Builder::new()
            .name("ml-ids-score".to_owned())
            .spawn(move || work(&judge, &responder, sinks, &watchers, &receiver, done))?;
        Ok((Self { thread }, sender))
    }

    /// Waits until everything that was sent has been judged and written. The sender must have been dropped.
    pub fn finish(self) {
        if self.thread.join().is_err() {
            error!("the scoring thread ended with a panic; verdicts may be missing");
        }
    }
}

fn work(
    judge: &Judge,
    responder: &Responder,
    mut sinks: Sinks,
    watchers: &Watchers,
    receiver: &Receiver<Vec<FlowRecord>>,
    done: impl Fn(u64),
) {
    let Watchers { stats, drift, shadow } = watchers;
    while let Ok(mut records) = receiver.recv() {
        let received = records.len();
        records.retain(is_judged);
        let judged = records.len();
        stats.count_received(received, received - judged);
        match judge.judge(records) {
            Ok(Judged { model, verdicts }) => {
                if let Some(shadow) = shadow {
                    shadow.offer(&model, verdicts.iter().map(|verdict| (&verdict.features, &verdict.score)));
                }
                // Before the allow-list: an alert that is allowed still says how the model sees this network.
                drift.observe(&model, &verdicts, Instant::now());
                for mut verdict in verdicts {
                    if verdict.alert && responder.allows(verdict.record.source().0) {
                        verdict.alert = false;
                        stats.count_allowed();
                    }
                    stats.count_verdict(verdict.alert, verdict.untrained);
                    sinks.write(&verdict, &model);
                    if verdict.alert {
                        responder.answer(&verdict, &model);
                    }
                }
            }
            Err(error) => {
                stats.count_failed(judged);
                error!("cannot score {judged} flows: {error}");
            }
        }
        sinks.flush();
        done(received as u64);
    }
}
