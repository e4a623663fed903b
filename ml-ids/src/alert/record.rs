//! An alert at one time, as sinks, the store and the API get it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    class::{Severity, techniques},
    seen::Counted,
};
use crate::sink::{
    eve::{self, eve_timestamp, shortest},
    timestamp,
};

/// The label of the alert that says how many others were held back.
pub const RATE_LABEL: &str = "Alert rate";

/// Where an alert is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Further flows may join it.
    Open,
    /// It is over.
    Closed,
    /// It has become part of another one, which counts its flows.
    Merged,
}

impl State {
    /// Its name in events, the store and the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Merged => "merged",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Open, Self::Closed, Self::Merged].into_iter().find(|state| state.name() == name)
    }
}

/// Why an alert is no longer open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// No further flow within the window.
    Quiet,
    /// It went on for as long as one alert may; what follows is another.
    Age,
    /// It was the one that had been quiet for longest, and there were too many.
    Room,
    /// It has become part of another one.
    Merged,
    /// The sensor stopped.
    Stopped,
    /// The sensor was killed; the next one has found it open.
    Lost,
}

impl Ending {
    /// Its name in events, the store and the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Age => "age",
            Self::Room => "room",
            Self::Merged => "merged",
            Self::Stopped => "stopped",
            Self::Lost => "lost",
        }
    }
}

/// What became of the alerts over the rate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBack {
    /// Alerts that were not told.
    pub count: u64,
    /// By class.
    pub classes: BTreeMap<String, u64>,
}

/// An alert at one time. Times are Unix time in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its number for good: the microsecond in which it was opened, or the next that was free.
    pub id: u64,
    /// The number of this change of it: grows with every change of any alert.
    pub seq: u64,
    /// Where it is in its life.
    pub state: State,
    /// Why it is no longer open.
    pub ending: Option<Ending>,
    /// The alert that it has become part of.
    pub merged_into: Option<u64>,
    /// The class's name.
    pub label: String,
    /// How grave it is.
    pub severity: Severity,
    /// Flows.
    pub count: u64,
    /// First packet of the first flow.
    pub first_seen_us: u64,
    /// Last packet of the last flow.
    pub last_seen_us: u64,
    /// The highest probability.
    pub score: f32,
    /// Who began the flows.
    pub sources: Counted<IpAddr>,
    /// With whom.
    pub targets: Counted<IpAddr>,
    /// At which ports.
    pub ports: Counted<u16>,
    /// Packets of all flows.
    pub packets: u64,
    /// Layer 4 payload bytes of all flows.
    pub bytes: u64,
    /// There were more alerts than may be told: this one is in the store only.
    pub held_back: bool,
    /// Of the summarising alert: what it sums up.
    pub held: Option<HeldBack>,
    /// The event of the flow that opened it, with the model's reasons.
    #[serde(with = "shared")]
    pub evidence: Arc<Value>,
}

/// What happened to an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// There is a new one.
    Opened,
    /// It is ten times what it was when it was last told, or a minute has passed.
    Grown,
    /// It is over.
    Closed,
}

impl ChangeKind {
    /// Its name in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Grown => "grown",
            Self::Closed => "closed",
        }
    }
}

/// A change worth telling, with the alert as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertChange {
    /// What happened.
    pub kind: ChangeKind,
    /// When.
    pub at_us: u64,
    /// The alert.
    pub alert: Arc<Alert>,
}

impl Alert {
    /// One line for people: `Portscan: 192.0.2.7 against 3 hosts, 1000 ports`.
    #[must_use]
    pub fn title(&self) -> String {
        if let Some(held) = &self.held {
            return format!("{}: {}", self.label, number(held.count, true, "alert held back", "alerts held back"));
        }
        let side = |seen: &Counted<IpAddr>, many: &str| match seen.sample.first() {
            Some(only) if seen.count == 1 => only.to_string(),
            _ => number(seen.count.into(), seen.exact, many, many),
        };
        let ports = match self.ports.sample.first() {
            Some(only) if self.ports.count == 1 => format!("port {only}"),
            _ => number(self.ports.count.into(), self.ports.exact, "port", "ports"),
        };
        format!("{}: {} against {}, {ports}", self.label, side(&self.sources, "sources"), side(&self.targets, "hosts"))
    }

    /// As the API and the command line give it.
    #[must_use]
    pub fn json(&self) -> Map<String, Value> {
        let only = |seen: &Counted<IpAddr>| seen.sample.first().filter(|_| seen.count == 1).copied();
        let fields = json!({
            "id": self.id,
            "seq": self.seq,
            "state": self.state,
            "ending": self.ending,
            "merged_into": self.merged_into,
            "title": self.title(),
            "label": self.label,
            "severity": self.severity,
            "count": self.count,
            "first_seen": timestamp(self.first_seen_us),
            "last_seen": timestamp(self.last_seen_us),
            "score": shortest(self.score),
            "src_ip": only(&self.sources),
            "dest_ip": only(&self.targets),
            "sources": self.sources,
            "targets": self.targets,
            "ports": self.ports,
            "packets": self.packets,
            "bytes": self.bytes,
            "mitre": techniques(&self.label),
            "held_back": self.held_back,
            "held": self.held,
        });
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }
}

/// A number that was not used before, the time itself if possible: so they also differ from those of earlier runs.
pub(super) const fn next_number(last: u64, now_us: u64) -> u64 {
    if now_us > last { now_us } else { last.saturating_add(1) }
}

impl AlertChange {
    /// The event in the shape of EVE: that of the flow that opened the alert, with what has become of it since.
    #[must_use]
    pub fn event(&self) -> Value {
        let alert = &self.alert;
        let mut fields = match &*alert.evidence {
            Value::Object(fields) => fields.clone(),
            _ => Map::new(),
        };
        fields.insert("timestamp".to_owned(), eve_timestamp(self.at_us).into());
        fields.insert("event_type".to_owned(), "alert".into());
        let mitre = techniques(&alert.label);
        let each = |name: fn(&super::Technique) -> &'static str| -> Vec<String> {
            let mut all: Vec<String> = Vec::new();
            for value in mitre.iter().map(name) {
                // As rule sets write them.
                let value = value.replace(' ', "_");
                if !all.contains(&value) {
                    all.push(value);
                }
            }
            all
        };
        let mut told = eve::alert(&alert.label, None);
        let story = json!({
            "severity": alert.severity,
            "id": alert.id,
            "seq": alert.seq,
            "change": self.kind.name(),
            "state": alert.state,
            "title": alert.title(),
            "count": alert.count,
            "first_seen": eve_timestamp(alert.first_seen_us),
            "last_seen": eve_timestamp(alert.last_seen_us),
            "score": shortest(alert.score),
            "sources": alert.sources,
            "targets": alert.targets,
            "ports": alert.ports,
            "packets": alert.packets,
            "bytes": alert.bytes,
        });
        if let (Value::Object(told), Value::Object(story)) = (&mut told, story) {
            told.extend(story);
            let optional = [
                ("ending", alert.ending.map(|ending| ending.name().into())),
                ("merged_into", alert.merged_into.map(Value::from)),
                ("held", alert.held.as_ref().map(|held| json!(held))),
            ];
            for (name, value) in optional {
                if let Some(value) = value {
                    told.insert(name.to_owned(), value);
                }
            }
            if !mitre.is_empty() {
                let metadata = json!({
                    "mitre_technique_id": each(|technique| technique.id),
                    "mitre_technique_name": each(|technique| technique.name),
                    "mitre_tactic_id": each(|technique| technique.tactic_id),
                    "mitre_tactic_name": each(|technique| technique.tactic),
                });
                told.insert("metadata".to_owned(), metadata);
            }
        }
        fields.insert("alert".to_owned(), told);
        Value::Object(fields)
    }
}

/// A shared value in JSON is the value.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use serde_json::Value;

    pub(super) fn serialize<S: Serializer>(value: &Arc<Value>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Value>, D::Error> {
        Value::deserialize(deserializer).map(Arc::new)
    }
}

fn number(count: u64, exact: bool, one: &str, many: &str) -> String {
    format!("{count}{} {}", if exact { "" } else { "+" }, if count == 1 && exact { one } else { many })
}
