//! The drain thread: moves finished flows from the ring buffer to the pipeline, and ends flows on time.
//!
//! It sleeps in `poll` until the kernel signals a record or the next flow is due, whichever comes first, and at most
//! [`LONGEST_SLEEP`]. While nothing happens it costs one look at the due times a second. The pipeline's queue is bounded:
//! when it is full this thread waits, then the ring buffer fills, and then the kernel counts what it cannot hand over.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{Arc, mpsc::SyncSender},
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
    load::Loaded,
    pressure::Pressure,
    sweep::sweep,
};

/// Where batches of finished flows go.
pub(super) type Sink = SyncSender<Vec<FlowRecord>>;

/// Most records of one batch.
const BATCH: usize = 256;
/// Longest time without a look at the table.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Looking takes at most one part in this many of the time.
pub(super) const SHARE: u32 = 20;
/// Time between two rounds through a table that is nearly full.
const PRESSED_ROUND: Duration = Duration::from_millis(500);
/// Slots that are swept between two readings of the ring buffer.
const SWEEP_BATCH: usize = 8192;
/// Records that come one by one are collected for this long, so that each does not wake the thread.
const COLLECT: Duration = Duration::from_millis(2);

/// A running drain thread.
pub struct Drain {
    thread: JoinHandle<DrainReport>,
    stop: OwnedFd,
    state: Arc<SensorState>,
}

/// What became of the flows that were still open when the sensor stopped.
#[derive(Clone, Copy, Debug, Default)]
pub struct DrainReport {
    /// Flows that were emitted with reason `shutdown`.
    pub flushed: u64,
    /// Flows too short for the profile.
    pub discarded: u64,
}

impl Drain {
    pub(super) fn start(
        mut loaded: Loaded,
        state: Arc<SensorState>,
        options: &Options,
        sink: Sink,
    ) -> Result<Self, SensorError> {
        let records = loaded.records()?;
        let states = loaded.states()?;
        let due_times = loaded.due_times(options.max_flows)?;
        let stop = event_fd().map_err(|source| SensorError::Io { action: "create an event descriptor", source })?;
        let waker =
            stop.try_clone().map_err(|source| SensorError::Io { action: "duplicate an event descriptor", source })?;
        let worker = Worker {
            loaded,
            records,
            states,
            due_times,
            due: Vec::new(),
            pressure: Pressure::default(),
            next_round: Instant::now(),
            state: Arc::clone(&state),
            options: options.clone(),
            sink,
            stop: waker,
        };
        let thread = thread::Builder::new()
            .name("ml-ids-drain".to_owned())
            .spawn(move || worker.run())
            .map_err(|source| SensorError::Io { action: "start the drain thread", source })?;
        Ok(Self { thread, stop, state })
    }

    /// Live state of the sensor.
    #[must_use]
    pub fn state(&self) -> Arc<SensorState> {
        Arc::clone(&self.state)
    }

    /// Detaches all hooks, flushes the open flows into the sink and waits for the thread to end.
    #[must_use]
    pub fn stop(self) -> DrainReport {
        let one = 1u64.to_ne_bytes();
        // SAFETY: an owned descriptor and eight readable bytes.
        let written = unsafe { libc::write(self.stop.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        if written < 0 {
            error!("cannot wake the drain thread: {}", io::Error::last_os_error());
        }
        self.thread.join().unwrap_or_else(|_| {
            error!("the drain thread ended with a panic, open flows were not flushed");
            DrainReport::default()
        })
    }
}

struct Worker {
    loaded: Loaded,
    records: RingBuf<MapData>,
    states: Array<MapData, LockedFlow<u32>>,
    due_times: DueTimes,
    /// Slots that the last look found due, kept for its memory.
    due: Vec<u32>,
    pressure: Pressure,
    /// When the next round through a table that is nearly full begins.
    next_round: Instant,
    state: Arc<SensorState>,
    options: Options,
    sink: Sink,
    stop: OwnedFd,
}

impl Worker {
    fn run(mut self) -> DrainReport {
        let mut next_look = Instant::now();
        loop {
            let began = Instant::now();
            if began >= next_look {
                let wanted = self.look();
                if !forward(&mut self.records, &self.state, &self.sink) {
                    break;
                }
                let took = began.elapsed();
                next_look = began + wanted.max(self.options.sweep_interval).max(took * SHARE);
            }
            match self.wait(next_look.saturating_duration_since(Instant::now())) {
                Ok(Woken::Stop) => break,
                Ok(Woken::Record) => {
                    thread::sleep(COLLECT);
                    if !forward(&mut self.records, &self.state, &self.sink) {
                        break;
                    }
                }
                Ok(Woken::Time) => {}
                Err(error) => {
                    error!("cannot wait for the ring buffer: {error}");
                    break;
                }
            }
        }
        self.finish()
    }

    /// Looks at what is due, and returns how long the next look can wait.
    fn look(&mut self) -> Duration {
        let now_us = monotonic_us();
        self.due.clear();
        let scan = self.due_times.scan(now_us, &mut self.due);
        self.state.set_entries(scan.used);
        if let Some(on) = self.pressure.observe(scan.used, self.options.max_flows) {
            self.state.set_pressed(on);
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
            let swept = self.loaded.xdp("sweep").and_then(|program| sweep(program, slots, patience));
            if let Err(error) = swept {
                if self.state.sweep_failures() == 0 {
                    warn!("{:#}", anyhow::Error::from(error));
                }
                self.state.count_sweep_failure();
                return;
            }
            // A pipeline that is gone shows at the next hand-over.
            let _ = forward(&mut self.records, &self.state, &self.sink);
        }
    }

    /// Sleeps until there is a record, the stop signal, or the time is up.
    fn wait(&self, timeout: Duration) -> io::Result<Woken> {
        let mut waiting = [
            libc::pollfd { fd: self.records.as_raw_fd(), events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd: self.stop.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 },
        ];
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // SAFETY: a valid array of two entries, a valid time, no signal mask.
        let ready = unsafe { libc::ppoll(waiting.as_mut_ptr(), 2, &raw const timeout, std::ptr::null()) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(Woken::Time) } else { Err(error) };
        }
        let [record, stop] = waiting.map(|waiting| waiting.revents != 0);
        Ok(if stop {
            Woken::Stop
        } else if record {
            Woken::Record
        } else {
            Woken::Time
        })
    }

    /// Detaches, then hands over what is in the ring buffer and what is still open.
    fn finish(self) -> DrainReport {
        let Self { loaded, mut records, states, due_times, state, options, sink, .. } = self;
        // Dropping the programs drops their links: from here on no packet changes a flow.
        drop(loaded);
        let mut report = DrainReport::default();
        if !forward(&mut records, &state, &sink) {
            return report;
        }
        let offset = boot_to_unix_us();
        let profile: Profile = options.profile;
        let mut batch = Vec::with_capacity(BATCH);
        for slot in due_times.used() {
            let Ok(LockedFlow { state, .. }) = states.get(&slot, 0) else { continue };
            if state.life != Life::Open as u8 {
                continue;
            }
            if state.packets() < profile.min_packets() {
                report.discarded += 1;
                continue;
            }
            report.flushed += 1;
            batch.push(FlowRecord::finish(state, EndReason::Shutdown).rebased(offset));
            if batch.len() == BATCH && sink.send(std::mem::take(&mut batch)).is_err() {
                return report;
            }
        }
        // The pipeline ends when the sink is dropped with this worker.
        if !batch.is_empty() && sink.send(batch).is_err() {
            error!("the pipeline ended before the last open flows were handed over");
        }
        report
    }
}

/// Why the thread woke.
enum Woken {
    Record,
    Stop,
    Time,
}

/// Empties the ring buffer. False when the pipeline is gone.
fn forward(records: &mut RingBuf<MapData>, state: &SensorState, sink: &Sink) -> bool {
    let offset = boot_to_unix_us();
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH {
            let Some(item) = records.next() else { break };
            match FlowRecord::from_bytes(&item) {
                Some(record) => batch.push(record.rebased(offset)),
                None => state.count_malformed_record(),
            }
        }
        if batch.is_empty() {
            return true;
        }
        if sink.send(batch).is_err() {
            return false;
        }
    }
}

fn event_fd() -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd as _;
    // SAFETY: no pointers involved.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just created and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
