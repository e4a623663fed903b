//! The scoring thread: takes batches of finished flows, judges them, hands the verdicts to the sinks.
//!
//! Its queue holds [`QUEUE_BATCHES`] batches; when it is full the drain thread waits (see `sensor::drain`), so nothing
//! is dropped here. It ends when the sender is dropped and the queue is empty.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use log::error;
use ml_ids_common::FlowRecord;

use super::{Judge, Judged, Shadow, Stats, drift::DriftWatch, verdict::is_judged};
use crate::{alert::Desk, respond::Responder, sink::Sinks};

/// Most batches that wait for the scoring thread.
pub const QUEUE_BATCHES: usize = 64;
/// Flows from which on a batch is not made larger: the model gains no more (docs/models.md).
const FULL_BATCH: usize = 256;
/// Alerts are looked at that often when no flow ends, as they end by themselves.
const TICK: Duration = Duration::from_secs(1);

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
    /// Starts the thread. Returns where to send batches.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        judge: Judge,
        responder: Arc<Responder>,
        sinks: Sinks,
        desk: Desk,
        watchers: Watchers,
    ) -> io::Result<(Self, SyncSender<Vec<FlowRecord>>)> {
        let (sender, receiver) = sync_channel(QUEUE_BATCHES);
        let thread = thread::Builder::new()
            .name("ml-ids-score".to_owned())
            .spawn(move || work(&judge, &responder, &sinks, desk, &watchers, &receiver))?;
        Ok((Self { thread }, sender))
    }

    /// Waits until everything that was sent has been judged and written. The sender must have been dropped.
    pub fn finish(self) {
        if self.thread.join().is_err() {
            error!(
                "the scoring thread ended with a panic; verdicts may be missing, restart the sensor and report this with the lines above"
            );
        }
    }
}

fn work(
    judge: &Judge,
    responder: &Responder,
    sinks: &Sinks,
    mut desk: Desk,
    watchers: &Watchers,
    receiver: &Receiver<Vec<FlowRecord>>,
) {
    let Watchers { stats, drift, shadow } = watchers;
    loop {
        let first = match receiver.recv_timeout(TICK) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => {
                desk.tick();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let mut records = with_company(first, receiver);
        let received = records.len();
        stats.count_received(&records);
        for record in records.extract_if(.., |record| !is_judged(record)) {
            sinks.write_unjudged(&record);
        }
        let judged = records.len();
        stats.count_other_protocol(received - judged);
        let began = Instant::now();
        let outcome = judge.judge(records);
        let took = began.elapsed();
        match outcome {
            Ok(Judged { model, verdicts }) => {
                stats.timing().observe(&verdicts, took, SystemTime::now());
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
                        stats.count_alert_class(
                            model.contract().classes.get(verdict.score.class).map_or("", String::as_str),
                        );
                        responder.answer(&verdict, &model);
                        desk.observe(&verdict, &model, || sinks.evidence(&verdict, &model));
                    }
                }
            }
            Err(error) => {
                stats.count_failed(judged);
                error!(
                    "cannot score {judged} flows: {error}; they are counted as failed, load another model if it goes on"
                );
            }
        }
        desk.tick();
        sinks.mark(received as u64);
    }
    desk.finish();
}

/// The batch together with those that already wait. The drain thread has collected flows for milliseconds, so nothing is
/// waited for here; small batches pile up while the sinks are slow.
fn with_company(mut records: Vec<FlowRecord>, receiver: &Receiver<Vec<FlowRecord>>) -> Vec<FlowRecord> {
    while records.len() < FULL_BATCH {
        match receiver.try_recv() {
            Ok(more) => records.extend(more),
            Err(_) => break,
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use ml_ids_common::{EndReason, FlowState};

    use super::*;

    fn records(first: u64, count: u64) -> Vec<FlowRecord> {
        let record =
            |number| FlowRecord::finish(FlowState { start_us: number, ..FlowState::default() }, EndReason::Timeout);
        (first..first + count).map(record).collect()
    }

    #[test]
    fn batches_that_wait_are_judged_together_in_order_until_one_is_full() {
        let (sender, receiver) = sync_channel(8);
        for (first, count) in [(2, 1), (3, 252), (255, 200), (455, 1)] {
            sender.send(records(first, count)).unwrap();
        }
        let batch = with_company(records(0, 2), &receiver);
        let order: Vec<_> = batch.iter().map(|record| record.state().start_us).collect();
        assert_eq!(order, (0..455).collect::<Vec<_>>());
        assert_eq!(with_company(receiver.recv().unwrap(), &receiver).len(), 1);
    }
}
