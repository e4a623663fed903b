//! What must hold of every finished flow by its numbers alone (`docs/feature-spec.md` section 10).

use ml_ids_common::{
    ACTIVITY_LIMIT_US, Direction, EndReason, FLOW_LIMIT_US, FlowRecord, FlowState, Profile, Spans, TcpFlags,
};

/// Checks a record that is about to leave.
///
/// # Errors
/// The first identity that does not hold.
pub fn check(record: &FlowRecord, profile: Profile) -> Result<(), String> {
    let state = record.state();
    let FlowState { forward, backward, active, idle, .. } = state;
    let packets = state.packets();
    let first_fin = u32::from(state.first_flags & TcpFlags::FIN != 0);
    let [fin, _, rst, psh, _, urg, _, _] = state.flag_counts;
    let ends_by_teardown = matches!(record.reason(), EndReason::Fin | EndReason::Rst);
    let by_profile = match profile {
        Profile::Fixed => forward.fin + backward.fin == fin,
        Profile::Cns2022 | Profile::Cic2017 => forward.fin + backward.fin + first_fin == fin,
    };
    let teardown = match profile {
        Profile::Fixed | Profile::Cns2022 => (state.teardown == 3) == ends_by_teardown,
        Profile::Cic2017 => state.teardown == 0 && record.reason() != EndReason::Rst,
    };
    let duration = i64::from(state.last);
    let identities = [
        ("it has a reason", record.reason() != EndReason::None),
        ("it is long enough for its profile", packets >= profile.min_packets()),
        ("packets = fwd + bwd", packets == forward.packets + backward.packets),
        ("duration <= 120 s", duration.abs() <= FLOW_LIMIT_US),
        ("PSH = fwd + bwd", psh == forward.psh + backward.psh),
        ("URG = fwd + bwd", urg == forward.urg + backward.urg),
        ("FIN = fwd + bwd, and the first where it does not count", by_profile),
        ("no flag is on more packets than there are", state.flag_counts.iter().all(|count| *count <= packets)),
        ("teardown agrees with the reason", teardown),
        ("a flow that RST ended has one", record.reason() != EndReason::Rst || rst > 0),
        ("active.count <= idle.count", active.count <= idle.count),
        ("idle.min > 5 s", idle.count == 0 || i64::from(idle.min) > i64::from(ACTIVITY_LIMIT_US)),
        ("an idle gap is a long gap", idle.count <= state.long_gaps),
        ("gaps = packets - 1 bounds long gaps", state.long_gaps < packets),
        ("gaps = packets - 1 bounds disordered ones", state.disordered < packets),
        ("gap_min <= gap_max", state.gap_min <= state.gap_max),
        ("gaps sum to the duration", mean_is_inside(duration, packets - 1, state.gap_min, state.gap_max)),
        ("in order means no negative gap", state.disordered > 0 || state.gap_min >= 0),
        ("active and idle fit into the duration", state.disordered > 0 || fits(active, idle, duration)),
        ("one direction saw the first packet at 0", opener(state).first == 0 && opener(state).packets > 0),
        ("one direction saw the last packet", forward.last == state.last || backward.last == state.last),
        ("flags of the unit values are 0 or 1", state.source_is_b <= 1 && state.first_backward <= 1),
    ];
    if let Some((broken, _)) = identities.iter().find(|(_, holds)| !holds) {
        return Err(format!("broken: {broken}"));
    }
    spans("active", active)?;
    spans("idle", idle)?;
    direction("forward", forward, state.disordered)?;
    direction("backward", backward, state.disordered)
}

fn opener(state: &FlowState) -> &Direction {
    if state.first_backward == 0 { &state.forward } else { &state.backward }
}

fn fits(active: &Spans, idle: &Spans, duration: i64) -> bool {
    u64::try_from(duration).is_ok_and(|duration| active.sum + idle.sum <= duration)
}

/// Whether `count` values between `min` and `max` can sum to `sum`.
fn mean_is_inside(sum: i64, count: u32, min: i32, max: i32) -> bool {
    let count = i64::from(count);
    count * i64::from(min) <= sum && sum <= count * i64::from(max)
}

fn spans(name: &str, spans: &Spans) -> Result<(), String> {
    let &Spans { square_sum, sum, max, min, count, reserved } = spans;
    let holds = min <= max
        && moments(count, sum, square_sum, min, max)
        && reserved == 0
        && (count > 0 || (sum == 0 && square_sum == 0 && max == 0));
    if holds { Ok(()) } else { Err(format!("broken: the moments of {name} agree: {spans:?}")) }
}

/// min·n <= sum <= max·n, and sum² <= n·Σx² (Cauchy-Schwarz), without which a variance would be negative.
fn moments(count: u32, sum: u64, square_sum: u64, min: u32, max: u32) -> bool {
    let (count, sum) = (u128::from(count), u128::from(sum));
    count * u128::from(min) <= sum && sum <= count * u128::from(max) && sum * sum <= count * u128::from(square_sum)
}

fn direction(whose: &str, side: &Direction, disordered: u32) -> Result<(), String> {
    let duration = i64::from(side.last) - i64::from(side.first);
    let identities = [
        ("length_min <= length_max", side.length_min <= side.length_max),
        ("padded_min <= padded_max", side.padded_min <= side.padded_max),
        (
            "the moments of the lengths agree",
            moments(side.packets, side.length_sum, side.length_square_sum, side.length_min, side.length_max),
        ),
        (
            "the moments of the padded lengths agree",
            moments(side.packets, side.padded_sum, side.padded_square_sum, side.padded_min, side.padded_max),
        ),
        ("padding never shortens", side.length_sum <= side.padded_sum && side.data_packets <= side.padded_data_packets),
        ("data packets are packets", side.padded_data_packets <= side.packets),
        ("gap_min <= gap_max", side.gap_min <= side.gap_max),
        (
            "gaps sum to last - first",
            side.packets == 0 || mean_is_inside(duration, side.packets - 1, side.gap_min, side.gap_max),
        ),
        ("in order means last >= first", disordered > 0 || duration >= 0),
        ("a bulk has four packets or more", side.bulk_packets >= 4 * side.bulks),
        ("bulk packets are data packets", side.bulk_packets <= side.data_packets),
        ("bulk bytes are payload", side.bulk_bytes <= side.length_sum),
        ("in order means no negative bulk", disordered > 0 || (0..=FLOW_LIMIT_US).contains(&side.bulk_duration)),
        ("without packets there is nothing", side.packets > 0 || is_blank(side)),
    ];
    match identities.iter().find(|(_, holds)| !holds) {
        Some((broken, _)) => Err(format!("broken: {whose}: {broken}")),
        None => Ok(()),
    }
}

fn is_blank(side: &Direction) -> bool {
    // Later fragments may be all that came this way, when the packets were of the flow before.
    let Direction { fragments, .. } = *side;
    *side == Direction { bulk_start: Direction::UNSET, bulk_last: Direction::UNSET, fragments, ..Direction::default() }
}
