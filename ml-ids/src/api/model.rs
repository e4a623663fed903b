//! `GET /model`: what is loaded, how its source is looked at, and how live traffic compares with what it was trained on.

use hyper::StatusCode;
use serde::Serialize;

use super::{
    answer::{Answer, json},
    error::ApiError,
    predictor::{ModelCard, ModelDetails, Refresh, ShadowHealth},
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
    /// How its source is looked at.
    refresh: Option<Refresh>,
    /// The model that only watches.
    shadow: Option<ShadowHealth>,
    /// Why the model at work may not be the source's.
    reasons: Vec<String>,
}

/// The model that answers `/predict` now.
pub(crate) fn model(state: &AppState) -> Result<Answer, ApiError> {
    let predictor = state.predictor().ok_or(ApiError::NoModel)?;
    let mut drift = state.drift();
    if let Some(window) = drift.as_mut().and_then(|drift| drift.window.as_mut()) {
        window.features.truncate(DRIFTING);
    }
    let source = state.model_source();
    let source = source.as_ref();
    let answer = ModelAnswer {
        card: predictor.card(),
        details: predictor.details(),
        drift,
        refresh: source.map(|source| source.refresh()),
        shadow: source.and_then(|source| source.shadow()),
        reasons: source.map_or_else(Vec::new, |source| source.reasons()),
    };
    Ok(json(StatusCode::OK, &answer))
}
