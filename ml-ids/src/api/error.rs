//! What goes wrong between a client and an answer, with the status each fault has.

use hyper::{
    StatusCode,
    header::{self, HeaderValue},
};
use serde::Serialize;

use super::{
    answer::{Answer, json},
    limits::{QUOTED_CHARACTERS, RETRY_AFTER},
    requests::Refusal,
};

/// A head that hyper cannot read, and answers itself.
pub(crate) const BAD_HEAD: Refusal = Refusal("bad_head");
/// A head that began and did not end in time.
pub(crate) const SLOW_HEAD: Refusal = Refusal("slow_head");
/// An answer that its client did not read.
pub(crate) const UNREAD: Refusal = Refusal("unread");

/// Why a request may be refused, as metrics say it: all that [`ApiError::reason`] answers, and the three above.
pub(crate) const REFUSALS: [&str; 25] = [
    "not_json",
    "broken",
    "fault",
    "query",
    "too_large",
    "slow_body",
    "media_type",
    "unauthorized",
    "not_found",
    "method",
    "reloading",
    "source",
    "model_refused",
    "busy",
    "no_model",
    "model_failed",
    "no_capture",
    "not_capturing",
    "table",
    "archive",
    "silent_body",
    "stopping",
    BAD_HEAD.0,
    SLOW_HEAD.0,
    UNREAD.0,
];

/// A request that gets no answer but a reason. The text is what the client reads as `detail`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// 400: the body is not JSON.
    #[error("{0}")]
    NotJson(String),
    /// 400: the body broke off or is framed wrongly.
    #[error("the request body could not be read: {0}; send it again")]
    Broken(String),
    /// 422: JSON, but not flows.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// 422: a query parameter that makes no sense.
    #[error("{0}")]
    Query(String),
    /// 413: more bytes or rows than are accepted.
    #[error("{0}")]
    TooLarge(String),
    /// 408: a stream of lines in which nothing came for too long.
    #[error("no line came for {0} seconds; send lines as they come, and end the body when there are no more")]
    SilentBody(f64),
    /// 408: the body, or a line of it, took too long.
    #[error(
        "the request body, or a line of NDJSON, did not arrive within {0} seconds; send it faster, or in smaller parts"
    )]
    SlowBody(f64),
    /// 415: a type or encoding that is not understood.
    #[error("{0}")]
    MediaType(String),
    /// 401: no token, or none that is accepted.
    #[error("send 'Authorization: Bearer TOKEN' with a token that this server accepts")]
    Unauthorized,
    /// 404: no such path.
    #[error("there is nothing at {0}; see GET / for what there is")]
    NotFound(String),
    /// 405: the path exists, the method does not.
    #[error("this path answers {0} only")]
    Method(String),
    /// 409: another reload is going on.
    #[error("the model is being loaded already; ask again when that is done")]
    Reloading,
    /// 502: the model's source cannot be reached or says no.
    #[error("{0}; the model at work stays")]
    Source(String),
    /// 422: the model of the source is refused.
    #[error("{0}; the model at work stays")]
    Refused(String),
    /// 429: all places are taken.
    #[error("too many requests in flight; try again later")]
    Busy,
    /// 404: live flows or alerts of a server that sees no traffic.
    #[error("this server watches no interface, so it has no flows and no alerts; `ml-ids run` has")]
    NoCapture,
    /// 503: live flows or alerts before the sensor has started.
    #[error("capture is not attached yet; see GET /health")]
    NotCapturing,
    /// 503: the kernel's table cannot be read.
    #[error("the flow table cannot be read: {0}; ask again, and look at GET /health")]
    Table(String),
    /// 503: the file that alerts are kept in.
    #[error("the alerts cannot be read: {0}; ask again, and look at the sensor's log")]
    Archive(String),
    /// 503: nothing to score with.
    #[error("no model is loaded; see GET /health")]
    NoModel,
    /// 503: the server is about to end.
    #[error("the server is shutting down; ask again when it is back")]
    Stopping,
    /// 500: the model failed on a valid row.
    #[error("the model failed: {0}; look at the server's log, and load another model if it fails again")]
    Model(String),
}

/// A flow that cannot be scored, and what in it is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", prefix(*.row, .field.as_deref()))]
pub(crate) struct Fault {
    /// Which flow of the request, from 0.
    pub(crate) row: usize,
    /// Which field, in the client's own words.
    pub(crate) field: Option<String>,
    /// What is wrong with it.
    pub(crate) problem: String,
}

fn prefix(row: usize, field: Option<&str>) -> String {
    match field {
        Some(field) => format!("row {row}, field '{field}': "),
        None => format!("row {row}: "),
    }
}

/// The client's own words, cut to a length that is fit for an error.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The body of every error.
#[derive(Serialize)]
pub(crate) struct Detail {
    /// For people.
    pub(crate) detail: String,
    /// The offending field, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
    /// The offending flow, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) row: Option<usize>,
    /// In the last line of an answer that ends before its time: the status that it would have had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
}

impl Detail {
    /// Of a line of NDJSON, whose number is known whatever is wrong with it.
    pub(crate) fn of_row(mut self, row: usize) -> Self {
        self.row = Some(row);
        self
    }
}

impl ApiError {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotJson(_) | Self::Broken(_) => StatusCode::BAD_REQUEST,
            Self::Fault(_) | Self::Query(_) | Self::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlowBody(_) | Self::SilentBody(_) => StatusCode::REQUEST_TIMEOUT,
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound(_) | Self::NoCapture => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Reloading => StatusCode::CONFLICT,
            Self::Source(_) => StatusCode::BAD_GATEWAY,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::NoModel | Self::NotCapturing | Self::Table(_) | Self::Stopping | Self::Archive(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Model(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The reason in a word; one of [`REFUSALS`].
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "not_json",
            Self::Broken(_) => "broken",
            Self::Fault(_) => "fault",
            Self::Query(_) => "query",
            Self::TooLarge(_) => "too_large",
            Self::SlowBody(_) => "slow_body",
            Self::MediaType(_) => "media_type",
            Self::Unauthorized => "unauthorized",
            Self::NotFound(_) => "not_found",
            Self::Method(_) => "method",
            Self::Reloading => "reloading",
            Self::Source(_) => "source",
            Self::Refused(_) => "model_refused",
            Self::Busy => "busy",
            Self::NoModel => "no_model",
            Self::Model(_) => "model_failed",
            Self::NoCapture => "no_capture",
            Self::NotCapturing => "not_capturing",
            Self::Table(_) => "table",
            Self::Archive(_) => "archive",
            Self::SilentBody(_) => "silent_body",
            Self::Stopping => "stopping",
        }
    }

    pub(crate) fn detail(&self) -> Detail {
        let (row, field) = match self {
            Self::Fault(fault) => (Some(fault.row), fault.field.clone()),
            _ => (None, None),
        };
        Detail { detail: self.to_string(), field, row, status: None }
    }

    /// The last line of an answer that ends before the line `row` was judged.
    pub(crate) fn last_line(&self, row: usize) -> Detail {
        Detail { status: Some(self.status().as_u16()), ..self.detail().of_row(row) }
    }

    pub(crate) fn into_response(self) -> Answer {
        let mut response = json(self.status(), &self.detail());
        response.extensions_mut().insert(Refusal(self.reason()));
        let headers = response.headers_mut();
        match self {
            Self::Method(allow) => {
                if let Ok(allow) = HeaderValue::from_str(&allow) {
                    headers.insert(header::ALLOW, allow);
                }
            }
            Self::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::Busy | Self::NoModel | Self::NotCapturing | Self::Table(_) | Self::Archive(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER.as_secs()));
            }
            // What is left of the body cannot be told from a next request, or is not worth reading.
            Self::SlowBody(_) | Self::SilentBody(_) | Self::TooLarge(_) | Self::Broken(_) | Self::Stopping => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_reason_that_is_counted() {
        let page = include_str!("../../../docs/API.md");
        let row = page.lines().find(|line| line.contains("ml_ids_api_refused_requests_total")).unwrap();
        let named: Vec<&str> = row.split('`').skip(3).step_by(2).collect();
        assert_eq!(named, REFUSALS);
    }
}
