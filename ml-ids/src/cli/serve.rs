//! `ml-ids serve`: the API alone, without capture and without privileges.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use clap::{ArgAction, builder::FalseyValueParser};
use tokio::net::{TcpListener, TcpSocket, lookup_host};

use super::{
    exit::Exit,
    hangup::Hangups,
    keep::{KeepArgs, Models},
    privileges::{self, PrivilegeArgs},
    source::ModelArgs,
    wiring::shutdown_signal,
};
use crate::{
    api::{self, Access, AccessError, AccessFiles, AppState, Limits, TimeUnit},
    privilege::Account,
};

/// Connections that wait to be accepted, as the standard library has it.
const BACKLOG: u32 = 1024;

const EXAMPLES: &str = "\
Examples:
  ml-ids serve
  ml-ids serve --model forest.onnx
  ml-ids serve --model mlflow:ids@production --model-refresh 1m \\
      --mlflow-tracking-uri https://mlflow.example.org
  ml-ids serve --listen 0.0.0.0:8443 --token-file token --tls-cert cert.pem --tls-key key.pem
  curl -s http://127.0.0.1:8000/health
  curl -s http://127.0.0.1:8000/predict -H 'content-type: application/json' \\
      -d '{\"Flow Duration\": 4987, \"Total Fwd Packets\": 12}'";

/// Flags of everything that listens.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct ListenArgs {
    /// Address and port to listen on
    #[arg(long, env = "ML_IDS_LISTEN", default_value = "127.0.0.1:8000", value_name = "ADDR")]
    pub(super) listen: String,

    /// Listen on an address that other hosts can reach, although nobody has to prove who they are
    #[arg(long, env = "ML_IDS_INSECURE_LISTEN", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    pub(super) insecure_listen: bool,

    /// File with the tokens that clients have to show, one a line, read again at SIGHUP; /health/live and /health/ready stay
    /// open. Without it nobody is asked
    #[arg(long, env = "ML_IDS_TOKEN_FILE", value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,

    /// Serve TLS with this certificate: PEM, the server's own first, then those that vouch for it; read again at SIGHUP
    #[arg(long, env = "ML_IDS_TLS_CERT", value_name = "FILE")]
    pub(super) tls_cert: Option<PathBuf>,

    /// The certificate's key: PEM, without a passphrase; read again at SIGHUP
    #[arg(long, env = "ML_IDS_TLS_KEY", value_name = "FILE")]
    pub(super) tls_key: Option<PathBuf>,

    /// Unit of times in flows with the names of the Python client: found out for each flow, or fixed
    #[arg(long, env = "ML_IDS_CLIENT_TIME_UNIT", value_enum, default_value_t, value_name = "UNIT")]
    pub(super) client_time_unit: TimeUnit,
}

/// Serve the API alone: no capture, no privileges
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    privileges: PrivilegeArgs,
}

/// Why a server did not come up.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    /// `--listen` is no address.
    #[error("--listen {listen}: {reason}; use ADDRESS:PORT, for example 127.0.0.1:8000")]
    Address {
        /// What was given.
        listen: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Others could reach it and nobody said that they may.
    #[error(
        "--listen {address} can be reached by other hosts and the API asks nobody who they are; give it tokens with \
         --token-file, listen on 127.0.0.1, or add --insecure-listen if the network is trusted"
    )]
    Exposed {
        /// What was given, resolved.
        address: SocketAddr,
    },
    /// A certificate without a key, or the other way round.
    #[error("{given} is set and {missing} is not; TLS needs both")]
    HalfTls {
        /// What is there.
        given: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// Tokens, certificate or key cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}{}", advice(.source))]
    Bind {
        /// What was asked of the kernel.
        address: SocketAddr,
        /// What it said.
        source: io::Error,
    },
}

impl ServeError {
    /// Tells the user and returns the exit code.
    pub(super) fn report(&self) -> Exit {
        eprintln!("error: {self}");
        self.exit_code()
    }

    /// 2 for wrong usage, 3 for files that cannot be used, 1 for what failed at run time.
    #[must_use]
    pub(super) fn exit_code(&self) -> Exit {
        match self {
            Self::Address { .. } | Self::Exposed { .. } | Self::HalfTls { .. } => Exit::Usage,
            Self::Access(_) => Exit::BadInput,
            Self::Bind { .. } => Exit::Failed,
        }
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; stop what listens there, or choose another port with --listen",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege, choose a higher one with --listen",
        io::ErrorKind::AddrNotAvailable => "; no interface of this host has that address",
        _ => "",
    }
}

impl ListenArgs {
    /// Checks address, tokens and certificate, and takes the address without listening yet. Call it before anything that takes
    /// long, so that mistakes show at once.
    ///
    /// # Errors
    /// No address, one that other hosts can reach without a token or `--insecure-listen`, one that cannot be had, or files that
    /// cannot be used.
    pub(super) async fn open(&self) -> Result<(Bound, Access), ServeError> {
        let access = Access::load(&self.access_files()?)?;
        let scheme = self.scheme();
        let socket = self.bind().await?;
        let address = socket.local_addr().map_err(|error| self.wrong(error.to_string()))?;
        if scheme == "http" && self.token_file.is_some() && !is_loopback(address.ip()) {
            log::warn!(
                "TOKENS GO OVER THE NETWORK IN THE CLEAR: {address} can be reached by other hosts and nothing is encrypted; \
                 add --tls-cert and --tls-key, or put a proxy in front that does"
            );
        }
        Ok((Bound { socket, address, scheme }, access))
    }

    /// Files that are read again at SIGHUP.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.token_file, &self.tls_cert, &self.tls_key].into_iter().flatten().map(PathBuf::as_path)
    }

    /// The files that say who may come in. Certificate and key may come from different places, a flag and the configuration
    /// file, so that it is not for the parser to say that they belong together.
    fn access_files(&self) -> Result<AccessFiles, ServeError> {
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => return Err(ServeError::HalfTls { given: "--tls-cert", missing: "--tls-key" }),
            (None, Some(_)) => return Err(ServeError::HalfTls { given: "--tls-key", missing: "--tls-cert" }),
        };
        Ok(AccessFiles { tokens: self.token_file.clone(), tls })
    }

    const fn scheme(&self) -> &'static str {
        if self.tls_cert.is_some() { "https" } else { "http" }
    }

    /// The address that would be taken and how it would be spoken to. It is had for a moment, and nobody is let in.
    ///
    /// # Errors
    /// Those of [`ListenArgs::open`].
    pub(super) async fn check(&self) -> Result<(SocketAddr, &'static str), ServeError> {
        Access::load(&self.access_files()?)?;
        let mut address = self.bind().await?.local_addr().map_err(|error| self.wrong(error.to_string()))?;
        if self.listen.ends_with(":0") {
            // It will be another one then.
            address.set_port(0);
        }
        Ok((address, self.scheme()))
    }

    /// The addresses that may be listened on.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, ServeError> {
        let addresses: Vec<SocketAddr> =
            lookup_host(&self.listen).await.map_err(|error| self.wrong(error.to_string()))?.collect();
        if !self.insecure_listen
            && self.token_file.is_none()
            && let Some(address) = addresses.iter().find(|address| !is_loopback(address.ip()))
        {
            return Err(ServeError::Exposed { address: *address });
        }
        Ok(addresses)
    }

    async fn bind(&self) -> Result<TcpSocket, ServeError> {
        let addresses = self.addresses().await?;
        let mut failure = self.wrong("the name has no address".to_owned());
        for address in addresses {
            match bind(address) {
                Ok(socket) => return Ok(socket),
                Err(source) => failure = ServeError::Bind { address, source },
            }
        }
        Err(failure)
    }

    fn wrong(&self, reason: String) -> ServeError {
        ServeError::Address { listen: self.listen.clone(), reason }
    }
}

/// An address that is taken, but not listened on yet: clients are refused.
#[derive(Debug)]
pub(super) struct Bound {
    socket: TcpSocket,
    address: SocketAddr,
    scheme: &'static str,
}

impl Bound {
    /// Listens: from here on clients are let in.
    ///
    /// # Errors
    /// When somebody else was faster.
    pub(super) fn listen(self) -> Result<TcpListener, ServeError> {
        let Self { socket, address, scheme } = self;
        let listener = socket.listen(BACKLOG).map_err(|source| ServeError::Bind { address, source })?;
        log::info!("listening on {scheme}://{address}");
        Ok(listener)
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of a former process that are still closing keep nobody from the address.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Reads tokens and certificate again at each hangup, for as long as there is a server.
pub(super) fn reload_access(state: &Arc<AppState>, hangups: &Hangups) {
    let state = Arc::downgrade(state);
    hangups.each(move || {
        if let Some(state) = state.upgrade() {
            state.reload_access();
        }
    });
}

fn is_loopback(address: IpAddr) -> bool {
    // ::ffff:127.0.0.1 is loopback too, which the standard library says only of the IPv4 form.
    address.to_canonical().is_loopback()
}

/// Runs until SIGINT or SIGTERM.
pub(super) fn run(args: Args) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(serve(args));
    // A model that is still loading, from a pipe that nobody writes for example, is not waited for.
    runtime.shutdown_background();
    ended
}

async fn serve(Args { listen, model, keep, privileges }: Args) -> Result<Exit> {
    let mut rights = match privileges.rights() {
        Ok(rights) => rights,
        Err(error) => return Ok(privileges::report(&error)),
    };
    let (mut shutdown, hangups) = (shutdown_signal()?, Hangups::listen()?);
    let (bound, access) = match listen.open().await {
        Ok(open) => open,
        Err(error) => return Ok(error.report()),
    };
    let state = Arc::new(AppState::new(Limits::default(), listen.client_time_unit, false).with_access(access));
    reload_access(&state, &hangups);
    rights.listening(&listen);
    rights.models(&model, keep.shadow());
    // A model is input like any other: nothing of it is read with rights that serving does not need.
    rights.end(&[], &state)?;
    let account = Arc::new(Account::current());
    let listener = match bound.listen() {
        Ok(listener) => listener,
        Err(error) => return Ok(error.report()),
    };
    let server = tokio::spawn(api::serve(listener, Arc::clone(&state), shutdown.clone()));
    let loaded = tokio::select! {
        loaded = Models::load(&model, &keep, &account, &state, &hangups) => Some(loaded),
        _ = shutdown.wait_for(|stop| *stop) => None,
    };
    if let Some(Err(error)) = loaded {
        eprintln!("error: {error:#}");
        return Ok(Exit::BadInput);
    }
    server.await.context("the API server failed")?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn listen(flags: &[&str]) -> ListenArgs {
        Line::parse_from([&["serve"], flags].concat()).args.listen
    }

    #[tokio::test]
    async fn only_loopback_is_listened_on_without_a_word() {
        for listen_on in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let error = listen(&["--listen", listen_on]).open().await.unwrap_err();
            assert!(matches!(error, ServeError::Exposed { .. }), "{listen_on}: {error}");
            assert!(error.to_string().contains("--insecure-listen"), "{error}");
            assert_eq!(error.exit_code(), Exit::Usage);
        }
        assert!(listen(&["--listen", "127.0.0.1:0"]).open().await.is_ok());
        assert!(listen(&["--listen", "127.9.9.9:0"]).open().await.is_ok());
        assert!(listen(&["--listen", "0.0.0.0:0", "--insecure-listen"]).open().await.is_ok());
        let tokens = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&tokens, "a-token-of-some-length\n").unwrap();
        let tokens = tokens.path().to_str().unwrap();
        assert!(listen(&["--listen", "0.0.0.0:0", "--token-file", tokens]).open().await.is_ok());
    }

    #[tokio::test]
    async fn taken_port_is_named_and_advice_given() {
        let first = listen(&["--listen", "127.0.0.1:0"]).open().await.unwrap();
        let first = first.0.listen().unwrap();
        let address = first.local_addr().unwrap().to_string();
        let error = listen(&["--listen", &address]).open().await.unwrap_err();
        assert!(error.to_string().contains(&address) && error.to_string().contains("another port"), "{error}");
        assert_eq!(error.exit_code(), Exit::Failed);
        let error = listen(&["--listen", &address]).check().await.unwrap_err();
        assert!(error.to_string().contains("another port"), "{error}");
        drop(first);
        assert_eq!(listen(&["--listen", &address]).check().await.unwrap().0.to_string(), address);
    }

    #[tokio::test]
    async fn a_certificate_without_its_key_is_refused() {
        for (flag, missing) in [("--tls-cert", "--tls-key is not"), ("--tls-key", "--tls-cert is not")] {
            let error = listen(&["--listen", "127.0.0.1:0", flag, "/x.pem"]).open().await.unwrap_err();
            assert!(error.to_string().contains(missing), "{error}");
            assert_eq!(error.exit_code(), Exit::Usage);
        }
    }

    #[tokio::test]
    async fn listen_without_a_port_says_how_it_should_look() {
        let error = listen(&["--listen", "127.0.0.1"]).open().await.unwrap_err();
        assert!(error.to_string().contains("127.0.0.1:8000"), "{error}");
    }
}
