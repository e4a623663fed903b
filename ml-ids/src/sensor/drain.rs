//! The drain thread: moves finished flows from the ring buffer to the pipeline, and ends flows on time.
//!
//! It sleeps in `poll` until the kernel signals a record or the next flow is due, whichever comes first, and at most
//! [`LONGEST_SLEEP`]. While nothing happens it costs one look at the due times a second. The pipeline's queue is bounded:
//! when it is full this thread waits, then the ring buffer fills, and then the kernel counts what it cannot hand over.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    path::Path,
    sync::{Arc, Mutex, PoisonError, TryLockError, mpsc::SyncSender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use aya::maps::{Array, MapData, RingBuf};
use log::{error, info, warn};
use ml_ids_common::{EndReason, FlowRecord, Life, LockedFlow, Patience, Profile};

use super::{
    Options, SensorError, SensorState,
    clock::{boot_to_unix_us, monotonic_us},
    due::DueTimes,
    journal::Journal,
    load::Loaded,
    pin::{Leftovers, Table},
    pressure::Pressure,
    sweep::sweep,
    wake::{Waker, wait},
    watch::{WatchThread, Watcher},
};

/// Where batches of finished flows go.
pub(super) type Sink = SyncSender<Vec<FlowRecord>>;

/// Most records of one batch.
const BATCH: usize = 256;
/// Longest time without a look at the table.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Looking takes at most one part in this many of the time.
pub(super) const SHARE: u32 = 25;
/// Time between two rounds through a table that is nearly full.
const PRESSED_ROUND: Duration = Duration::from_millis(500);
/// Slots that are swept between two readings of the ring buffer.
const SWEEP_BATCH: usize = 8192;
/// Records that come one by one are collected for this long, so that each does not wake the thread.
const COLLECT: Duration = Duration::from_millis(2);

/// A running drain thread.
pub struct Drain {
    thread: JoinHandle<DrainReport>,
    stop: Waker,
    watching: WatchThread,
    state: Arc<SensorState>,
    table: Option<Table>,
}

/// What went through this thread besides the flows that ended by themselves, and what became of those that were still open
/// when the sensor stopped.
#[derive(Clone, Copy, Debug, Default)]
pub struct DrainReport {
    /// Records that the kernel sent and this thread read.
    pub taken: u64,
    /// Flows of a pinned table that was not gone on with: records that were still to be read, and open flows.
    pub inherited: u64,
    /// Flows that were emitted with reason `shutdown`.
    pub flushed: u64,
    /// Flows too short for the profile.
    pub discarded: u64,
    /// The hooks stay attached and the open flows open: they are pinned.
    pub pinned: bool,
}

impl Drain {
    pub(super) fn start(
        loaded: Arc<Mutex<Loaded>>,
        watcher: Watcher,
        state: Arc<SensorState>,
        journal: Arc<Journal>,
        mut table: Option<Table>,
        options: &Options,
        sink: Sink,
    ) -> Result<Self, SensorError> {
        let (records, states, due_times) = {
            let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
            (loaded.records()?, loaded.states()?, loaded.due_times(options.max_flows)?)
        };
        let failed = |source| SensorError::Io { action: "create an event descriptor", source };
        let stop = Waker::new().map_err(failed)?;
        let stopped = stop.try_clone().map_err(failed)?;
        let leftovers = table.as_mut().and_then(Table::take_leftovers);
        let worker = Worker {
            loaded,
            outlet: Outlet { records, state: Arc::clone(&state), journal, sink, taken: 0 },
            states,
            due_times,
            due: Vec::new(),
            pressure: Pressure::default(),
            next_round: Instant::now(),
            leftovers,
            inherited: 0,
            options: options.clone(),
            stopped,
        };
        let thread = thread::Builder::new()
            .name("ml-ids-drain".to_owned())
            .spawn(move || worker.run())
            .map_err(|source| SensorError::Io { action: "start the drain thread", source })?;
        let watching = watcher.start()?;
        if let Some(table) = &mut table {
            table.keep();
        }
        Ok(Self { thread, stop, watching, state, table })
    }

    /// Where the pinned table is, if there is one.
    #[must_use]
    pub fn pinned_at(&self) -> Option<&Path> {
        self.table.as_ref().map(Table::directory)
    }

    /// Live state of the sensor.
    #[must_use]
    pub fn state(&self) -> Arc<SensorState> {
        Arc::clone(&self.state)
    }

    /// Detaches all hooks, flushes the open flows into the sink and waits for the thread to end. What is pinned stays
    /// attached and open.
    #[must_use]
    pub fn stop(self) -> DrainReport {
        let Self { thread, stop, watching, state: _, table: _table } = self;
        // From here on no packet changes a flow, unless it is pinned.
        watching.stop();
        if let Err(error) = stop.wake() {
            error!("cannot wake the drain thread: {error}; end the sensor with kill -9 if it does not end by itself");
        }
        thread.join().unwrap_or_else(|_| {
            error!("the drain thread ended with a panic, open flows were not flushed; please report this with the lines above");
            DrainReport::default()
        })
    }
}

struct Worker {
    loaded: Arc<Mutex<Loaded>>,
    outlet: Outlet,
    states: Array<MapData, LockedFlow<u32>>,
    due_times: DueTimes,
    /// Slots that the last look found due, kept for its memory.
    due: Vec<u32>,
    pressure: Pressure,
    /// When the next round through a table that is nearly full begins.
    next_round: Instant,
    /// What a pinned table that is not gone on with still held.
    leftovers: Option<Leftovers>,
    inherited: u64,
    options: Options,
    stopped: Waker,
}

impl Worker {
    fn run(mut self) -> DrainReport {
        if let Some(leftovers) = self.leftovers.take() {
            self.inherit(leftovers);
        }
        let mut next_look = Instant::now();
        loop {
            let began = Instant::now();
            if began >= next_look {
                let wanted = self.look();
                if !self.outlet.forward() {
                    break;
                }
                let took = began.elapsed();
                next_look = began + wanted.max(self.options.sweep_interval).max(took * SHARE);
            }
            match self.wait(next_look.saturating_duration_since(Instant::now())) {
                Ok(Woken::Stop) => break,
                Ok(Woken::Record) => {
                    thread::sleep(COLLECT);
                    if !self.outlet.forward() {
                        break;
                    }
                }
                Ok(Woken::Time) => {}
                Err(error) => {
                    error!("cannot wait for the ring buffer: {error}; no further flow is judged, restart the sensor");
                    break;
                }
            }
        }
        self.finish()
    }

    /// Looks at what is due, and returns how long the next look can wait.
    fn look(&mut self) -> Duration {
        // Busy while the watch thread is attaching; then the next look will do.
        if let Ok(mut loaded) = self.loaded.try_lock() {
            loaded.ignored.refresh();
        }
        let now_us = monotonic_us();
        self.due.clear();
        let scan = self.due_times.scan(now_us, &mut self.due);
        self.outlet.state.set_entries(scan.used);
        if let Some(on) = self.pressure.observe(scan.used, self.options.max_flows) {
            self.outlet.state.set_pressed(on);
            if on {
                warn!(
                    "{} of {} flow table slots are in use: unanswered and quiet flows end early; raise --max-flows if \
                     this is not a flood",
                    scan.used, self.options.max_flows
                );
            } else {
                info!("{} of {} flow table slots are in use, flows end normally", scan.used, self.options.max_flows);
            }
        }
        let due = std::mem::take(&mut self.due);
        self.sweep(&due, Patience::Normal);
        self.due = due;
        let mut wanted = Duration::from_micros(scan.next_us.saturating_sub(now_us)).min(LONGEST_SLEEP);
        if self.pressure.is_on() {
            let now = Instant::now();
            if now >= self.next_round {
                self.sweep(&self.due_times.used(), Patience::Pressed);
                self.next_round = Instant::now() + PRESSED_ROUND.max(now.elapsed() * SHARE);
            }
            wanted = wanted.min(self.next_round.saturating_duration_since(now));
        }
        // A flow that ends after this look is due when it has lingered, not before.
        wanted.min(self.options.linger)
    }

    fn sweep(&mut self, slots: &[u32], patience: Patience) {
        if slots.is_empty() {
            return;
        }
        // What a whole table emits does not fit into the ring buffer at once.
        for slots in slots.chunks(SWEEP_BATCH) {
            let swept = match self.loaded.try_lock() {
                Ok(mut loaded) => loaded.classifier("sweep").and_then(|program| sweep(program, slots, patience)),
                // The watch thread is attaching. What is due stays due.
                Err(TryLockError::WouldBlock) => return,
                Err(TryLockError::Poisoned(poisoned)) => {
                    poisoned.into_inner().classifier("sweep").and_then(|program| sweep(program, slots, patience))
                }
            };
            if let Err(error) = swept {
                if self.outlet.state.sweep_failures() == 0 {
                    warn!("{:#}", anyhow::Error::from(error));
                }
                self.outlet.state.count_sweep_failure();
                return;
            }
            // A pipeline that is gone shows at the next hand-over.
            let _ = self.outlet.forward();
        }
    }

    /// Sleeps until there is a record, the stop signal, or the time is up.
    fn wait(&self, timeout: Duration) -> io::Result<Woken> {
        // SAFETY: the ring buffer owns the descriptor and outlives the borrow.
        let records = unsafe { BorrowedFd::borrow_raw(self.outlet.records.as_raw_fd()) };
        let [record, stop] = wait([records, self.stopped.as_fd()], timeout)?;
        Ok(if stop {
            Woken::Stop
        } else if record {
            Woken::Record
        } else {
            Woken::Time
        })
    }

    /// Ends the flows of a table that nothing counts into any more.
    fn inherit(&mut self, leftovers: Leftovers) {
        let Leftovers { mut records, states, slots } = leftovers;
        let Outlet { state, journal, sink, .. } = &self.outlet;
        let (finished, _) = drain(&mut records, state, journal, sink);
        let mut open = DrainReport::default();
        // A pipeline that is gone shows at the next hand-over.
        let _ = flush(&states, &slots, self.options.profile, journal, sink, &mut open);
        self.inherited = finished + open.flushed;
        info!(
            "{finished} finished and {} open flows of the former table are judged, {} are too short",
            open.flushed, open.discarded
        );
    }

    /// Hands over what is in the ring buffer and what is still open.
    fn finish(self) -> DrainReport {
        let Self { mut outlet, states, due_times, options, inherited, .. } = self;
        let pinned = options.pin.is_some();
        let going = outlet.forward();
        let Outlet { journal, sink, taken, .. } = outlet;
        let mut report = DrainReport { taken, inherited, pinned, ..DrainReport::default() };
        if pinned {
            journal.set_owner(0);
        } else if going && !flush(&states, &due_times.used(), options.profile, &journal, &sink, &mut report) {
            error!(
                "the pipeline ended before the last open flows were handed over, so they are not judged; the lines above say why it ended"
            );
        }
        // The pipeline ends when the sink is dropped with this worker.
        report
    }
}

/// Ends the open flows among `slots` and hands them over. False when the pipeline is gone.
fn flush(
    states: &Array<MapData, LockedFlow<u32>>,
    slots: &[u32],
    profile: Profile,
    journal: &Journal,
    sink: &Sink,
    report: &mut DrainReport,
) -> bool {
    let offset = boot_to_unix_us();
    let mut batch = Vec::with_capacity(BATCH);
    for slot in slots {
        let Ok(LockedFlow { state, .. }) = states.get(slot, 0) else { continue };
        if state.life != Life::Open as u8 {
            continue;
        }
        if state.packets() < profile.min_packets() {
            report.discarded += 1;
            continue;
        }
        report.flushed += 1;
        journal.count_taken(1);
        batch.push(FlowRecord::finish(state, EndReason::Shutdown).rebased(offset));
        if batch.len() == BATCH && sink.send(std::mem::take(&mut batch)).is_err() {
            return false;
        }
    }
    batch.is_empty() || sink.send(batch).is_ok()
}

/// The way of finished flows from the ring buffer to the pipeline.
struct Outlet {
    records: RingBuf<MapData>,
    state: Arc<SensorState>,
    journal: Arc<Journal>,
    sink: Sink,
    taken: u64,
}

impl Outlet {
    /// Empties the ring buffer. False when the pipeline is gone.
    fn forward(&mut self) -> bool {
        let Self { records, state, journal, sink, taken } = self;
        let (read, going) = drain(records, state, journal, sink);
        *taken += read;
        going
    }
}

/// Why the thread woke.
enum Woken {
    Record,
    Stop,
    Time,
}

/// Empties a ring buffer. Returns how many records were in it, and false when the pipeline is gone.
fn drain(records: &mut RingBuf<MapData>, state: &SensorState, journal: &Journal, sink: &Sink) -> (u64, bool) {
    let offset = boot_to_unix_us();
    let mut taken = 0;
    loop {
        let began = Instant::now();
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH {
            let Some(item) = records.next() else { break };
            match FlowRecord::from_bytes(&item) {
                Some(record) => {
                    // Before the item is released: an agent that is killed in between reports it lost, and the next one
                    // reads it again.
                    journal.count_taken(1);
                    taken += 1;
                    batch.push(record.rebased(offset));
                }
                None => state.count_malformed_record(),
            }
        }
        if batch.is_empty() {
            return (taken, true);
        }
        if sink.send(batch).is_err() {
            return (taken, false);
        }
        state.observe_drain(began.elapsed());
    }
}
