//! The server: accepts connections within limits, serves them, over TLS or not, and drains them at shutdown.

use std::{future::poll_fn, io, pin, sync::Arc, time::Duration};

use hyper::{body::Body as _, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    error::{BAD_HEAD, SLOW_HEAD, UNREAD},
    limits::{HEADER_BYTES, HEADER_COUNT, LINGER},
    places::Place,
    pulse::{Metered, Pulse},
    routes,
    state::AppState,
    timed::TimedWrites,
    worded::Worded,
};

/// Pause after a failed accept. What fails here (no more file descriptors) does not get better in microseconds.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a client gets that began a request and did not finish its headers in time; hyper itself says nothing.
const SLOW_HEADER: &str = r#"{"detail":"the request headers did not arrive in time"}"#;

/// Serves until `shutdown` turns true (or its sender is gone), then lets requests that have begun finish.
///
/// A connection beyond the limit takes the place of the slowest (see [`Place`]), or waits for one. The runtime may be shared:
/// scoring runs on its blocking threads, but for single flows of a model that is quick.
pub async fn serve(listener: TcpListener, state: Arc<AppState>, shutdown: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    let mut stop = shutdown.clone();
    loop {
        // Finished tasks are forgotten before the next one begins, so that the set is as small as the limit.
        while tasks.try_join_next().is_some() {}
        let accepted = async {
            let (stream, _) = listener.accept().await?;
            let place = Place::take(&state).await.ok_or_else(|| io::Error::other("no places left"))?;
            io::Result::Ok((stream, place))
        };
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let (state, shutdown) = (state.clone(), shutdown.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = open(stream, state, &place.pulse, shutdown) => {}
                        // Without a word, which would be one more thing that it can keep waiting.
                        () = place.pulse.is_cut() => {}
                    }
                });
            }
            Err(error) => {
                log::warn!(
                    "a connection could not be accepted: {error}; if there are too many open files, raise the limit with ulimit -n or LimitNOFILE="
                );
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // From here on new clients are refused by the kernel.
    drop(listener);
    state.drain();
    let drained = timeout(state.limits.drain_timeout, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        log::warn!("{} connections were cut off at shutdown", tasks.len());
        tasks.shutdown().await;
    }
}

pub(super) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // A sender that is gone can no longer ask for a shutdown: that is one.
    let _gone = shutdown.wait_for(|stop| *stop).await.is_err();
}

/// Serves a connection that was accepted, after the handshake if there is to be one.
async fn open(stream: TcpStream, state: Arc<AppState>, pulse: &Arc<Pulse>, mut shutdown: watch::Receiver<bool>) {
    // Answers are written whole; waiting for more to send would only delay them.
    let _unsupported = stream.set_nodelay(true).is_err();
    let stream = Metered::new(stream, Arc::clone(pulse));
    let Some(acceptor) = state.access.acceptor() else {
        return connection(stream, state, pulse, shutdown).await;
    };
    let handshake = tokio::select! {
        handshake = timeout(state.limits.handshake_timeout, acceptor.accept(stream)) => handshake,
        // Nothing has been asked for yet.
        () = stopped(&mut shutdown) => return,
    };
    match handshake {
        Ok(Ok(stream)) => {
            pulse.waiting();
            connection(stream, state, pulse, shutdown).await;
        }
        Ok(Err(error)) => {
            state.access.count_failed_handshake();
            log::debug!("a TLS handshake failed: {error}");
        }
        Err(_) => {
            state.access.count_slow_handshake();
            log::debug!("a TLS handshake took too long");
        }
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    state: Arc<AppState>,
    pulse: &Arc<Pulse>,
    mut shutdown: watch::Receiver<bool>,
) {
    let io = TokioIo::new(Worded::new(TimedWrites::new(stream, state.limits.write_timeout)));
    let service = {
        let (state, pulse) = (state.clone(), Arc::clone(pulse));
        service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            if request.body().is_end_stream() {
                pulse.working();
            } else {
                pulse.waiting();
                // Whoever reads the body says when it is there.
                request.extensions_mut().insert(Arc::clone(&pulse));
            }
            let (state, pulse) = (state.clone(), Arc::clone(&pulse));
            Box::pin(async move {
                let response = routes::answer(state, request).await;
                pulse.waiting();
                response
            })
        })
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(state.limits.header_timeout)
        .max_headers(HEADER_COUNT)
        .max_buf_size(HEADER_BYTES)
        // A client that closes its sending side after the request still waits for the answer (`nc -N`).
        .half_close(true)
        .serve_connection(io, service);
    let mut draining = false;
    let served = loop {
        tokio::select! {
            served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break served,
            () = stopped(&mut shutdown), if !draining => {
                pin::Pin::new(&mut connection).graceful_shutdown();
                draining = true;
            }
        }
    };
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner().into_inner();
    if let Err(error) = served {
        log::debug!("a connection ended early: {error}");
        if error.is_parse() {
            state.requests.refuse(BAD_HEAD);
        } else if is_unread(&error) {
            state.requests.refuse(UNREAD);
        }
        // Idle clients are closed quietly, those that began to speak are told.
        if error.is_timeout() && !parts.read_buf.is_empty() {
            state.requests.refuse(SLOW_HEAD);
            let answer = format!(
                "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n{SLOW_HEADER}",
                SLOW_HEADER.len()
            );
            let _gone = stream.write_all(answer.as_bytes()).await.is_err();
        }
    }
    linger(stream).await;
}

/// Whether [`TimedWrites`] has given up on the client.
fn is_unread(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// Closes our side first and reads what is still coming for a moment: closing with unread bytes resets the connection,
/// and a reset makes the client forget the answer that it has not read yet.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: TimedWrites<S>) {
    let rest = async {
        stream.shutdown().await?;
        let mut scrap = [0; 4096];
        while stream.read(&mut scrap).await? > 0 {}
        io::Result::Ok(())
    };
    let _gone = timeout(LINGER, rest).await;
}
