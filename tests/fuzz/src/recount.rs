//! Counts a finished flow again, from a list of its packets, the way `docs/feature-spec.md` words it, and compares.
//!
//! Nothing here is shared with the engine but the names of the fields, so a fault would have to be made twice.

use ml_ids_common::{
    ACTIVITY_LIMIT_US, BULK_GAP_US, Direction, FLOW_LIMIT_US, FlowState, Packet, Profile, SUBFLOW_GAP_US, Spans,
    TcpFlags,
};

/// A packet of a flow as the table saw it arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) now_us: u64,
    pub(crate) packet: Packet,
    pub(crate) forward: bool,
}

/// Later fragments of a flow, which are none of its packets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fragments {
    pub(crate) forward: u32,
    pub(crate) backward: u32,
}

/// Compares a finished flow with the packets that went into it.
///
/// # Errors
/// The first field that differs, with both values.
pub(crate) fn compare(
    state: &FlowState,
    packets: &[Seen],
    fragments: Fragments,
    profile: Profile,
) -> Result<(), String> {
    let Some(first) = packets.first() else { return Err("a flow without packets".into()) };
    let times: Vec<i64> = packets.iter().map(|seen| offset(seen.now_us, first.now_us)).collect();
    equal("start_us", state.start_us, first.now_us)?;
    equal("packets", u64::from(state.packets()), packets.len() as u64)?;
    equal("last", i64::from(state.last), times.last().copied().unwrap_or(0))?;
    equal("first_length", state.first_length, first.packet.payload)?;
    equal("first_padded", state.first_padded, first.packet.padded_payload)?;
    equal("first_window", state.first_window, first.packet.window)?;
    equal("first_flags", state.first_flags, first.packet.flags.0)?;
    equal("first_backward", state.first_backward != 0, !first.forward)?;
    for (bit, count) in state.flag_counts.iter().enumerate() {
        let expected = packets.iter().filter(|seen| seen.packet.flags.0 >> bit & 1 == 1).count();
        equal("flag count", *count as usize, expected)?;
    }
    let gaps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gap_fields("flow", &gaps, state.gap_min, state.gap_max, state.gap_square_sum)?;
    equal("long_gaps", state.long_gaps as usize, gaps.iter().filter(|gap| **gap > i64::from(SUBFLOW_GAP_US)).count())?;
    equal("disordered", state.disordered as usize, gaps.iter().filter(|gap| **gap < 0).count())?;
    activity(state, &times, packets, profile)?;
    windows(state, packets)?;
    for forward in [true, false] {
        direction(state, packets, &times, forward, profile)?;
    }
    equal("forward fragments", state.forward.fragments, fragments.forward)?;
    equal("backward fragments", state.backward.fragments, fragments.backward)?;
    bulks(state, packets, &times)
}

/// Offset from the flow's start, with the engine's documented bound for packets from before it.
fn offset(now_us: u64, start_us: u64) -> i64 {
    let age = now_us.wrapping_sub(start_us).cast_signed();
    age.max(-FLOW_LIMIT_US)
}

fn gap_fields(whose: &str, gaps: &[i64], min: i32, max: i32, square_sum: u64) -> Result<(), String> {
    equal(&format!("{whose} gap_min"), i64::from(min), gaps.iter().copied().min().unwrap_or(0))?;
    equal(&format!("{whose} gap_max"), i64::from(max), gaps.iter().copied().max().unwrap_or(0))?;
    let squares: i128 = gaps.iter().map(|gap| i128::from(*gap) * i128::from(*gap)).sum();
    equal(&format!("{whose} gap_square_sum"), i128::from(square_sum), squares)
}

fn activity(state: &FlowState, times: &[i64], packets: &[Seen], profile: Profile) -> Result<(), String> {
    let (mut active, mut idle) = (Vec::new(), Vec::new());
    let (mut start, mut previous) = (0, 0);
    for (index, (time, seen)) in times.iter().zip(packets).enumerate().skip(1) {
        // The FIN that closes a 2017 flow does not reach the activity update; any other FIN opened its flow.
        let closing = matches!(profile, Profile::Cic2017) && seen.packet.flags.any(TcpFlags::FIN);
        if closing && index + 1 != packets.len() {
            return Err("a 2017 flow went on after a FIN".into());
        }
        if !closing && time - previous > i64::from(ACTIVITY_LIMIT_US) {
            if previous > start {
                active.push((previous - start).cast_unsigned());
            }
            idle.push((time - previous).cast_unsigned());
            start = *time;
        }
        previous = *time;
    }
    spans("active", &state.active, &active)?;
    spans("idle", &state.idle, &idle)
}

fn spans(name: &str, spans: &Spans, values: &[u64]) -> Result<(), String> {
    let &Spans { square_sum, sum, max, min, count, reserved } = spans;
    equal(&format!("{name}.count"), count as usize, values.len())?;
    equal(&format!("{name}.sum"), sum, values.iter().sum())?;
    equal(&format!("{name}.max"), u64::from(max), values.iter().copied().max().unwrap_or(0))?;
    equal(&format!("{name}.min"), u64::from(min), values.iter().copied().min().unwrap_or(0))?;
    equal(&format!("{name}.square_sum"), square_sum, values.iter().map(|value| value * value).sum())?;
    equal(&format!("{name}.reserved"), reserved, 0)
}

fn windows(state: &FlowState, packets: &[Seen]) -> Result<(), String> {
    let backward: Vec<u16> = packets.iter().filter(|seen| !seen.forward).map(|seen| seen.packet.window).collect();
    equal("backward_window_last", state.backward_window_last, backward.last().copied().unwrap_or(0))?;
    let first = backward.iter().copied().find(|window| *window != 0).unwrap_or(0);
    equal("backward_window_first", state.backward_window_first, first)
}

fn direction(
    state: &FlowState,
    packets: &[Seen],
    times: &[i64],
    forward: bool,
    profile: Profile,
) -> Result<(), String> {
    let (whose, side) = if forward { ("forward", &state.forward) } else { ("backward", &state.backward) };
    let own: Vec<(i64, &Packet)> = times
        .iter()
        .zip(packets)
        .filter(|(_, seen)| seen.forward == forward)
        .map(|(time, seen)| (*time, &seen.packet))
        .collect();
    let name = |field: &str| format!("{whose} {field}");
    let payloads: Vec<u64> = own.iter().map(|(_, packet)| u64::from(packet.payload)).collect();
    let padded: Vec<u64> = own.iter().map(|(_, packet)| u64::from(packet.padded_payload)).collect();
    equal(&name("packets"), side.packets as usize, own.len())?;
    equal(&name("length_sum"), side.length_sum, payloads.iter().sum())?;
    equal(&name("length_square_sum"), side.length_square_sum, payloads.iter().map(|value| value * value).sum())?;
    equal(&name("length_min"), u64::from(side.length_min), payloads.iter().copied().min().unwrap_or(0))?;
    equal(&name("length_max"), u64::from(side.length_max), payloads.iter().copied().max().unwrap_or(0))?;
    equal(&name("data_packets"), side.data_packets as usize, payloads.iter().filter(|value| **value > 0).count())?;
    equal(&name("padded_sum"), side.padded_sum, padded.iter().sum())?;
    equal(&name("padded_square_sum"), side.padded_square_sum, padded.iter().map(|value| value * value).sum())?;
    equal(&name("padded_min"), u64::from(side.padded_min), padded.iter().copied().min().unwrap_or(0))?;
    equal(&name("padded_max"), u64::from(side.padded_max), padded.iter().copied().max().unwrap_or(0))?;
    let padded_data = padded.iter().filter(|value| **value > 0).count();
    equal(&name("padded_data_packets"), side.padded_data_packets as usize, padded_data)?;
    equal(&name("header_sum"), side.header_sum, own.iter().map(|(_, packet)| u64::from(packet.header)).sum())?;
    // "stays 0 when the flow's first packet was backward", and for the backward side the other way round.
    let opened = packets.first().is_some_and(|seen| seen.forward == forward);
    let header_min = own.iter().map(|(_, packet)| packet.header).min().filter(|_| opened).unwrap_or(0);
    equal(&name("header_min"), side.header_min, u32::from(header_min))?;
    let flagged = |bit: u8| own.iter().filter(|(_, packet)| packet.flags.any(bit)).count();
    equal(&name("psh"), side.psh as usize, flagged(TcpFlags::PSH))?;
    equal(&name("urg"), side.urg as usize, flagged(TcpFlags::URG))?;
    let uncounted = opened && !matches!(profile, Profile::Fixed) && own[0].1.flags.any(TcpFlags::FIN);
    equal(&name("fin"), side.fin as usize, flagged(TcpFlags::FIN) - usize::from(uncounted))?;
    equal(&name("first"), i64::from(side.first), own.first().map_or(0, |(time, _)| *time))?;
    equal(&name("last"), i64::from(side.last), own.last().map_or(0, |(time, _)| *time))?;
    let gaps: Vec<i64> = own.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    gap_fields(whose, &gaps, side.gap_min, side.gap_max, side.gap_square_sum)
}

/// The bulk machine of section 6, with "unset" as a state of its own instead of a very early time.
#[derive(Default)]
struct Bulk {
    start: Option<i64>,
    last: Option<i64>,
    run_packets: u32,
    run_bytes: u64,
    bulks: u32,
    packets: u32,
    bytes: u64,
    duration: i64,
}

fn bulks(state: &FlowState, packets: &[Seen], times: &[i64]) -> Result<(), String> {
    let mut sides = [Bulk::default(), Bulk::default()];
    for (time, seen) in times.iter().zip(packets) {
        let (own, other) = (usize::from(!seen.forward), usize::from(seen.forward));
        let interrupted_at = sides[other].last;
        let bulk = &mut sides[own];
        // An unset time is before every other one, and not before itself.
        if interrupted_at > bulk.start {
            bulk.start = None;
        }
        let payload = u64::from(seen.packet.payload);
        if payload == 0 {
            continue;
        }
        match (bulk.start, bulk.last) {
            (Some(start), Some(last)) if time - last <= i64::from(BULK_GAP_US) => {
                bulk.run_packets += 1;
                bulk.run_bytes += payload;
                if bulk.run_packets == 4 {
                    bulk.bulks += 1;
                    bulk.packets += 4;
                    bulk.bytes += bulk.run_bytes;
                    bulk.duration += time - start;
                } else if bulk.run_packets > 4 {
                    bulk.packets += 1;
                    bulk.bytes += payload;
                    bulk.duration += time - last;
                }
            }
            _ => {
                bulk.start = Some(*time);
                bulk.run_packets = 1;
                bulk.run_bytes = payload;
            }
        }
        bulk.last = Some(*time);
    }
    let [forward, backward] = &sides;
    for (whose, side, bulk) in [("forward", &state.forward, forward), ("backward", &state.backward, backward)] {
        let name = |field: &str| format!("{whose} {field}");
        let time = |value: i32| if value == Direction::UNSET { None } else { Some(i64::from(value)) };
        equal(&name("bulks"), side.bulks, bulk.bulks)?;
        equal(&name("bulk_packets"), side.bulk_packets, bulk.packets)?;
        equal(&name("bulk_bytes"), side.bulk_bytes, bulk.bytes)?;
        equal(&name("bulk_duration"), side.bulk_duration, bulk.duration)?;
        equal(&name("bulk_start"), time(side.bulk_start), bulk.start)?;
        equal(&name("bulk_last"), time(side.bulk_last), bulk.last)?;
    }
    Ok(())
}

fn equal<T: PartialEq + std::fmt::Debug>(field: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{field} is {found:?}, counted again it is {expected:?}")) }
}
