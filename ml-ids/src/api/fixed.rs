//! Answers that are the same for as long as the process runs, so that a client need fetch them once.

use hyper::{
    HeaderMap, StatusCode,
    body::Bytes,
    header::{CACHE_CONTROL, ETAG, HeaderValue, IF_NONE_MATCH},
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{
    answer::{Answer, typed},
    content::Content,
};

/// A JSON document, written once.
#[derive(Debug)]
pub(crate) struct Fixed {
    bytes: Bytes,
    tag: String,
}

impl Fixed {
    pub(crate) fn json(value: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        let digest = Sha256::digest(&bytes);
        let tag = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
        Self { bytes: bytes.into(), tag: format!("\"{tag}\"") }
    }

    /// The document, or 304 for a client that has it.
    pub(crate) fn answer(&self, headers: &HeaderMap) -> Answer {
        let mut answer = if is_known(headers, &self.tag) {
            unchanged()
        } else {
            typed(StatusCode::OK, "application/json", Content::Whole(self.bytes.clone()))
        };
        // It may be kept, but another version of the program may answer next time.
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(tag) = HeaderValue::from_str(&self.tag) {
            answer.headers_mut().insert(ETAG, tag);
        }
        answer
    }
}

/// Whether the client has what has this entity tag.
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let strong = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    known.flat_map(|value| value.split(',')).any(|known| known.trim() == "*" || strong(known.trim()) == strong(tag))
}

/// 304.
pub(super) fn unchanged() -> Answer {
    let mut answer = Answer::new(Content::Whole(Bytes::new()));
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    answer
}
