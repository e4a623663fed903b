//! The query string of `POST /predict`.

use super::error::{ApiError, quoted};

/// What a client may ask for beside the flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `?strict=1`: an absent feature is an error, not 0.
    pub(crate) strict: bool,
}

impl Options {
    /// Reads the query string; unknown parameters are ignored, as unknown keys of the body are.
    pub(crate) fn from_query(query: Option<&str>) -> Result<Self, ApiError> {
        let mut options = Self::default();
        for pair in query.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, "1"));
            if name == "strict" {
                options.strict = match value {
                    "1" | "true" => true,
                    "0" | "false" => false,
                    other => {
                        let found = quoted(other);
                        return Err(ApiError::Query(format!("strict is '{found}'; use strict=1 or strict=0")));
                    }
                };
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_is_on_only_when_asked_for() {
        let strict = |query| Options::from_query(query).map(|options| options.strict).ok();
        assert_eq!(strict(None), Some(false));
        assert_eq!(strict(Some("strict=1")), Some(true));
        assert_eq!(strict(Some("a=b&strict")), Some(true));
        assert_eq!(strict(Some("strict=false&x")), Some(false));
        assert_eq!(strict(Some("strict=yes")), None);
    }
}
