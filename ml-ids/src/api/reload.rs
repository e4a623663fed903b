//! `POST /model/reload`: look for another model now. The one at work serves until the other has passed its checks.

use std::sync::Arc;

use hyper::StatusCode;

use super::{
    answer::{Answer, json},
    error::ApiError,
    predictor::ReloadError,
    state::AppState,
};

pub(crate) async fn reload(state: &Arc<AppState>) -> Result<Answer, ApiError> {
    let source = state.model_source().ok_or(ApiError::NoModel)?;
    // It goes on if the client goes away: what was asked for is done.
    let reloaded = tokio::task::spawn_blocking(move || source.reload()).await;
    let reloaded = reloaded.map_err(|error| ApiError::Refused(format!("loading ended early: {error}")))?;
    match reloaded {
        Ok(reloaded) => Ok(json(StatusCode::OK, &reloaded)),
        Err(ReloadError::Busy) => Err(ApiError::Reloading),
        Err(ReloadError::Source(reason)) => Err(ApiError::Source(reason)),
        Err(ReloadError::Refused(reason)) => Err(ApiError::Refused(reason)),
    }
}
