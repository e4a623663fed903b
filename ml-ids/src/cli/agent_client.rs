//! What every command does that asks a running agent: how it connects, and how it shows a token.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    time::Duration,
};

use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig},
};

use crate::model::WebUrl;

/// Largest token file, in bytes.
const TOKEN_BYTES: u64 = 64 << 10;

/// Why no token can be shown. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    /// Anybody on the way could read it.
    #[error("a token would go there in the clear; use https://")]
    InTheClear,
    /// The file.
    #[error("cannot read the token file {path}: {reason}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why not.
        reason: String,
    },
    /// What it holds.
    #[error(
        "the token file {0} holds no token of visible ASCII characters; it should hold one in its first line and at most \
         {TOKEN_BYTES} bytes"
    )]
    NoToken(String),
}

/// A client of the agent at this address that waits for `patience` at most. Redirections are not followed, so that a token
/// goes nowhere else.
pub(super) fn client(url: &WebUrl, patience: Duration, insecure: bool) -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).disable_verification(insecure).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .user_agent(concat!("ml-ids/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(patience));
    // No proxy reaches this very host for us.
    let config = if url.is_loopback() { config.proxy(None) } else { config };
    config.build().new_agent()
}

/// The `authorization` header that shows the token in a file, its first line, to the agent at this address.
///
/// # Errors
/// When others could read it on its way there, or the file has none.
pub(super) fn bearer(file: &Path, url: &WebUrl) -> Result<String, TokenError> {
    if !url.is_protected() {
        return Err(TokenError::InTheClear);
    }
    let path = || file.display().to_string();
    let bytes = read(file).map_err(|error| TokenError::Unreadable { path: path(), reason: error.to_string() })?;
    let text = str::from_utf8(&bytes).ok().filter(|_| bytes.len() as u64 <= TOKEN_BYTES);
    let token = text.and_then(|text| text.lines().map(str::trim).find(|line| !line.is_empty()));
    match token {
        Some(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(format!("Bearer {token}")),
        _ => Err(TokenError::NoToken(path())),
    }
}

/// At most a byte more than a token file may have.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(TOKEN_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn shown(content: &[u8]) -> Result<String, TokenError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        bearer(file.path(), &"http://127.0.0.1:8000".parse().unwrap())
    }

    #[test]
    fn a_token_goes_to_this_host_or_is_encrypted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "a-token\n").unwrap();
        for (url, expected) in [
            ("http://192.0.2.1:8000", Err(TokenError::InTheClear)),
            ("http://sensor.example", Err(TokenError::InTheClear)),
            ("https://sensor.example", Ok("Bearer a-token".to_owned())),
            ("http://localhost:8000", Ok("Bearer a-token".to_owned())),
        ] {
            assert_eq!(bearer(file.path(), &url.parse().unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn the_first_line_of_a_token_file_counts() {
        assert_eq!(shown(b"\n a-token \nanother\n").unwrap(), "Bearer a-token");
        let too_long = vec![b'x'; TOKEN_BYTES as usize + 1];
        for wrong in [&b""[..], "schl\u{fc}ssel".as_bytes(), b"two words", b"\xff", &too_long] {
            assert!(matches!(shown(wrong), Err(TokenError::NoToken(_))));
        }
        let missing = bearer(Path::new("/nowhere/token"), &"https://sensor.example".parse().unwrap()).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/token"), "{missing}");
    }
}
