//! What every event of a flow has: who, when, how much, and how it ended.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use ml_ids_common::{Direction, EndReason, FlowRecord};
use serde_json::{Map, Value, json};

use super::{Endpoints, Place, community_id, eve_timestamp, kubernetes::kubernetes, tcp::tcp};

/// Largest integer that every JSON reader keeps exact.
const JSON_SAFE_INTEGER: u64 = (1 << 53) - 1;
const TCP: u8 = 6;
/// Header bytes of IPv4 without options.
const IPV4_HEADER: u64 = 20;
/// Header bytes of IPv6 without extension headers.
const IPV6_HEADER: u64 = 40;

/// Protocols with a name in EVE, and what the rest is called: flows that are neither TCP nor UDP nor SCTP are told apart by
/// address alone, so that their protocol is not known.
const PROTOCOLS: [(u8, &str); 3] = [(TCP, "TCP"), (17, "UDP"), (132, "SCTP")];
const OTHER: &str = "OTHER";

/// The `flow` event of a finished flow that nobody has judged.
#[must_use]
pub fn flow(record: &FlowRecord, place: &Place<'_>) -> Value {
    Value::Object(event(record, place, "flow", false))
}

/// The protocol's name in events and logs.
pub(crate) fn protocol_name(protocol: u8) -> &'static str {
    PROTOCOLS.iter().find(|(number, _)| *number == protocol).map_or(OTHER, |(_, name)| name)
}

/// The fields that events of this type share. `alerted` says whether the flow is an alert.
pub(super) fn event(record: &FlowRecord, place: &Place<'_>, event_type: &str, alerted: bool) -> Map<String, Value> {
    let ((source, source_port), (destination, destination_port)) = (record.source(), record.destination());
    let (protocol, end) = (record.protocol(), end_us(record));
    let has_ports = protocol_name(protocol) != OTHER;
    let mut event = Map::new();
    let mut put = |name: &str, value: Value| drop(event.insert(name.to_owned(), value));
    put("timestamp", eve_timestamp(end).into());
    put("flow_id", flow_id(record).into());
    if let Some(interface) = place.interface {
        put("in_iface", interface.into());
    }
    put("event_type", event_type.into());
    put("src_ip", source.to_string().into());
    if has_ports {
        put("src_port", source_port.into());
    }
    put("dest_ip", destination.to_string().into());
    if has_ports {
        put("dest_port", destination_port.into());
    }
    put("proto", protocol_name(protocol).into());
    if has_ports {
        let ports = Some((source_port, destination_port));
        put(
            "community_id",
            community_id(place.community_id_seed, &Endpoints { protocol, source, destination, ports }).into(),
        );
    }
    if !place.host.is_empty() {
        put("host", place.host.into());
    }
    if let Some(ends) = place.pods.and_then(|pods| kubernetes(pods, source, destination)) {
        put("kubernetes", ends);
    }
    put("flow", details(record, alerted));
    if protocol == TCP {
        put("tcp", tcp(record));
    }
    event
}

fn details(record: &FlowRecord, alerted: bool) -> Value {
    let state = record.state();
    let (to_server, to_client) = (&state.forward, &state.backward);
    let mut flow = json!({ "pkts_toserver": to_server.packets, "pkts_toclient": to_client.packets });
    // Of other protocols no lengths are kept.
    if record.is_tcp_or_udp()
        && let Value::Object(flow) = &mut flow
    {
        for (name, value) in [
            ("bytes_toserver", ip_bytes(record, to_server)),
            ("bytes_toclient", ip_bytes(record, to_client)),
            ("payload_bytes_toserver", to_server.length_sum),
            ("payload_bytes_toclient", to_client.length_sum),
        ] {
            flow.insert(name.to_owned(), value.into());
        }
    }
    if let Value::Object(flow) = &mut flow {
        for (name, value) in [
            ("start", eve_timestamp(state.start_us).into()),
            ("end", eve_timestamp(end_us(record)).into()),
            // Whole seconds, as readers expect an integer.
            ("age", (record.duration_us().max(0) / 1_000_000).into()),
            ("state", flow_state(record).into()),
            ("reason", record.reason().name().into()),
            ("alerted", Value::Bool(alerted)),
        ] {
            flow.insert(name.to_owned(), value);
        }
    }
    flow
}

/// Bytes of the IP packets, without the options and extension headers that the record does not know of.
fn ip_bytes(record: &FlowRecord, direction: &Direction) -> u64 {
    let header = if record.source().0.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER };
    let headers = u64::from(direction.packets).saturating_mul(header).saturating_add(direction.header_sum);
    direction.length_sum.saturating_add(headers)
}

/// Time of the last packet.
fn end_us(record: &FlowRecord) -> u64 {
    record.state().start_us.saturating_add_signed(record.duration_us().max(0))
}

/// EVE's three states: nothing came back, a conversation, a conversation that was closed.
fn flow_state(record: &FlowRecord) -> &'static str {
    match record.reason() {
        EndReason::Fin | EndReason::Rst => "closed",
        _ if record.state().backward.packets == 0 => "new",
        _ => "established",
    }
}

fn flow_id(record: &FlowRecord) -> u64 {
    let mut hasher = DefaultHasher::new();
    record.state().key.hash(&mut hasher);
    record.state().start_us.hash(&mut hasher);
    hasher.finish() & JSON_SAFE_INTEGER
}

#[cfg(test)]
mod tests {
    use ml_ids_common::{Address, FlowKey, FlowState, IpVersion};

    use super::*;

    fn record(protocol: u8) -> FlowRecord {
        let end = |last, port| (Address::v4(u32::from_ne_bytes([10, 0, 0, last])), port);
        let (key, source_is_b) = FlowKey::canonical(IpVersion::V4, protocol, end(2, 40_000), end(1, 53), false);
        let forward = Direction { packets: 2, length_sum: 100, header_sum: 16, ..Direction::default() };
        let state = FlowState {
            key,
            source_is_b: source_is_b.into(),
            start_us: 1_499_348_422_024_349,
            last: 2_500_000,
            forward,
            ..FlowState::default()
        };
        FlowRecord::finish(state, EndReason::Idle)
    }

    #[test]
    fn a_flow_has_its_source_first_its_bytes_with_headers_and_whole_seconds() {
        let event = flow(&record(17), &Place { host: "edge", interface: Some("eth0"), ..Place::default() });
        assert_eq!(event["timestamp"], "2017-07-06T13:40:24.524349+0000");
        assert_eq!((&event["src_ip"], &event["src_port"]), (&json!("10.0.0.2"), &json!(40_000)));
        assert_eq!((&event["dest_ip"], &event["dest_port"]), (&json!("10.0.0.1"), &json!(53)));
        assert_eq!((&event["host"], &event["in_iface"]), (&json!("edge"), &json!("eth0")));
        let expected = json!({
            "pkts_toserver": 2, "pkts_toclient": 0,
            "bytes_toserver": 100 + 16 + 2 * 20, "bytes_toclient": 0,
            "payload_bytes_toserver": 100, "payload_bytes_toclient": 0,
            "start": "2017-07-06T13:40:22.024349+0000", "end": "2017-07-06T13:40:24.524349+0000", "age": 2,
            "state": "new", "reason": "idle", "alerted": false,
        });
        assert_eq!(event["flow"], expected);
        assert!(event.get("tcp").is_none());
    }

    #[test]
    fn what_is_not_known_of_other_protocols_is_left_out() {
        let event = flow(&record(0), &Place::default());
        assert_eq!(event["proto"], "OTHER");
        for name in ["src_port", "dest_port", "community_id", "host", "in_iface"] {
            assert!(event.get(name).is_none(), "{name} in {event}");
        }
        assert!(event["flow"].get("bytes_toserver").is_none(), "{event}");
        let sctp = flow(&record(132), &Place::default());
        assert_eq!((&sctp["proto"], &sctp["src_port"]), (&json!("SCTP"), &json!(40_000)));
        assert!(sctp.get("community_id").is_some() && sctp["flow"].get("bytes_toserver").is_none(), "{sctp}");
    }
}
