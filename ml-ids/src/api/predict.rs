//! `POST /predict`: reads flows, scores them away from the event loop, and answers in the shape they came in.
//!
//! A single flow is the exception if the model says of itself that it is quick: it is scored where it was read. What that may
//! take is bounded by the size of the body and by what the model has measured of itself.

use std::sync::Arc;

use hyper::{Request, StatusCode, body::Incoming};

use super::{
    answer::{Answer, typed},
    body::{self, Media},
    error::ApiError,
    limits::INLINE_BYTES,
    predict_body::{Body, parse_json},
    predict_lines,
    pulse::Pulse,
    query::Options,
    scorer::Scorer,
    state::AppState,
};

pub(crate) async fn predict(state: &Arc<AppState>, request: Request<Incoming>) -> Result<Answer, ApiError> {
    let options = Options::from_query(request.uri().query())?;
    // Before the body: without a model nobody need send one.
    let scorer = Scorer::new(state, options)?;
    let pulse = request.extensions().get::<Arc<Pulse>>().cloned();
    match Media::of(request.headers())? {
        Media::Json => whole(state, scorer, pulse, request.into_body()).await,
        Media::NdJson => predict_lines::answer(state.clone(), options, pulse, request.into_body()).await,
    }
}

/// A JSON body is read to its end, then scored.
async fn whole(
    state: &Arc<AppState>,
    scorer: Scorer,
    pulse: Option<Arc<Pulse>>,
    body: Incoming,
) -> Result<Answer, ApiError> {
    let held = body::read(body, &state.limits, &state.budget).await?;
    // It is all there: from here on the client waits for us.
    pulse.iter().for_each(|pulse| pulse.working());
    let row_limit = state.limits.rows;
    // A single flow of a quick model is answered before another thread would have woken up.
    let mut parsed = None;
    if held.bytes.len() <= INLINE_BYTES && scorer.is_quick() {
        match parse_json(&held.bytes, row_limit)? {
            Body::Single(row) => return Ok(typed(StatusCode::OK, "application/json", scorer.answer_single(*row)?)),
            body => parsed = Some(body),
        }
    }
    let turn = state.lane(held.bytes.len()).enter().await?;
    let scored = tokio::task::spawn_blocking(move || {
        let body = parsed.map_or_else(|| parse_json(&held.bytes, row_limit), Ok);
        let answer = body.and_then(|body| scorer.answer(body));
        // Place, worker and memory are taken until here, also when the client has gone away meanwhile.
        drop((turn, held));
        answer
    });
    let body = scored.await.map_err(|error| ApiError::Model(format!("scoring ended early: {error}")))??;
    Ok(typed(StatusCode::OK, "application/json", body))
}
