//! How long a connection's client keeps the server waiting, told by what goes over the wire.
//!
//! The server waits for a client while it waits for a handshake, a head or a body, and while an answer waits to be read. Each
//! of these grants a little patience; bytes that move at a fair rate buy more, a little in advance. So an upload over a slow
//! line is never late, and a byte now and then, which restarts naive timers, buys next to nothing.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

use super::limits::{CREDIT, LEAST_RATE};

/// The server itself is at work: nobody is late.
const WORKING: u64 = u64::MAX;

/// One connection's standing.
#[derive(Debug)]
pub(crate) struct Pulse {
    began: Instant,
    patience: Duration,
    /// Until when the server waits gladly, in microseconds since `began`.
    until: AtomicU64,
    cut: Notify,
}

impl Pulse {
    /// Of a client that has just come. `began` is any moment before, the same for all that are compared.
    pub(crate) fn new(began: Instant, patience: Duration) -> Self {
        let pulse = Self { began, patience, until: AtomicU64::new(0), cut: Notify::new() };
        pulse.waiting();
        pulse
    }

    /// From here on the next move is the client's.
    pub(crate) fn waiting(&self) {
        self.until.store(self.now() + micros(self.patience), Ordering::Relaxed);
    }

    /// From here on the next move is the server's.
    pub(crate) fn working(&self) {
        self.until.store(WORKING, Ordering::Relaxed);
    }

    /// Bytes have gone over the wire. Called by the connection's own task only.
    fn moved(&self, bytes: usize) {
        let until = self.until.load(Ordering::Relaxed);
        if until != WORKING {
            let bought = (bytes as u64).saturating_mul(1_000_000) / LEAST_RATE;
            let most = (self.now() + micros(CREDIT)).max(until);
            self.until.store(until.saturating_add(bought).min(most), Ordering::Relaxed);
        }
    }

    /// Until when it may stay if another wants its place, in microseconds since `began`; `None` while the server is at
    /// work for it.
    pub(crate) fn until(&self) -> Option<u64> {
        Some(self.until.load(Ordering::Relaxed)).filter(|until| *until != WORKING)
    }

    /// Ends the connection.
    pub(crate) fn cut(&self) {
        // Not to be chosen again.
        self.working();
        self.cut.notify_one();
    }

    /// Waits until the connection is to end.
    pub(crate) async fn is_cut(&self) {
        self.cut.notified().await;
    }

    fn now(&self) -> u64 {
        micros(self.began.elapsed())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(WORKING / 2)
}

/// A stream that tells the pulse what goes through it.
pub(crate) struct Metered<S> {
    stream: S,
    pulse: Arc<Pulse>,
}

impl<S> Metered<S> {
    pub(crate) const fn new(stream: S, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }

    fn count(&self, polled: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = polled {
            self.pulse.moved(*bytes);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.pulse.moved(buf.filled().len().saturating_sub(before));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(&polled);
        polled
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(&polled);
        polled
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(500);

    /// A pulse whose client has been waited for since a minute ago.
    fn late() -> Option<Pulse> {
        let began = Instant::now().checked_sub(Duration::from_secs(60))?;
        let until = AtomicU64::new(micros(PATIENCE));
        Some(Pulse { began, patience: PATIENCE, until, cut: Notify::new() })
    }

    #[test]
    fn drops_of_bytes_buy_next_to_nothing_and_a_stream_of_them_a_bounded_while() {
        let pulse = Pulse::new(Instant::now(), PATIENCE);
        let before = pulse.until().unwrap();
        (0..10).for_each(|_| pulse.moved(1));
        assert!(pulse.until().unwrap() - before < 1_000);
        pulse.moved(1 << 30);
        assert!(pulse.until().unwrap() <= pulse.now() + micros(CREDIT));
    }

    #[test]
    fn a_late_client_is_not_made_good_by_one_packet() {
        let Some(pulse) = late() else { return };
        pulse.moved(1_500);
        assert!(pulse.until().unwrap() < pulse.now());
        pulse.waiting();
        assert!(pulse.until().unwrap() > pulse.now());
    }

    #[test]
    fn nobody_is_late_while_the_server_works() {
        let Some(pulse) = late() else { return };
        pulse.working();
        pulse.moved(1);
        assert_eq!(pulse.until(), None);
    }
}
