//! Kernel = offline: every capture, packet by packet, through the loaded eBPF programs on the test clock; the records
//! that come out are byte for byte those of offline replay, and so are the books. Both hooks, all profiles, with tunnels
//! looked into and without.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use ml_ids::{
    offline::{Capture, LinkType, Replay, parse_frame},
    sensor::{KernelReplay, Options, SensorError},
};
use ml_ids_common::{Decap, FlowRecord, FlowState, Hook, HookCounters, Profile, Skip};
use ml_ids_tests::{
    data, files, fixture,
    records::{difference, ensure_equal},
};

/// Table size of the kernel replay; a capture with more flows in flight would not fit.
const MAX_FLOWS: u32 = 65_536;
/// Frames that `BPF_PROG_TEST_RUN` takes: from an Ethernet header up.
const SHORTEST: usize = 14;

/// What one comparison covered.
#[derive(Default)]
struct Coverage {
    captures: u32,
    packets: u64,
    records: u64,
    /// Later fragments that found their flow.
    fragments: u64,
    /// Frames that a test run does not take; they are withheld from both sides.
    withheld: u64,
    /// Frames that are not Ethernet, which no hook can be given.
    other_link: u64,
    /// The books of offline replay.
    books: HookCounters,
}

fn load(profile: Profile, decap: Decap) -> Result<Option<KernelReplay>> {
    let options = Options { profile, decap, max_flows: MAX_FLOWS, ring_bytes: 32 << 20, ..Options::default() };
    match KernelReplay::load(&options, true) {
        Ok(kernel) => Ok(Some(kernel)),
        Err(SensorError::Permission { .. } | SensorError::Barred { .. }) => {
            eprintln!("SKIPPED: loading eBPF programs needs root");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Feeds one capture to both sides and compares.
fn compare(
    path: &Path,
    kernel: &mut KernelReplay,
    hook: Hook,
    (profile, decap): (Profile, Decap),
    coverage: &mut Coverage,
) -> Result<()> {
    let mut offline = Replay::new(profile).with_decap(decap);
    let mut expected: Vec<FlowRecord> = Vec::new();
    let mut emit = |record: FlowRecord| -> Result<()> {
        expected.push(record);
        Ok(())
    };
    let mut actual = Vec::new();
    let Ok(mut capture) = Capture::new(fs::File::open(path)?) else { return Ok(()) };
    // A damaged capture is compared as far as it can be read.
    while let Ok(Some(frame)) = capture.next_frame() {
        if frame.link != LinkType::ETHERNET {
            coverage.other_link += 1;
            continue;
        }
        if frame.data.len() < SHORTEST || !kernel.packet(hook, frame.data, frame.time_us)? {
            coverage.withheld += 1;
            continue;
        }
        coverage.packets += 1;
        let parsed = parse_frame(frame.link, frame.data, profile, decap);
        offline.frame(parsed, frame.data.len(), frame.time_us, &mut emit)?;
        if coverage.packets.is_multiple_of(4096) {
            actual.extend(kernel.records());
        }
    }
    offline.end(&mut emit)?;
    actual.extend(kernel.records());
    actual.extend(kernel.finish()?);
    coverage.records += expected.len() as u64;
    for record in &expected {
        let FlowState { forward, backward, .. } = record.state();
        coverage.fragments += u64::from(forward.fragments) + u64::from(backward.fragments);
    }
    add(&mut coverage.books, &offline.counters().ingress);
    ensure_equal(actual, expected)?;
    coverage.captures += 1;
    Ok(())
}

fn add(sum: &mut HookCounters, books: &HookCounters) {
    sum.seen += books.seen;
    sum.seen_bytes += books.seen_bytes;
    sum.in_flow += books.in_flow;
    for (sum, count) in sum.skipped.iter_mut().zip(books.skipped) {
        *sum += count;
    }
}

fn compare_all(folder: &Path, least: u32, decap: Decap, profiles: &[Profile]) -> Result<()> {
    for profile in profiles {
        for hook in Hook::ALL {
            let Some(mut kernel) = load(*profile, decap)? else { return Ok(()) };
            let mut coverage = Coverage::default();
            for path in files(folder, &["pcap", "pcapng", "cap"])? {
                compare(&path, &mut kernel, hook, (*profile, decap), &mut coverage)
                    .with_context(|| format!("{} at {} in {}", path.display(), hook.name(), profile.name()))?;
            }
            let counters = kernel.counters()?;
            let books = counters.hook(hook);
            ensure!(books.balanced(), "{books:?}");
            let flows = counters.flows;
            ensure!(flows.lost_ring_full == 0, "{flows:?}");
            let Coverage { captures, packets, records, fragments, withheld, other_link, books: expected } = coverage;
            ensure!(*books == expected, "the kernel's books: {books:?}, offline: {expected:?}");
            eprintln!(
                "{} {} {decap:?}: {captures} captures, {packets} packets, {records} records and the books equal, \
                 {fragments} later fragments in them; {withheld} frames withheld, {other_link} are not Ethernet",
                profile.name(),
                hook.name()
            );
            ensure!(captures >= least, "only {captures} captures were compared");
            // Else a kernel that refused everything would pass.
            ensure!(withheld * 100 < packets, "{withheld} of {packets} frames were withheld");
            // All captures hold both kinds of later fragment.
            let orphans = books.skipped.get(Skip::FragmentOrphan as usize).copied().unwrap_or(0);
            ensure!(captures < 1_000 || (fragments > 0 && orphans > 0), "{fragments} fragments, {orphans} orphans");
        }
    }
    Ok(())
}

#[test]
fn handmade_captures_give_the_same_records_in_the_kernel() -> Result<()> {
    compare_all(&fixture("handmade"), 12, Decap::NONE, &Profile::ALL)
}

#[test]
fn all_captures_give_the_same_records_in_the_kernel() -> Result<()> {
    let Some(data) = data("captures") else { return Ok(()) };
    compare_all(&data, 1_000, Decap::NONE, &Profile::ALL)
}

#[test]
fn all_captures_give_the_same_records_in_the_kernel_when_tunnels_are_looked_into() -> Result<()> {
    let Some(data) = data("captures") else { return Ok(()) };
    compare_all(&data, 1_000, Decap::ALL, &[Profile::Fixed])
}

/// A TCP segment from 10.0.0.1:80 to 10.0.0.2:1000 with `payload` bytes.
fn segment(payload: u16, flags: u8) -> Vec<u8> {
    let [high, low] = (40 + payload).to_be_bytes();
    let mut frame = vec![
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, // Ethernet
        0x45, 0, high, low, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
        0, 80, 3, 0xe8, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0x72, 0x10, 0, 0, 0, 0, // TCP
    ];
    frame.resize(frame.len() + usize::from(payload), b'x');
    frame
}

/// The frame in VXLAN from 10.1.0.1 to 10.1.0.2.
fn in_vxlan(frame: &[u8]) -> Vec<u8> {
    let [high, low] = (20 + 8 + 8 + frame.len() as u16).to_be_bytes();
    let [udp_high, udp_low] = (8 + 8 + frame.len() as u16).to_be_bytes();
    let mut outer = vec![
        2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 4, 8, 0, // Ethernet
        0x45, 0, high, low, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2, // IPv4
        0xc0, 0, 0x12, 0xb5, udp_high, udp_low, 0, 0, // UDP
        8, 0, 0, 0, 0, 0, 42, 0, // VXLAN
    ];
    outer.extend_from_slice(frame);
    outer
}

#[test]
fn a_super_packet_counts_in_the_kernel_as_its_segments_do_offline() -> Result<()> {
    super_packets(Decap::NONE, <[u8]>::to_vec)
}

#[test]
fn a_super_packet_in_a_tunnel_is_cut_by_the_payload_of_the_packet_inside() -> Result<()> {
    super_packets(Decap::VXLAN, in_vxlan)
}

fn super_packets(decap: Decap, wrap: fn(&[u8]) -> Vec<u8>) -> Result<()> {
    const ACK: u8 = 0x10;
    const PSH: u8 = 0x08;
    const SIZE: u16 = 500;
    for (profile, hook) in Profile::ALL.into_iter().flat_map(|profile| Hook::ALL.map(|hook| (profile, hook))) {
        let Some(mut kernel) = load(profile, decap)? else { return Ok(()) };
        let mut offline = Replay::new(profile).with_decap(decap);
        let mut expected = Vec::new();
        let mut emit = |record: FlowRecord| -> Result<()> {
            expected.push(record);
            Ok(())
        };
        let mut segments = 0;
        for (round, payload) in [1u16, 500, 501, 1000, 2999].into_iter().enumerate() {
            let now_us = 1_000_000 + 700_000 * round as u64;
            let frame = wrap(&segment(payload, ACK | PSH));
            ensure!(kernel.super_packet(hook, &frame, SIZE.into(), now_us)?, "{payload} bytes refused");
            let mut left = payload;
            while left > 0 {
                let here = left.min(SIZE);
                left -= here;
                // PSH leaves with the last segment.
                let frame = wrap(&segment(here, if left == 0 { ACK | PSH } else { ACK }));
                let parsed = parse_frame(LinkType::ETHERNET, &frame, profile, decap);
                offline.frame(parsed, frame.len(), now_us, &mut emit)?;
                segments += 1;
            }
        }
        offline.end(&mut emit)?;
        let actual = kernel.finish()?;
        let [ours] = actual.as_slice() else { anyhow::bail!("{} records", actual.len()) };
        let [theirs] = expected.as_slice() else { anyhow::bail!("{} records expected", expected.len()) };
        ensure!(ours == theirs, "{}:\n{}", profile.name(), difference(ours, theirs));
        let (counters, expected) = (kernel.counters()?, offline.counters().ingress);
        let books = counters.hook(hook);
        ensure!(books.seen == segments && books.in_flow == segments, "{}: {books:?}", hook.name());
        ensure!(books.seen_bytes == expected.seen_bytes, "{}: {books:?}, {expected:?}", hook.name());
    }
    Ok(())
}
