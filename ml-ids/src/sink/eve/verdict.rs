//! A flow and its verdict as an event.

use serde_json::{Map, Value};

use super::{
    Place,
    alert::alert,
    flow::event,
    ml::{label, ml},
};
use crate::{detect::Verdict, model::Model};

/// The event of a verdict: `alert` when it is one, otherwise `flow`.
#[must_use]
pub fn verdict(verdict: &Verdict, model: &Model, place: &Place<'_>) -> Value {
    render(verdict, model, place, verdict.alert)
}

/// The `flow` event of a flow that was judged, an alert or not.
#[must_use]
pub fn judged_flow(verdict: &Verdict, model: &Model, place: &Place<'_>) -> Value {
    render(verdict, model, place, false)
}

fn render(verdict: &Verdict, model: &Model, place: &Place<'_>, as_alert: bool) -> Value {
    let event_type = if as_alert { "alert" } else { "flow" };
    let mut fields: Map<String, Value> = event(&verdict.record, place, event_type, verdict.alert);
    if as_alert {
        fields.insert("alert".to_owned(), alert(label(verdict, model), place.severities));
    }
    fields.insert("ml".to_owned(), ml(verdict, model));
    Value::Object(fields)
}
