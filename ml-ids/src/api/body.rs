//! A request's body as bytes: within its size, within its time, and within what all bodies together may take.

use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::{
    HeaderMap,
    body::{Body as _, Bytes, Incoming},
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    error::{ApiError, quoted},
    limits::Limits,
};

/// What a body claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    NdJson,
}

impl Media {
    /// Reads the headers; a missing type is JSON, as scripts with bare HTTP libraries send it.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        if let Some(encoding) = headers.get(CONTENT_ENCODING)
            && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
        {
            return Err(ApiError::MediaType(
                "compressed bodies are not accepted; send it without Content-Encoding".into(),
            ));
        }
        let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Self::Json) };
        let text = value.to_str().unwrap_or("?");
        let essence = text.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/json") || essence.is_empty() {
            Ok(Self::Json)
        } else if essence.eq_ignore_ascii_case("application/x-ndjson") {
            Ok(Self::NdJson)
        } else {
            let found = quoted(essence);
            let detail =
                format!("content type '{found}' is not accepted; send application/json or application/x-ndjson");
            Err(ApiError::MediaType(detail))
        }
    }
}

/// What all bodies together may take. Taken as bytes arrive, so that an announced length alone costs nobody anything.
#[derive(Debug)]
pub(crate) struct BodyBudget(Arc<Semaphore>);

/// The unit of the budget: finer is not worth the atomics.
const BUDGET_UNIT: usize = 1 << 10;

impl BodyBudget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / BUDGET_UNIT).min(Semaphore::MAX_PERMITS))))
    }
}

/// A body in memory; the budget has its bytes back when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Vec<u8>,
    share: Option<OwnedSemaphorePermit>,
}

impl Held {
    fn extend(&mut self, data: &Bytes, budget: &BodyBudget) -> Result<(), ApiError> {
        self.bytes.extend_from_slice(data);
        let units = self.bytes.len().div_ceil(BUDGET_UNIT);
        let missing = units.saturating_sub(self.share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        let missing = u32::try_from(missing).map_err(|_| ApiError::Busy)?;
        let more = budget.0.clone().try_acquire_many_owned(missing).map_err(|_| ApiError::Busy)?;
        match &mut self.share {
            Some(share) => share.merge(more),
            None => self.share = Some(more),
        }
        Ok(())
    }
}

/// Reads the whole body.
pub(crate) async fn read(body: Incoming, limits: &Limits, budget: &BodyBudget) -> Result<Held, ApiError> {
    let limit = limits.body_bytes;
    let too_large = || ApiError::TooLarge(format!("the body is larger than {limit} bytes; split it"));
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut body = body;
    let mut held = Held { bytes: Vec::new(), share: None };
    let all = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| ApiError::Broken(error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            if held.bytes.len().saturating_add(data.len()) > limit {
                return Err(too_large());
            }
            held.extend(&data, budget)?;
        }
        Ok(())
    };
    match tokio::time::timeout(limits.body_timeout, all).await {
        Ok(done) => done.map(|()| held),
        Err(_) => Err(ApiError::SlowBody(limits.body_timeout.as_secs_f64())),
    }
}
