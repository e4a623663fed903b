//! TLS: a certificate chain and its key from PEM files, checked against each other before anything is served with them, and
//! read again while connections go on with the ones they began with.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ALL_VERSIONS, Error, InconsistentKeys, ServerConfig,
        crypto::ring,
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{self, PemObject as _},
        },
    },
};

use super::limits::PEM_BYTES;

/// The one protocol that is spoken inside.
const HTTP_1_1: &[u8] = b"http/1.1";

/// Why nothing can be served with these files. Nothing of a key is in the message.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{path} {problem}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// Each is fine, but they do not belong together.
    #[error(
        "the key in {key} is not that of the first certificate in {certificate}; name the two that belong together"
    )]
    Mismatch {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// TLS cannot work with them.
    #[error("the certificate in {certificate} and the key in {key} cannot be used: {reason}")]
    Unfit {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// What the TLS library said.
        reason: Error,
    },
}

/// What connections are opened with, as last read.
#[derive(Debug)]
pub(super) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    pub(super) fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let config = RwLock::new(read(certificate, key)?);
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), config })
    }

    /// Reads the files again, for connections to come; what was read before stays if they are not fit.
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        let config = read(&self.certificate, &self.key)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// What opens the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = chain(certificate)?;
    let secret = secret(key)?;
    let unfit = |reason| TlsError::Unfit { certificate: certificate.to_owned(), key: key.to_owned(), reason };
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(ALL_VERSIONS)
        .map_err(unfit)?
        .with_no_client_auth();
    let mut config = builder.with_single_cert(chain, secret).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() }
        }
        reason => unfit(reason),
    })?;
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let (text, _) = text(path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(no_pem(path))?;
    if chain.is_empty() {
        return Err(content(
            path,
            "holds no certificate; it should have the server's own first, then those that vouch for it, in PEM",
        ));
    }
    Ok(chain)
}

fn secret(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let (text, mode) = text(path)?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound if contains(&text, b"ENCRYPTED PRIVATE KEY") => content(
            path,
            "holds a key behind a passphrase, which nobody could type at a start; take it off with `openssl pkey`",
        ),
        pem::Error::NoItemsFound => content(path, "holds no private key in PEM"),
        error => no_pem(path)(error),
    })?;
    if mode & 0o007 != 0 {
        log::warn!("the key in {} is open to every user of this host; chmod o= it", path.display());
    }
    Ok(key)
}

/// A file within the limit, and its mode.
fn text(path: &Path) -> Result<(Vec<u8>, u32), TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    // A pipe or a device would make the start wait, and could not be read again.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(content(path, "is no regular file"));
    }
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode();
    let mut text = Vec::new();
    file.take(PEM_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > PEM_BYTES {
        return Err(content(path, &format!("is larger than {PEM_BYTES} bytes")));
    }
    Ok((text, mode))
}

fn content(path: &Path, problem: &str) -> TlsError {
    TlsError::Content { path: path.to_owned(), problem: problem.to_owned() }
}

/// The library's own words may quote the file: they are not passed on.
fn no_pem(path: &Path) -> impl Fn(pem::Error) -> TlsError {
    |error| {
        let what = match error {
            pem::Error::MissingSectionEnd { .. } => "breaks off within a PEM section",
            _ => "is damaged: what stands between BEGIN and END is no PEM",
        };
        content(path, what)
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
