//! Why a model could not be fetched, in words that tell whom to ask.

use thiserror::Error;

use crate::model::source::{SourceError, WebUrl};

/// Longest excerpt of a server's own words, in characters.
const QUOTED: usize = 300;

/// Why a model could not be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The source itself cannot be understood, or the file not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No answer, or one that broke off.
    #[error("{url} cannot be reached: {reason}; is the server up, and is that its address?")]
    Unreachable {
        /// Where the request went.
        url: String,
        /// What happened.
        reason: String,
    },
    /// An answer that says no.
    #[error("{url} answers {status}{}{}", quoted(.detail), advice(*.status, .signed))]
    Status {
        /// Where the request went.
        url: String,
        /// The status.
        status: u16,
        /// The server's own words.
        detail: String,
        /// Which credentials were sent.
        signed: Credentials,
    },
    /// It is larger than allowed.
    #[error("the model at {url} is larger than the limit of {limit} bytes (--model-max-bytes)")]
    TooLarge {
        /// Where it lies.
        url: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A page for people where a model should be.
    #[error(
        "{url} answers with a web page instead of a model; is it behind a login, or the address of a page about it?"
    )]
    Page {
        /// Where the request went.
        url: String,
    },
    /// What came back is not what the protocol says.
    #[error("{url} answers with something that is not understood: {reason}")]
    Garbled {
        /// Where the request went.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A redirect that is not followed.
    #[error("{url} redirects to {target}, which is not followed: {reason}")]
    Redirect {
        /// Where the request went.
        url: String,
        /// Where it should go on to.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// Plain HTTP over a network.
    #[error(
        "{0} is plain HTTP to another host, where anyone on the way can read passwords and change the model; use https, \
         or allow it with --model-insecure-http if the network is trusted"
    )]
    PlainHttp(String),
    /// A registered model, and no registry.
    #[error(
        "no MLflow server is named; set MLFLOW_TRACKING_URI or --mlflow-tracking-uri, for example http://127.0.0.1:5000"
    )]
    NoRegistry,
    /// The registry knows the model but no such version.
    #[error("model `{name}` has no version {wanted}; the registry has {found}")]
    NoVersion {
        /// The model's name.
        name: String,
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// The version cannot be used.
    #[error("version {version} of model `{name}` {reason}")]
    Version {
        /// The model's name.
        name: String,
        /// The version's number.
        version: String,
        /// Why not.
        reason: String,
    },
    /// The request could not be signed.
    #[error("the request to S3 cannot be signed: {0}")]
    Signing(String),
}

/// Which credentials went with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// None.
    None,
    /// Name and password.
    Password,
    /// A token.
    Token,
    /// A signature with an AWS key.
    Signature,
    /// None, where a signature with an AWS key is usual.
    Unsigned,
}

impl FetchError {
    /// Whether it may be better in a while: the server is away or overloaded, rather than that it said no.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Garbled answer of `url`.
    pub(super) fn garbled(url: &WebUrl, reason: impl Into<String>) -> Self {
        Self::Garbled { url: url.to_string(), reason: reason.into() }
    }
}

/// A server's own words: one line of bounded length without control characters.
pub(super) fn excerpt(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut clean: String = words.chars().filter(|letter| !letter.is_control()).take(QUOTED).collect();
    if words.chars().count() > QUOTED {
        clean.push('…');
    }
    clean
}

fn quoted(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

fn advice(status: u16, sent: &Credentials) -> &'static str {
    match (status, sent) {
        (401 | 403, Credentials::Signature) => {
            "; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and what the key may read"
        }
        (401 | 403, Credentials::Unsigned) => "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        (401, Credentials::Password) => {
            "; the user name or password is wrong: check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or the address"
        }
        (401, Credentials::Token) => "; the token is wrong: check MLFLOW_TRACKING_TOKEN",
        (401, Credentials::None) => {
            "; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        }
        (403, Credentials::Password | Credentials::Token) => {
            "; this user may not read the model, or the server does not expect this host name"
        }
        (400 | 404, _) => "; check the name, the alias or version, and the server's address",
        (500.., _) => "; the server has a fault of its own, its log says which",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_words_are_one_short_line() {
        assert_eq!(excerpt(" a\n\tb \u{1b}[31mc "), "a b [31mc");
        let long = excerpt(&"x".repeat(1000));
        assert_eq!((long.chars().count(), long.chars().last()), (QUOTED + 1, Some('…')));
    }

    #[test]
    fn only_what_may_pass_by_itself_counts_as_away() {
        let status = |status| FetchError::Status {
            url: String::new(),
            status,
            detail: String::new(),
            signed: Credentials::Password,
        };
        assert!(status(503).is_away() && status(429).is_away());
        assert!(!status(401).is_away() && !status(404).is_away() && !FetchError::NoRegistry.is_away());
    }
}
