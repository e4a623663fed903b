//! Hyper's own refusals, with a reason.
//!
//! A head that hyper cannot read is answered by hyper, before any of our code knows of it, with a status and no body. Such
//! an answer is recognised as it is written (none of ours is a 4xx without a type) and replaced by one with `detail`, as
//! all others have.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Hyper's answers are shorter.
const LONGEST: usize = 256;

/// A stream on which no refusal goes out without a reason.
pub(crate) struct Worded<S> {
    stream: S,
    instead: Option<Instead>,
}

/// What is written instead of a refusal.
struct Instead {
    /// Bytes that the writer wants to be rid of.
    refusal: usize,
    answer: Vec<u8>,
    written: usize,
}

impl<S> Worded<S> {
    pub(crate) const fn new(stream: S) -> Self {
        Self { stream, instead: None }
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }
}

fn instead_of(bytes: &[u8]) -> Option<Instead> {
    if bytes.len() > LONGEST || !bytes.starts_with(b"HTTP/1.1 4") || !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let head = std::str::from_utf8(bytes).ok()?;
    if !head.contains("content-length: 0\r\n") || head.contains("content-type") {
        return None;
    }
    let (status, detail) = match head.get(9..12)? {
        "400" => ("400 Bad Request", "the request is not HTTP/1.1, or its head is broken"),
        "431" => ("431 Request Header Fields Too Large", "the head of the request has too many bytes or fields"),
        _ => return None,
    };
    let body = format!("{{\"detail\":\"{detail}\"}}");
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncache-control: no-store\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n"
    );
    Some(Instead { refusal: bytes.len(), answer: (head + &body).into_bytes(), written: 0 })
}

impl<S: AsyncWrite + Unpin> Worded<S> {
    /// Writes what stands for a refusal; `None` if nothing does.
    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<usize>>> {
        let Some(Instead { refusal, answer, written }) = &mut self.instead else { return Poll::Ready(None) };
        while let Some(rest) = answer.get(*written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest)) {
                Ok(0) => return Poll::Ready(Some(Err(io::ErrorKind::WriteZero.into()))),
                Ok(count) => *written += count,
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        let refusal = *refusal;
        self.instead = None;
        Poll::Ready(Some(Ok(refusal)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Worded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Worded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.instead.is_none() {
            self.instead = instead_of(buf);
        }
        match ready!(self.poll_instead(cx)) {
            Some(written) => Poll::Ready(written),
            None => Pin::new(&mut self.stream).poll_write(cx, buf),
        }
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.instead.is_none()
            && let [only] = bufs
        {
            self.instead = instead_of(only);
        }
        match ready!(self.poll_instead(cx)) {
            Some(written) => Poll::Ready(written),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
        }
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

    #[test]
    fn only_a_refusal_without_a_body_is_replaced() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let instead = instead_of(bare).unwrap();
        assert_eq!(instead.refusal, bare.len());
        assert!(instead.answer.ends_with(b"{\"detail\":\"the head of the request has too many bytes or fields\"}"));
        assert!(instead_of(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_none());
        assert!(instead_of(b"HTTP/1.1 400 Bad Request\r\ncontent-type: x\r\ncontent-length: 0\r\n\r\n").is_none());
        assert!(instead_of(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}").is_none());
    }
}
