//! A verdict as an event.
//!
//! Byte counts are layer 4 payload bytes, as the features count them, not frame bytes.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use ml_ids_common::FlowRecord;
use serde_json::{Map, Value, json};

use super::timestamp;
use crate::{detect::Verdict, model::Model, sink::console::protocol_name};

/// Features named in an alert.
const TOP_FEATURES: usize = 5;
/// EVE's medium severity; a table by class comes with the alert rules.
const SEVERITY: u8 = 2;
/// Largest integer that every JSON reader keeps exact.
const JSON_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The event of a verdict: `alert` when it is one, otherwise `flow`.
#[must_use]
pub(crate) fn verdict(verdict: &Verdict, model: &Model, interface: Option<&str>) -> Value {
    let record = &verdict.record;
    let state = record.state();
    let contract = model.contract();
    let ((source, source_port), (destination, destination_port)) = (record.source(), record.destination());
    let label = contract.classes.get(verdict.score.class).map_or("?", String::as_str);
    let end = state.start_us.saturating_add_signed(record.duration_us().max(0));
    let mut event = json!({
        "timestamp": timestamp(end),
        "event_type": if verdict.alert { "alert" } else { "flow" },
        "flow_id": flow_id(record),
        "in_iface": interface,
        "src_ip": source,
        "src_port": source_port,
        "dest_ip": destination,
        "dest_port": destination_port,
        "proto": protocol_name(record.protocol()),
        "flow": {
            "pkts_toserver": state.forward.packets,
            "pkts_toclient": state.backward.packets,
            "bytes_toserver": state.forward.length_sum,
            "bytes_toclient": state.backward.length_sum,
            "start": timestamp(state.start_us),
            "end": timestamp(end),
            "age": record.duration_us().max(0) as f64 / 1e6,
            "state": flow_state(record),
            "reason": record.reason().name(),
        },
        "ml": {
            "model": contract.name,
            "version": contract.version,
            "profile": contract.profile.name(),
            "class": verdict.score.class,
            "label": label,
            "score": verdict.score.probability,
            "threshold": contract.thresholds.get(verdict.score.class).copied().filter(|_| verdict.score.class != 0),
            "untrained": verdict.untrained,
            "out_of_distribution": verdict.out_of_distribution,
        },
    });
    if verdict.alert
        && let Value::Object(fields) = &mut event
    {
        fields.insert(
            "alert".to_owned(),
            json!({
                "action": "allowed",
                "signature": format!("ML-IDS {label}"),
                "category": label,
                "severity": SEVERITY,
            }),
        );
        if let Some(Value::Object(ml)) = fields.get_mut("ml") {
            explain(ml, verdict, model);
        }
    }
    if verdict.out_of_distribution
        && let Some(Value::Object(ml)) = event.get_mut("ml")
    {
        let mut far = model.far_outside(&verdict.features);
        far.truncate(TOP_FEATURES);
        ml.insert("far_outside".to_owned(), far.into());
    }
    event
}

/// The features that moved the model most towards its class, and from where; none when it cannot explain itself
/// exactly.
fn explain(ml: &mut Map<String, Value>, verdict: &Verdict, model: &Model) {
    let Some(explanation) = model.explanation(&verdict.features) else {
        ml.insert("top".to_owned(), json!([]));
        return;
    };
    let top = explanation.reasons(model.contract(), &verdict.features, TOP_FEATURES);
    let explained = json!({ "space": explanation.space, "base": explanation.base, "score": explanation.score() });
    ml.insert("explained".to_owned(), explained);
    ml.insert("top".to_owned(), json!(top));
}

/// EVE's three states: nothing came back, a conversation, a conversation that was closed.
fn flow_state(record: &FlowRecord) -> &'static str {
    use ml_ids_common::EndReason::{Fin, Rst};
    match record.reason() {
        Fin | Rst => "closed",
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
