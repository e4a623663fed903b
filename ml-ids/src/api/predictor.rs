//! The seam to the model: all that the API asks of it.

use std::time::SystemTime;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{detect::drift::DriftReport, features::FeatureVector};

/// What scores flows. Called from worker threads, several at once.
pub trait Predictor: Send + Sync {
    /// Who the model is.
    fn card(&self) -> ModelCard;

    /// One prediction a row, in their order. The rows are finite and fit a float32.
    ///
    /// # Errors
    /// A sentence saying what failed; the client gets it with a 500.
    fn predict(&self, rows: &[FeatureVector]) -> Result<Vec<Prediction>, String>;

    /// What features contributed to this row's prediction, the `most` strongest; `None` if the model cannot tell.
    fn explain(&self, row: &FeatureVector, most: usize) -> Option<Explanation>;

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
    /// What runs it.
    pub runtime: String,
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

/// A model as clients see it.
#[derive(Clone, Debug, Serialize)]
pub struct ModelCard {
    /// Name in the model's contract.
    pub name: String,
    /// Version in the model's contract.
    pub version: String,
    /// Where it was loaded from: `embedded`, a path, `mlflow:…`, `s3://…`.
    pub source: String,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Feature profile: `fixed`, `cns2022` or `cic2017`.
    pub profile: &'static str,
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

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let text = OffsetDateTime::from(*time).format(&Rfc3339).map_err(serde::ser::Error::custom)?;
    serializer.serialize_str(&text)
}
