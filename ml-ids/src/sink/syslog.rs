//! Syslog: RFC 5424 messages over UDP, or over TCP with their length in front (RFC 6587); to a local socket, whose readers
//! (rsyslog's, journald's) do not know RFC 5424, what the C library's `syslog` sends.
//!
//! The message is the event's JSON. The structured data are the two registered elements `origin` and `meta`; others would
//! need a private enterprise number.

use std::{fmt::Write as _, path::PathBuf, process};

use serde_json::Value;
use time::{
    OffsetDateTime,
    format_description::{BorrowedFormatItem, well_known::Rfc3339},
    macros::format_description,
};

use super::{
    address::HostPort,
    datagrams::{Datagrams, Mailbox},
    event::{Event, EventKind},
    hub::{First, Sink, Undelivered},
    node::{node_name, one_word},
    stream::{Place, Stream},
};

const APP_NAME: &str = "ml-ids";
/// RFC 5424's longest host name.
const HOSTNAME_BYTES: usize = 255;
/// Largest sequence number of RFC 5424; then it begins at 1 again.
const LAST_SEQUENCE: u32 = 2_147_483_647;
/// How a local socket wants the time.
const LOCAL_TIME: &[BorrowedFormatItem<'static>] =
    format_description!("[month repr:short] [day padding:space] [hour]:[minute]:[second]");
/// Syslog's severity of an alert, by EVE's from 1: critical, error, warning, notice.
const SEVERITIES: [u8; 4] = [2, 3, 4, 5];
/// Of everything that is no alert.
const INFORMATIONAL: u8 = 6;

/// Which part of a system speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(u8);

/// Facilities by name.
const FACILITIES: [(&str, u8); 13] = [
    ("user", 1),
    ("daemon", 3),
    ("auth", 4),
    ("authpriv", 10),
    ("audit", 13),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

impl Default for Facility {
    fn default() -> Self {
        Self(16)
    }
}

impl Facility {
    /// Names for messages.
    pub const NAMES: &'static str = "one of user, daemon, auth, authpriv, audit, local0 to local7";

    /// The one of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        FACILITIES.into_iter().find(|(known, _)| *known == name).map(|(_, number)| Self(number))
    }
}

/// A syslog server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogTarget {
    transport: Transport,
    facility: Facility,
    /// Longer messages are refused: a server would cut them off, and JSON that is cut off is none.
    max_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Transport {
    Udp(HostPort),
    Tcp(HostPort),
    Unix(PathBuf),
}

impl SyslogTarget {
    /// Over UDP.
    #[must_use]
    pub const fn udp(host: HostPort, facility: Facility, max_bytes: usize) -> Self {
        Self { transport: Transport::Udp(host), facility, max_bytes }
    }

    /// Over TCP.
    #[must_use]
    pub const fn tcp(host: HostPort, facility: Facility, max_bytes: usize) -> Self {
        Self { transport: Transport::Tcp(host), facility, max_bytes }
    }

    /// To a local socket.
    #[must_use]
    pub const fn unix(path: PathBuf, facility: Facility, max_bytes: usize) -> Self {
        Self { transport: Transport::Unix(path), facility, max_bytes }
    }
}

/// The sink.
pub(super) struct Syslog {
    way: Way,
    writer: Writer,
}

enum Way {
    Datagrams(Datagrams),
    Stream(Stream, HostPort),
}

impl Syslog {
    /// Connects when there is something to send.
    pub(super) fn new(target: SyslogTarget) -> Self {
        let SyslogTarget { transport, facility, max_bytes } = target;
        let local = matches!(transport, Transport::Unix(_));
        let way = match transport {
            Transport::Udp(host) => Way::Datagrams(Datagrams::to(Mailbox::Udp(host))),
            Transport::Unix(path) => Way::Datagrams(Datagrams::to(Mailbox::Unix(path))),
            Transport::Tcp(host) => Way::Stream(Stream::to(Place::Tcp(host.clone())), host),
        };
        let hostname = one_hostname(&node_name());
        Self { way, writer: Writer { facility, hostname, local, sequence: 0, max_bytes } }
    }
}

impl Sink for Syslog {
    fn deliver(&mut self, events: &[Event]) -> Result<(), Undelivered> {
        let Self { way, writer } = self;
        let begun = writer.sequence;
        let messages: Vec<String> = events.iter().map(|event| writer.message(event)).collect();
        let too_long = messages.iter().position(|message| message.len() > writer.max_bytes);
        let good = too_long.unwrap_or(messages.len());
        match way {
            Way::Datagrams(datagrams) => {
                let sent = datagrams.send(messages[..good].iter().map(String::as_bytes));
                let count = sent.as_ref().err().map_or(good, |failure| failure.delivered);
                writer.continue_after(begun, count);
                sent?;
            }
            Way::Stream(stream, host) => {
                writer.continue_after(begun, 0);
                // None at all would wait for nothing, and open a connection.
                if good > 0 {
                    let sent = stream.send(&events[..good], &mut |event, buffer| writer.frame(event, buffer));
                    sent.map_err(|error| Undelivered {
                        delivered: 0,
                        first: First::Retry,
                        error: format!("{host}: {error}").into(),
                    })?;
                }
            }
        }
        match messages.get(good) {
            None => Ok(()),
            Some(message) => {
                let (length, limit) = (message.len(), writer.max_bytes);
                let error = format!("a message of {length} bytes where {limit} are allowed; see max= in its address");
                Err(Undelivered { delivered: good, first: First::Refused, error: error.into() })
            }
        }
    }

    fn reopen(&mut self) {
        match &mut self.way {
            Way::Datagrams(datagrams) => datagrams.close(),
            Way::Stream(stream, _) => stream.close(),
        }
    }

    fn idle(&mut self) {
        let Self { way, writer } = self;
        if let Way::Stream(stream, _) = way {
            stream.idle(&mut |event, buffer| writer.frame(event, buffer));
        }
    }
}

/// Writes messages.
struct Writer {
    facility: Facility,
    hostname: String,
    local: bool,
    sequence: u32,
    max_bytes: usize,
}

impl Writer {
    /// The message with its length in front.
    fn frame(&mut self, event: &Event, buffer: &mut Vec<u8>) {
        let message = self.message(event);
        buffer.extend_from_slice(message.len().to_string().as_bytes());
        buffer.push(b' ');
        buffer.extend_from_slice(message.as_bytes());
    }

    /// Messages that were not sent leave no gap in the numbers.
    fn continue_after(&mut self, begun: u32, sent: usize) {
        self.sequence = (u32::try_from(sent).unwrap_or(0) + begun) % LAST_SEQUENCE;
    }

    fn message(&mut self, event: &Event) -> String {
        let json: Value = serde_json::from_str(event.line()).unwrap_or_default();
        let time = json.get("timestamp").and_then(Value::as_str).and_then(|text| {
            // Other zones and more digits than syslog knows become UTC and microseconds.
            let time = OffsetDateTime::parse(text, &Rfc3339).ok()?.to_offset(time::UtcOffset::UTC);
            time.replace_nanosecond(time.microsecond() * 1000).ok()
        });
        let priority = self.facility.0 * 8 + severity(event.kind(), &json);
        let (process, kind, line) = (process::id(), event.kind().name(), event.line());
        let mut message = String::with_capacity(line.len() + 200);
        // Writing to a string cannot fail.
        let _ = if self.local {
            let time = time.unwrap_or_else(OffsetDateTime::now_utc).format(LOCAL_TIME).unwrap_or_default();
            write!(message, "<{priority}>{time} {APP_NAME}[{process}]: {line}")
        } else {
            self.sequence = self.sequence % LAST_SEQUENCE + 1;
            let (hostname, sequence, version) = (&self.hostname, self.sequence, env!("CARGO_PKG_VERSION"));
            let time = time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| "-".to_owned());
            write!(
                message,
                "<{priority}>1 {time} {hostname} {APP_NAME} {process} {kind} [origin software=\"{APP_NAME}\" \
                 swVersion=\"{version}\"][meta sequenceId=\"{sequence}\"] {line}"
            )
        };
        message
    }
}

fn severity(kind: EventKind, event: &Value) -> u8 {
    if !matches!(kind, EventKind::Alert | EventKind::Positive) {
        return INFORMATIONAL;
    }
    let severity = event.pointer("/alert/severity").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let index = usize::try_from(severity.saturating_sub(1)).unwrap_or(usize::MAX);
    SEVERITIES.get(index).copied().unwrap_or(5)
}

/// A name as the header may hold it; dots stay.
fn one_hostname(name: &str) -> String {
    let words: Vec<String> = name.split('.').map(|word| one_word(word, HOSTNAME_BYTES)).collect();
    words.join(".").chars().take(HOSTNAME_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn writer(local: bool) -> Writer {
        let hostname = one_hostname("gate 1.example");
        Writer { facility: Facility::default(), hostname, local, sequence: LAST_SEQUENCE - 1, max_bytes: 8192 }
    }

    fn alert(severity: u64) -> Event {
        let event = json!({ "timestamp": "2023-11-14T22:13:20.123456789+01:00", "alert": { "severity": severity } });
        Event::new(EventKind::Alert, &event)
    }

    #[test]
    fn a_message_has_the_header_of_rfc_5424_and_the_event_as_it_is() {
        let (mut writer, event, process) = (writer(false), alert(1), process::id());
        let data = |sequence: u32| {
            let version = env!("CARGO_PKG_VERSION");
            format!("[origin software=\"ml-ids\" swVersion=\"{version}\"][meta sequenceId=\"{sequence}\"]")
        };
        let header = format!("<130>1 2023-11-14T21:13:20.123456Z gate_1.example ml-ids {process} alert");
        assert_eq!(writer.message(&event), format!("{header} {} {}", data(LAST_SEQUENCE), event.line()));
        let mut frame = Vec::new();
        writer.frame(&event, &mut frame);
        let message = format!("{header} {} {}", data(1), event.line());
        assert_eq!(String::from_utf8(frame).unwrap(), format!("{} {message}", message.len()));
    }

    #[test]
    fn a_local_message_is_what_the_c_library_sends() {
        let (event, process) = (alert(4), process::id());
        let expected = format!("<133>Nov 14 21:13:20 ml-ids[{process}]: {}", event.line());
        assert_eq!(writer(true).message(&event), expected);
    }

    #[test]
    fn severities_follow_the_alert_and_everything_else_is_informational() {
        let of = |kind, severity: u64| super::severity(kind, &json!({ "alert": { "severity": severity } }));
        let found: Vec<u8> = [0, 1, 2, 3, 4, 5, u64::MAX].map(|severity| of(EventKind::Alert, severity)).into();
        assert_eq!(found, [2, 2, 3, 4, 5, 5, 5]);
        assert_eq!(of(EventKind::Flow, 1), INFORMATIONAL);
        for (name, _) in FACILITIES {
            assert!(Facility::NAMES.contains(name) || name.starts_with("local"), "{name}");
        }
    }

    #[test]
    fn what_is_too_long_is_refused_and_what_comes_before_it_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let reader = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::new(SyslogTarget::unix(path, Facility::default(), 500));
        let long = Event::new(EventKind::Alert, &json!("x".repeat(500)));
        let failure = syslog.deliver(&[alert(1), long, alert(2)]).unwrap_err();
        assert_eq!((failure.delivered, failure.first), (1, First::Refused));
        let mut got = [0; 1000];
        assert!(reader.recv(&mut got).unwrap() > 0);
    }
}
