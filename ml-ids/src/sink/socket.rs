//! What the kernel knows of a socket or a pipe and the standard library does not ask it.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    time::Duration,
};

/// Bytes that were written to a socket and not yet taken: by the other host's kernel, or, of a Unix socket, by who reads it.
///
/// # Errors
/// When it is no socket.
pub(super) fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: an open descriptor; the request writes one integer. TIOCOUTQ is SIOCOUTQ by another name.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(bytes).unwrap_or(0)) }
}

/// Waits until one of `events` has come about, or an error or a hang-up, which need not be asked for. Returns what has;
/// nothing when the time is over.
///
/// # Errors
/// When it cannot be waited for.
pub(super) fn poll(file: BorrowedFd<'_>, events: libc::c_short, patience: Duration) -> io::Result<libc::c_short> {
    let mut asked = libc::pollfd { fd: file.as_raw_fd(), events, revents: 0 };
    let milliseconds = libc::c_int::try_from(patience.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: one structure, which lives until the call returns.
    match unsafe { libc::poll(&raw mut asked, 1, milliseconds) } {
        0.. => Ok(asked.revents),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            error => Err(error),
        },
    }
}

/// Reads at a time of what the other side sends; one that never stops must not hold up what is sent to it.
const MOST_READS: u32 = 64;

/// Whether the other side of a connected stream is gone. What it has sent is read and thrown away.
pub(super) fn is_gone(socket: BorrowedFd<'_>) -> bool {
    let mut unread = [0_u8; 1024];
    for _ in 0..MOST_READS {
        // SAFETY: an open descriptor and a buffer of that length.
        let read =
            unsafe { libc::recv(socket.as_raw_fd(), unread.as_mut_ptr().cast(), unread.len(), libc::MSG_DONTWAIT) };
        match read {
            1.. => {}
            // The other side sends no more. A reader of a Unix socket may have closed that direction only.
            0 => {
                return poll(socket, 0, Duration::ZERO).map_or(true, |found| found & libc::POLLHUP != 0)
                    || is_tcp(socket);
            }
            _ => {
                let error = io::Error::last_os_error();
                return !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            }
        }
    }
    false
}

fn is_tcp(socket: BorrowedFd<'_>) -> bool {
    let mut domain: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: an open descriptor; the option is one integer.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DOMAIN,
            (&raw mut domain).cast(),
            &raw mut length,
        )
    };
    result == 0 && domain != libc::AF_UNIX
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Shutdown, TcpListener, TcpStream},
        os::{fd::AsFd as _, unix::net::UnixStream},
    };

    use super::*;

    #[test]
    fn what_was_written_to_a_unix_socket_is_acknowledged_when_it_is_read() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        assert_eq!(unacknowledged(ours.as_fd()).unwrap(), 0);
        ours.write_all(b"line\n").unwrap();
        assert!(unacknowledged(ours.as_fd()).unwrap() > 0);
        theirs.read_exact(&mut [0; 5]).unwrap();
        assert_eq!(unacknowledged(ours.as_fd()).unwrap(), 0);
    }

    #[test]
    fn a_reader_that_only_reads_is_not_gone_and_one_that_has_closed_is() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(!is_gone(ours.as_fd()));
        drop(theirs);
        assert!(is_gone(ours.as_fd()));
    }

    #[test]
    fn a_server_that_talks_is_not_gone_and_one_that_has_closed_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        theirs.write_all(&[b'x'; 5000]).unwrap();
        assert!(!is_gone(ours.as_fd()));
        drop(theirs);
        while !is_gone(ours.as_fd()) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
