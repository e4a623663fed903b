//! The seam to the model: all that the API asks of it.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{detect::drift::DriftReport, features::FeatureVector};

/// What scores flows. Called from worker threads, several at once.
pub trait Predictor: Send + Sync {
    /// Who the model is.
    fn card(&self) -> ModelCard;

    /// The same, shared.
    fn shared_card(&self) -> Arc<ModelCard> {
        Arc::new(self.card())
    }

    /// Whether one flow is predicted and explained in so little time that handing it to another thread would take longer.
    fn is_quick(&self) -> bool {
        false
    }

    /// One prediction a row, in their order. The rows are finite and fit a float32.
    ///
    /// # Errors
    /// A sentence saying what failed; the client gets it with a 500.
    fn predict(&self, rows: &[FeatureVector]) -> Result<Vec<Prediction>, String>;

    /// What features contributed to this row's prediction, the `most` strongest; `None` if the model cannot tell.
    /// `class` is the one that was predicted.
    fn explain(&self, row: &FeatureVector, class: usize, most: usize) -> Option<Explanation>;

    /// All there is to say about the model, for `GET /model`.
    fn details(&self) -> ModelDetails;
}

/// Who watches the verdicts of the running model for drift.
pub trait ModelWatch: Send + Sync {
    /// What is known now. Called from the event loop: it may not block for long.
    fn report(&self) -> DriftReport;
}

/// What `GET /model` says of a model besides its card.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ModelDetails {
    /// What kind of model it is: `forest`.
    pub kind: &'static str,
    /// Size of the file, in bytes.
    pub bytes: usize,
    /// Trees.
    pub trees: usize,
    /// Nodes of all trees.
    pub nodes: usize,
    /// Branches on the longest path.
    pub depth: usize,
    /// Whether it explains its verdicts.
    pub explains: bool,
    /// Classes in the model's order.
    pub classes: Vec<ClassDetails>,
    /// When it was trained; empty if the file does not say.
    pub date: String,
    /// What it was trained on; empty if the file does not say.
    pub training_data: String,
    /// Whose data that was; empty if the file does not say.
    pub citation: String,
    /// SHA-256 of the training inputs by file name.
    pub inputs_sha256: Map<String, Value>,
    /// What was measured at training.
    pub metrics: Value,
}

/// One class of a model.
#[derive(Clone, Debug, Serialize)]
pub struct ClassDetails {
    /// Its name.
    pub name: String,
    /// Least probability of an alert; `null` for the benign class, which is never one.
    pub threshold: Option<f32>,
}

/// Where the model comes from, and may come from again.
pub trait ModelSource: Send + Sync {
    /// Looks for another model and puts it to work. May take minutes; called from a thread that may wait.
    ///
    /// # Errors
    /// Why the model at work stays.
    fn reload(&self) -> Result<Reloaded, ReloadError>;

    /// Why the model at work may not be the source's, in words; empty if nothing is known to be wrong.
    fn reasons(&self) -> Vec<String>;

    /// How the source is looked at.
    fn refresh(&self) -> Refresh;

    /// How the model that only watches compares, if there is one.
    fn shadow(&self) -> Option<ShadowHealth>;

    /// What came of looks at the source, in numbers; `None` where nobody counts.
    fn looks(&self) -> Option<SourceLooks> {
        None
    }
}

/// The looks at a source. Counters count since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceLooks {
    /// Looks by what they led to.
    pub outcomes: Vec<(&'static str, u64)>,
    /// What may be wrong with the source, and whether it is now.
    pub troubles: Vec<(&'static str, bool)>,
    /// When the source last had a model that was let in, seconds since 1970; 0 if it never had one.
    pub well_at: u64,
}

/// How the source of the model is looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Refresh {
    /// Seconds between two looks while all goes well; `null` if there are only those that are asked for.
    pub interval_seconds: Option<f64>,
    /// When the last look ended; the first one is the start.
    #[serde(serialize_with = "rfc3339")]
    pub last_look: SystemTime,
    /// What it led to: `loaded`, `unchanged`, `swapped`, `away`, `denied` or `refused`.
    pub outcome: &'static str,
    /// Looks in a row that failed, up to the last one; the waits grow with them.
    pub failures: u32,
    /// When the next look is due; `null` if there are only those that are asked for.
    #[serde(serialize_with = "rfc3339_or_null")]
    pub next_look: Option<SystemTime>,
}

/// What a reload led to.
#[derive(Clone, Debug, Serialize)]
pub struct Reloaded {
    /// Whether another model is at work now.
    pub status: ReloadStatus,
    /// The model before.
    pub old: ModelCard,
    /// The model now.
    pub new: ModelCard,
}

/// Whether a reload changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReloadStatus {
    /// Another model is at work.
    Swapped,
    /// The source has the model that is at work.
    Unchanged,
}

/// Why the model at work stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadError {
    /// Another reload is going on.
    Busy,
    /// The source cannot be reached or says no.
    Source(String),
    /// The model that it has is refused.
    Refused(String),
}

/// A second model that scores the same flows and decides nothing.
#[derive(Clone, Debug, Serialize)]
pub struct ShadowHealth {
    /// Who it is.
    pub model: ModelCard,
    /// Flows that both have scored.
    pub compared: u64,
    /// Of these, flows that they give different labels.
    pub labels_differ: u64,
    /// Of these, alerts of the model at work that it would not have raised.
    pub alerts_missed: u64,
    /// Of these, alerts that it alone would have raised.
    pub alerts_added: u64,
    /// Flows that it has not scored because it did not keep up.
    pub skipped: u64,
    /// Flows that it failed on.
    pub failed: u64,
    /// The most frequent pairs of labels that differ: `BENIGN -> DoS Hulk`.
    pub disagreements: BTreeMap<String, u64>,
}

/// A model as clients see it.
#[derive(Clone, Debug, Serialize)]
pub struct ModelCard {
    /// Name in the model's contract.
    pub name: String,
    /// Version in the model's contract.
    pub version: String,
    /// Where it was loaded from: `embedded`, a path, `mlflow:…`, `s3://…`.
    pub source: String,
    /// What the source stood for then, `mlflow:NAME/VERSION`; `null` where the source says all.
    pub resolved: Option<String>,
    /// It is the last good one of that source, from the disk: the source was away or what it had was refused.
    pub cached: bool,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Feature profile: `fixed`, `cns2022` or `cic2017`.
    pub profile: &'static str,
    /// What computes its answers: operators and instruction set.
    pub runtime: String,
    /// When it went live.
    #[serde(serialize_with = "rfc3339")]
    pub loaded_at: SystemTime,
    /// Class names in the model's order; the first is the benign one. `GET /health` leaves them out.
    #[serde(skip)]
    pub classes: Vec<String>,
}

/// What the model says of one flow.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// Class index; 0 is benign.
    pub class: usize,
    /// Probability of that class, 0 to 1.
    pub probability: f32,
    /// Probability of every class, in the model's order.
    pub probabilities: Vec<f32>,
    /// Whether the class is not benign and its probability reached the class's threshold.
    pub alert: bool,
    /// Whether the row lies far outside the training data, so that the prediction is a guess.
    pub out_of_distribution: bool,
}

/// Why a row got its class.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// What contributions are parts of: `probability` or `margin`.
    pub space: &'static str,
    /// The class's score in that space before anything is known of the row.
    pub base: f32,
    /// The class's score in that space: `base` and all contributions together.
    pub score: f32,
    /// The strongest contributions, strongest first.
    pub contributions: Vec<Contribution>,
}

/// What one feature contributed to a prediction.
#[derive(Clone, Debug, Serialize)]
pub struct Contribution {
    /// The feature's name.
    pub feature: &'static str,
    /// Its value in the row.
    pub value: f64,
    /// How much it moved the predicted class's score.
    pub contribution: f32,
    /// The same in words.
    pub text: String,
}

fn rfc3339_or_null<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc3339(time, serializer),
        None => serializer.serialize_none(),
    }
}

pub(super) fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let text = OffsetDateTime::from(*time).format(&Rfc3339).map_err(serde::ser::Error::custom)?;
    serializer.serialize_str(&text)
}
