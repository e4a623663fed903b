//! The `stats` event: the books of `/health`, from the same snapshot and under the same names, and beside them the few
//! counters that readers of Suricata's look for.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::eve_timestamp;
use crate::api::{HookPackets, SensorSnapshot};

/// What the event tells of.
pub struct StatsSource<'a> {
    /// Now, Unix time in microseconds.
    pub now_us: u64,
    /// The sensor's name; empty for none.
    pub host: &'a str,
    /// How long the sensor has been running.
    pub uptime: Duration,
    /// The sensor.
    pub sensor: &'a SensorSnapshot,
    /// Memory of this process that is in RAM, in bytes; 0 if it is not known.
    pub resident_bytes: u64,
}

/// The event.
#[must_use]
pub fn stats(source: &StatsSource<'_>) -> Value {
    let StatsSource { now_us, host, uptime, sensor, resident_bytes } = *source;
    let hooks = [&sensor.packets.ingress, &sensor.packets.egress];
    let sum = |of: fn(&HookPackets) -> u64| hooks.iter().map(|hook| of(hook)).sum::<u64>();
    let seen = sum(|hook| hook.seen);
    let mut event = Map::new();
    let mut put = |name: &str, value: Value| drop(event.insert(name.to_owned(), value));
    put("timestamp", eve_timestamp(now_us).into());
    put("event_type", "stats".into());
    if !host.is_empty() {
        put("host", host.into());
    }
    let stats = json!({
        "uptime": uptime.as_secs(),
        "capture": {
            "kernel_packets": seen,
            "kernel_drops": sum(|hook| hook.skipped.get("table_full").copied().unwrap_or(0)),
        },
        "decoder": { "pkts": seen, "bytes": sum(|hook| hook.seen_bytes) },
        "detect": { "alert": sensor.verdicts.alerts },
        "packets": sensor.packets,
        "flows": sensor.flows,
        "table": sensor.table,
        "verdicts": sensor.verdicts,
        "alerts": { "opened": sensor.measures.alerts.iter().map(|kind| kind.opened).sum::<u64>() },
        "block": sensor.block,
        "sinks": sensor.sinks,
        "memory": { "resident_bytes": resident_bytes, "kernel_bytes": sensor.table.memory_bytes },
        "degraded": sensor.degraded,
    });
    put("stats", stats);
    Value::Object(event)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn suricatas_counters_are_the_sums_of_both_hooks() {
        let hook = |seen| HookPackets {
            seen,
            seen_bytes: seen * 100,
            in_flow: seen - 1,
            skipped: BTreeMap::from([("table_full", 1)]),
        };
        let mut sensor = SensorSnapshot::default();
        (sensor.packets.ingress, sensor.packets.egress) = (hook(10), hook(5));
        let uptime = Duration::from_millis(61_900);
        let source = StatsSource { now_us: 0, host: "edge", uptime, sensor: &sensor, resident_bytes: 7 };
        let event = stats(&source);
        assert_eq!((&event["event_type"], &event["host"]), (&json!("stats"), &json!("edge")));
        let stats = &event["stats"];
        assert_eq!(stats["uptime"], 61);
        assert_eq!(stats["capture"], json!({ "kernel_packets": 15, "kernel_drops": 2 }));
        assert_eq!(stats["decoder"], json!({ "pkts": 15, "bytes": 1500 }));
        assert_eq!(stats["packets"]["egress"]["seen"], 5);
        assert_eq!(stats["memory"]["resident_bytes"], 7);
    }
}
