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
    FilterMaps, Options, SensorError,
    due::DueTimes,
    load::{Loaded, os_error},
    sweep::sweep,
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
mod tests {
    use ml_ids_common::Decap;

    use super::*;

    /// Ethernet, IPv4, TCP SYN from 10.0.0.1:1000 to 10.0.0.2:80, padded to 60 bytes.
    const SYN: [u8; 60] = {
        let mut frame = [0; 60];
        let header = [
            0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00, // Ethernet
            0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
            0x03, 0xe8, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x02, 0x72, 0x10, 0, 0, 0, 0, // TCP
        ];
        let mut index = 0;
        while index < header.len() {
            frame[index] = header[index];
            index += 1;
        }
        frame
    };

    fn load(profile: Profile) -> Option<KernelReplay> {
        load_with(profile, Decap::NONE)
    }

    fn load_with(profile: Profile, decap: Decap) -> Option<KernelReplay> {
        let options = Options { profile, decap, max_flows: 1024, ring_bytes: 1 << 20, ..Options::default() };
        match KernelReplay::load(&options, true) {
            Ok(replay) => Some(replay),
            Err(SensorError::Permission { .. }) => {
                eprintln!("SKIPPED: loading eBPF programs needs root");
                None
            }
            Err(error) => panic!("{:#}", anyhow::Error::from(error)),
        }
    }

    #[test]
    fn both_hooks_count_one_flow_and_the_books_balance_in_every_profile() {
        for profile in Profile::ALL {
            let Some(mut replay) = load(profile) else { return };
            assert!(replay.packet(Hook::Ingress, &SYN, 1_000).unwrap());
            assert!(replay.packet(Hook::Egress, &SYN, 2_000).unwrap());
            let counters = replay.counters().unwrap();
            assert!(counters.ingress.balanced() && counters.egress.balanced(), "{counters:?}");
            assert_eq!((counters.ingress.in_flow, counters.egress.in_flow, counters.flows.opened), (1, 1, 1));
            assert_eq!(counters.ingress.seen_bytes, 60);
            let flows = replay.finish().unwrap();
            let [flow] = flows.as_slice() else { panic!("one flow expected, got {flows:?}") };
            let state = flow.state();
            assert_eq!((state.start_us, state.last, state.packets()), (1_000, 1_000, 2));
            assert_eq!((state.forward.header_sum, state.forward.padded_sum, state.flag_counts[1]), (40, 12, 2));
            assert_eq!(flow.reason(), EndReason::EndOfCapture);
        }
    }

    #[test]
    fn the_sweep_ends_a_flow_at_its_limit_and_frees_the_entry_later() {
        let Some(mut replay) = load(Profile::Fixed) else { return };
        replay.packet(Hook::Ingress, &SYN, 0).unwrap();
        replay.sweep(120_000_000).unwrap();
        assert!(replay.records().is_empty(), "a flow of exactly 120 s is not over");
        replay.sweep(120_000_001).unwrap();
        let records = replay.records();
        assert_eq!(records.iter().map(FlowRecord::reason).collect::<Vec<_>>(), [EndReason::Idle]);
        assert_eq!(replay.used_slots(), 1, "the entry remembers the source for a continuation");
        replay.sweep(240_000_002).unwrap();
        assert_eq!(replay.used_slots(), 0);
    }

    /// The verifier gives up at a million.
    const MOST_FOLLOWED: u32 = 700_000;

    #[test]
    fn the_verifier_is_far_from_giving_up_with_and_without_tunnels() {
        for profile in Profile::ALL {
            for decap in [Decap::NONE, Decap::ALL] {
                let Some(mut replay) = load_with(profile, decap) else { return };
                for hook in Hook::ALL {
                    let (followed, length) = replay.program_size(hook).unwrap();
                    eprintln!("{} {} {decap:?}: {followed} followed, {length} long", profile.name(), hook.name());
                    assert!(followed < MOST_FOLLOWED, "{} {} {decap:?}: {followed}", profile.name(), hook.name());
                }
            }
        }
    }

    #[test]
    fn a_frame_that_is_no_packet_is_counted_with_its_reason() {
        let Some(mut replay) = load(Profile::Fixed) else { return };
        let mut arp = SYN;
        arp[13] = 0x06;
        replay.packet(Hook::Ingress, &arp, 0).unwrap();
        replay.packet(Hook::Egress, &SYN[..40], 0).unwrap();
        let counters = replay.counters().unwrap();
        assert_eq!(counters.ingress.skipped[ml_ids_common::Skip::NotIp as usize], 1);
        assert_eq!(counters.egress.skipped[ml_ids_common::Skip::Truncated as usize], 1);
    }

    /// The frame with another source, destination and flags.
    fn segment(from: [u8; 4], to: [u8; 4], flags: u8) -> [u8; 60] {
        let mut frame = SYN;
        frame[26..30].copy_from_slice(&from);
        frame[30..34].copy_from_slice(&to);
        if from > to {
            frame[34..38].copy_from_slice(&[0, 80, 3, 0xe8]);
        }
        frame[47] = flags;
        frame
    }

    const CLIENT: [u8; 4] = [10, 0, 0, 1];
    const SERVER: [u8; 4] = [10, 0, 0, 2];
    const ACK: u8 = 0x10;

    fn small_table(max_flows: u32, ring_bytes: u32) -> Option<KernelReplay> {
        let options = Options { max_flows, ring_bytes, ..Options::default() };
        match KernelReplay::load(&options, true) {
            Ok(replay) => Some(replay),
            Err(SensorError::Permission { .. }) => None,
            Err(error) => panic!("{:#}", anyhow::Error::from(error)),
        }
    }

    #[test]
    fn a_flood_of_probes_costs_a_conversation_nothing_and_every_flow_is_accounted_for() {
        // The second ring holds so few records that most of the flood's cannot be sent.
        for ring_bytes in [4 << 20, 1 << 16] {
            let Some(mut replay) = small_table(64, ring_bytes) else {
                eprintln!("SKIPPED: loading eBPF programs needs root");
                return;
            };
            let mut now = 1_000_000;
            let mut talk = |replay: &mut KernelReplay, count: u64| {
                for _ in 0..count {
                    now += 10;
                    replay.packet(Hook::Ingress, &segment(CLIENT, SERVER, ACK), now).unwrap();
                    replay.packet(Hook::Egress, &segment(SERVER, CLIENT, ACK), now).unwrap();
                }
                now
            };
            let mut now = talk(&mut replay, 2);
            for probe in 0..1000u16 {
                let [high, low] = probe.to_be_bytes();
                now += 1;
                replay.packet(Hook::Ingress, &segment([172, 16, high, low], SERVER, 2), now).unwrap();
            }
            talk(&mut replay, 3);
            let counters = replay.counters().unwrap();
            assert!(counters.ingress.balanced() && counters.egress.balanced(), "{counters:?}");
            assert_eq!((counters.ingress.in_flow, counters.egress.in_flow), (1005, 5), "{counters:?}");
            let flows = counters.flows;
            assert_eq!((flows.opened, flows.opened - flows.ended()), (1001, 64), "{flows:?}");
            assert_eq!((flows.evicted, flows.evicted > 0), (flows.evicted_packets, ring_bytes < 1 << 20), "{flows:?}");
            let sent = replay.records();
            assert_eq!(sent.len() as u64, flows.emitted);
            assert!(sent.iter().all(|record| record.reason() == EndReason::Evicted && record.state().packets() == 1));
            let left = replay.finish().unwrap();
            let conversation = left.iter().find(|record| record.state().packets() > 1).unwrap();
            let (forward, backward) = (conversation.state().forward, conversation.state().backward);
            assert_eq!((left.len(), forward.packets, backward.packets), (64, 5, 5));
            assert_eq!(replay.used_slots(), 0);
        }
    }

    #[test]
    fn a_table_of_conversations_turns_new_flows_away_and_counts_them() {
        let Some(mut replay) = small_table(8, 1 << 16) else { return };
        for host in 1..=8 {
            replay.packet(Hook::Ingress, &segment([10, 1, 0, host], SERVER, ACK), 1).unwrap();
            replay.packet(Hook::Egress, &segment(SERVER, [10, 1, 0, host], ACK), 2).unwrap();
        }
        replay.packet(Hook::Ingress, &segment([10, 1, 0, 9], SERVER, ACK), 3).unwrap();
        let counters = replay.counters().unwrap();
        assert_eq!(counters.ingress.skipped[ml_ids_common::Skip::TableFull as usize], 1);
        assert!(counters.ingress.balanced(), "{counters:?}");
        // Quiet for longer than a table that is nearly full has patience for, but for the first.
        replay.packet(Hook::Ingress, &segment([10, 1, 0, 1], SERVER, ACK), 16_000_000).unwrap();
        replay.relieve(16_000_001).unwrap();
        assert_eq!((replay.used_slots(), replay.records().len()), (1, 7));
        replay.packet(Hook::Ingress, &segment([10, 1, 0, 9], SERVER, ACK), 16_000_002).unwrap();
        assert_eq!(replay.used_slots(), 2, "the freed slots are given out again");
    }
}
