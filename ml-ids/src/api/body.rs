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

/// What one body has taken of the budget, given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Share(Option<OwnedSemaphorePermit>);

impl Share {
    /// Takes as much as this many bytes need, if it is more than it has.
    pub(crate) fn grow_to(&mut self, bytes: usize, budget: &BodyBudget) -> Result<(), ApiError> {
        let missing = bytes.div_ceil(BUDGET_UNIT).saturating_sub(self.units());
        let missing = u32::try_from(missing).map_err(|_| ApiError::Busy)?;
        let more = budget.0.clone().try_acquire_many_owned(missing).map_err(|_| ApiError::Busy)?;
        match &mut self.0 {
            Some(share) => share.merge(more),
            None => self.0 = Some(more),
        }
        Ok(())
    }

    /// Splits off what this many bytes do not need.
    pub(crate) fn shrink_to(&mut self, bytes: usize) -> Self {
        let more = self.units().saturating_sub(bytes.div_ceil(BUDGET_UNIT));
        Self(self.0.as_mut().and_then(|share| share.split(more)))
    }

    fn units(&self) -> usize {
        self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

/// A body, or a part of one, in memory.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) bytes: Vec<u8>,
    /// Taken for as long as the bytes are there.
    pub(crate) share: Share,
}

impl Held {
    fn extend(&mut self, data: &Bytes, budget: &BodyBudget) -> Result<(), ApiError> {
        self.share.grow_to(self.bytes.len().saturating_add(data.len()), budget)?;
        self.bytes.extend_from_slice(data);
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
    let mut held = Held::default();
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
