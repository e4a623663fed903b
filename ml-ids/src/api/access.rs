//! Who may talk to the API, and over what: tokens and TLS together, what was refused, and what is wrong with the files.
//!
//! Without a token everything is open, as clients of the old server expect. With one, only `/health/live` and
//! `/health/ready` are: probes of an orchestrator carry no secrets, and the two say no more than what is missing.

use std::{
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use hyper::HeaderMap;
use serde::Serialize;
use tokio_rustls::TlsAcceptor;

use super::{
    error::ApiError,
    tls::{Tls, TlsError},
    token::{TokenError, Tokens},
};

/// What answers without a token.
const OPEN: [&str; 2] = ["/health/live", "/health/ready"];

/// Whether a path answers without a token.
pub(super) fn is_open(path: &str) -> bool {
    OPEN.contains(&path)
}

/// The files that say who may talk to the API.
#[derive(Clone, Debug, Default)]
pub struct AccessFiles {
    /// Tokens, one a line; without it nobody is asked for one.
    pub tokens: Option<PathBuf>,
    /// Certificate chain and key, PEM; without it connections are not encrypted.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The tokens.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The tokens and the certificate at work. The default is open to everyone.
#[derive(Debug, Default)]
pub struct Access {
    tokens: Option<Tokens>,
    tls: Option<Tls>,
    /// What went wrong at the last reload, in words.
    problems: Mutex<Vec<String>>,
    unauthorized: AtomicU64,
    handshakes_failed: AtomicU64,
    handshakes_slow: AtomicU64,
}

/// What `GET /health` says of it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct AccessHealth {
    /// Whether a token is asked for.
    pub token: bool,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// Requests without a token that is accepted.
    pub unauthorized: u64,
    /// TLS handshakes that failed.
    pub handshakes_failed: u64,
    /// TLS handshakes that took too long.
    pub handshakes_slow: u64,
}

impl Access {
    /// Reads the files.
    ///
    /// # Errors
    /// Which one cannot be used, and why.
    pub fn load(files: &AccessFiles) -> Result<Self, AccessError> {
        let tokens = files.tokens.as_deref().map(Tokens::load).transpose()?;
        let tls = files.tls.as_ref().map(|(certificate, key)| Tls::load(certificate, key)).transpose()?;
        Ok(Self { tokens, tls, ..Self::default() })
    }

    /// Reads the files again. What is no longer fit is logged and shown in `GET /health`, and what was read before stays.
    pub fn reload(&self) {
        let mut problems = Vec::new();
        match self.tokens.as_ref().map(Tokens::reload) {
            Some(Ok(count)) => log::info!("{count} tokens are accepted"),
            Some(Err(error)) => problems.push(format!("{error}; the tokens before stay")),
            None => {}
        }
        match self.tls.as_ref().map(Tls::reload) {
            Some(Ok(())) => log::info!("certificate and key are read again"),
            Some(Err(error)) => problems.push(format!("{error}; the certificate before stays")),
            None => {}
        }
        for problem in &problems {
            log::error!("{problem}");
        }
        *self.problems.lock().unwrap_or_else(PoisonError::into_inner) = problems;
    }

    /// Lets a request pass, or not.
    pub(super) fn admit(&self, path: &str, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(tokens) = &self.tokens else { return Ok(()) };
        if is_open(path) || tokens.admit(headers) {
            return Ok(());
        }
        self.unauthorized.fetch_add(1, Ordering::Relaxed);
        Err(ApiError::Unauthorized)
    }

    /// What opens the next connection; `None` if it is not encrypted.
    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.tls.as_ref().map(Tls::acceptor)
    }

    pub(super) fn count_failed_handshake(&self) {
        self.handshakes_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_slow_handshake(&self) {
        self.handshakes_slow.fetch_add(1, Ordering::Relaxed);
    }

    /// What is wrong with the files, in words; empty if nothing is.
    pub(super) fn problems(&self) -> Vec<String> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn health(&self) -> AccessHealth {
        AccessHealth {
            token: self.tokens.is_some(),
            tls: self.tls.is_some(),
            unauthorized: self.unauthorized.load(Ordering::Relaxed),
            handshakes_failed: self.handshakes_failed.load(Ordering::Relaxed),
            handshakes_slow: self.handshakes_slow.load(Ordering::Relaxed),
        }
    }
}
