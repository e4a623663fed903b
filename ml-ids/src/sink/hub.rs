//! From one event to every sink that wants it. Whoever emits never waits: each sink has a bounded queue and a thread of
//! its own, and what finds the queue full is dropped and counted.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, PoisonError, RwLock,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use log::{error, warn};

use super::{
    counters::{SinkCounters, SinkState},
    event::{Event, EventKind, Kinds},
    feed::Feed,
    outlet::{Message, Outlet},
};

/// Events that wait for a sink that is slow or away; some 2 KB each.
pub const QUEUE_EVENTS: usize = 16_384;
/// Most events that are delivered at once, where the sink does not want fewer.
pub(super) const BATCH: usize = 256;
/// How long sinks may go on delivering what waits when the sensor ends.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// Longest pause between two tries in that time.
const LAST_PAUSE: Duration = Duration::from_millis(250);
/// How long a sink may take for its last batch after that. One that hangs, on a network file system that is gone for example,
/// is left behind.
const LAST_BATCH: Duration = Duration::from_secs(6);

/// Where events go.
pub trait Sink: Send {
    /// Delivers events in their order, and returns when they are where the sink promises to bring them.
    ///
    /// # Errors
    /// What went wrong, and how many at the front were delivered before it.
    fn deliver(&mut self, events: &[Event]) -> Result<(), Undelivered>;

    /// Most events that it is given at once: those whose fate is told together.
    fn batch(&self) -> usize {
        BATCH
    }

    /// Lets go of what it holds and begins anew: the operator has moved files away.
    fn reopen(&mut self) {}

    /// Called when nothing has come for a second.
    fn idle(&mut self) {}
}

/// Events that did not arrive.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Undelivered {
    /// Events at the front of the batch that did.
    pub delivered: usize,
    /// What becomes of the first that did not.
    pub first: First,
    /// Why.
    pub error: Box<dyn std::error::Error + Send + Sync>,
}

/// What becomes of the first event that could not be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// It is tried again, after a while.
    Retry,
    /// It is tried again, and not sooner than that: the other side has asked for it.
    RetryAfter(Duration),
    /// It never will be taken: it is counted as refused, and the next one's turn has come.
    Refused,
}

/// How one sink is connected.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name in logs, `/health` and metrics; one word for its kind, `syslog`, so that labels are bounded.
    pub name: &'static str,
    /// What it wants.
    pub kinds: Kinds,
    /// Events that may wait.
    pub queue: usize,
}

/// All sinks.
pub struct Hub {
    senders: RwLock<Vec<Sender>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    end: Arc<End>,
    /// Records dealt with whose mark found the queue full.
    unmarked: Mutex<u64>,
    wanted: Kinds,
    feed: Feed,
    states: Vec<(Port, Arc<SinkCounters>)>,
}

/// The way into one sink's queue.
struct Sender {
    port: Port,
    queue: SyncSender<Message>,
    counters: Arc<SinkCounters>,
}

/// When delivering ends; `None` while the sensor runs.
#[derive(Default)]
pub(super) struct End {
    at: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl End {
    fn set(&self, at: Instant) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
        self.changed.notify_all();
    }

    /// Whether it has come.
    pub(super) fn is_over(&self) -> bool {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|end| Instant::now() >= end)
    }

    /// Waits, but not beyond the end. Returns whether there is time left. When the end is set meanwhile it is time for another
    /// try at once, and for further ones soon.
    pub(super) fn wait(&self, pause: Duration) -> bool {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let ending = at.is_some();
        let until = Instant::now() + if ending { pause.min(LAST_PAUSE) } else { pause };
        loop {
            let now = Instant::now();
            if at.is_some_and(|end| now >= end) {
                return false;
            }
            if now >= until || at.is_some() != ending {
                return true;
            }
            let wake = at.map_or(until, |end| end.min(until));
            at = self.changed.wait_timeout(at, wake - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Hub {
    /// Starts a thread for each sink. `marked` is told by the first sink how many records are dealt with: those whose
    /// lines it has delivered (see [`Hub::mark`]).
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(sinks: Vec<(Port, Box<dyn Sink>)>, marked: impl Fn(u64) + Send + 'static) -> io::Result<Self> {
        let end = Arc::new(End::default());
        let (mut senders, mut threads, mut states) = (Vec::new(), Vec::new(), Vec::new());
        let mut marked: Option<Box<dyn Fn(u64) + Send>> = Some(Box::new(marked));
        for (port, sink) in sinks {
            let (queue, receiver) = sync_channel(port.queue);
            let counters = Arc::new(SinkCounters::default());
            let marked = marked.take().unwrap_or_else(|| Box::new(|_| {}));
            let outlet = Outlet::new(port.name, sink, receiver, Arc::clone(&counters), Arc::clone(&end), marked);
            threads.push(thread::Builder::new().name(format!("ml-ids-{}", port.name)).spawn(move || outlet.run())?);
            states.push((port.clone(), Arc::clone(&counters)));
            senders.push(Sender { port, queue, counters });
        }
        let wanted = states.iter().fold(Kinds::default(), |all, (port, _)| all.and(port.kinds));
        Ok(Self {
            senders: RwLock::new(senders),
            threads: Mutex::new(threads),
            end,
            unmarked: Mutex::new(0),
            wanted,
            feed: Feed::default(),
            states,
        })
    }

    /// Whether any sink or listener wants events of this kind; those that nobody wants need not be rendered.
    #[must_use]
    pub fn wants(&self, kind: EventKind) -> bool {
        self.wanted.has(kind) || self.feed.wants(kind)
    }

    /// What is emitted, for those who listen now.
    #[must_use]
    pub const fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Hands an event to every sink that wants it. Never waits.
    pub fn emit(&self, event: &Event) {
        self.feed.publish(event);
        let senders = self.senders.read().unwrap_or_else(PoisonError::into_inner);
        for Sender { port, queue, counters } in senders.iter().filter(|sender| sender.port.kinds.has(event.kind())) {
            counters.count_queued();
            if queue.try_send(Message::Event(event.clone())).is_err() && counters.count_dropped() {
                error!(
                    "the queue of {} is full: events are dropped, and only counted until it has been empty",
                    port.name
                );
            }
        }
    }

    /// Says that so many more records are dealt with once the lines emitted so far are delivered by the first sink.
    pub fn mark(&self, records: u64) {
        let senders = self.senders.read().unwrap_or_else(PoisonError::into_inner);
        let Some(Sender { queue, .. }) = senders.first() else { return };
        let mut unmarked = self.unmarked.lock().unwrap_or_else(PoisonError::into_inner);
        *unmarked += records;
        match queue.try_send(Message::Mark(*unmarked)) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => *unmarked = 0,
            // With the next batch.
            Err(TrySendError::Full(_)) => {}
        }
    }

    /// Lets every sink begin anew: files are opened again under their names.
    pub fn reopen(&self) {
        let senders = self.senders.read().unwrap_or_else(PoisonError::into_inner);
        for Sender { port, queue, .. } in senders.iter() {
            if queue.try_send(Message::Reopen).is_err() {
                warn!("{} is too busy to begin anew; send SIGHUP again", port.name);
            }
        }
    }

    /// How each sink is, in the order they were given.
    #[must_use]
    pub fn states(&self) -> Vec<SinkState> {
        self.states.iter().map(|(port, counters)| counters.state(port.name, port.queue)).collect()
    }

    /// Delivers what waits, for at most [`GRACE`], and ends. What is left then is counted as lost. Later events go nowhere.
    pub fn stop(&self) {
        self.end.set(Instant::now() + GRACE);
        let senders = std::mem::take(&mut *self.senders.write().unwrap_or_else(PoisonError::into_inner));
        let unmarked = std::mem::take(&mut *self.unmarked.lock().unwrap_or_else(PoisonError::into_inner));
        // The thread is draining its queue, so there is room for this one soon; without it the records count as open.
        if let (Some(Sender { queue, .. }), true) = (senders.first(), unmarked > 0) {
            while queue.try_send(Message::Mark(unmarked)).is_err() && self.end.wait(Duration::from_millis(5)) {}
        }
        drop(senders);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let patience = Instant::now() + GRACE + LAST_BATCH;
        for (thread, (port, counters)) in threads.into_iter().zip(&self.states) {
            while !thread.is_finished() && Instant::now() < patience {
                thread::sleep(Duration::from_millis(5));
            }
            if !thread.is_finished() {
                counters.count_lost(usize::try_from(counters.state(port.name, port.queue).waiting).unwrap_or(0));
                error!("{} hangs and is left behind: what it had not written is lost", port.name);
            } else if thread.join().is_err() {
                error!(
                    "the thread of {} ended with a panic; events may be missing, restart the sensor and report this with the lines above",
                    port.name
                );
            }
        }
        for state in self.states().iter().filter(|state| state.dropped + state.refused + state.lost_at_stop > 0) {
            warn!(
                "{}: {} events were dropped because its queue was full, {} refused, {} lost because it was away at the end",
                state.name, state.dropped, state.refused, state.lost_at_stop
            );
        }
    }
}
