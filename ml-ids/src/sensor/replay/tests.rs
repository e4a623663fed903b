//! Replayed captures in the kernel: the test clock, both hooks, the sweep.

use ml_ids_common::Decap;

use super::*;
use crate::sensor::testing::loaded;

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
    loaded(&options)
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
    loaded(&options)
}

#[test]
fn a_flood_of_probes_costs_a_conversation_nothing_and_every_flow_is_accounted_for() {
    // The second ring holds so few records that most of the flood's cannot be sent.
    for ring_bytes in [4 << 20, 1 << 16] {
        let Some(mut replay) = small_table(64, ring_bytes) else { return };
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
