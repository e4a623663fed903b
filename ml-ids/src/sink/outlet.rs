//! The thread of one sink: takes events from its queue in batches, tries again what did not arrive, and says once that
//! the other side is away and once that it is back.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use log::{info, warn};

use super::{
    counters::SinkCounters,
    event::Event,
    hub::{BATCH, End, First, Sink},
};

/// After this time without an event the sink may see to itself.
const IDLE: Duration = Duration::from_secs(1);
/// First pause after a failure; doubled by each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Longest pause that the other side may ask for.
const LONGEST_WISH: Duration = Duration::from_secs(300);

/// What travels to a sink.
pub(super) enum Message {
    Event(Event),
    /// So many more records are dealt with when what came before is delivered.
    Mark(u64),
    Reopen,
}

/// A sink with its queue.
pub(super) struct Outlet {
    name: &'static str,
    sink: Box<dyn Sink>,
    queue: Receiver<Message>,
    counters: Arc<SinkCounters>,
    end: Arc<End>,
    marked: Box<dyn Fn(u64) + Send>,
    batch: Vec<Event>,
}

impl Outlet {
    pub(super) fn new(
        name: &'static str,
        sink: Box<dyn Sink>,
        queue: Receiver<Message>,
        counters: Arc<SinkCounters>,
        end: Arc<End>,
        marked: Box<dyn Fn(u64) + Send>,
    ) -> Self {
        Self { name, sink, queue, counters, end, marked, batch: Vec::with_capacity(BATCH) }
    }

    /// Delivers until the hub is gone and the queue is empty, or the time after the end is over.
    pub(super) fn run(mut self) {
        loop {
            match self.queue.recv_timeout(IDLE) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => self.sink.idle(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }

    /// The message and those that wait already, up to a batch.
    fn take(&mut self, first: Message) {
        let mut marks = 0;
        let mut next = Some(first);
        let mut reopen = false;
        while let Some(message) = next {
            match message {
                Message::Event(event) => self.batch.push(event),
                Message::Mark(records) => marks += records,
                Message::Reopen => reopen = true,
            }
            next = if self.batch.len() < BATCH && !reopen { self.waiting() } else { None };
        }
        let well = self.deliver();
        if well && marks > 0 {
            (self.marked)(marks);
        }
        if reopen {
            self.sink.reopen();
        }
    }

    /// The next message, if one waits already.
    fn waiting(&self) -> Option<Message> {
        let next = self.queue.try_recv().ok();
        if next.is_none() {
            self.counters.queue_is_empty();
        }
        next
    }

    /// Delivers the batch, however long it takes. Returns whether it was; what is left at the end of all is counted as lost.
    fn deliver(&mut self) -> bool {
        let mut batch = std::mem::take(&mut self.batch);
        let well = self.deliver_all(&batch);
        batch.clear();
        self.batch = batch;
        well
    }

    fn deliver_all(&mut self, mut rest: &[Event]) -> bool {
        let mut failures = 0;
        while !rest.is_empty() {
            if self.end.is_over() {
                self.counters.count_lost(rest.len());
                return false;
            }
            let now = &rest[..rest.len().min(self.sink.batch().max(1))];
            let Err(failure) = self.sink.deliver(now) else {
                self.count_delivered(now.len());
                failures = 0;
                rest = &rest[now.len()..];
                continue;
            };
            let delivered = failure.delivered.min(now.len());
            self.count_delivered(delivered);
            rest = &rest[delivered..];
            let wish = match failure.first {
                First::Refused => {
                    self.counters.count_refused();
                    if self.counters.set_failure(Some(format!("the last one was refused: {failure}"))) {
                        warn!("{} refused an event: {failure}; further ones are counted only", self.name);
                    }
                    rest = rest.get(1..).unwrap_or_default();
                    continue;
                }
                First::Retry => Duration::ZERO,
                First::RetryAfter(wish) => wish.min(LONGEST_WISH),
            };
            failures = if delivered > 0 { 1 } else { failures + 1 };
            if self.counters.set_failure(Some(failure.to_string())) {
                warn!("{} does not take events: {failure}; trying again until it does", self.name);
            }
            if !self.end.wait(pause(failures, RandomState::new().hash_one(failures)).max(wish)) {
                self.counters.count_lost(rest.len());
                return false;
            }
            self.counters.count_retry();
        }
        true
    }

    fn count_delivered(&self, events: usize) {
        if events == 0 {
            return;
        }
        self.counters.count_delivered(events);
        if self.counters.set_failure(None) {
            info!("{} takes events again", self.name);
        }
    }
}

/// Longer after each failure, and never quite the same, so that a fleet does not come back all at once.
fn pause(failures: u32, random: u64) -> Duration {
    let longer = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST_PAUSE);
    let share = (random % 1024) as f64 / 1024.0;
    longer.mul_f64(0.75 + 0.25 * share)
}
