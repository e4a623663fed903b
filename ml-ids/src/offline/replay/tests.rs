//! What replay does with frames, times and the ends of flows.

use std::convert::Infallible;

use ml_ids_common::{SliceReader, parse_network};

use super::*;
use crate::features::FlowId;

/// Parses a TCP packet without payload from host `from` to host `to`, whose port is 80.
fn tcp(from: u8, to: u8, flags: u8, profile: Profile) -> Packet {
    let port = |host: u8| if host == 9 { 80 } else { 100 };
    let mut bytes = [0; 40];
    bytes[0] = 0x45;
    bytes[3] = 40;
    bytes[9] = 6;
    bytes[12..20].copy_from_slice(&[10, 0, 0, from, 10, 0, 0, to]);
    bytes[21] = port(from);
    bytes[23] = port(to);
    bytes[32] = 0x50;
    bytes[33] = flags;
    parse_network(&SliceReader(&bytes), 0x0800, 0, 40, profile, Decap::NONE).unwrap()
}

const FIN: u8 = 0x11;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Source host, packets and reason of each flow, in the order in which they end, and the books.
fn replay(
    profile: Profile,
    max_flows: usize,
    packets: &[(u64, u8, u8, u8)],
) -> (Vec<(String, u32, EndReason)>, Counters) {
    let mut replay = Replay::new(profile).with_max_flows(max_flows);
    let mut ended = Vec::new();
    let mut emit = |record: FlowRecord| {
        let id = FlowId::of(&record);
        ended.push((id.source.to_string(), record.state().packets(), record.reason()));
        Ok::<(), Infallible>(())
    };
    for (time, from, to, flags) in packets {
        let Ok(()) = replay.frame(Ok(tcp(*from, *to, *flags, profile)), 40, *time, &mut emit);
    }
    let Ok(()) = replay.end(&mut emit);
    let counters = *replay.counters();
    assert!(counters.ingress.balanced(), "{counters:?}");
    assert_eq!(counters.flows.opened, counters.flows.emitted + counters.flows.discarded, "{counters:?}");
    assert_eq!(replay.live(), 0);
    (ended, counters)
}

fn row(host: u8, packets: u32, reason: EndReason) -> (String, u32, EndReason) {
    (format!("10.0.0.{host}"), packets, reason)
}

#[test]
fn a_flow_over_the_limit_ends_at_its_next_packet_and_the_rest_at_the_end_by_start() {
    let (ended, _) = replay(
        Profile::Fixed,
        10,
        &[(50, 2, 9, SYN), (0, 1, 9, SYN), (60, 9, 1, ACK), (120_000_051, 2, 9, ACK), (120_000_052, 3, 9, SYN)],
    );
    assert_eq!(
        ended,
        [
            row(2, 1, EndReason::Timeout),
            row(1, 2, EndReason::EndOfCapture),
            row(2, 1, EndReason::EndOfCapture),
            row(3, 1, EndReason::EndOfCapture)
        ]
    );
}

#[test]
fn a_torn_down_flow_collects_late_packets_until_a_syn() {
    let packets = [(0, 1, 9, SYN), (1, 1, 9, FIN), (2, 9, 1, FIN), (3, 1, 9, ACK), (4, 9, 1, ACK), (5, 1, 9, SYN)];
    let (ended, _) = replay(Profile::Fixed, 10, &packets);
    assert_eq!(ended, [row(1, 5, EndReason::Fin), row(1, 1, EndReason::EndOfCapture)]);
}

#[test]
fn a_flow_that_starts_with_a_fin_is_not_torn_down_by_the_answer() {
    let packets = [(0, 1, 9, FIN), (1, 9, 1, FIN), (2, 1, 9, ACK), (3, 9, 1, ACK), (4, 1, 9, SYN)];
    let (ended, _) = replay(Profile::Fixed, 10, &packets);
    assert_eq!(ended, [row(1, 5, EndReason::EndOfCapture)]);
}

#[test]
fn a_2017_flow_ends_with_its_first_fin_and_single_packets_are_discarded() {
    let packets = [(0, 1, 9, SYN), (1, 1, 9, FIN), (2, 9, 1, FIN), (3, 9, 1, ACK), (4, 2, 9, SYN)];
    let (ended, counters) = replay(Profile::Cic2017, 10, &packets);
    assert_eq!(ended, [row(1, 2, EndReason::Fin), row(9, 2, EndReason::EndOfCapture)]);
    assert_eq!((counters.flows.opened, counters.flows.discarded), (3, 1));
}

#[test]
fn a_full_table_skips_new_flows_and_counts_on_in_old_ones() {
    let packets = [(0, 1, 9, SYN), (1, 2, 9, SYN), (2, 3, 9, SYN), (3, 9, 1, ACK)];
    let (ended, counters) = replay(Profile::Fixed, 2, &packets);
    assert_eq!(ended, [row(1, 2, EndReason::EndOfCapture), row(2, 1, EndReason::EndOfCapture)]);
    assert_eq!(counters.ingress.skipped[Skip::TableFull as usize], 1);
}

#[test]
fn later_fragments_count_in_the_flow_of_the_first_and_open_none() {
    let fragment = |fragment, id| Packet { fragment, datagram: id, ..tcp(1, 9, ACK, Profile::Fixed) };
    let mut replay = Replay::new(Profile::Fixed);
    let mut ended = Vec::new();
    let mut emit = |record: FlowRecord| {
        ended.push(*record.state());
        Ok::<(), Infallible>(())
    };
    for (packet, time) in [
        (fragment(Fragment::LATER, 7), 0),
        (fragment(Fragment::FIRST, 7), 1),
        (fragment(Fragment::LATER, 7), 2),
        (fragment(Fragment::LATER, 8), 3),
        (fragment(Fragment::LATER, 7), 120_000_002),
    ] {
        let Ok(()) = replay.frame(Ok(packet), 40, time, &mut emit);
    }
    let Ok(()) = replay.end(&mut emit);
    let books = replay.counters().ingress;
    assert_eq!((books.seen, books.in_flow), (5, 2));
    assert_eq!(books.skipped[Skip::FragmentOrphan as usize], 2);
    assert_eq!(books.skipped[Skip::AfterEnd as usize], 1);
    let [flow] = ended.as_slice() else { panic!("{} flows", ended.len()) };
    assert_eq!((flow.packets(), flow.forward.fragments, flow.start_us, flow.last), (1, 1, 1, 0));
}

#[test]
fn an_error_from_the_receiver_stops_the_replay() {
    let mut replay = Replay::new(Profile::Fixed);
    let mut refuse = |_: FlowRecord| Err("no");
    let packet = tcp(1, 9, SYN, Profile::Fixed);
    assert_eq!(replay.frame(Ok(packet), 40, 0, &mut refuse), Ok(()));
    assert_eq!(replay.end(&mut refuse), Err("no"));
}
