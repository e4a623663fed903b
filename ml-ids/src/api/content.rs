//! What an answer consists of: bytes that are all there, or pieces that are made while the client reads them.
//!
//! Pieces come through a bounded channel. A client that does not read fills it, whoever makes pieces waits, and the
//! connection's write timeout ends both: the receiver is dropped with the connection, which the sender notices.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

/// The body of every answer. Most are whole, so that case costs no allocation and no indirection.
#[derive(Debug)]
pub(crate) enum Content {
    /// All of it; empty once it is sent.
    Whole(Bytes),
    /// Piece by piece until the sender is dropped.
    Pieces(Box<Pieces>),
}

/// See [`Content::Pieces`].
#[derive(Debug)]
pub(crate) struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    heartbeat: Option<Heartbeat>,
}

/// What is sent while there is nothing to say, so that the two ends and all between them know that the other lives.
#[derive(Debug)]
struct Heartbeat {
    piece: Bytes,
    due: Interval,
}

impl Content {
    /// A content that is made later, and where to put it. The sender waits while `capacity` pieces are unread; dropping
    /// it ends the answer in order.
    pub(crate) fn pieces(capacity: usize) -> (mpsc::Sender<Bytes>, Self) {
        let (sender, receiver) = mpsc::channel(capacity);
        (sender, Self::Pieces(Box::new(Pieces { receiver, heartbeat: None })))
    }

    /// The same with a piece of its own whenever nothing else was sent for a `period`.
    pub(crate) fn with_heartbeat(
        capacity: usize,
        period: Duration,
        piece: impl Into<Bytes>,
    ) -> (mpsc::Sender<Bytes>, Self) {
        let (sender, receiver) = mpsc::channel(capacity);
        let mut due = interval_at(Instant::now() + period, period);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let heartbeat = Some(Heartbeat { piece: piece.into(), due });
        (sender, Self::Pieces(Box::new(Pieces { receiver, heartbeat })))
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(bytes.into())
    }
}

impl Pieces {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let polled = self.receiver.poll_recv(cx);
        let Some(Heartbeat { piece, due }) = &mut self.heartbeat else { return polled };
        if polled.is_ready() {
            due.reset();
            return polled;
        }
        due.poll_tick(cx).map(|_| Some(piece.clone()))
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => None,
            Self::Whole(bytes) => Some(std::mem::take(bytes)),
            Self::Pieces(pieces) => std::task::ready!(pieces.poll(cx)),
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn next(content: &mut Content) -> Option<Bytes> {
        content.frame().await.map(|frame| frame.unwrap().into_data().unwrap())
    }

    #[tokio::test]
    async fn whole_content_has_a_length_and_is_sent_once() {
        let mut content = Content::from(b"abc".to_vec());
        assert_eq!((content.size_hint().exact(), content.is_end_stream()), (Some(3), false));
        assert_eq!(next(&mut content).await, Some(Bytes::from_static(b"abc")));
        assert!(content.is_end_stream());
        assert_eq!(next(&mut content).await, None);
    }

    #[tokio::test]
    async fn pieces_end_with_their_sender_and_the_sender_learns_of_a_client_that_left() {
        let (sender, mut content) = Content::pieces(1);
        sender.send(Bytes::from_static(b"a")).await.unwrap();
        assert!(sender.try_send(Bytes::from_static(b"b")).is_err(), "one unread piece is the bound");
        assert_eq!(next(&mut content).await, Some(Bytes::from_static(b"a")));
        drop(sender);
        assert_eq!(next(&mut content).await, None);
        let (sender, content) = Content::pieces(1);
        drop(content);
        sender.closed().await;
    }

    #[tokio::test]
    async fn silence_is_filled_with_heartbeats() {
        let (sender, mut content) = Content::with_heartbeat(1, Duration::from_millis(5), &b":\n\n"[..]);
        assert_eq!(next(&mut content).await, Some(Bytes::from_static(b":\n\n")));
        assert_eq!(next(&mut content).await, Some(Bytes::from_static(b":\n\n")));
        sender.send(Bytes::from_static(b"data: 1\n\n")).await.unwrap();
        assert_eq!(next(&mut content).await, Some(Bytes::from_static(b"data: 1\n\n")));
    }
}
