//! JSON lines on standard output and to Unix sockets.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::AsFd as _,
    path::PathBuf,
    time::Duration,
};

use super::{
    datagrams::{Datagrams, Mailbox},
    event::Event,
    hub::{First, Sink, Undelivered},
    socket::poll,
    stream::{Place, Stream},
};

/// How long who reads standard output may take for the next bytes.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that a pipe takes without waiting once it takes any (PIPE_BUF).
const PIECE: usize = 4096;

/// An event as a line.
fn line(event: &Event, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(event.line().as_bytes());
    buffer.push(b'\n');
}

/// Lines on standard output, or any other pipe or terminal. A reader that has stopped reading does not hang the thread.
pub(super) struct Output {
    file: File,
    /// Bytes of the next event's line that are written already.
    begun: usize,
}

impl Output {
    /// Standard output.
    ///
    /// # Errors
    /// When it is closed.
    pub(super) fn stdout() -> io::Result<Self> {
        Ok(Self { file: File::from(io::stdout().as_fd().try_clone_to_owned()?), begun: 0 })
    }

    /// Writes one line from where it was left.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        while let Some(rest) = line.get(self.begun..).filter(|rest| !rest.is_empty()) {
            let found = poll(self.file.as_fd(), libc::POLLOUT, PATIENCE)?;
            if found & libc::POLLERR != 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if found & libc::POLLOUT == 0 {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads it"));
            }
            match self.file.write(&rest[..rest.len().min(PIECE)]) {
                Ok(written) => self.begun += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.begun = 0;
        Ok(())
    }
}

impl Sink for Output {
    fn deliver(&mut self, events: &[Event]) -> Result<(), Undelivered> {
        let mut buffer = Vec::new();
        for (delivered, event) in events.iter().enumerate() {
            buffer.clear();
            line(event, &mut buffer);
            self.write(&buffer).map_err(|error| Undelivered {
                delivered,
                first: First::Retry,
                error: format!("cannot write to standard output: {error}").into(),
            })?;
        }
        Ok(())
    }
}

/// Lines over a connection to a Unix socket.
pub(super) struct UnixLines {
    path: PathBuf,
    stream: Stream,
}

impl UnixLines {
    /// Connects when there is something to send.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { stream: Stream::to(Place::Unix(path.clone())), path }
    }
}

impl Sink for UnixLines {
    fn deliver(&mut self, events: &[Event]) -> Result<(), Undelivered> {
        self.stream.send(events, &mut line).map_err(|error| Undelivered {
            delivered: 0,
            first: First::Retry,
            error: format!("{}: {error}", self.path.display()).into(),
        })
    }

    fn reopen(&mut self) {
        self.stream.close();
    }

    fn idle(&mut self) {
        self.stream.idle(&mut line);
    }
}

/// Lines as datagrams to a Unix socket.
pub(super) struct UnixDatagrams(Datagrams);

impl UnixDatagrams {
    /// Connects when there is something to send.
    pub(super) const fn new(path: PathBuf) -> Self {
        Self(Datagrams::to(Mailbox::Unix(path)))
    }
}

impl Sink for UnixDatagrams {
    fn deliver(&mut self, events: &[Event]) -> Result<(), Undelivered> {
        let lines: Vec<String> = events.iter().map(|event| format!("{}\n", event.line())).collect();
        self.0.send(lines.iter().map(String::as_bytes))
    }

    fn reopen(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _};

    use serde_json::json;

    use super::*;
    use crate::sink::EventKind;

    fn output() -> (Output, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        (Output { file: File::from(std::os::fd::OwnedFd::from(writer)), begun: 0 }, reader)
    }

    fn event(text: &str) -> Event {
        Event::new(EventKind::Alert, &json!(text))
    }

    #[test]
    fn a_line_that_a_reader_left_half_read_is_finished_when_it_reads_on() {
        let (mut output, reader) = output();
        let events: Vec<Event> = (0..5).map(|number| event(&number.to_string().repeat(20_000))).collect();
        // A pipe holds 16 pages of 4 KiB: the fourth line does not fit, and nobody reads.
        let failure = output.deliver(&events).unwrap_err();
        assert_eq!((failure.delivered, failure.first), (3, First::Retry));
        assert!(output.begun > 0, "nothing of the fourth line");
        let read = std::thread::spawn(move || {
            let mut text = String::new();
            BufReader::new(reader).read_to_string(&mut text).map(|_| text)
        });
        output.deliver(&events[failure.delivered..]).unwrap();
        drop(output);
        let text = read.join().unwrap().unwrap();
        let expected: Vec<&str> = events.iter().map(Event::line).collect();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_closed_pipe_is_an_error_and_not_the_end() {
        let (mut output, reader) = output();
        output.deliver(&[event("read")]).unwrap();
        let mut reader = BufReader::new(reader);
        reader.read_line(&mut String::new()).unwrap();
        drop(reader);
        for _ in 0..2 {
            let failure = output.deliver(&[event("lost")]).unwrap_err();
            assert_eq!((failure.delivered, failure.first), (0, First::Retry));
        }
    }
}
