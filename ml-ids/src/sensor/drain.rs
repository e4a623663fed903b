//! The drain thread: moves finished flows from the ring buffer to the pipeline and runs the sweep on time.
//!
//! It sleeps in `poll` until the kernel signals a record or the next sweep is due. The pipeline's queue is bounded: when
//! it is full this thread waits, then the ring buffer fills, and then the kernel counts what it cannot hand over.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    sync::{Arc, Mutex, PoisonError, TryLockError, mpsc::SyncSender},
    thread::{self, JoinHandle},
    time::Instant,
};

use aya::{
    maps::{HashMap, MapData, RingBuf},
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use log::{error, warn};
use ml_ids_common::{EndReason, FlowKey, FlowRecord, Life, LockedFlow, Profile};

use super::{
    Options, SensorError, SensorState,
    clock::boot_to_unix_us,
    load::Loaded,
    wake::{Waker, wait},
    watch::{WatchThread, Watcher},
};

/// Where batches of finished flows go.
pub(super) type Sink = SyncSender<Vec<FlowRecord>>;

/// Most records of one batch.
const BATCH: usize = 256;

/// The smallest frame that `BPF_PROG_TEST_RUN` accepts.
const EMPTY_FRAME: [u8; 14] = [0; 14];

/// A running drain thread.
pub struct Drain {
    thread: JoinHandle<DrainReport>,
    stop: Waker,
    watching: WatchThread,
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
        loaded: Arc<Mutex<Loaded>>,
        watcher: Watcher,
        state: Arc<SensorState>,
        options: &Options,
        sink: Sink,
    ) -> Result<Self, SensorError> {
        let (records, flows) = {
            let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
            (loaded.records()?, loaded.flows()?)
        };
        let failed = |source| SensorError::Io { action: "create an event descriptor", source };
        let stop = Waker::new().map_err(failed)?;
        let stopped = stop.try_clone().map_err(failed)?;
        let worker =
            Worker { loaded, records, flows, state: Arc::clone(&state), options: options.clone(), sink, stopped };
        let thread = thread::Builder::new()
            .name("ml-ids-drain".to_owned())
            .spawn(move || worker.run())
            .map_err(|source| SensorError::Io { action: "start the drain thread", source })?;
        let watching = watcher.start()?;
        Ok(Self { thread, stop, watching, state })
    }

    /// Live state of the sensor.
    #[must_use]
    pub fn state(&self) -> Arc<SensorState> {
        Arc::clone(&self.state)
    }

    /// Detaches all hooks, flushes the open flows into the sink and waits for the thread to end.
    #[must_use]
    pub fn stop(self) -> DrainReport {
        let Self { thread, stop, watching, state: _ } = self;
        // From here on no packet changes a flow.
        watching.stop();
        if let Err(error) = stop.wake() {
            error!("cannot wake the drain thread: {error}");
        }
        thread.join().unwrap_or_else(|_| {
            error!("the drain thread ended with a panic, open flows were not flushed");
            DrainReport::default()
        })
    }
}

struct Worker {
    loaded: Arc<Mutex<Loaded>>,
    records: RingBuf<MapData>,
    flows: HashMap<MapData, FlowKey, LockedFlow<u32>>,
    state: Arc<SensorState>,
    options: Options,
    sink: Sink,
    stopped: Waker,
}

impl Worker {
    fn run(mut self) -> DrainReport {
        let mut next_sweep = Instant::now() + self.options.sweep_interval;
        loop {
            let now = Instant::now();
            if now >= next_sweep {
                self.sweep();
                next_sweep = now + self.options.sweep_interval;
            }
            match self.wait(next_sweep.saturating_duration_since(now).as_millis()) {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    error!("cannot wait for the ring buffer: {error}");
                    break;
                }
            }
            if !forward(&mut self.records, &self.state, &self.sink) {
                break;
            }
        }
        self.finish()
    }

    /// Sleeps until a record, the stop signal (true) or the time-out.
    fn wait(&self, timeout_ms: u128) -> io::Result<bool> {
        // SAFETY: the ring buffer owns the descriptor and outlives the borrow.
        let records = unsafe { BorrowedFd::borrow_raw(self.records.as_raw_fd()) };
        let [_, stopped] = wait([records, self.stopped.as_fd()], timeout_ms.saturating_add(1))?;
        Ok(stopped)
    }

    fn sweep(&mut self) {
        let options = TestRunOptions { data_in: Some(&EMPTY_FRAME), ..TestRunOptions::new() };
        let mut loaded = match self.loaded.try_lock() {
            Ok(loaded) => loaded,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The watch thread is attaching; the next sweep is soon enough.
            Err(TryLockError::WouldBlock) => return,
        };
        let swept = loaded.xdp("sweep").map(|program: &mut Xdp| program.test_run(options));
        match swept {
            Ok(Ok(result)) => self.state.set_entries(result.return_value),
            Ok(Err(error)) => {
                if self.state.sweep_failures() == 0 {
                    warn!("the kernel refused to run the sweep: {error}");
                }
                self.state.count_sweep_failure();
            }
            Err(_) => self.state.count_sweep_failure(),
        }
    }

    /// Hands over what is in the ring buffer and what is still open.
    fn finish(self) -> DrainReport {
        let Self { loaded, records, flows, state, options, sink, stopped: _ } = self;
        drop(loaded);
        let mut report = DrainReport::default();
        let mut records = records;
        if !forward(&mut records, &state, &sink) {
            return report;
        }
        let offset = boot_to_unix_us();
        let profile: Profile = options.profile;
        let mut batch = Vec::with_capacity(BATCH);
        for entry in flows.iter() {
            let Ok((_, LockedFlow { state, .. })) = entry else { continue };
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
