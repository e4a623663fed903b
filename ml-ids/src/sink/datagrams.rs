//! Datagrams, one an event, over UDP or to a Unix socket.
//!
//! They are delivered when the kernel has taken them: those of a Unix socket are then in its reader's queue, those over UDP
//! on their way, from which nobody hears again.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    time::Duration,
};

use super::{
    address::HostPort,
    hub::{First, Undelivered},
};

/// How long a reader's queue may stay full.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where datagrams go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mailbox {
    Udp(HostPort),
    Unix(PathBuf),
}

/// The way there.
pub(super) struct Datagrams {
    mailbox: Mailbox,
    open: Option<Socket>,
}

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Datagrams {
    /// Opens a socket when there is something to send.
    pub(super) const fn to(mailbox: Mailbox) -> Self {
        Self { mailbox, open: None }
    }

    /// Sends datagrams in their order.
    ///
    /// # Errors
    /// How many were sent before the first that could not be; it is refused if it is too large.
    pub(super) fn send<'a>(&mut self, datagrams: impl Iterator<Item = &'a [u8]>) -> Result<(), Undelivered> {
        for (delivered, datagram) in datagrams.enumerate() {
            if let Err(error) = self.send_one(datagram) {
                self.open = None;
                let too_large = error.raw_os_error() == Some(libc::EMSGSIZE);
                let place = match &self.mailbox {
                    Mailbox::Udp(host) => host.to_string(),
                    Mailbox::Unix(path) => path.display().to_string(),
                };
                let (first, reason) = match error.kind() {
                    _ if too_large => {
                        (First::Refused, format!("{} bytes are more than a datagram holds", datagram.len()))
                    }
                    io::ErrorKind::WouldBlock => (First::Retry, "its queue stays full".to_owned()),
                    _ => (First::Retry, error.to_string()),
                };
                return Err(Undelivered { delivered, first, error: format!("{place}: {reason}").into() });
            }
        }
        Ok(())
    }

    /// Closes the socket; the next datagram finds the address anew.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    fn send_one(&mut self, datagram: &[u8]) -> io::Result<()> {
        let socket = match self.open.take() {
            Some(socket) => socket,
            None => open(&self.mailbox)?,
        };
        match &socket {
            Socket::Udp(socket) => socket.send(datagram)?,
            Socket::Unix(socket) => socket.send(datagram)?,
        };
        self.open = Some(socket);
        Ok(())
    }
}

fn open(mailbox: &Mailbox) -> io::Result<Socket> {
    match mailbox {
        Mailbox::Udp(HostPort { host, port }) => {
            let mut addresses = (host.as_str(), *port).to_socket_addrs()?;
            let to = addresses.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has no address"))?;
            let from: SocketAddr = match to {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let socket = UdpSocket::bind(from)?;
            socket.connect(to)?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok(Socket::Udp(socket))
        }
        Mailbox::Unix(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok(Socket::Unix(socket))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_that_is_too_large_is_refused_and_a_reader_that_is_away_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let mut datagrams = Datagrams::to(Mailbox::Unix(path.clone()));
        let failure = datagrams.send([b"one".as_slice()].into_iter()).unwrap_err();
        assert_eq!((failure.delivered, failure.first), (0, First::Retry));
        let reader = UnixDatagram::bind(&path).unwrap();
        let large = vec![b'x'; 8 << 20];
        let failure = datagrams.send([b"one".as_slice(), &large].into_iter()).unwrap_err();
        assert_eq!((failure.delivered, failure.first), (1, First::Refused));
        let mut got = [0; 10];
        assert_eq!(reader.recv(&mut got).unwrap(), 3);
    }
}
