//! From rows to written verdicts: what `/predict` does on a thread that may be busy.

use std::sync::Arc;

use serde::Serialize;

use super::{
    answer::{Batch, Verdict},
    error::ApiError,
    limits::EXPLAINED_FEATURES,
    predict_body::{Body, parse_lines},
    predictor::{ModelCard, Prediction, Predictor},
    query::Options,
    row::{Ready, Row},
    state::AppState,
    units::TimeUnit,
};
use crate::features::FeatureVector;

/// Rows given to the model at once: larger batches are no faster and take more memory.
pub(crate) const MODEL_BATCH: usize = 256;

const SECONDS: &str = "times under the Python client's names are in seconds; converted to microseconds";
const FRAMES: &str = "lengths under the Python client's names are of whole frames where the model knows payload bytes; no \
                      conversion repairs this, verdicts may be wrong";

/// A model with what the client and the operator want of it.
pub(crate) struct Scorer {
    card: Arc<ModelCard>,
    predictor: Arc<dyn Predictor>,
    options: Options,
    unit: TimeUnit,
}

impl Scorer {
    /// With the model that is at work now.
    pub(crate) fn new(state: &AppState, options: Options) -> Result<Self, ApiError> {
        let predictor = state.predictor().ok_or(ApiError::NoModel)?;
        Ok(Self { card: predictor.shared_card(), predictor, options, unit: state.unit })
    }

    /// Whether a row is judged in less time than another thread takes to wake up.
    pub(crate) fn is_quick(&self) -> bool {
        self.predictor.is_quick()
    }

    /// The answer to one flow.
    pub(crate) fn answer_single(&self, row: Row) -> Result<Vec<u8>, ApiError> {
        let mut ready = self.finish(0, row)?;
        let notes = Notes::default().with(&ready);
        ready.warnings.extend(notes.sentences());
        let prediction = self.score(&[ready.values])?;
        let prediction = prediction.first().ok_or_else(|| ApiError::Model("no prediction".to_owned()))?;
        write(&self.verdict_in_full(prediction, &ready)?)
    }

    /// The answer to a JSON body.
    pub(crate) fn answer(&self, body: Body) -> Result<Vec<u8>, ApiError> {
        match body {
            Body::Single(row) => self.answer_single(*row),
            Body::Batch(rows) => {
                let (flows, notes) = self.finish_all(rows)?;
                let predictions = self.score_all(&flows)?;
                write(&self.batch(&predictions, &flows, notes)?)
            }
            Body::Table(table) => {
                let (flows, notes) = self.finish_all(table.rows)?;
                let predictions = self.score_all(&flows)?;
                write(&self.batch(&predictions, &flows, notes)?.for_first_client(&table.ends))
            }
        }
    }

    /// One answer a line; a line that is no flow gets an error object and harms no other. `first` is the number of the
    /// first line, and `notes` what was said already.
    pub(crate) fn answer_lines(&self, bytes: &[u8], first: usize, notes: &mut Notes) -> Result<Vec<u8>, ApiError> {
        let lines: Vec<Result<Ready, ApiError>> = parse_lines(bytes, first)
            .into_iter()
            .zip(first..)
            .map(|(row, number)| {
                let mut ready = self.finish(number, row?)?;
                ready.warnings.extend(notes.new_in(&ready));
                Ok(ready)
            })
            .collect();
        let values: Vec<FeatureVector> = lines.iter().flatten().map(|ready| ready.values).collect();
        let mut predictions = self.score(&values)?.into_iter();
        let mut answer = Vec::new();
        for (line, number) in lines.iter().zip(first..) {
            match line {
                Ok(ready) => {
                    let prediction =
                        predictions.next().ok_or_else(|| ApiError::Model("too few predictions".to_owned()))?;
                    answer.extend(write(&self.verdict_in_full(&prediction, ready)?)?);
                }
                Err(error) => answer.extend(write(&error.detail().of_row(number))?),
            }
            answer.push(b'\n');
        }
        Ok(answer)
    }

    fn finish(&self, number: usize, row: Row) -> Result<Ready, ApiError> {
        Ok(row.finish(number, self.options.strict, self.unit)?)
    }

    fn finish_all(&self, rows: Vec<Row>) -> Result<(Vec<Ready>, Notes), ApiError> {
        let mut notes = Notes::default();
        let mut flows = Vec::with_capacity(rows.len());
        for (number, row) in rows.into_iter().enumerate() {
            let ready = self.finish(number, row)?;
            notes = notes.with(&ready);
            flows.push(ready);
        }
        Ok((flows, notes))
    }

    fn score_all(&self, flows: &[Ready]) -> Result<Vec<Prediction>, ApiError> {
        let values: Vec<FeatureVector> = flows.iter().map(|ready| ready.values).collect();
        self.score(&values)
    }

    fn score(&self, rows: &[FeatureVector]) -> Result<Vec<Prediction>, ApiError> {
        let mut predictions = Vec::with_capacity(rows.len());
        for rows in rows.chunks(MODEL_BATCH) {
            let scored = self.predictor.predict(rows).map_err(ApiError::Model)?;
            if scored.len() != rows.len() {
                return Err(ApiError::Model(format!("{} predictions for {} flows", scored.len(), rows.len())));
            }
            predictions.extend(scored);
        }
        Ok(predictions)
    }

    fn verdict_in_full<'a>(&'a self, prediction: &'a Prediction, ready: &'a Ready) -> Result<Verdict<'a>, ApiError> {
        let verdict = Verdict::new(&self.card, prediction, &ready.warnings).map_err(ApiError::Model)?;
        Ok(verdict.in_full(&self.card, self.predictor.explain(&ready.values, prediction.class, EXPLAINED_FEATURES)))
    }

    fn batch<'a>(
        &'a self,
        predictions: &'a [Prediction],
        flows: &'a [Ready],
        notes: Notes,
    ) -> Result<Batch<'a>, ApiError> {
        let results = predictions
            .iter()
            .zip(flows)
            .map(|(prediction, ready)| Verdict::new(&self.card, prediction, &ready.warnings).map_err(ApiError::Model))
            .collect::<Result<_, _>>()?;
        Ok(Batch::new(&self.card, results, notes.sentences().collect()))
    }
}

/// What is said once of a whole request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Notes {
    seconds: bool,
    frames: bool,
}

impl Notes {
    fn with(self, ready: &Ready) -> Self {
        Self { seconds: self.seconds || ready.seconds, frames: self.frames || ready.frame_lengths }
    }

    /// What this flow adds to what was said of earlier ones.
    fn new_in(&mut self, ready: &Ready) -> impl Iterator<Item = String> + use<> {
        let (before, after) = (*self, self.with(ready));
        *self = after;
        Self { seconds: after.seconds && !before.seconds, frames: after.frames && !before.frames }.sentences()
    }

    fn sentences(self) -> impl Iterator<Item = String> + use<> {
        [(self.seconds, SECONDS), (self.frames, FRAMES)]
            .into_iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, sentence)| sentence.to_owned())
    }
}

fn write(value: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(|error| ApiError::Model(format!("the answer could not be written: {error}")))
}
