//! `GET /model`: what is loaded, and how live traffic compares with what it was trained on.

use hyper::StatusCode;
use serde::Serialize;

use super::{
    answer::{Answer, json},
    error::ApiError,
    predictor::{ModelCard, ModelDetails},
    state::AppState,
};
use crate::detect::drift::DriftReport;

/// Features of the last window that are shown, those that have shifted most.
const DRIFTING: usize = 10;

#[derive(Serialize)]
struct ModelAnswer {
    #[serde(flatten)]
    card: ModelCard,
    #[serde(flatten)]
    details: ModelDetails,
    /// `null` without a sensor, which alone sees live traffic.
    drift: Option<DriftReport>,
}

/// The model that answers `/predict` now.
pub(crate) fn model(state: &AppState) -> Result<Answer, ApiError> {
    let predictor = state.predictor().ok_or(ApiError::NoModel)?;
    let mut drift = state.drift();
    if let Some(window) = drift.as_mut().and_then(|drift| drift.window.as_mut()) {
        window.features.truncate(DRIFTING);
    }
    let answer = ModelAnswer { card: predictor.card(), details: predictor.details(), drift };
    Ok(json(StatusCode::OK, &answer))
}
