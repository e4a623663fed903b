//! Our own part of an event: what the model said, and why.

use serde_json::{Map, Value, json};

use super::shortest;
use crate::{detect::Verdict, model::Model};

/// Features named in an alert.
const TOP_FEATURES: usize = 5;

/// The `ml` object of a verdict; with the model's reasons if it is an alert.
pub(super) fn ml(verdict: &Verdict, model: &Model) -> Value {
    let contract = model.contract();
    let class = verdict.score.class;
    let threshold = contract.thresholds.get(class).copied().filter(|_| class != 0);
    let mut ml = json!({
        "model": contract.name,
        "version": contract.version,
        "profile": contract.profile.name(),
        "class": class,
        "label": label(verdict, model),
        "score": shortest(verdict.score.probability),
        "threshold": threshold.map(shortest),
        "untrained": verdict.untrained,
        "out_of_distribution": verdict.out_of_distribution,
    });
    if let Value::Object(ml) = &mut ml {
        if verdict.alert {
            explain(ml, verdict, model);
        }
        if verdict.out_of_distribution {
            let mut far = model.far_outside(&verdict.features);
            far.truncate(TOP_FEATURES);
            ml.insert("far_outside".to_owned(), far.into());
        }
    }
    ml
}

/// The name of the verdict's class.
pub(super) fn label<'a>(verdict: &Verdict, model: &'a Model) -> &'a str {
    model.contract().classes.get(verdict.score.class).map_or("?", String::as_str)
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
