//! The table of endpoints, and the way from a request to one of them.

use std::{convert::Infallible, sync::Arc};

use hyper::{Method, Request, body::Incoming};

use super::{
    alerts,
    answer::Answer,
    error::{ApiError, quoted},
    flows, follow, health, index, metrics, model, predict, reload,
    state::AppState,
};

/// What answers a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `GET /`
    Index,
    /// `GET /flows`
    Flows,
    /// `GET /alerts`
    Alerts,
    /// `GET /events`
    Events,
    /// `GET /health`
    Health,
    /// `GET /health/live`
    Live,
    /// `GET /health/ready`
    Ready,
    /// `GET /model`
    Model,
    /// `GET /metrics`
    Metrics,
    /// `POST /predict`
    Predict,
    /// `POST /model/reload`
    Reload,
}

/// One row of the table.
#[derive(Debug)]
pub struct Route {
    /// Method; GET answers HEAD too.
    pub method: Method,
    /// Exact path.
    pub path: &'static str,
    /// What answers.
    pub endpoint: Endpoint,
    /// What it is for, in a few words.
    pub summary: &'static str,
}

/// All endpoints.
pub static ROUTES: [Route; 11] = [
    Route { method: Method::GET, path: "/", endpoint: Endpoint::Index, summary: "this greeting" },
    Route { method: Method::GET, path: "/alerts", endpoint: Endpoint::Alerts, summary: "what the sensor has found" },
    Route { method: Method::GET, path: "/events", endpoint: Endpoint::Events, summary: "what happens, as it happens" },
    Route { method: Method::GET, path: "/health", endpoint: Endpoint::Health, summary: "how the server is" },
    Route {
        method: Method::GET,
        path: "/health/live",
        endpoint: Endpoint::Live,
        summary: "probe: the process answers",
    },
    Route {
        method: Method::GET,
        path: "/health/ready",
        endpoint: Endpoint::Ready,
        summary: "probe: model loaded, capture attached",
    },
    Route {
        method: Method::GET,
        path: "/model",
        endpoint: Endpoint::Model,
        summary: "the model, and drift of live traffic",
    },
    Route { method: Method::GET, path: "/flows", endpoint: Endpoint::Flows, summary: "the foremost of the open flows" },
    Route { method: Method::GET, path: "/metrics", endpoint: Endpoint::Metrics, summary: "metrics for Prometheus" },
    Route { method: Method::POST, path: "/predict", endpoint: Endpoint::Predict, summary: "verdicts on flows" },
    Route {
        method: Method::POST,
        path: "/model/reload",
        endpoint: Endpoint::Reload,
        summary: "load the model again from its source",
    },
];

/// Answers any request. Faults are answers too.
pub(crate) async fn answer(state: Arc<AppState>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let begun = state.requests.begin();
    let found = find(&method, &path);
    let endpoint = found.as_ref().ok().copied();
    let response = match state.access.admit(&path, request.headers()).and(found) {
        Ok(Endpoint::Index) => index::index(request.headers()),
        Ok(Endpoint::Alerts) => alerts::alerts(&state, request.uri().query()).await.unwrap_or_else(refuse),
        Ok(Endpoint::Events) => follow::events(&state, &request).unwrap_or_else(refuse),
        Ok(Endpoint::Health) => health::health(&state),
        Ok(Endpoint::Live) => health::live(),
        Ok(Endpoint::Ready) => health::ready(&state),
        Ok(Endpoint::Flows) => flows::flows(&state, &request).await.unwrap_or_else(refuse),
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
