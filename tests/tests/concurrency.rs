//! Two CPUs on one flow table: in step with each other they give the very records of offline replay, and running free, with
//! eviction, sweep and reuse of slots racing all the time, they lose and tear nothing.

use std::{
    env, fs,
    path::Path,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::sync_channel,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use ml_ids::{
    offline::{Capture, LinkType, Replay, parse_frame},
    sensor::{KernelReplay, Options, SensorError, TestRunner},
};
use ml_ids_common::{Decap, Direction, EndReason, FlowRecord, Hook, Profile};
use ml_ids_fuzz::identities;
use ml_ids_tests::{data, files, fixture, load::pin, records::ensure_equal};

/// Frames that `BPF_PROG_TEST_RUN` takes: from an Ethernet header up.
const SHORTEST: usize = 14;
/// Of the captures that are not in the repository, one in this many is replayed in step.
const SAMPLE: usize = 40;

fn load(options: &Options, test_clock: bool) -> Result<Option<KernelReplay>> {
    match KernelReplay::load(options, test_clock) {
        Ok(kernel) => Ok(Some(kernel)),
        Err(SensorError::Permission { .. } | SensorError::Barred { .. }) => {
            eprintln!("SKIPPED: loading eBPF programs needs root");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// What the two threads hand to each other: whoever holds it sends the next frame.
struct Baton {
    kernel: KernelReplay,
    frames: Vec<(u64, Vec<u8>)>,
    /// Whether each frame so far was taken.
    taken: Vec<bool>,
    records: Vec<FlowRecord>,
}

impl Baton {
    /// Sends the next frame. False when there is none.
    fn step(&mut self, hook: Hook) -> Result<bool> {
        let Some((now_us, frame)) = self.frames.get(self.taken.len()) else { return Ok(false) };
        self.taken.push(frame.len() >= SHORTEST && self.kernel.packet(hook, frame, *now_us)?);
        if self.taken.len().is_multiple_of(2048) {
            self.records.extend(self.kernel.records());
        }
        Ok(true)
    }
}

/// Sends even frames through ingress on one CPU and odd ones through egress on another, strictly in turns.
fn in_step(baton: Baton) -> Result<Baton> {
    let (to_odd, odd) = sync_channel::<Baton>(1);
    let (to_even, even) = sync_channel::<Baton>(1);
    let (to_end, end) = sync_channel::<Result<Baton>>(1);
    thread::scope(|scope| {
        for (cpu, hook, mine, other) in [(0, Hook::Ingress, even, to_odd), (1, Hook::Egress, odd, to_even.clone())] {
            let to_end = to_end.clone();
            scope.spawn(move || {
                // A CPU that is not there makes the test weaker, not wrong.
                let _ = pin(cpu);
                while let Ok(mut baton) = mine.recv() {
                    let done = match baton.step(hook) {
                        Ok(true) => other.send(baton).is_err(),
                        Ok(false) => to_end.send(Ok(baton)).is_ok(),
                        Err(error) => to_end.send(Err(error)).is_ok(),
                    };
                    if done {
                        break;
                    }
                }
            });
        }
        to_even.send(baton).map_err(|_| anyhow!("no thread to begin"))?;
        drop(to_even);
        drop(to_end);
        end.recv().context("both threads ended")?
    })
}

/// Replays one capture both ways and compares. Returns the kernel side and the number of records.
fn compare(path: &Path, kernel: KernelReplay, profile: Profile) -> Result<(KernelReplay, usize)> {
    let mut frames = Vec::new();
    if let Ok(mut capture) = Capture::new(fs::File::open(path)?) {
        // A damaged capture is compared as far as it can be read.
        while let Ok(Some(frame)) = capture.next_frame() {
            if frame.link == LinkType::ETHERNET {
                frames.push((frame.time_us, frame.data.to_vec()));
            }
        }
    }
    let baton = Baton { kernel, taken: Vec::with_capacity(frames.len()), frames, records: Vec::new() };
    let Baton { mut kernel, frames, taken, mut records } = in_step(baton)?;
    records.extend(kernel.records());
    records.extend(kernel.finish()?);
    let mut offline = Replay::new(profile);
    let mut expected = Vec::new();
    let mut emit = |record: FlowRecord| -> Result<()> {
        expected.push(record);
        Ok(())
    };
    for ((now_us, frame), _) in frames.iter().zip(taken).filter(|(_, taken)| *taken) {
        let parsed = parse_frame(LinkType::ETHERNET, frame, profile, Decap::NONE);
        offline.frame(parsed, frame.len(), *now_us, &mut emit)?;
    }
    offline.end(&mut emit)?;
    let count = expected.len();
    ensure_equal(records, expected)?;
    Ok((kernel, count))
}

fn compare_all<'a>(paths: impl Iterator<Item = &'a std::path::PathBuf> + Clone) -> Result<()> {
    for profile in Profile::ALL {
        let options = Options { profile, max_flows: 65_536, ring_bytes: 32 << 20, ..Options::default() };
        let Some(mut kernel) = load(&options, true)? else { return Ok(()) };
        let (mut captures, mut records) = (0, 0);
        for path in paths.clone() {
            let compared = compare(path, kernel, profile);
            let (after, count) = compared.with_context(|| format!("{} in {}", path.display(), profile.name()))?;
            kernel = after;
            captures += 1;
            records += count;
        }
        let counters = kernel.counters()?;
        ensure!(counters.ingress.balanced() && counters.egress.balanced(), "{counters:?}");
        let difference = counters.ingress.seen.abs_diff(counters.egress.seen);
        ensure!(difference <= captures, "the halves are {} and {}", counters.ingress.seen, counters.egress.seen);
        eprintln!("{}: {captures} captures in two halves, {records} records equal", profile.name());
        ensure!(records > 0, "nothing was compared");
    }
    Ok(())
}

#[test]
fn handmade_captures_in_two_interleaved_halves_give_the_records_of_offline_replay() -> Result<()> {
    compare_all(files(&fixture("handmade"), &["pcap", "pcapng", "cap"])?.iter())
}

#[test]
fn a_sample_of_all_captures_in_two_interleaved_halves_gives_the_records_of_offline_replay() -> Result<()> {
    let Some(data) = data("captures") else { return Ok(()) };
    compare_all(files(&data, &["pcap", "pcapng", "cap"])?.iter().step_by(SAMPLE))
}

/// Five-tuples of the stress test: more than the table has slots.
const TUPLES: u32 = 48;
const SLOTS: u32 = 24;
/// Payload of every packet with PSH, so that sums tell whether an update is whole.
const PAYLOAD: u32 = 7;
const HEADER: u64 = 20;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
/// Most packets end nothing.
const FLAGS: [u8; 16] = [
    SYN,
    SYN | ACK,
    ACK,
    ACK,
    ACK,
    PSH | ACK,
    PSH | ACK,
    PSH | ACK,
    PSH | ACK,
    ACK,
    FIN | ACK,
    FIN | ACK,
    ACK,
    RST,
    RST | ACK,
    SYN,
];

/// A segment of a tuple, one way or the other.
fn segment(tuple: u32, back: bool, flags: u8) -> Vec<u8> {
    let payload = if flags & PSH != 0 { PAYLOAD as u8 } else { 0 };
    let (low, server) = ([10, 0, 0, tuple as u8], [192, 168, 0, 1]);
    let (from, to, ports) = if back { (server, low, [0, 80, 3, 0xe8]) } else { (low, server, [3, 0xe8, 0, 80]) };
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 40 + payload, 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend(from);
    frame.extend(to);
    frame.extend(ports);
    frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0x72, 0x10, 0, 0, 0, 0]);
    frame.extend(vec![b'x'; payload.into()]);
    frame
}

/// Sends random segments until told to stop, in runs of up to `longest`.
fn send(runner: &TestRunner, mut seed: u64, longest: u64, stop: &AtomicBool) -> Result<()> {
    let mut next = move |bound: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 16) % bound
    };
    while !stop.load(Ordering::Relaxed) {
        let flags = FLAGS.get(next(16) as usize).copied().unwrap_or(ACK);
        let frame = segment(next(TUPLES.into()) as u32, next(2) == 1, flags);
        let run = 1 + next(longest);
        runner.run(&frame, run as u32)?;
    }
    Ok(())
}

/// Everything that holds of a record of this traffic.
fn check(record: &FlowRecord, profile: Profile) -> Result<()> {
    identities::check(record, profile).map_err(|broken| anyhow!("{broken}: {record:?}"))?;
    let state = record.state();
    for Direction { packets, header_sum, data_packets, length_sum, length_square_sum, padded_sum, .. } in
        [state.forward, state.backward]
    {
        let payload = u64::from(data_packets) * u64::from(PAYLOAD);
        ensure!(
            header_sum == u64::from(packets) * HEADER
                && length_sum == payload
                && padded_sum == payload
                && length_square_sum == payload * u64::from(PAYLOAD),
            "torn: {record:?}"
        );
    }
    Ok(())
}

/// Sends from two CPUs through both hooks while a third thread sweeps, then looks whether everything is accounted for.
/// `pace`: microseconds by which the test clock moves between two sweeps; the kernel's clock if there is none.
fn stress(profile: Profile, pace: Option<u64>, time: Duration) -> Result<()> {
    let linger = Duration::from_millis(5);
    let options = Options { profile, max_flows: SLOTS, ring_bytes: 1 << 18, linger, ..Options::default() };
    let Some(mut kernel) = load(&options, pace.is_some())? else { return Ok(()) };
    let runners = [kernel.runner(Hook::Ingress)?, kernel.runner(Hook::Egress)?];
    let stop = AtomicBool::new(false);
    let mut records: Vec<FlowRecord> = Vec::new();
    let (mut received, mut by_reason, mut packets) = (0u64, [0u64; EndReason::ALL.len() + 1], 0u64);
    thread::scope(|scope| -> Result<()> {
        // The kernel takes milliseconds to begin a run of an XDP program that is longer than one packet. At the other hook a run
        // is long enough for the first one's packets to meet it in the middle.
        let senders: Vec<_> = [(0, 1), (1, 64)]
            .into_iter()
            .zip(&runners)
            .map(|((cpu, longest), runner)| {
                let stop = &stop;
                scope.spawn(move || {
                    // A CPU that is not there makes the test weaker, not wrong.
                    let _ = pin(cpu);
                    send(runner, 0x9e37_79b9_7f4a_7c15 + cpu as u64, longest, stop)
                })
            })
            .collect();
        let mut sweep = || -> Result<()> {
            let end = Instant::now() + time;
            let mut round = 0u64;
            let mut test_clock = 1_000_000;
            while Instant::now() < end {
                round += 1;
                test_clock += pace.unwrap_or_default();
                let now_us = if pace.is_some() { test_clock } else { monotonic_us() };
                kernel.sweep(now_us)?;
                if round.is_multiple_of(8) {
                    kernel.relieve(now_us)?;
                }
                records.extend(kernel.records());
                for record in records.drain(..) {
                    received += 1;
                    packets += u64::from(record.state().packets());
                    by_reason[record.reason() as usize] += 1;
                    check(&record, profile)?;
                }
            }
            Ok(())
        };
        let swept = sweep();
        stop.store(true, Ordering::Relaxed);
        for sender in senders {
            sender.join().map_err(|_| anyhow!("a sender panicked"))??;
        }
        swept
    })?;
    for record in kernel.records() {
        received += 1;
        packets += u64::from(record.state().packets());
        by_reason[record.reason() as usize] += 1;
        check(&record, profile)?;
    }
    let counters = kernel.counters()?;
    let left = kernel.finish()?;
    for record in &left {
        packets += u64::from(record.state().packets());
        check(record, profile)?;
    }
    let (ingress, egress, flows) = (&counters.ingress, &counters.egress, &counters.flows);
    let in_flow = ingress.in_flow + egress.in_flow;
    eprintln!(
        "{}, {}: {} + {} packets, {in_flow} in {} flows, {received} records {by_reason:?} by reason, {flows:?}, \
         skipped {:?} and {:?}",
        profile.name(),
        if pace.is_some() { "test clock" } else { "kernel's clock" },
        ingress.seen,
        egress.seen,
        flows.opened,
        ingress.skipped,
        egress.skipped,
    );
    ensure!(ingress.balanced() && egress.balanced(), "{counters:?}");
    ensure!(received == flows.emitted, "{received} records of {} arrived", flows.emitted);
    let accounted = packets + flows.evicted_packets + flows.lost_packets;
    if profile.min_packets() == 1 {
        let live = left.len() as u64;
        ensure!(flows.opened == flows.ended() + live, "{} flows ended, {live} live: {flows:?}", flows.ended());
        ensure!(flows.discarded == 0, "{flows:?}");
        ensure!(in_flow == accounted, "{in_flow} packets in flows, {accounted} in records and counters");
    } else {
        // A flow of one packet is discarded where the profile does not emit one.
        let missing = in_flow - accounted.min(in_flow);
        ensure!(in_flow >= accounted && missing <= flows.discarded + u64::from(SLOTS), "{missing} packets: {flows:?}");
    }
    ensure!(kernel.used_slots() == 0, "{} slots are still in use", kernel.used_slots());
    ensure!(ingress.seen > 10_000 && egress.seen > 10_000, "one of the hooks had next to no packet");
    ensure!(flows.opened > 1_000 && received > 1_000, "too little happened");
    Ok(())
}

fn monotonic_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing, and the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000 + time.tv_nsec.cast_unsigned() / 1_000
}

/// Seconds of each stress run: `$ML_IDS_STRESS_SECONDS`, else a few.
fn stress_time() -> Duration {
    let seconds = env::var("ML_IDS_STRESS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(2.5))
}

#[test]
fn two_cpus_a_sweep_and_a_full_table_race_without_tearing_or_losing_anything() -> Result<()> {
    for profile in Profile::ALL {
        stress(profile, None, stress_time())?;
    }
    Ok(())
}

#[test]
fn the_same_race_while_flows_reach_their_limits_all_the_time() -> Result<()> {
    for profile in Profile::ALL {
        // A round takes some 100 us, so a flow reaches its 120 s within milliseconds.
        stress(profile, Some(2_000_000), stress_time())?;
    }
    Ok(())
}

#[test]
fn a_full_ring_buffer_loses_flows_with_a_count_in_the_hooks_and_lets_them_wait_in_the_sweep() -> Result<()> {
    const FLOWS: u8 = 200;
    // Room for a hundred and some records.
    let ring_bytes = 1 << 16;
    // 2017: the first FIN ends a flow in the hook itself.
    let options = Options { profile: Profile::Cic2017, max_flows: 1024, ring_bytes, ..Options::default() };
    let Some(mut kernel) = load(&options, true)? else { return Ok(()) };
    for tuple in 0..FLOWS {
        kernel.packet(Hook::Ingress, &segment(tuple.into(), false, SYN), 1)?;
        kernel.packet(Hook::Egress, &segment(tuple.into(), true, FIN | ACK), 2)?;
    }
    let flows = kernel.counters()?.flows;
    let read = kernel.records().len() as u64;
    ensure!(flows.emitted == read && flows.emitted + flows.lost_ring_full == u64::from(FLOWS), "{flows:?}");
    ensure!(flows.lost_ring_full > 0 && flows.lost_packets == 2 * flows.lost_ring_full, "{flows:?}");

    let options = Options { max_flows: 1024, ring_bytes, ..Options::default() };
    let Some(mut kernel) = load(&options, true)? else { return Ok(()) };
    for tuple in 0..FLOWS {
        kernel.packet(Hook::Ingress, &segment(tuple.into(), false, RST), 1)?;
        kernel.packet(Hook::Egress, &segment(tuple.into(), true, RST), 2)?;
    }
    kernel.sweep(2_000_000)?;
    let first = kernel.records().len();
    ensure!(first > 50 && first < FLOWS.into(), "{first} records fit");
    kernel.sweep(2_100_000)?;
    let flows = kernel.counters()?.flows;
    let second = kernel.records().len();
    ensure!(first + second == usize::from(FLOWS), "{first} and {second} records: {flows:?}");
    ensure!(flows.emitted == u64::from(FLOWS) && flows.lost_ring_full == 0, "{flows:?}");
    Ok(())
}
