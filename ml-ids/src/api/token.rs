//! Bearer tokens: read from a file, one a line, so that an old one and a new one hold side by side while clients change over.
//!
//! What is kept is the SHA-256 of each. An offered token is hashed, too, and compared with all of them in constant time:
//! neither its length nor how far it agrees, nor with which line, shows in the time that an answer takes.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use hyper::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::limits::{TOKEN_BYTES, TOKENS};

/// Shorter ones can be guessed; they are warned of.
const SHORT: usize = 16;

/// Why a file gives no tokens. Nothing of its content is in the message.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("token file {path} cannot be read: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds something else.
    #[error("token file {path} {problem}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
}

/// The tokens of a file, as last read.
#[derive(Debug)]
pub(super) struct Tokens {
    file: PathBuf,
    digests: RwLock<Vec<[u8; 32]>>,
}

impl Tokens {
    /// Reads the file.
    pub(super) fn load(file: &Path) -> Result<Self, TokenError> {
        Ok(Self { digests: RwLock::new(read(file)?), file: file.to_owned() })
    }

    /// Reads the file again; the tokens before stay if it has none. Returns how many there are now.
    pub(super) fn reload(&self) -> Result<usize, TokenError> {
        let digests = read(&self.file)?;
        let count = digests.len();
        *self.digests.write().unwrap_or_else(PoisonError::into_inner) = digests;
        Ok(count)
    }

    /// Whether the request carries one of them. One `Authorization` field only: two could mean two things to two readers.
    pub(super) fn admit(&self, headers: &HeaderMap) -> bool {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else { return false };
        bearer(field.as_bytes()).is_some_and(|token| self.holds(token))
    }

    fn holds(&self, token: &[u8]) -> bool {
        let offered: [u8; 32] = Sha256::digest(token).into();
        let digests = self.digests.read().unwrap_or_else(PoisonError::into_inner);
        let found = digests.iter().fold(Choice::from(0), |found, digest| found | digest.ct_eq(&offered));
        found.into()
    }
}

/// What stands behind `Bearer `, in any case.
fn bearer(field: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = field.split_at(field.iter().position(|byte| *byte == b' ')?);
    scheme.eq_ignore_ascii_case(b"bearer").then(|| token.trim_ascii())
}

fn read(path: &Path) -> Result<Vec<[u8; 32]>, TokenError> {
    let failed = |source| TokenError::Read { path: path.to_owned(), source };
    let wrong = |problem: String| TokenError::Content { path: path.to_owned(), problem };
    // A pipe or a device would make the start wait, and could not be read again.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(wrong("is no regular file".to_owned()));
    }
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode();
    let mut text = String::new();
    file.take(TOKEN_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > TOKEN_BYTES {
        return Err(wrong(format!("is larger than {TOKEN_BYTES} bytes; it should hold one token a line")));
    }
    if mode & 0o007 != 0 {
        log::warn!("token file {} is open to every user of this host; chmod o= it", path.display());
    }
    let mut digests = Vec::new();
    for (number, line) in (1..).zip(text.lines()).map(|(number, line)| (number, line.trim())) {
        if line.is_empty() {
            continue;
        }
        if !line.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong(format!(
                "has blanks or other than ASCII characters within line {number}; one token a line"
            )));
        }
        if line.len() < SHORT {
            log::warn!(
                "the token in line {number} of {} is short; make one with `openssl rand -hex 32`",
                path.display()
            );
        }
        digests.push(Sha256::digest(line).into());
    }
    if digests.is_empty() {
        return Err(wrong("holds no token; make one with `openssl rand -hex 32`".to_owned()));
    }
    if digests.len() > TOKENS {
        return Err(wrong(format!("holds more than {TOKENS} tokens; remove those that nobody uses")));
    }
    Ok(digests)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use hyper::header::HeaderValue;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, text).unwrap();
        file
    }

    fn with(fields: &[&'static str]) -> HeaderMap {
        fields.iter().map(|field| (AUTHORIZATION, HeaderValue::from_static(field))).collect()
    }

    #[test]
    fn each_line_is_a_token_and_nothing_else_is() {
        let file = file("  first-token \r\n\nsecond-token\n");
        let tokens = Tokens::load(file.path()).unwrap();
        for good in ["Bearer first-token", "bearer second-token", "BEARER   first-token "] {
            assert!(tokens.admit(&with(&[good])), "{good}");
        }
        for bad in [
            "Bearer ",
            "Bearer",
            "",
            "first-token",
            "Bearer first-toke",
            "Bearer first-token2",
            "Basic first-token",
            "Bearer first-token second-token",
            "Bearer first-token,second-token",
            "Bearer\tfirst-token",
        ] {
            assert!(!tokens.admit(&with(&[bad])), "{bad}");
        }
        assert!(!tokens.admit(&with(&[])));
        assert!(!tokens.admit(&with(&["Bearer first-token", "Bearer first-token"])), "two fields");
    }

    #[test]
    fn a_file_that_is_read_again_changes_the_tokens_and_one_without_any_does_not() {
        let file = file("old\n");
        let tokens = Tokens::load(file.path()).unwrap();
        fs::write(&file, "old\nnew\n").unwrap();
        assert_eq!(tokens.reload().unwrap(), 2);
        assert!(tokens.admit(&with(&["Bearer old"])) && tokens.admit(&with(&["Bearer new"])));
        fs::write(&file, "new\n").unwrap();
        tokens.reload().unwrap();
        assert!(!tokens.admit(&with(&["Bearer old"])));
        fs::write(&file, "\n \n").unwrap();
        assert!(tokens.reload().is_err());
        assert!(tokens.admit(&with(&["Bearer new"])));
    }

    #[test]
    fn files_without_tokens_are_refused_without_showing_what_is_in_them() {
        let many: String = (0..=TOKENS).map(|number| format!("token-{number}\n")).collect();
        let large = "x".repeat(TOKEN_BYTES as usize + 1);
        for (text, reason) in [
            ("", "no token"),
            (" \n\t\n", "no token"),
            ("secret one\n", "line 1"),
            ("fine\nsecret\u{fc}\n", "line 2"),
            (&many, "more than"),
            (&large, "larger than"),
        ] {
            let error = Tokens::load(file(text).path()).unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains("secret"), "{error}");
        }
        assert!(Tokens::load(Path::new("/nonexistent/token")).unwrap_err().to_string().contains("/nonexistent/token"));
        assert!(Tokens::load(Path::new("/dev/zero")).unwrap_err().to_string().contains("no regular file"));
    }
}
