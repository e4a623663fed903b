//! What the agent answers, as rows to be shown: numbers that make no sense are 0, text is cleaned.

use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::words::clean;

/// How the agent is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Health {
    pub(super) status: String,
    pub(super) reasons: Vec<String>,
    /// Name, version and source of the model; empty before one is loaded.
    pub(super) model: String,
    pub(super) uptime: f64,
    /// Whether it watches interfaces.
    pub(super) watches: bool,
    /// Names of these.
    pub(super) interfaces: String,
    pub(super) open_flows: u64,
    /// Verdicts that are alerts since the start.
    pub(super) alert_flows: u64,
}

/// Seconds of the past.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Curve {
    /// Packets a second, the oldest first; `None` where nothing is known.
    pub(super) packets: Vec<Option<u64>>,
    /// Of the last second.
    pub(super) now: Now,
}

/// Rates of the last second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Now {
    pub(super) packets: f64,
    pub(super) bytes: f64,
    pub(super) flows: f64,
    /// Alerts opened in the time that is shown.
    pub(super) alerts: u64,
}

/// An open flow.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Flow {
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) protocol: String,
    pub(super) packets: u64,
    /// Payload.
    pub(super) bytes: u64,
    /// Seconds since the first packet.
    pub(super) age: f64,
    /// Seconds since the last packet.
    pub(super) quiet: f64,
}

/// An alert.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Alert {
    /// 1 (high) to 4 (info).
    pub(super) severity: u64,
    pub(super) open: bool,
    /// Unix time in seconds of its last packet; 0 if it is not known.
    pub(super) last_seen: f64,
    pub(super) flows: u64,
    pub(super) title: String,
}

fn text(value: &Value, path: &str) -> String {
    clean(value.pointer(path).and_then(Value::as_str).unwrap_or_default())
}

fn count(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or(0.0)
}

fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

impl Health {
    pub(super) fn of(answer: &Value) -> Self {
        let words = ["/model/name", "/model/version"].map(|path| text(answer, path));
        let source = text(answer, "/model/source");
        let model = words.join(" ").trim().to_owned();
        let model = if source.is_empty() { model } else { format!("{model} ({source})") };
        let named = list(answer, "/sensor/interfaces").iter().map(|interface| text(interface, "/name"));
        Self {
            status: text(answer, "/status"),
            reasons: list(answer, "/reasons").iter().filter_map(Value::as_str).map(clean).collect(),
            model,
            uptime: number(answer, "/uptime_seconds"),
            watches: answer.get("sensor").is_some_and(Value::is_object),
            interfaces: named.collect::<Vec<_>>().join(", "),
            open_flows: count(answer, "/sensor/flows/live"),
            alert_flows: count(answer, "/sensor/verdicts/alerts"),
        }
    }
}

impl Curve {
    /// Of an answer to `/timeline`. What lies between two points that are further apart than a step is unknown.
    pub(super) fn of(answer: &Value, most: usize) -> Self {
        let (times, packets) = (list(answer, "/time"), list(answer, "/packets"));
        let step = number(answer, "/step_seconds").max(1.0);
        let mut curve = Self::default();
        let mut before: Option<f64> = None;
        for (time, packets) in times.iter().zip(packets) {
            let (Some(time), Some(packets)) = (time.as_f64(), packets.as_f64()) else { continue };
            if let Some(before) = before {
                let missing = ((time - before) / step).round() - 1.0;
                // A float to an integer saturates; no more than can be shown.
                let missing = (missing.max(0.0) as usize).min(most);
                curve.packets.extend(std::iter::repeat_n(None, missing));
            }
            before = Some(time);
            curve.packets.push(Some(packets.max(0.0).round() as u64));
        }
        let excess = curve.packets.len().saturating_sub(most);
        curve.packets.drain(..excess);
        let last = |name: &str| list(answer, name).last().and_then(Value::as_f64).unwrap_or(0.0);
        let alerts = list(answer, "/alerts").iter().filter_map(Value::as_u64).fold(0, u64::saturating_add);
        curve.now = Now { packets: last("/packets"), bytes: last("/bytes"), flows: last("/flows"), alerts };
        curve
    }
}

impl Flow {
    pub(super) fn all(answer: &Value) -> Vec<Self> {
        list(answer, "/flows").iter().map(Self::of).collect()
    }

    fn of(flow: &Value) -> Self {
        let end = |address: &str, port: &str| {
            let (address, port) = (text(flow, address), count(flow, port));
            // Protocols without ports.
            if port == 0 {
                return address;
            }
            if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
        };
        let both = |one: &str, other: &str| count(flow, one).saturating_add(count(flow, other));
        Self {
            source: end("/src_ip", "/src_port"),
            destination: end("/dest_ip", "/dest_port"),
            protocol: text(flow, "/proto"),
            packets: both("/pkts_toserver", "/pkts_toclient"),
            bytes: both("/bytes_toserver", "/bytes_toclient"),
            age: number(flow, "/age"),
            quiet: number(flow, "/quiet"),
        }
    }
}

impl Alert {
    pub(super) fn all(answer: &Value) -> Vec<Self> {
        list(answer, "/alerts").iter().map(Self::of).collect()
    }

    fn of(alert: &Value) -> Self {
        let seen = alert.get("last_seen").and_then(Value::as_str);
        let seen = seen.and_then(|seen| OffsetDateTime::parse(seen, &Rfc3339).ok());
        Self {
            severity: count(alert, "/severity"),
            open: alert.get("state").and_then(Value::as_str) == Some("open"),
            last_seen: seen.map_or(0.0, |seen| seen.unix_timestamp_nanos() as f64 / 1e9),
            flows: count(alert, "/count"),
            title: text(alert, "/title"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_curve_has_holes_where_nothing_was_seen_and_no_more_points_than_fit() {
        let answer = json!({
            "step_seconds": 1, "time": [10.0, 11.0, 14.1, 15.0], "packets": [1.2, 2.6, 4.0, 5.0],
            "bytes": [1.0, 2.0, 3.0, 9.5], "flows": [0.0, 0.0, 0.0, 2.0], "alerts": [1, 0, 0, 2],
        });
        let curve = Curve::of(&answer, 100);
        assert_eq!(curve.packets, [Some(1), Some(3), None, None, Some(4), Some(5)]);
        assert_eq!(curve.now, Now { packets: 5.0, bytes: 9.5, flows: 2.0, alerts: 3 });
        assert_eq!(Curve::of(&answer, 2).packets, [Some(4), Some(5)]);
        let far = json!({ "step_seconds": 1, "time": [0.0, 1e300], "packets": [1.0, 2.0] });
        assert_eq!(Curve::of(&far, 5).packets.len(), 5);
    }

    #[test]
    fn answers_without_sense_are_empty_rows_and_hostile_text_is_cleaned() {
        assert_eq!(Curve::of(&json!({ "time": "x" }), 9), Curve::default());
        assert_eq!(Flow::all(&json!({ "flows": 7 })), []);
        assert_eq!(Flow::all(&json!({ "flows": [null] }))[0].source, "");
        assert_eq!(Alert::all(&json!({ "alerts": [{ "title": "a\u{1b}b" }] }))[0].title, "a\u{fffd}b");
        assert_eq!(Health::of(&json!([])), Health::default());
    }

    #[test]
    fn a_flow_counts_both_directions_and_brackets_long_addresses() {
        let flow = json!({ "flows": [{
            "src_ip": "10.0.0.1", "src_port": 9, "dest_ip": "fd00::2", "dest_port": 53, "proto": "UDP",
            "pkts_toserver": 2, "pkts_toclient": 3, "bytes_toserver": 10, "bytes_toclient": u64::MAX, "age": 1.5, "quiet": 0.5,
        }] });
        let expected = Flow {
            source: "10.0.0.1:9".to_owned(),
            destination: "[fd00::2]:53".to_owned(),
            protocol: "UDP".to_owned(),
            packets: 5,
            bytes: u64::MAX,
            age: 1.5,
            quiet: 0.5,
        };
        assert_eq!(Flow::all(&flow), [expected]);
    }
}
