//! Captures fed to the real eBPF programs through `BPF_PROG_TEST_RUN`, on the test clock: what proves that the kernel
//! computes what offline replay computes, and what the bench measures.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use aya::{
    maps::{Array, HashMap, IterableMap as _, MapData, PerCpuArray, RingBuf},
    programs::{ProgramError, TestRun as _, TestRunOptions},
};
use ml_ids_common::{
    COUNTER_SETS, Counters, Datagram, DatagramKey, EndReason, FlowRecord, Hook, Life, LockedFlow, Patience, Profile,
};

use super::{
    FilterMaps, Options, SensorError, due::DueTimes, load::Loaded, refusal::os_error, sweep::sweep,
    test_run::TestRunner,
};

/// Bytes of `struct __sk_buff`, and where `gso_size` stands in it (include/uapi/linux/bpf.h).
const SKB_CONTEXT: usize = 184;
const SKB_GSO_SIZE: usize = 176;

/// What an XDP program returns to have a frame dropped.
const XDP_DROP: u32 = 1;

/// The kernel side, loaded but not attached.
pub struct KernelReplay {
    loaded: Loaded,
    records: RingBuf<MapData>,
    states: Array<MapData, LockedFlow<u32>>,
    due_times: DueTimes,
    counters: PerCpuArray<MapData, Counters>,
    datagrams: HashMap<MapData, DatagramKey, Datagram>,
    clock: Array<MapData, u64>,
    profile: Profile,
}

impl KernelReplay {
    /// Loads the programs. With `test_clock` the time is what [`KernelReplay::packet`] is given.
    ///
    /// # Errors
    /// As for the live sensor.
    pub fn load(options: &Options, test_clock: bool) -> Result<Self, SensorError> {
        let mut loaded = Loaded::load_with(options, test_clock, None)?;
        let (records, states, due_times) = (loaded.records()?, loaded.states()?, loaded.due_times(options.max_flows)?);
        let (counters, datagrams, clock) = (loaded.counters()?, loaded.datagrams()?, loaded.clock()?);
        Ok(Self { loaded, records, states, due_times, counters, datagrams, clock, profile: options.profile })
    }

    /// Runs one frame through a hook at `now_us`. False when the kernel does not take such a frame for a test run
    /// (shorter than an Ethernet header, or too long).
    ///
    /// # Errors
    /// When the kernel refuses for any other reason.
    pub fn packet(&mut self, hook: Hook, frame: &[u8], now_us: u64) -> Result<bool, SensorError> {
        self.clock.set(0, now_us, 0).map_err(|source| SensorError::Map { map: "CLOCK", source })?;
        Ok(self.run(hook, frame, 1)?.is_some())
    }

    /// Runs a super-packet through the socket buffer's program of a hook: a frame that will leave, or came, in segments of
    /// `segment_size` payload bytes.
    ///
    /// # Errors
    /// As [`KernelReplay::packet`].
    pub fn super_packet(
        &mut self,
        hook: Hook,
        frame: &[u8],
        segment_size: u32,
        now_us: u64,
    ) -> Result<bool, SensorError> {
        let program = match hook {
            Hook::Ingress => "ingress_tc",
            Hook::Egress => "egress",
        };
        self.clock.set(0, now_us, 0).map_err(|source| SensorError::Map { map: "CLOCK", source })?;
        let mut context = [0; SKB_CONTEXT];
        let (_, tail) = context.split_at_mut(SKB_GSO_SIZE);
        for (byte, value) in tail.iter_mut().zip(segment_size.to_ne_bytes()) {
            *byte = value;
        }
        let options = TestRunOptions { data_in: Some(frame), ctx_in: Some(&context), ..TestRunOptions::new() };
        match self.loaded.classifier(program)?.test_run(options) {
            Ok(_) => Ok(true),
            Err(error) if is_bad_length(&error) => Ok(false),
            Err(source) => Err(SensorError::Program { program, source: Box::new(source) }),
        }
    }

    /// Runs one frame `repeat` times and returns the mean time of a run as the kernel measured it.
    ///
    /// # Errors
    /// When the kernel refuses for any reason but the frame's length (`None`).
    pub fn run(&mut self, hook: Hook, frame: &[u8], repeat: u32) -> Result<Option<Duration>, SensorError> {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        let (name, result) = match hook {
            Hook::Ingress => ("ingress", self.loaded.xdp("ingress")?.test_run(options)),
            Hook::Egress => ("egress", self.loaded.classifier("egress")?.test_run(options)),
        };
        match result {
            Ok(result) => Ok(Some(result.duration)),
            Err(error) if is_bad_length(&error) => Ok(None),
            Err(source) => Err(SensorError::Program { program: name, source: Box::new(source) }),
        }
    }

    /// Runs one frame through the ingress hook at `now_us`, and returns whether it would be dropped.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn is_dropped(&mut self, frame: &[u8], now_us: u64) -> Result<bool, SensorError> {
        self.clock.set(0, now_us, 0).map_err(|source| SensorError::Map { map: "CLOCK", source })?;
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
        let result = self.loaded.xdp("ingress")?.test_run(options);
        let result = result.map_err(|source| SensorError::Program { program: "ingress", source: Box::new(source) })?;
        Ok(result.return_value == XDP_DROP)
    }

    /// The maps of the filter. They can be taken once.
    ///
    /// # Errors
    /// When they have been taken.
    pub fn filter_maps(&mut self) -> Result<FilterMaps, SensorError> {
        self.loaded.filter_maps()
    }

    /// What the verifier made of a hook's program: instructions that it followed, and instructions of the program. 0 on
    /// kernels that do not tell.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn program_size(&mut self, hook: Hook) -> Result<(u32, u32), SensorError> {
        const INSTRUCTION: u32 = 8;
        let info = match hook {
            Hook::Ingress => self.loaded.xdp("ingress")?.info(),
            Hook::Egress => self.loaded.classifier("egress")?.info(),
        };
        let info = info.map_err(|source| SensorError::Program { program: hook.name(), source: Box::new(source) })?;
        let translated = info.size_translated().unwrap_or(0) / INSTRUCTION;
        Ok((info.verified_instruction_count().unwrap_or(0), translated))
    }

    /// Looks at what is due at `now_us`, as the agent does, and returns how long that took in the kernel.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn sweep(&mut self, now_us: u64) -> Result<Duration, SensorError> {
        let due = self.due(now_us);
        self.sweep_slots(&due, Patience::Normal, now_us)
    }

    /// Looks at every slot in use at `now_us`, with the patience of a table that is nearly full.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn relieve(&mut self, now_us: u64) -> Result<Duration, SensorError> {
        let used = self.due_times.used();
        self.sweep_slots(&used, Patience::Pressed, now_us)
    }

    /// Looks at every slot in use at time 0, when nothing is due, and returns how long that took in the kernel.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn look_at_all(&mut self) -> Result<Duration, SensorError> {
        let used = self.due_times.used();
        self.sweep_slots(&used, Patience::Normal, 0)
    }

    /// Slots in use, those of ended flows included.
    #[must_use]
    pub fn used_slots(&self) -> usize {
        self.due_times.used().len()
    }

    /// Looks at these slots at `now_us`, and returns how long that took in the kernel.
    pub(super) fn sweep_slots(
        &mut self,
        slots: &[u32],
        patience: Patience,
        now_us: u64,
    ) -> Result<Duration, SensorError> {
        self.clock.set(0, now_us, 0).map_err(|source| SensorError::Map { map: "CLOCK", source })?;
        sweep(self.loaded.classifier("sweep")?, slots, patience)
    }

    /// The slots that are due at `now_us`.
    #[must_use]
    pub(super) fn due(&self, now_us: u64) -> Vec<u32> {
        let mut due = Vec::new();
        self.due_times.scan(now_us, &mut due);
        due
    }

    /// The map of the states.
    pub(super) fn states_descriptor(&self) -> BorrowedFd<'_> {
        self.states.map().fd().as_fd()
    }

    /// A hook's program, to be run from another thread while this one reads records.
    ///
    /// # Errors
    /// When its descriptor cannot be duplicated.
    pub fn runner(&mut self, hook: Hook) -> Result<TestRunner, SensorError> {
        let failed = |source| SensorError::Program { program: hook.name(), source: Box::new(source) };
        let descriptor = match hook {
            Hook::Ingress => self.loaded.xdp("ingress")?.fd().map_err(failed)?,
            Hook::Egress => self.loaded.classifier("egress")?.fd().map_err(failed)?,
        };
        let duplicate = descriptor.as_fd().try_clone_to_owned();
        duplicate.map(TestRunner::new).map_err(|source| SensorError::Io { action: "duplicate a descriptor", source })
    }

    /// The records that have come out so far, in the order of their ending.
    pub fn records(&mut self) -> Vec<FlowRecord> {
        let mut records = Vec::new();
        while let Some(item) = self.records.next() {
            records.extend(FlowRecord::from_bytes(&item));
        }
        records
    }

    /// Ends the replay: the flows that are still open, by start time, with reason `end_of_capture`, as offline replay
    /// ends. The tables are empty afterwards.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn finish(&mut self) -> Result<Vec<FlowRecord>, SensorError> {
        let used = self.due_times.used();
        let mut open = Vec::new();
        for slot in &used {
            let LockedFlow { state, .. } =
                self.states.get(slot, 0).map_err(|source| SensorError::Map { map: "STATES", source })?;
            if state.life == Life::Open as u8 && state.packets() >= self.profile.min_packets() {
                open.push(FlowRecord::finish(state, EndReason::EndOfCapture));
            }
        }
        self.sweep_slots(&used, Patience::None, 0)?;
        open.sort_by_key(|record| record.state().start_us);
        let failed = |source| SensorError::Map { map: "DATAGRAMS", source };
        for key in self.datagrams.keys().collect::<Result<Vec<_>, _>>().map_err(failed)? {
            self.datagrams.remove(&key).map_err(failed)?;
        }
        Ok(open)
    }

    /// The books, summed over all CPUs.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn counters(&self) -> Result<Counters, SensorError> {
        let mut sum = Counters::default();
        for set in 0..COUNTER_SETS {
            let values = self.counters.get(&set, 0).map_err(|source| SensorError::Map { map: "COUNTERS", source })?;
            for counters in values.iter() {
                sum.add(counters);
            }
        }
        Ok(sum)
    }
}

/// `BPF_PROG_TEST_RUN` answers EINVAL to frames shorter than an Ethernet header and to overlong ones.
fn is_bad_length(error: &ProgramError) -> bool {
    matches!(os_error(error), Some(libc::EINVAL | libc::ENOMEM | libc::E2BIG))
        || error.to_string().contains(&io::Error::from_raw_os_error(libc::EINVAL).to_string())
}

#[cfg(test)]
mod tests;
