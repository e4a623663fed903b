//! `POST /predict`: reads flows, scores them away from the event loop, and answers in the shape they came in.

use std::sync::Arc;

use hyper::{Request, StatusCode, body::Incoming};

use super::{
    answer::{Answer, typed},
    body::{self, Media},
    error::ApiError,
    predict_lines,
    query::Options,
    scorer::Scorer,
    state::AppState,
};

pub(crate) async fn predict(state: &Arc<AppState>, request: Request<Incoming>) -> Result<Answer, ApiError> {
    let options = Options::from_query(request.uri().query())?;
    // Before the body: without a model nobody need send one.
    let scorer = Scorer::new(state, options)?;
    match Media::of(request.headers())? {
        Media::Json => whole(state, scorer, request.into_body()).await,
        Media::NdJson => predict_lines::answer(state.clone(), options, request.into_body()).await,
    }
}

/// A JSON body is read to its end, then scored.
async fn whole(state: &Arc<AppState>, scorer: Scorer, body: Incoming) -> Result<Answer, ApiError> {
    let held = body::read(body, &state.limits, &state.budget).await?;
    let turn = state.lane(held.bytes.len()).enter().await?;
    let scored = tokio::task::spawn_blocking(move || {
        let answer = scorer.answer(&held.bytes);
        // Place, worker and memory are taken until here, also when the client has gone away meanwhile.
        drop((turn, held));
        answer
    });
    let body = scored.await.map_err(|error| ApiError::Model(format!("scoring ended early: {error}")))??;
    Ok(typed(StatusCode::OK, "application/json", body))
}
