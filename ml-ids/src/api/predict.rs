//! `POST /predict`: reads flows, scores them away from the event loop, and answers in the shape they came in.

use std::sync::Arc;

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
};
use serde::Serialize;

use super::{
    answer::{Batch, Verdict, typed},
    body::{self, Media},
    error::ApiError,
    limits::EXPLAINED_FEATURES,
    predict_body::{Body, parse_json, parse_lines},
    predictor::{ModelCard, Prediction, Predictor},
    pulse::Pulse,
    query::Options,
    row::{Ready, Row},
    state::AppState,
    units::TimeUnit,
};
use crate::features::FeatureVector;

/// Rows given to the model at once: larger batches are no faster and take more memory.
const MODEL_BATCH: usize = 256;

const SECONDS: &str = "times under the Python client's names are in seconds; converted to microseconds";
const FRAMES: &str = "lengths under the Python client's names are of whole frames where the model knows payload bytes; no \
                      conversion repairs this, verdicts may be wrong";

pub(crate) async fn predict(
    state: &Arc<AppState>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, ApiError> {
    let predictor = state.predictor().ok_or(ApiError::NoModel)?;
    let options = Options::from_query(request.uri().query())?;
    let media = Media::of(request.headers())?;
    let pulse = request.extensions().get::<Arc<Pulse>>().cloned();
    let held = body::read(request.into_body(), &state.limits, &state.budget).await?;
    // It is all there: from here on the client waits for us.
    pulse.iter().for_each(|pulse| pulse.working());
    let turn = state.lane(held.bytes.len()).enter().await?;
    let scorer = Scorer { card: predictor.card(), predictor, options, unit: state.unit, row_limit: state.limits.rows };
    let scored = tokio::task::spawn_blocking(move || {
        let answer = match media {
            Media::Json => scorer.answer(&held.bytes).map(|body| ("application/json", body)),
            Media::NdJson => scorer.answer_lines(&held.bytes).map(|body| ("application/x-ndjson", body)),
        };
        // Place, worker and memory are taken until here, also when the client has gone away meanwhile.
        drop((turn, held));
        answer
    });
    let (media, body) = scored.await.map_err(|error| ApiError::Model(format!("scoring ended early: {error}")))??;
    Ok(typed(StatusCode::OK, media, body))
}

struct Scorer {
    card: ModelCard,
    predictor: Arc<dyn Predictor>,
    options: Options,
    unit: TimeUnit,
    row_limit: usize,
}

impl Scorer {
    fn answer(&self, bytes: &[u8]) -> Result<Vec<u8>, ApiError> {
        match parse_json(bytes, self.row_limit)? {
            Body::Single(row) => {
                let mut ready = self.finish(0, *row)?;
                let notes = Notes::default().with(&ready);
                ready.warnings.extend(notes.sentences());
                let prediction = self.score(&[ready.values])?;
                let prediction = prediction.first().ok_or_else(|| ApiError::Model("no prediction".to_owned()))?;
                write(&self.verdict_in_full(prediction, &ready)?)
            }
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

    /// One answer a line; a line that is no flow gets an error object and harms no other.
    fn answer_lines(&self, bytes: &[u8]) -> Result<Vec<u8>, ApiError> {
        let mut notes = Notes::default();
        let lines: Vec<Result<Ready, ApiError>> = parse_lines(bytes, self.row_limit)?
            .into_iter()
            .enumerate()
            .map(|(number, row)| {
                let mut ready = self.finish(number, row?)?;
                ready.warnings.extend(notes.new_in(&ready));
                Ok(ready)
            })
            .collect();
        let values: Vec<FeatureVector> = lines.iter().flatten().map(|ready| ready.values).collect();
        let mut predictions = self.score(&values)?.into_iter();
        let mut answer = Vec::new();
        for line in &lines {
            match line {
                Ok(ready) => {
                    let prediction =
                        predictions.next().ok_or_else(|| ApiError::Model("too few predictions".to_owned()))?;
                    answer.extend(write(&self.verdict_in_full(&prediction, ready)?)?);
                }
                Err(error) => answer.extend(write(&error.detail())?),
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
        Ok(verdict.in_full(&self.card, self.predictor.explain(&ready.values, EXPLAINED_FEATURES)))
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
#[derive(Clone, Copy, Default)]
struct Notes {
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
