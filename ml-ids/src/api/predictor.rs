//! The seam to the model: all that the API asks of it.

use std::time::SystemTime;

use serde::{Serialize, Serializer};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::features::FeatureVector;

/// What scores flows. Called from worker threads, several at once.
pub trait Predictor: Send + Sync {
    /// Who the model is.
    fn card(&self) -> ModelCard;

    /// One prediction a row, in their order. The rows are finite and fit a float32.
    ///
    /// # Errors
    /// A sentence saying what failed; the client gets it with a 500.
    fn predict(&self, rows: &[FeatureVector]) -> Result<Vec<Prediction>, String>;

    /// What each feature contributed to this row's prediction; `None` if the model cannot tell.
    fn explain(&self, row: &FeatureVector) -> Option<Vec<Contribution>>;
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
}

/// What one feature contributed to a prediction.
#[derive(Clone, Copy, Debug)]
pub struct Contribution {
    /// The feature's position, from 0.
    pub feature: usize,
    /// How much it moved the predicted class's probability.
    pub contribution: f32,
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let text = OffsetDateTime::from(*time).format(&Rfc3339).map_err(serde::ser::Error::custom)?;
    serializer.serialize_str(&text)
}
