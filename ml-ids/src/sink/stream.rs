//! A connection that is made anew whenever it breaks, over TCP or to a Unix socket.
//!
//! That a write succeeds means little: a peer that dies takes what it has not read with it. So what was written counts as
//! delivered only when the other kernel has acknowledged it (the reader itself, of a Unix socket) and the connection still
//! stands; and what was delivered in the last seconds before a connection broke is sent again over the next one. A peer that
//! dies costs duplicates, not gaps.

use std::{
    fmt,
    io::{self, Write},
    net::{TcpStream, ToSocketAddrs as _},
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use log::debug;

use super::{
    address::HostPort,
    event::Event,
    socket::{is_gone, unacknowledged},
};

/// How long connecting may take, to each of a host's addresses.
const CONNECT: Duration = Duration::from_secs(3);
/// How long the other side may take for a batch.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);
/// First and longest time between two looks whether it has.
const LOOKS: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(10));
/// What was delivered so long before a connection was found broken may have been lost with it.
const UNSURE: Duration = Duration::from_secs(2);
/// Most events that are kept for that.
const MOST_UNSURE: usize = 1024;

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tcp(HostPort),
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host) => host.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

trait Socket: Write + AsFd + Send {}

impl<T: Write + AsFd + Send> Socket for T {}

/// How an event is written.
pub(super) type Encode<'a> = &'a mut dyn FnMut(&Event, &mut Vec<u8>);

/// The connection.
pub(super) struct Stream {
    place: Place,
    open: Option<Box<dyn Socket>>,
    /// What was delivered lately, and when the latest of it was.
    unsure: Vec<Event>,
    latest: Instant,
    buffer: Vec<u8>,
}

impl Stream {
    /// Connects when there is something to send.
    pub(super) fn to(place: Place) -> Self {
        Self { place, open: None, unsure: Vec::new(), latest: Instant::now(), buffer: Vec::new() }
    }

    /// Sends events and waits until they are acknowledged.
    ///
    /// # Errors
    /// When they are not; then all of them are to be sent again.
    pub(super) fn send(&mut self, events: &[Event], encode: Encode<'_>) -> io::Result<()> {
        let sent = self.try_send(events, encode);
        if sent.is_err() {
            self.open = None;
        }
        sent
    }

    fn try_send(&mut self, events: &[Event], encode: Encode<'_>) -> io::Result<()> {
        self.buffer.clear();
        let mut socket = match self.open.take().filter(|socket| !is_gone(socket.as_fd())) {
            Some(socket) => socket,
            None => {
                let socket = connect(&self.place)?;
                debug!("connected to {}; {} events are sent again", self.place, self.unsure.len());
                self.unsure.iter().for_each(|event| encode(event, &mut self.buffer));
                socket
            }
        };
        events.iter().for_each(|event| encode(event, &mut self.buffer));
        socket.write_all(&self.buffer).map_err(in_words)?;
        acknowledged(&*socket)?;
        self.open = Some(socket);
        self.latest = Instant::now();
        let excess = (self.unsure.len() + events.len()).saturating_sub(MOST_UNSURE);
        self.unsure.drain(..excess.min(self.unsure.len()));
        self.unsure.extend_from_slice(events);
        Ok(())
    }

    /// Looks after the connection while there is nothing to send.
    pub(super) fn idle(&mut self, encode: Encode<'_>) {
        let Some(socket) = &self.open else { return };
        if is_gone(socket.as_fd()) {
            self.open = None;
            // If it fails, it is tried with the next event, too, which counts and tells it.
            let _ = if self.unsure.is_empty() { Ok(()) } else { self.send(&[], encode) };
        } else if self.latest.elapsed() > UNSURE {
            self.unsure.clear();
        }
    }

    /// Closes the connection; the next event opens another.
    pub(super) fn close(&mut self) {
        self.open = None;
    }
}

fn connect(place: &Place) -> io::Result<Box<dyn Socket>> {
    match place {
        Place::Tcp(HostPort { host, port }) => {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
            for address in (host.as_str(), *port).to_socket_addrs()? {
                match TcpStream::connect_timeout(&address, CONNECT) {
                    Ok(socket) => {
                        socket.set_write_timeout(Some(ACKNOWLEDGE))?;
                        socket.set_nodelay(true)?;
                        return Ok(Box::new(socket));
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        Place::Unix(path) => {
            let socket = UnixStream::connect(path)?;
            socket.set_write_timeout(Some(ACKNOWLEDGE))?;
            Ok(Box::new(socket))
        }
    }
}

fn acknowledged(socket: &dyn Socket) -> io::Result<()> {
    let (end, (mut pause, longest)) = (Instant::now() + ACKNOWLEDGE, LOOKS);
    while unacknowledged(socket.as_fd())? > 0 {
        if Instant::now() > end {
            return Err(in_words(io::ErrorKind::WouldBlock.into()));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(longest);
    }
    // A Unix socket whose reader is gone has nothing outstanding either.
    if is_gone(socket.as_fd()) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(())
}

/// A write that timed out is "resource temporarily unavailable" to the system.
fn in_words(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        return io::Error::new(io::ErrorKind::TimedOut, "it does not take what is sent in time");
    }
    error
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, net::TcpListener};

    use serde_json::json;

    use super::*;
    use crate::sink::EventKind;

    fn events(numbers: std::ops::Range<u32>) -> Vec<Event> {
        numbers.map(|number| Event::new(EventKind::Alert, &json!(number))).collect()
    }

    fn lines(event: &Event, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(event.line().as_bytes());
        buffer.push(b'\n');
    }

    #[test]
    fn what_a_server_that_dies_may_not_have_read_is_sent_again_to_the_next_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut stream = Stream::to(Place::Tcp(HostPort { host: "127.0.0.1".to_owned(), port }));
        // The kernel acknowledges on behalf of a server that never reads.
        stream.send(&events(0..3), &mut lines).unwrap();
        let (dead, _) = listener.accept().unwrap();
        drop(dead);
        while !stream.open.as_ref().is_none_or(|socket| is_gone(socket.as_fd())) {
            thread::sleep(Duration::from_millis(1));
        }
        stream.send(&events(3..5), &mut lines).unwrap();
        let (mut next, _) = listener.accept().unwrap();
        let mut got = [0; 10];
        next.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"0\n1\n2\n3\n4\n");
    }

    #[test]
    fn an_idle_stream_notices_that_its_reader_has_died_and_a_quiet_one_forgets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut stream = Stream::to(Place::Unix(path));
        let reader = thread::spawn(move || {
            let (mut first, _) = listener.accept().unwrap();
            first.read_exact(&mut [0; 2]).unwrap();
            (first, listener)
        });
        stream.send(&events(7..8), &mut lines).unwrap();
        let (first, listener) = reader.join().unwrap();
        drop(first);
        let reader = thread::spawn(move || {
            let (mut second, _) = listener.accept().unwrap();
            let mut got = [0; 2];
            second.read_exact(&mut got).unwrap();
            (got, second)
        });
        stream.idle(&mut lines);
        let (got, _second) = reader.join().unwrap();
        assert_eq!(&got, b"7\n");
        assert_eq!(stream.unsure.len(), 1);
        stream.latest -= UNSURE * 2;
        stream.idle(&mut lines);
        assert!(stream.unsure.is_empty());
    }
}
