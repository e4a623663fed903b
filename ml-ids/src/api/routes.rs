//! The way from a request to an endpoint.

use std::{convert::Infallible, sync::Arc};

use hyper::{Method, Request, body::Incoming};

use super::{
    alerts,
    answer::Answer,
    catalogue::{Endpoint, ROUTES},
    error::{ApiError, quoted},
    features, flows, follow, health, index, metrics, model, openapi, predict, reload,
    state::AppState,
    timeline,
};

/// Answers any request. Faults are answers too.
pub(crate) async fn answer(state: Arc<AppState>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let begun = state.requests.begin();
    let found = find(&method, &path);
    let endpoint = found.as_ref().ok().copied();
    // The page is the same everywhere and asks for the token itself; what it shows comes from the other endpoints.
    let is_page = endpoint == Some(Endpoint::Index) && index::wants_html(request.headers());
    let admitted = if is_page { Ok(()) } else { state.access.admit(&path, request.headers()) };
    let response = match admitted.and(found) {
        Ok(Endpoint::Features) => features::features(request.headers()),
        Ok(Endpoint::OpenApi) => openapi::openapi(request.headers()),
        Ok(Endpoint::Index) => index::index(request.headers()),
        Ok(Endpoint::Alerts) => alerts::alerts(&state, request.uri().query()).await.unwrap_or_else(refuse),
        Ok(Endpoint::Events) => follow::events(&state, &request).unwrap_or_else(refuse),
        Ok(Endpoint::Health) => health::health(&state),
        Ok(Endpoint::Live) => health::live(),
        Ok(Endpoint::Ready) => health::ready(&state),
        Ok(Endpoint::Flows) => flows::flows(&state, &request).await.unwrap_or_else(refuse),
        Ok(Endpoint::Timeline) => timeline::timeline(&state, request.uri().query()).unwrap_or_else(refuse),
        Ok(Endpoint::Model) => model::model(&state).unwrap_or_else(refuse),
        Ok(Endpoint::Metrics) => metrics::metrics(&state, request.headers()),
        Ok(Endpoint::Predict) => predict::predict(&state, request).await.unwrap_or_else(refuse),
        Ok(Endpoint::Reload) => reload::reload(&state).await.unwrap_or_else(refuse),
        Err(error) => refuse(error),
    };
    begun.answered(endpoint, &response);
    log::debug!("{method} {} answered {}", quoted(&path), response.status());
    Ok(response)
}

fn refuse(error: ApiError) -> Answer {
    if let ApiError::Model(_) = error {
        log::error!("POST /predict: {error}");
    }
    error.into_response()
}

fn find(method: &Method, path: &str) -> Result<Endpoint, ApiError> {
    let mut allowed = Vec::new();
    for route in ROUTES.iter().filter(|route| route.path == path) {
        if route.method == *method || (route.method == Method::GET && *method == Method::HEAD) {
            return Ok(route.endpoint);
        }
        allowed.push(route.method.as_str());
        if route.method == Method::GET {
            allowed.push("HEAD");
        }
    }
    if allowed.is_empty() { Err(ApiError::NotFound(quoted(path))) } else { Err(ApiError::Method(allowed.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_is_answered_where_get_is() {
        assert_eq!(find(&Method::HEAD, "/health").ok(), Some(Endpoint::Health));
        assert!(matches!(find(&Method::HEAD, "/predict"), Err(ApiError::Method(allow)) if allow == "POST"));
        assert!(matches!(find(&Method::POST, "/"), Err(ApiError::Method(allow)) if allow == "GET, HEAD"));
        assert!(matches!(find(&Method::GET, "/predict/"), Err(ApiError::NotFound(_))));
    }
}
