//! HTTP requests with limits: bytes counted as they come, time for each step and for all, redirects that carry no
//! password along, no plain HTTP over a network unless allowed.
//!
//! The client is ureq: it blocks, as reading a file does, so that one way of loading serves the commands and the sensor.

use std::{
    io::Read as _,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ureq::{
    Agent, Body, Error, Timeout,
    http::{
        HeaderMap, HeaderValue, Response, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION},
    },
    tls::{RootCerts, TlsConfig},
};

use super::error::{Credentials, FetchError, excerpt};
use crate::model::source::{Auth, WebUrl};

/// Most redirects in a row.
const REDIRECTS: u32 = 4;
/// Bytes of an error's body that are read.
const ERROR_BYTES: u64 = 8 << 10;
/// Bytes asked for at once.
const PIECE: usize = 64 << 10;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Finding the host's address and connecting to it.
    pub connect: Duration,
    /// Each wait for further bytes, the head of the answer included.
    pub read: Duration,
    /// One request with its answer, from the first step to the last byte.
    pub total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), read: Duration::from_secs(30), total: Duration::from_secs(600) }
    }
}

/// Told of bytes received so far, and of how many there will be if the server says so.
pub type Progress<'a> = &'a dyn Fn(u64, Option<u64>);

/// A client.
#[derive(Debug)]
pub(super) struct Http {
    /// Through the proxy that the environment names, if any.
    outward: Agent,
    /// For this very host, which no proxy can reach for us.
    inward: Agent,
    insecure: bool,
    patience: Patience,
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Get<'a> {
    pub(super) url: WebUrl,
    pub(super) auth: Option<&'a Auth>,
    /// Further header fields. A redirect is not followed with them.
    pub(super) headers: HeaderMap,
    /// Which credentials are in `headers`.
    pub(super) signed: Credentials,
    /// What the body that is already here had as a mark.
    pub(super) known: Option<&'a str>,
    /// Most bytes of the body.
    pub(super) max_bytes: u64,
}

/// What came back.
#[derive(Debug)]
pub(super) enum Got {
    /// The body with its mark, if the server gave it one.
    Body { bytes: Vec<u8>, mark: Option<String> },
    /// The body is the one that bears the known mark.
    Unchanged,
}

impl Http {
    pub(super) fn new(insecure: bool, patience: Patience) -> Self {
        let config = || {
            let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
            Agent::config_builder()
                .tls_config(tls)
                .user_agent(concat!("ml-ids/", env!("CARGO_PKG_VERSION")))
                // Bodies are counted as they come over the wire.
                .accept_encoding("identity")
                .http_status_as_error(false)
                // Followed in this file, which knows where a password may go.
                .max_redirects(0)
                .max_redirects_will_error(false)
                .timeout_resolve(Some(patience.connect))
                .timeout_connect(Some(patience.connect))
                .timeout_per_read(Some(patience.read))
                .timeout_per_write(Some(patience.read))
                .timeout_recv_response(Some(patience.read))
        };
        Self {
            outward: config().build().new_agent(),
            inward: config().proxy(None).build().new_agent(),
            insecure,
            patience,
        }
    }

    /// Sends the request and reads the body.
    pub(super) fn get(&self, get: &Get<'_>, progress: Progress<'_>) -> Result<Got, FetchError> {
        let end = Instant::now() + self.patience.total;
        let mut url = get.url.clone();
        for _ in 0..=REDIRECTS {
            let same_origin = url.same_origin(&get.url);
            let response = self.send(get, &url, same_origin, end)?;
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return finish(get, &url, same_origin, response, end, progress);
            }
            url = redirect(get, &url, &response)?;
        }
        let target = url.to_string();
        Err(FetchError::Redirect { url: get.url.to_string(), target, reason: "it is one redirect too many" })
    }

    fn send(&self, get: &Get<'_>, url: &WebUrl, same_origin: bool, end: Instant) -> Result<Response<Body>, FetchError> {
        if !(url.is_protected() || self.insecure) {
            return Err(FetchError::PlainHttp(url.to_string()));
        }
        let agent = if url.is_loopback() { &self.inward } else { &self.outward };
        let mut request = agent.get(url.uri()).config().timeout_global(Some(left(end))).build();
        if same_origin {
            for (name, value) in &get.headers {
                request = request.header(name, value);
            }
            if let Some(auth) = get.url.auth().or(get.auth) {
                request = request.header(AUTHORIZATION, authorization(auth, url)?);
            }
        }
        match get.known.and_then(|known| known.split_once(' ')) {
            Some(("etag", value)) => request = request.header(IF_NONE_MATCH, value),
            Some(("date", value)) => request = request.header(IF_MODIFIED_SINCE, value),
            _ => {}
        }
        request.call().map_err(|error| unreachable(url, &error))
    }
}

/// What may still be waited. Never nothing, which would mean for ever.
fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn authorization(auth: &Auth, url: &WebUrl) -> Result<HeaderValue, FetchError> {
    let text = match auth {
        Auth::Basic { user, password } => {
            format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", password.reveal())))
        }
        Auth::Bearer(token) => format!("Bearer {}", token.reveal()),
    };
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| FetchError::garbled(url, "the token holds characters that no HTTP header may hold"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Where the answer leads, if that may be followed.
fn redirect(get: &Get<'_>, url: &WebUrl, response: &Response<Body>) -> Result<WebUrl, FetchError> {
    let refuse = |target: String, reason| FetchError::Redirect { url: url.to_string(), target, reason };
    let location = header(response, LOCATION.as_str()).unwrap_or_default();
    let Ok(target) = url.redirected(location) else {
        return Err(refuse(excerpt(location), "it is no address"));
    };
    if !get.headers.is_empty() {
        return Err(refuse(
            target.to_string(),
            "a signature holds for one address only; check AWS_REGION and the endpoint",
        ));
    }
    if url.uri().scheme_str() == Some("https") && target.uri().scheme_str() != Some("https") {
        return Err(refuse(target.to_string(), "it leads from https to plain HTTP"));
    }
    if url.is_loopback() != target.is_loopback() && target.is_loopback() {
        return Err(refuse(target.to_string(), "it leads from another host to this one"));
    }
    Ok(target)
}

/// Reads the answer that is no redirect.
fn finish(
    get: &Get<'_>,
    url: &WebUrl,
    same_origin: bool,
    response: Response<Body>,
    end: Instant,
    progress: Progress<'_>,
) -> Result<Got, FetchError> {
    let status = response.status();
    if status == StatusCode::NOT_MODIFIED && get.known.is_some() {
        return Ok(Got::Unchanged);
    }
    if status != StatusCode::OK {
        let mut words = Vec::new();
        // What can be read of it is shown; that it broke off matters less than the status.
        let _ = response.into_body().into_reader().take(ERROR_BYTES).read_to_end(&mut words);
        let signed = match get.signed {
            Credentials::None if same_origin => match get.url.auth().or(get.auth) {
                Some(Auth::Basic { .. }) => Credentials::Password,
                Some(Auth::Bearer(_)) => Credentials::Token,
                None => Credentials::None,
            },
            signed => signed,
        };
        let detail = words_of(&String::from_utf8_lossy(&words));
        return Err(FetchError::Status { url: url.to_string(), status: status.as_u16(), detail, signed });
    }
    let mark = header(&response, ETAG.as_str())
        .map(|tag| format!("etag {tag}"))
        .or_else(|| header(&response, LAST_MODIFIED.as_str()).map(|date| format!("date {date}")));
    // S3's lookalikes do not all know If-None-Match, but they give the same ETag for the same object.
    if mark.is_some() && mark.as_deref() == get.known && get.known.is_some_and(|known| known.starts_with("etag \"")) {
        return Ok(Got::Unchanged);
    }
    if header(&response, CONTENT_TYPE.as_str()).is_some_and(|media| media.starts_with("text/html")) {
        return Err(FetchError::Page { url: url.to_string() });
    }
    let bytes = body(url, response.into_body(), get.max_bytes, end, progress)?;
    Ok(Got::Body { bytes, mark })
}

/// Reads a body of at most `max_bytes`, whatever length it claims to have.
fn body(url: &WebUrl, body: Body, max_bytes: u64, end: Instant, progress: Progress<'_>) -> Result<Vec<u8>, FetchError> {
    let too_large = || FetchError::TooLarge { url: url.to_string(), limit: max_bytes };
    let broken = |reason: String| FetchError::Unreachable { url: url.to_string(), reason };
    let claimed = body.content_length();
    if claimed.is_some_and(|claimed| claimed > max_bytes) {
        return Err(too_large());
    }
    let (mut reader, mut bytes) = (body.into_reader(), Vec::new());
    let mut piece = vec![0; PIECE];
    loop {
        let read = reader.read(&mut piece).map_err(|error| broken(format!("the answer broke off: {error}")))?;
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(piece.get(..read).unwrap_or_default());
        if bytes.len() as u64 > max_bytes {
            return Err(too_large());
        }
        if Instant::now() > end {
            return Err(broken("the answer takes too long".to_owned()));
        }
        progress(bytes.len() as u64, claimed);
    }
    match claimed {
        Some(claimed) if claimed != bytes.len() as u64 => {
            Err(broken(format!("the answer has {} bytes where {claimed} were announced", bytes.len())))
        }
        _ => Ok(bytes),
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// The part of an error's body that is for people: MLflow says it in JSON, S3 in XML.
fn words_of(text: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(text).ok();
    if let Some(message) = json.as_ref().and_then(|json| json.get("message")).and_then(serde_json::Value::as_str) {
        return excerpt(message);
    }
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0)
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => excerpt(&format!("{code}: {message}")),
        (Some(code), None) => excerpt(code),
        _ if text.trim_start().starts_with('<') => String::new(),
        _ => excerpt(text),
    }
}

fn unreachable(url: &WebUrl, error: &Error) -> FetchError {
    let reason = match error {
        Error::Timeout(Timeout::Resolve) => "its name is not resolved in time".to_owned(),
        Error::Timeout(Timeout::Connect) => "it does not accept the connection in time".to_owned(),
        Error::Timeout(_) => "it does not answer in time".to_owned(),
        Error::HostNotFound => "there is no such host".to_owned(),
        error => error.to_string(),
    };
    FetchError::Unreachable { url: url.to_string(), reason: excerpt(&reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_for_people_are_found_in_json_and_xml_and_not_in_pages() {
        assert_eq!(words_of(r#"{"error_code":"X","message":"no such\nalias"}"#), "no such alias");
        assert_eq!(words_of("<Error><Code>AccessDenied</Code><Message>no</Message></Error>"), "AccessDenied: no");
        assert_eq!(words_of("<Error><Code>NoSuchKey</Code></Error>"), "NoSuchKey");
        assert_eq!(words_of("<html><body>Bad Gateway</body></html>"), "");
        assert_eq!(words_of("plain"), "plain");
    }
}
