//! A capture replayed as a live sensor would have seen it: paced by the capture's clock, flows ended by their packets and by
//! time, the open ones there to be looked at.
//!
//! Within a flow all times stay those of the capture, as its features are made of them. Only where it stands in time is
//! moved: its last packet is when this replay came to it, so that what is shown happened just now.

mod clock;

use std::{
    convert::Infallible,
    io::{self, Read},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use log::{error, warn};
use ml_ids_common::{Counters, Decap, FLOW_LIMIT_US, FlowRecord, FlowState, LINGER_US, Profile};
use tokio::sync::watch;

use self::clock::Clock;
use super::{
    Capture, CaptureError, Replay, parse_frame,
    readdress::readdress,
    speed::{Pace, Speed},
};
use crate::sensor::{DrainReport, Found, LiveFlow, LiveTop, clock::now_us};

/// Most records of one batch.
const BATCH: usize = 256;
/// Time of the capture between two sweeps, in microseconds.
const SWEEP_US: u64 = 500_000;
/// Sweeping takes at most one part in this many of the time.
const SHARE: u32 = 25;
/// Longest pause without a look at flows that are due, and at whether to stop.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// Shorter pauses are left out: what is due is replayed together.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// A capture that is open.
pub type OpenCapture = Capture<Box<dyn Read + Send>>;
/// Opens the capture anew, from its beginning.
pub type Reopen = Box<dyn FnMut() -> Result<OpenCapture, CaptureError> + Send>;

/// What is replayed, and how.
pub struct ReplayOptions {
    /// The profile that packets are counted by.
    pub profile: Profile,
    /// How fast.
    pub speed: Speed,
    /// Opens the capture for a further round. Without it there is one.
    pub again: Option<Reopen>,
}

/// A running replay.
pub struct ReplaySensor {
    thread: JoinHandle<DrainReport>,
    stop: Sender<()>,
    state: Arc<ReplayState>,
}

/// A replay as others see it.
pub struct ReplayState {
    table: Mutex<Table>,
    speed: Speed,
    rounds: AtomicU64,
    over: watch::Sender<bool>,
    damage: Mutex<Option<Arc<CaptureError>>>,
    jumps: AtomicU64,
}

/// The flows, and what time it is for them.
struct Table {
    replay: Replay,
    clock_us: u64,
}

impl ReplaySensor {
    /// Starts a thread that replays `capture` into `sink`. It waits where the sink is full.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(capture: OpenCapture, options: ReplayOptions, sink: SyncSender<Vec<FlowRecord>>) -> io::Result<Self> {
        let ReplayOptions { profile, speed, again } = options;
        let state = Arc::new(ReplayState {
            table: Mutex::new(Table { replay: Replay::new(profile), clock_us: 0 }),
            speed,
            rounds: AtomicU64::new(0),
            over: watch::Sender::new(false),
            damage: Mutex::new(None),
            jumps: AtomicU64::new(0),
        });
        let (stop, stopped) = channel();
        let worker = Worker {
            state: Arc::clone(&state),
            sink,
            stopped,
            records: Vec::with_capacity(BATCH),
            taken: 0,
            clock: Clock::default(),
            pace: None,
            swept: Swept { clock_us: 0, next: Instant::now() },
        };
        let thread =
            thread::Builder::new().name("ml-ids-replay".to_owned()).spawn(move || worker.run(capture, again))?;
        Ok(Self { thread, stop, state })
    }

    /// The replay as others see it.
    #[must_use]
    pub fn state(&self) -> Arc<ReplayState> {
        Arc::clone(&self.state)
    }

    /// Stops, hands over what is still open and says what there was, as a live sensor does.
    #[must_use]
    pub fn stop(self) -> DrainReport {
        let Self { thread, stop, state: _ } = self;
        // A thread that has ended needs no telling.
        let _ = stop.send(());
        thread.join().unwrap_or_else(|_| {
            error!("the replay ended with a panic; open flows were not flushed");
            DrainReport::default()
        })
    }
}

impl ReplayState {
    /// The books so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        *self.table().replay.counters()
    }

    /// Five-tuples in the table.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.table().replay.entries() as u64
    }

    /// Rounds that have begun.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Turns true when the capture is over and each of its flows handed over.
    #[must_use]
    pub fn over(&self) -> watch::Receiver<bool> {
        self.over.subscribe()
    }

    /// What was wrong with the capture.
    #[must_use]
    pub fn damage(&self) -> Option<Arc<CaptureError>> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often the capture's clock jumped by more than an hour between two frames. It was brought back then.
    #[must_use]
    pub fn jumps(&self) -> u64 {
        self.jumps.load(Ordering::Relaxed)
    }

    /// Looks at the open flows and keeps `most` in each order.
    #[must_use]
    pub fn look(&self, most: usize) -> LiveTop {
        let (table, now_us, mut found) = (self.table(), now_us(), Found::new(most));
        for flow in table.replay.open() {
            let start_us = flow.start_us.saturating_add_signed(self.offset_us(flow, table.clock_us, now_us));
            found.offer(LiveFlow::of(FlowState { start_us, ..*flow }, now_us, 0));
        }
        found.sorted()
    }

    /// Microseconds from a flow's times to those of this replay, in which its last packet came as long ago as the replay has
    /// been going on since.
    fn offset_us(&self, flow: &FlowState, clock_us: u64, now_us: u64) -> i64 {
        let last_us = flow.start_us.saturating_add_signed(i64::from(flow.last));
        let quiet_us = self.speed.takes_us(clock_us.saturating_sub(last_us));
        now_us.saturating_sub(quiet_us).cast_signed().saturating_sub(last_us.cast_signed())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker {
    state: Arc<ReplayState>,
    sink: SyncSender<Vec<FlowRecord>>,
    stopped: Receiver<()>,
    /// Finished flows on their way.
    records: Vec<FlowRecord>,
    taken: u64,
    clock: Clock,
    /// From the first packet on.
    pace: Option<Pace>,
    swept: Swept,
}

/// The last sweep.
struct Swept {
    /// What time it was for the capture.
    clock_us: u64,
    /// When the next may be.
    next: Instant,
}

/// It is time to stop.
struct Stop;

/// What a round has come to.
enum Round {
    Whole,
    /// There was no frame: the next round would be no other.
    Empty,
    Damaged(CaptureError),
}

/// Takes flows that end.
type Emit<'a> = &'a mut dyn FnMut(FlowRecord) -> Result<(), Infallible>;

impl Worker {
    fn run(mut self, capture: OpenCapture, again: Option<Reopen>) -> DrainReport {
        if self.rounds(capture, again).is_ok() {
            self.state.over.send_replace(true);
            // Told, or nobody is left who could.
            let _ = self.stopped.recv();
        }
        let clock_us = self.state.table().clock_us;
        let taken = self.taken;
        let (flushed, discarded) = self.at(clock_us, |replay, mut emit| replay.flush(&mut emit));
        if self.hand_over().is_err() {
            error!("the scoring thread ended before the last open flows were handed over");
        }
        DrainReport { taken, flushed, discarded, ..DrainReport::default() }
    }

    /// Until the capture is over, which is never if it can be opened again.
    fn rounds(&mut self, mut capture: OpenCapture, mut again: Option<Reopen>) -> Result<(), Stop> {
        loop {
            let round = self.state.rounds.fetch_add(1, Ordering::Relaxed);
            let came_to = self.round(&mut capture, round as u32)?;
            let reopened = match (came_to, &mut again) {
                (Round::Whole, Some(again)) => again(),
                (Round::Damaged(damage), _) => {
                    *self.state.damage.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(damage));
                    return self.silence();
                }
                (Round::Whole | Round::Empty, _) => return self.silence(),
            };
            match reopened {
                Ok(reopened) => capture = reopened,
                Err(error) => {
                    warn!("the capture cannot be opened again: {error}");
                    return self.silence();
                }
            }
        }
    }

    /// The capture once.
    fn round(&mut self, capture: &mut OpenCapture, round: u32) -> Result<Round, Stop> {
        let profile = self.state.table().replay.profile();
        self.clock.begin_round();
        let mut came_to = Round::Empty;
        loop {
            self.look_whether_to_stop()?;
            let frame = match capture.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(came_to),
                Err(error) => return Ok(Round::Damaged(error)),
            };
            came_to = Round::Whole;
            let (time_us, jumped) = self.clock.at(frame.time_us);
            self.state.jumps.fetch_add(u64::from(jumped), Ordering::Relaxed);
            self.wait_until(time_us)?;
            let mut parsed = parse_frame(frame.link, frame.data, profile, Decap::NONE);
            if let Ok(packet) = &mut parsed {
                readdress(packet, round);
            }
            let length = frame.data.len();
            self.at(time_us, |replay, mut emit| replay.frame(parsed, length, time_us, &mut emit));
            if self.records.len() >= BATCH {
                self.hand_over()?;
            }
        }
    }

    /// Nothing more comes: the clock goes on until the last flow has ended.
    fn silence(&mut self) -> Result<(), Stop> {
        let last_us = self.state.table().clock_us;
        let end_us = last_us.saturating_add(FLOW_LIMIT_US.cast_unsigned());
        let mut until_us = last_us;
        while self.state.table().replay.live() > 0 && until_us < end_us {
            until_us = until_us.saturating_add(LINGER_US);
            self.wait_until(until_us)?;
            self.sweep(until_us)?;
        }
        // The last is over a microsecond after its limit.
        self.sweep(until_us.saturating_add(LINGER_US))
    }

    /// Waits until it is that time for the capture. Flows end meanwhile.
    fn wait_until(&mut self, time_us: u64) -> Result<(), Stop> {
        let speed = self.state.speed;
        let pace = *self.pace.get_or_insert_with(|| Pace::begin(speed, time_us));
        loop {
            let pause = pace.until(time_us).min(LONGEST_PAUSE);
            let wait = pause >= SHORTEST_PAUSE;
            if wait {
                self.hand_over()?;
                match self.stopped.recv_timeout(pause) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return Err(Stop),
                }
            }
            let clock_us = pace.now_us(time_us);
            if clock_us.saturating_sub(self.swept.clock_us) >= SWEEP_US && Instant::now() >= self.swept.next {
                self.sweep(clock_us)?;
            }
            if !wait {
                return Ok(());
            }
        }
    }

    /// Ends the flows that are due at that time.
    fn sweep(&mut self, clock_us: u64) -> Result<(), Stop> {
        let begun = Instant::now();
        self.at(clock_us, |replay, mut emit| replay.sweep(clock_us, &mut emit));
        self.swept = Swept { clock_us, next: Instant::now() + begun.elapsed() * SHARE };
        self.hand_over()?;
        self.look_whether_to_stop()
    }

    fn look_whether_to_stop(&self) -> Result<(), Stop> {
        match self.stopped.try_recv() {
            Err(TryRecvError::Empty) => Ok(()),
            Ok(()) | Err(TryRecvError::Disconnected) => Err(Stop),
        }
    }

    /// Does something with the flows when it is that time for the capture; those that end are on their way then.
    fn at<T>(&mut self, clock_us: u64, act: impl FnOnce(&mut Replay, Emit<'_>) -> Result<T, Infallible>) -> T {
        let Self { state, records, taken, .. } = self;
        let now_us = now_us();
        let mut table = state.table();
        table.clock_us = table.clock_us.max(clock_us);
        let clock_us = table.clock_us;
        let Ok(done) = act(&mut table.replay, &mut |record| {
            *taken += 1;
            records.push(record.rebased(state.offset_us(record.state(), clock_us, now_us)));
            Ok(())
        });
        done
    }

    /// Sends finished flows on; waits where that is full.
    fn hand_over(&mut self) -> Result<(), Stop> {
        if self.records.is_empty() {
            return Ok(());
        }
        let records = std::mem::replace(&mut self.records, Vec::with_capacity(BATCH));
        // Nobody judges any more.
        self.sink.send(records).map_err(|_| Stop)
    }
}

#[cfg(test)]
mod tests;
