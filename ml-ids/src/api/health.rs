//! `GET /health`, `/health/live` and `/health/ready`, and the seam through which the sensor tells how it is.

use std::{collections::BTreeMap, sync::LazyLock};

use hyper::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::{
    access::AccessHealth,
    answer::{Answer, json as json_response},
    interface::{InterfaceHealth, InterfaceState},
    predictor::{ModelCard, ShadowHealth},
    privileges::PrivilegeHealth,
    state::{AppState, Slot},
    timeline::Totals,
};
use crate::{
    detect::{TimingShapes, drift::DriftReport},
    histogram::Shape,
    kubernetes::PodsState,
    sink::{SinkState, node_name},
};

/// What a running sensor shows of itself.
pub trait SensorHealth: Send + Sync {
    /// The sensor now. Called from the event loop: it may not block.
    fn snapshot(&self) -> SensorSnapshot;

    /// What the timeline is made of, once a second. May not block either; a sensor whose snapshot costs much has a cheaper
    /// way to it.
    fn totals(&self) -> Totals {
        Totals::of(&self.snapshot())
    }

    /// Queues between capture and sinks, by name.
    fn queues(&self) -> BTreeMap<&'static str, QueueHealth> {
        BTreeMap::new()
    }
}

/// A sensor at one moment. Counters count since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SensorSnapshot {
    /// Where programs are attached.
    pub interfaces: Vec<InterfaceHealth>,
    /// Packets by hook.
    pub packets: PacketBooks,
    /// Flows by fate.
    pub flows: FlowBooks,
    /// The kernel's flow table.
    pub table: TableFill,
    /// What became of scored flows.
    pub verdicts: VerdictCounts,
    /// How sources are blocked.
    pub block: BlockHealth,
    /// Where events go.
    pub sinks: Vec<SinkState>,
    /// Why the sensor is not at its best, in words; empty if it is.
    pub degraded: Vec<String>,
    /// What whoever looks should know and nothing has to be done about.
    #[serde(skip)]
    pub notes: Vec<String>,
    /// What only `/metrics` shows.
    #[serde(skip)]
    pub measures: Measures,
}

/// What is of use to who draws curves, and too much for `/health`.
#[derive(Clone, Debug, Default)]
pub struct Measures {
    /// Finished flows that reached the agent, by why they ended.
    pub ended: Vec<(&'static str, u64)>,
    /// Of these, flows that are neither TCP nor UDP and are not judged.
    pub other_protocol: u64,
    /// Verdicts on flows of a kind that the training data does not hold (one packet, no duration).
    pub untrained: u64,
    /// Verdicts that are alerts, by class.
    pub alert_classes: BTreeMap<String, u64>,
    /// Alerts that were opened.
    pub alerts: Vec<OpenedAlerts>,
    /// Packets of the flows that were lost because the agent did not keep up.
    pub lost_packets: u64,
    /// Packets of the flows that were given up because the table was full.
    pub evicted_packets: u64,
    /// Records of the kernel that could not be read.
    pub malformed_records: u64,
    /// Sweeps that the kernel refused.
    pub sweep_failures: u64,
    /// The names of pods, where they are asked for.
    pub pods: Option<PodsState>,
    /// Time that moving a batch out of the ring buffer takes, in seconds.
    pub drain: Shape,
    /// How long flows wait for their verdicts.
    pub timing: TimingShapes,
}

/// Alerts of one kind that were opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedAlerts {
    /// Their class.
    pub class: String,
    /// Their severity, in a word.
    pub severity: &'static str,
    /// How many.
    pub opened: u64,
}

/// Packets by hook.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PacketBooks {
    /// Received.
    pub ingress: HookPackets,
    /// Sent.
    pub egress: HookPackets,
}

/// One hook's packets: seen is in a flow or skipped.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HookPackets {
    /// Packets that came by.
    pub seen: u64,
    /// Their bytes, frames and all.
    pub seen_bytes: u64,
    /// Packets counted in a flow.
    pub in_flow: u64,
    /// Packets not counted, by reason.
    pub skipped: BTreeMap<&'static str, u64>,
}

/// Flows by fate.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct FlowBooks {
    /// In the table now.
    pub live: u64,
    /// Begun.
    pub opened: u64,
    /// Finished and handed to the agent.
    pub emitted: u64,
    /// Finished but too short for the profile.
    pub discarded: u64,
    /// Finished but lost because the agent did not keep up.
    pub lost_ring_full: u64,
    /// Given up without a verdict because the table was full.
    pub evicted: u64,
}

/// The kernel's flow table.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TableFill {
    /// Flows that fit.
    pub capacity: u64,
    /// Flows in it.
    pub used: u64,
    /// Their ratio, 0 to 1.
    pub fill: f64,
    /// Kernel memory of the table, the ring buffer and the counters, in bytes.
    pub memory_bytes: u64,
    /// Whether the table is so full that unanswered and quiet flows end early.
    pub pressed: bool,
    /// How often it has become so.
    pub presses: u64,
}

/// What became of flows after the kernel.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct VerdictCounts {
    /// Flows the model has seen.
    pub scored: u64,
    /// Verdicts that became alerts.
    pub alerts: u64,
    /// Verdicts that would have, if their source were not on the allow-list.
    pub allowed: u64,
    /// Flows given up for lack of time or for a model's error.
    pub dropped: u64,
}

/// How sources of alerts are blocked.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BlockHealth {
    /// Whether they are.
    pub enabled: bool,
    /// Nothing is dropped, only counted.
    pub dry_run: bool,
    /// Least probability of an alert that blocks.
    pub threshold: f64,
    /// How long a block lasts.
    pub ttl_seconds: f64,
    /// Blocks now, as of the last look.
    pub entries: u64,
    /// Most blocks at a time.
    pub max_entries: u64,
    /// Packets of blocked sources that were dropped.
    pub dropped: u64,
    /// Packets that a dry run let through.
    pub would_block: u64,
    /// Packets that a block matched and a protected prefix saved.
    pub spared: u64,
    /// Blocks made, by verdicts and by hand.
    pub blocked: u64,
    /// Blocks removed before their time was over.
    pub unblocked: u64,
    /// Blocks whose time was over.
    pub expired: u64,
    /// Blocks that were refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

/// A bounded queue.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct QueueHealth {
    /// Entries in it.
    pub length: u64,
    /// Entries that fit.
    pub capacity: u64,
    /// Entries turned away since the start.
    pub refused: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Healthy,
    Degraded,
    Unhealthy,
}

#[derive(Serialize)]
struct Health<'a> {
    status: Status,
    /// The old server's name for it.
    model_initialized: bool,
    reasons: Vec<String>,
    notes: Vec<String>,
    model: Option<ModelCard>,
    shadow: Option<ShadowHealth>,
    sensor: Option<SensorSnapshot>,
    access: AccessHealth,
    privileges: Option<&'a PrivilegeHealth>,
    queues: BTreeMap<&'static str, QueueHealth>,
    uptime_seconds: f64,
    /// This sensor's name among others, as in its events.
    host: &'static str,
}

/// Read once: it does not change while events carry it.
static HOST: LazyLock<String> = LazyLock::new(node_name);

/// `GET /health`: 200 while the process can serve; what it says is in the body.
pub(crate) fn health(state: &AppState) -> Answer {
    let shadow = state.model_source().and_then(|source| source.shadow());
    let mut queues = BTreeMap::from([
        ("connections", state.connections.health()),
        ("predict_quick", state.quick.health()),
        ("predict_bulk", state.bulk.health()),
        ("predict_streams", state.streams.health()),
    ]);
    queues.extend(state.alerts().map(|alerting| ("events", alerting.health())));
    let sensor = state.sensor().map(|sensor| {
        queues.extend(sensor.queues());
        sensor.snapshot()
    });
    let reasons = reasons(state, sensor.as_ref());
    let status = match state.slot() {
        Slot::Failed(_) => Status::Unhealthy,
        Slot::Loading | Slot::Loaded(_) if reasons.is_empty() => Status::Healthy,
        Slot::Loading | Slot::Loaded(_) => Status::Degraded,
    };
    let model = state.predictor().map(|predictor| predictor.card());
    let said = sensor.iter().flat_map(|sensor| sensor.notes.iter().cloned());
    let notes = said.chain(state.drift().iter().filter_map(drift_note)).chain(state.privileges.note()).collect();
    let privileges = state.privileges.health();
    let uptime_seconds = state.started.elapsed().as_secs_f64();
    let (model_initialized, access) = (model.is_some(), state.access.health());
    let host = HOST.as_str();
    let health = Health {
        status,
        model_initialized,
        reasons,
        notes,
        model,
        shadow,
        sensor,
        access,
        privileges,
        queues,
        uptime_seconds,
        host,
    };
    json_response(StatusCode::OK, &health)
}

/// What is not at its best, in words.
pub(crate) fn reasons(state: &AppState, sensor: Option<&SensorSnapshot>) -> Vec<String> {
    let mut reasons = match state.slot() {
        Slot::Loaded(_) => Vec::new(),
        Slot::Loading => vec!["no model loaded yet".to_owned()],
        Slot::Failed(reason) => vec![format!("no model loaded: {reason}")],
    };
    reasons.extend(state.model_source().iter().flat_map(|source| source.reasons()));
    reasons.extend(state.access.problems());
    reasons.extend(state.privileges.problem());
    match sensor {
        Some(sensor) => reasons.extend(sensor.degraded.iter().cloned()),
        None if state.capture_asked() => reasons.push("capture is not attached yet".to_owned()),
        None => {}
    }
    reasons
}

/// What to know about drift. A note and no reason to be degraded: nothing is being lost, it does not change within
/// hours, and nobody can cure it at night. A sensor that were degraded for as long as its network differs from the
/// training data would teach its operators to ignore the word.
fn drift_note(drift: &DriftReport) -> Option<String> {
    let left = drift.left.len();
    (left > 0)
        .then(|| format!("traffic has left the training world of the model in {left} of the features; see GET /model"))
}

/// `GET /health/live`: the process answers.
pub(crate) fn live() -> Answer {
    json_response(StatusCode::OK, &json!({ "status": "alive" }))
}

/// `GET /health/ready`: 503 until a model is loaded and capture, if asked for, is attached.
pub(crate) fn ready(state: &AppState) -> Answer {
    let sensor = state.sensor().map(|sensor| sensor.snapshot());
    let missing = missing(state, sensor.as_ref());
    if missing.is_empty() {
        json_response(StatusCode::OK, &json!({ "status": "ready" }))
    } else {
        json_response(StatusCode::SERVICE_UNAVAILABLE, &json!({ "detail": missing.join("; ") }))
    }
}

/// What is missing for the server to do what it was started for.
pub(crate) fn missing(state: &AppState, sensor: Option<&SensorSnapshot>) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if state.predictor().is_none() {
        missing.push("no model is loaded");
    }
    let is_attached =
        |interface: &InterfaceHealth| matches!(interface.state, InterfaceState::Attached | InterfaceState::Down);
    if state.capture_asked() && !sensor.is_some_and(|sensor| sensor.interfaces.iter().any(is_attached)) {
        missing.push("capture is not attached");
    }
    missing
}
