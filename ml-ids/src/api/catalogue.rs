//! The table of endpoints: what the router, `GET /openapi.json`, the page at `/` and the tests go by.
//!
//! A new endpoint is a row here, a variant of [`Endpoint`] with its arm in `routes::answer`, a file of its own, its schemas
//! in `schemas.json`, and a row in the table of `docs/API.md`.

use hyper::Method;

/// What answers a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `GET /`
    Index,
    /// `GET /alerts`
    Alerts,
    /// `GET /events`
    Events,
    /// `GET /features`
    Features,
    /// `GET /flows`
    Flows,
    /// `GET /health`
    Health,
    /// `GET /health/live`
    Live,
    /// `GET /health/ready`
    Ready,
    /// `GET /metrics`
    Metrics,
    /// `GET /model`
    Model,
    /// `GET /openapi.json`
    OpenApi,
    /// `GET /timeline`
    Timeline,
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
    /// What may be in the query.
    pub parameters: &'static [Parameter],
    /// Shapes of the request's body; none if it is not read.
    pub body: &'static [Media],
    /// Every status of its own, beside [`ANY`].
    pub answers: &'static [Reply],
}

/// A parameter of the query.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its schema in `schemas.json`.
    pub schema: &'static str,
    /// What it is for.
    pub meaning: &'static str,
}

/// A type of content, and the schema of it in `schemas.json`; empty if it has none.
#[derive(Debug)]
pub struct Media(pub &'static str, pub &'static str);

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// When it is given.
    pub when: &'static str,
    /// Its types; none if it has no body.
    pub media: &'static [Media],
}

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const ERROR: &[Media] = &[Media(JSON, "Error")];

const fn ok(when: &'static str, media: &'static [Media]) -> Reply {
    Reply { status: 200, when, media }
}

const fn error(status: u16, when: &'static str) -> Reply {
    Reply { status, when, media: ERROR }
}

const UNCHANGED: Reply = Reply { status: 304, when: "`If-None-Match` names what would be the answer", media: &[] };
const NO_SENSOR: Reply = error(404, "the server watches no interface");
const NO_MODEL: Reply = error(503, "no model is loaded");

/// What every endpoint may answer.
pub const ANY: [Reply; 3] = [
    error(400, "the head is not HTTP, or the body is not what it should be"),
    error(408, "the head, the body or a line of it did not arrive in time"),
    error(431, "the head has too many bytes or fields"),
];
/// What every endpoint may answer that asks for a token.
pub const UNAUTHORIZED: Reply = error(401, "the server asks for a token, and there was none that it accepts");

/// All endpoints.
pub static ROUTES: [Route; 14] = [
    Route {
        method: Method::GET,
        path: "/",
        endpoint: Endpoint::Index,
        summary: "this greeting",
        parameters: &[],
        body: &[],
        answers: &[
            ok("the page for who asks for HTML", &[Media(JSON, "Greeting"), Media("text/html", "Text")]),
            UNCHANGED,
        ],
    },
    Route {
        method: Method::GET,
        path: "/health",
        endpoint: Endpoint::Health,
        summary: "how the server is",
        parameters: &[],
        body: &[],
        answers: &[ok("the process can answer; how it is, is in the body", &[Media(JSON, "Health")])],
    },
    Route {
        method: Method::GET,
        path: "/health/live",
        endpoint: Endpoint::Live,
        summary: "probe: the process answers",
        parameters: &[],
        body: &[],
        answers: &[ok("it does", &[Media(JSON, "Alive")])],
    },
    Route {
        method: Method::GET,
        path: "/health/ready",
        endpoint: Endpoint::Ready,
        summary: "probe: model loaded, capture attached",
        parameters: &[],
        body: &[],
        answers: &[ok("both", &[Media(JSON, "Ready")]), error(503, "what is missing")],
    },
    Route {
        method: Method::GET,
        path: "/model",
        endpoint: Endpoint::Model,
        summary: "the model, and drift of live traffic",
        parameters: &[],
        body: &[],
        answers: &[ok("the model", &[Media(JSON, "Model")]), NO_MODEL],
    },
    Route {
        method: Method::GET,
        path: "/features",
        endpoint: Endpoint::Features,
        summary: "names, units and meaning of the features",
        parameters: &[],
        body: &[],
        answers: &[ok("the table", &[Media(JSON, "Features")]), UNCHANGED],
    },
    Route {
        method: Method::GET,
        path: "/flows",
        endpoint: Endpoint::Flows,
        summary: "the foremost of the open flows",
        parameters: &[
            Parameter {
                name: "by",
                schema: "FlowOrder",
                meaning: "which come first: most packets, most bytes, oldest",
            },
            Parameter { name: "limit", schema: "FlowLimit", meaning: "how many" },
        ],
        body: &[],
        answers: &[
            ok("the flows", &[Media(JSON, "Flows")]),
            NO_SENSOR,
            error(422, "a parameter that makes no sense"),
            error(503, "capture is not attached yet, or the table cannot be read"),
        ],
    },
    Route {
        method: Method::GET,
        path: "/timeline",
        endpoint: Endpoint::Timeline,
        summary: "traffic and verdicts of the last minutes or hours",
        parameters: &[Parameter { name: "seconds", schema: "TimelineSeconds", meaning: "how far back" }],
        body: &[],
        answers: &[
            ok("columns of numbers, the oldest first", &[Media(JSON, "Timeline")]),
            NO_SENSOR,
            error(422, "a parameter that makes no sense"),
            error(503, "capture is not attached yet"),
        ],
    },
    Route {
        method: Method::GET,
        path: "/alerts",
        endpoint: Endpoint::Alerts,
        summary: "what the sensor has found",
        parameters: &[
            Parameter { name: "since", schema: "AlertSince", meaning: "seen then or later" },
            Parameter { name: "label", schema: "AlertLabel", meaning: "the class, or how its name begins" },
            Parameter {
                name: "q",
                schema: "AlertText",
                meaning: "its class, an address, a port or a technique holds this",
            },
            Parameter { name: "severity", schema: "AlertSeverity", meaning: "so grave or graver" },
            Parameter { name: "limit", schema: "AlertLimit", meaning: "how many" },
            Parameter { name: "before", schema: "AlertNumber", meaning: "opened before this alert: `next` of a page" },
            Parameter { name: "merged", schema: "AlertMerged", meaning: "1: those as well that are part of another" },
            Parameter { name: "id", schema: "AlertNumber", meaning: "this alert alone, with its event" },
        ],
        body: &[],
        answers: &[
            ok("alerts, the newest first", &[Media(JSON, "Alerts")]),
            NO_SENSOR,
            error(422, "a parameter that makes no sense"),
            error(429, "too many requests are in flight"),
            error(503, "capture is not attached yet, or the alerts cannot be read"),
        ],
    },
    Route {
        method: Method::GET,
        path: "/events",
        endpoint: Endpoint::Events,
        summary: "what happens, as it happens",
        parameters: &[
            Parameter { name: "types", schema: "EventTypes", meaning: "which events, separated by commas" },
            Parameter { name: "after", schema: "AlertNumber", meaning: "as the header Last-Event-ID: go on after it" },
        ],
        body: &[],
        answers: &[
            ok("server-sent events without end", &[Media("text/event-stream", "Text")]),
            NO_SENSOR,
            error(422, "a parameter that makes no sense"),
            error(429, "too many clients listen"),
            error(503, "capture is not attached yet"),
        ],
    },
    Route {
        method: Method::GET,
        path: "/metrics",
        endpoint: Endpoint::Metrics,
        summary: "metrics for Prometheus",
        parameters: &[],
        body: &[],
        answers: &[
            ok(
                "the numbers, in the format of OpenMetrics for who asks for it",
                &[Media("text/plain", "Text"), Media("application/openmetrics-text", "Text")],
            ),
            Reply { status: 500, when: "they could not be written", media: &[Media("text/plain", "Text")] },
        ],
    },
    Route {
        method: Method::GET,
        path: "/openapi.json",
        endpoint: Endpoint::OpenApi,
        summary: "this API in the words of OpenAPI 3.1",
        parameters: &[],
        body: &[],
        answers: &[ok("the document", &[Media(JSON, "")]), UNCHANGED],
    },
    Route {
        method: Method::POST,
        path: "/predict",
        endpoint: Endpoint::Predict,
        summary: "verdicts on flows",
        parameters: &[Parameter { name: "strict", schema: "Strict", meaning: "1: an absent feature is an error" }],
        body: &[Media(JSON, "Request"), Media(NDJSON, "Lines")],
        answers: &[
            ok("a verdict, verdicts, or a line for each line", &[Media(JSON, "Answer"), Media(NDJSON, "VerdictLines")]),
            error(413, "too many bytes or flows"),
            error(415, "neither JSON nor NDJSON, or compressed"),
            error(422, "JSON but no flow, or a parameter that makes no sense"),
            error(429, "too many requests are in flight"),
            error(500, "the model failed on a valid flow"),
            error(503, "no model is loaded, or the server is about to end"),
        ],
    },
    Route {
        method: Method::POST,
        path: "/model/reload",
        endpoint: Endpoint::Reload,
        summary: "load the model again from its source",
        parameters: &[],
        body: &[],
        answers: &[
            ok("which model was at work and which is", &[Media(JSON, "Reloaded")]),
            error(409, "another reload is going on"),
            error(422, "the model of the source is refused; the old one stays"),
            error(502, "the source cannot be reached or says no; the old one stays"),
            NO_MODEL,
        ],
    },
];
