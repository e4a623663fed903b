//! EVE's `tcp` object. The record counts most flags for the flow as a whole, so a flag is in `tcp_flags_ts` or
//! `tcp_flags_tc` when it is certain that this direction carried it.

use ml_ids_common::{Direction, EndReason, FlowRecord, FlowState, TcpFlags};
use serde_json::{Map, Value};

/// EVE's names of the flags, in the order of `FlowState::flag_counts`, which is that of their bits.
const FLAGS: [(u8, &str); 8] = [
    (TcpFlags::FIN, "fin"),
    (TcpFlags::SYN, "syn"),
    (TcpFlags::RST, "rst"),
    (TcpFlags::PSH, "psh"),
    (TcpFlags::ACK, "ack"),
    (TcpFlags::URG, "urg"),
    (TcpFlags::ECE, "ecn"),
    (TcpFlags::CWR, "cwr"),
];

/// The object of a TCP flow.
pub(super) fn tcp(record: &FlowRecord) -> Value {
    let state = record.state();
    let all = seen(state);
    let mut tcp = Map::new();
    let flags = [("tcp_flags", all), ("tcp_flags_ts", carried(state, false)), ("tcp_flags_tc", carried(state, true))];
    for (name, bits) in flags {
        tcp.insert(name.to_owned(), format!("{bits:02x}").into());
    }
    for (bit, name) in FLAGS {
        if all & bit != 0 {
            tcp.insert(name.to_owned(), true.into());
        }
    }
    tcp.insert("state".to_owned(), connection_state(record).into());
    Value::Object(tcp)
}

fn seen(state: &FlowState) -> u8 {
    FLAGS.iter().zip(state.flag_counts).fold(0, |all, ((bit, _), count)| if count > 0 { all | bit } else { all })
}

/// The flags that packets of a direction certainly carried.
fn carried(state: &FlowState, backward: bool) -> u8 {
    let (own, other) = if backward { (&state.backward, &state.forward) } else { (&state.forward, &state.backward) };
    let first_is_own = (state.first_backward != 0) == backward;
    let mut bits = if first_is_own && own.packets > 0 { state.first_flags } else { 0 };
    for (bit, count) in [(TcpFlags::FIN, own.fin), (TcpFlags::PSH, own.psh), (TcpFlags::URG, own.urg)] {
        if count > 0 {
            bits |= bit;
        }
    }
    for ((bit, _), count) in FLAGS.iter().zip(state.flag_counts) {
        // More than the other direction's packets can have carried.
        let innocent = u32::from(!first_is_own && state.first_flags & bit == 0);
        if count > other.packets.saturating_sub(innocent) {
            bits |= bit;
        }
    }
    if !first_is_own && own.packets > 0 && was_answered(state) {
        bits |= TcpFlags::SYN;
    }
    bits
}

/// A handshake was seen from its first SYN on and went through, as data or a FIN followed: the second SYN is the answer's.
fn was_answered(state: &FlowState) -> bool {
    let [_, syns, resets, ..] = state.flag_counts;
    let followed = |direction: &Direction| direction.data_packets > 0 || direction.fin > 0;
    let begun = state.first_flags & (TcpFlags::SYN | TcpFlags::ACK) == TcpFlags::SYN;
    begun && syns == 2 && resets == 0 && (followed(&state.forward) || followed(&state.backward))
}

/// Where the connection stood at the end, in EVE's words.
fn connection_state(record: &FlowRecord) -> &'static str {
    let state = record.state();
    match (record.reason(), state.teardown) {
        (EndReason::Fin | EndReason::Rst, _) => "closed",
        (_, 1) => "fin_wait1",
        (_, 2) => "closing",
        _ if state.forward.packets > 0 && state.backward.packets > 0 => "established",
        _ if state.first_flags & TcpFlags::SYN != 0 => "syn_sent",
        _ => "none",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn direction(packets: u32) -> Direction {
        Direction { packets, ..Direction::default() }
    }

    fn flow(flag_counts: [u32; 8], first_flags: u8, forward: Direction, backward: Direction) -> FlowState {
        FlowState { flag_counts, first_flags, forward, backward, ..FlowState::default() }
    }

    #[test]
    fn a_whole_conversation_has_the_flags_of_either_side() {
        // SYN, SYN/ACK, ACK, data both ways, FIN/ACK both ways, ACK.
        let forward = Direction { psh: 1, fin: 1, data_packets: 1, ..direction(4) };
        let backward = Direction { psh: 1, fin: 1, data_packets: 1, ..direction(3) };
        let state = flow([2, 2, 0, 2, 6, 0, 0, 0], TcpFlags::SYN, forward, backward);
        let told = tcp(&FlowRecord::finish(state, EndReason::Fin));
        let expected = json!({
            "tcp_flags": "1b", "tcp_flags_ts": "1b", "tcp_flags_tc": "1b",
            "fin": true, "syn": true, "psh": true, "ack": true, "state": "closed",
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn a_refusal_is_the_answers_and_not_the_askers() {
        let state = flow([0, 1, 1, 0, 1, 0, 0, 0], TcpFlags::SYN, direction(1), direction(1));
        assert_eq!((carried(&state, false), carried(&state, true)), (TcpFlags::SYN, TcpFlags::RST | TcpFlags::ACK));
    }

    #[test]
    fn what_could_be_either_sides_is_claimed_of_neither() {
        // A reset at the end of a conversation that was joined midway.
        let state = flow([0, 0, 1, 0, 9, 0, 0, 0], TcpFlags::ACK, direction(5), direction(5));
        assert_eq!(seen(&state), TcpFlags::RST | TcpFlags::ACK);
        assert_eq!((carried(&state, false), carried(&state, true)), (TcpFlags::ACK, TcpFlags::ACK));
        let one_way = flow([0, 0, 1, 0, 9, 0, 0, 0], TcpFlags::ACK, direction(10), direction(0));
        assert_eq!((carried(&one_way, false), carried(&one_way, true)), (TcpFlags::RST | TcpFlags::ACK, 0));
    }

    #[test]
    fn a_syn_that_was_only_repeated_is_no_answer() {
        let state = flow([0, 2, 0, 0, 1, 0, 0, 0], TcpFlags::SYN, direction(2), direction(1));
        assert_eq!(carried(&state, true) & TcpFlags::SYN, 0);
        let record = FlowRecord::finish(
            flow([0, 3, 0, 0, 0, 0, 0, 0], TcpFlags::SYN, direction(3), direction(0)),
            EndReason::Idle,
        );
        assert_eq!(tcp(&record)["state"], "syn_sent");
    }
}
