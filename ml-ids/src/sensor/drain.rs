//! The drain thread: moves finished flows from the ring buffer to the pipeline and runs the sweep on time.
//!
//! It sleeps in `poll` until the kernel signals a record or the next sweep is due. The pipeline's queue is bounded: when
//! it is full this thread waits, then the ring buffer fills, and then the kernel counts what it cannot hand over.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{Arc, mpsc::SyncSender},
    thread::{self, JoinHandle},
    time::Instant,
};

use aya::{
    maps::{HashMap, MapData, RingBuf},
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use log::{error, warn};
use ml_ids_common::{EndReason, FlowKey, FlowRecord, Life, LockedFlow, Profile};

use super::{Options, SensorError, SensorState, clock::boot_to_unix_us, load::Loaded};

/// Where batches of finished flows go.
pub(super) type Sink = SyncSender<Vec<FlowRecord>>;

/// Most records of one batch.
const BATCH: usize = 256;

/// The smallest frame that `BPF_PROG_TEST_RUN` accepts.
const EMPTY_FRAME: [u8; 14] = [0; 14];

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
        let flows = loaded.flows()?;
        let stop = event_fd().map_err(|source| SensorError::Io { action: "create an event descriptor", source })?;
        let waker =
            stop.try_clone().map_err(|source| SensorError::Io { action: "duplicate an event descriptor", source })?;
        let worker =
            Worker { loaded, records, flows, state: Arc::clone(&state), options: options.clone(), sink, stop: waker };
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
    flows: HashMap<MapData, FlowKey, LockedFlow<u32>>,
    state: Arc<SensorState>,
    options: Options,
    sink: Sink,
    stop: OwnedFd,
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
        let mut waiting = [
            libc::pollfd { fd: self.records.as_raw_fd(), events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd: self.stop.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 },
        ];
        let timeout = i32::try_from(timeout_ms.saturating_add(1)).unwrap_or(i32::MAX);
        // SAFETY: a valid array of two entries.
        let ready = unsafe { libc::poll(waiting.as_mut_ptr(), 2, timeout) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) };
        }
        Ok(waiting[1].revents != 0)
    }

    fn sweep(&mut self) {
        let options = TestRunOptions { data_in: Some(&EMPTY_FRAME), ..TestRunOptions::new() };
        let swept = self.loaded.xdp("sweep").map(|program: &mut Xdp| program.test_run(options));
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

    /// Detaches, then hands over what is in the ring buffer and what is still open.
    fn finish(self) -> DrainReport {
        let Self { loaded, records, flows, state, options, sink, stop: _ } = self;
        // Dropping the programs drops their links: from here on no packet changes a flow.
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
