//! `ml-ids serve`: the API alone, without capture and without privileges.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    sync::Arc,
};

use clap::Args;
use tokio::{
    net::{TcpListener, lookup_host},
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::api::{AppState, Limits, Predictor, TimeUnit, serve as serve_api};

/// Flags of everything that listens.
#[derive(Args, Clone, Debug)]
pub struct ListenArgs {
    /// Address and port to listen on
    #[arg(long, env = "ML_IDS_LISTEN", default_value = "127.0.0.1:8000", value_name = "ADDR")]
    pub listen: String,

    /// Listen on an address that other hosts can reach, although nobody has to prove who they are
    #[arg(long)]
    pub insecure_listen: bool,

    /// Unit of times in flows with the names of the Python client: found out for each flow, or fixed
    #[arg(long, value_enum, default_value_t, value_name = "UNIT")]
    pub client_time_unit: TimeUnit,
}

/// Flags of `ml-ids serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Where to listen, and whom to trust.
    #[command(flatten)]
    pub listen: ListenArgs,

    /// Model: embedded, a path to an .onnx file, mlflow:NAME[@ALIAS|/VERSION], or s3://BUCKET/KEY
    #[arg(long, default_value = "embedded", value_name = "SOURCE")]
    pub model: String,
}

/// Why a server did not come up.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
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
        "--listen {address} can be reached by other hosts and the API asks nobody who they are; listen on 127.0.0.1, or \
         add --insecure-listen if the network is trusted"
    )]
    Exposed {
        /// What was given, resolved.
        address: SocketAddr,
    },
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}{}", advice(.source))]
    Bind {
        /// What was asked of the kernel.
        address: SocketAddr,
        /// What it said.
        source: io::Error,
    },
    /// Signals cannot be waited for.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
    /// There is nothing to serve.
    #[error("model {name} cannot be served: {reason}")]
    Model {
        /// The source that was asked for.
        name: String,
        /// Why not.
        reason: String,
    },
}

impl ServeError {
    /// 2 for wrong usage, 1 for what failed at run time.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Address { .. } | Self::Exposed { .. } => ExitCode::from(2),
            Self::Bind { .. } | Self::Signals(_) | Self::Model { .. } => ExitCode::from(1),
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
    /// Checks the address and takes it. Call it before anything that takes long, so that mistakes show at once.
    ///
    /// # Errors
    /// No address, one that other hosts can reach without `--insecure-listen`, or one that cannot be had.
    pub async fn bind(&self) -> Result<TcpListener, ServeError> {
        let wrong = |reason: String| ServeError::Address { listen: self.listen.clone(), reason };
        let addresses: Vec<SocketAddr> =
            lookup_host(&self.listen).await.map_err(|error| wrong(error.to_string()))?.collect();
        if !self.insecure_listen
            && let Some(address) = addresses.iter().find(|address| !is_loopback(address.ip()))
        {
            return Err(ServeError::Exposed { address: *address });
        }
        let mut failure = wrong("the name has no address".to_owned());
        for address in addresses {
            match TcpListener::bind(address).await {
                Ok(listener) => return Ok(listener),
                Err(source) => failure = ServeError::Bind { address, source },
            }
        }
        Err(failure)
    }
}

fn is_loopback(address: IpAddr) -> bool {
    // ::ffff:127.0.0.1 is loopback too, which the standard library says only of the IPv4 form.
    address.to_canonical().is_loopback()
}

/// Turns true at SIGINT or SIGTERM; a second one ends the process at once.
///
/// # Errors
/// The kernel refuses the handlers.
pub fn shutdown_signal() -> Result<watch::Receiver<bool>, ServeError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        next().await;
        log::info!("shutting down; a second signal ends at once");
        sender.send_replace(true);
        next().await;
        std::process::exit(1);
    });
    Ok(receiver)
}

/// Runs `ml-ids serve` until a signal ends it. `load` makes the model of its source; it runs on a thread that may block,
/// while probes are answered already.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve<L>(args: &ServeArgs, load: L) -> Result<(), ServeError>
where
    L: FnOnce(&str) -> anyhow::Result<Arc<dyn Predictor>> + Send + 'static,
{
    let listener = args.listen.bind().await?;
    let address = listener.local_addr();
    let mut shutdown = shutdown_signal()?;
    let state = Arc::new(AppState::new(Limits::default(), args.listen.client_time_unit, false));
    let server = tokio::spawn(serve_api(listener, state.clone(), shutdown.clone()));
    if let Ok(address) = address {
        log::info!("listening on http://{address}");
    }
    let source = args.model.clone();
    let loading = tokio::task::spawn_blocking(move || load(&source));
    let loaded = tokio::select! {
        loaded = loading => loaded,
        _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
    };
    let failed = |reason: String| ServeError::Model { name: args.model.clone(), reason };
    let predictor = match loaded {
        Ok(Ok(predictor)) => predictor,
        Ok(Err(error)) => return Err(failed(format!("{error:#}"))),
        Err(error) => return Err(failed(format!("loading ended early: {error}"))),
    };
    let card = predictor.card();
    log::info!("model {} {} of {}, profile {}", card.name, card.version, card.source, card.profile);
    state.set_predictor(predictor);
    // It ends by the signal, after the drain; a panic in it is in the log already.
    let _panicked = server.await.is_err();
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ServeArgs,
    }

    fn listen(flags: &[&str]) -> ListenArgs {
        Line::parse_from([&["serve"], flags].concat()).args.listen
    }

    #[tokio::test]
    async fn only_loopback_is_listened_on_without_a_word() {
        for listen_on in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let error = listen(&["--listen", listen_on]).bind().await.unwrap_err();
            assert!(matches!(error, ServeError::Exposed { .. }), "{listen_on}: {error}");
            assert!(error.to_string().contains("--insecure-listen"), "{error}");
            assert_eq!(format!("{:?}", error.exit_code()), format!("{:?}", ExitCode::from(2)));
        }
        assert!(listen(&["--listen", "127.0.0.1:0"]).bind().await.is_ok());
        assert!(listen(&["--listen", "127.9.9.9:0"]).bind().await.is_ok());
        assert!(listen(&["--listen", "0.0.0.0:0", "--insecure-listen"]).bind().await.is_ok());
    }

    #[tokio::test]
    async fn taken_port_is_named_and_advice_given() {
        let first = listen(&["--listen", "127.0.0.1:0"]).bind().await.unwrap();
        let address = first.local_addr().unwrap().to_string();
        let error = listen(&["--listen", &address]).bind().await.unwrap_err();
        assert!(error.to_string().contains(&address) && error.to_string().contains("another port"), "{error}");
        assert_eq!(format!("{:?}", error.exit_code()), format!("{:?}", ExitCode::from(1)));
    }

    #[tokio::test]
    async fn listen_without_a_port_says_how_it_should_look() {
        let error = listen(&["--listen", "127.0.0.1"]).bind().await.unwrap_err();
        assert!(error.to_string().contains("127.0.0.1:8000"), "{error}");
    }
}
