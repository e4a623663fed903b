//! Where a sink leads, as `--sink` has it: `syslog+tcp://logs.example:601?types=alert,flow`.
//!
//! An address may hold a password. Neither errors nor what is displayed of it do.

use std::{fmt, path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;
use ureq::http::uri::Authority;

use super::{
    event::{EventKind, Kinds},
    syslog::{Facility, SyslogTarget},
};
use crate::model::{Secret, WebUrl};

/// Bytes of a syslog message unless told otherwise: what rsyslog takes without being told.
const SYSLOG_BYTES: usize = 8192;
/// First part of NATS subjects unless told otherwise.
const NATS_PREFIX: &str = "mlids";

/// Where a sink leads, and which events go there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkAddress {
    /// Where.
    pub target: Target,
    /// Which.
    pub kinds: Kinds,
}

/// Where a sink leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A syslog server.
    Syslog(SyslogTarget),
    /// A web server that takes each event by a POST.
    Webhook(WebUrl),
    /// A Unix socket that takes lines.
    Unix {
        /// Its file.
        path: PathBuf,
        /// Whether it takes datagrams instead of a stream.
        datagrams: bool,
    },
    /// A NATS server with JetStream.
    Nats(NatsTarget),
}

/// A NATS server with JetStream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsTarget {
    /// Its name or address, and port.
    pub host: HostPort,
    /// Whether it must speak TLS.
    pub tls: bool,
    /// File of the certificates that are trusted; those of the system if there is none.
    pub ca: Option<PathBuf>,
    /// User and password; a token stands alone as the user.
    pub login: Option<(Secret, Option<Secret>)>,
    /// First part of the subjects.
    pub prefix: String,
    /// Stream to create unless it is there.
    pub create: Option<String>,
}

/// A host's name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Why an address is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing that looks like an address.
    #[error(
        "not the address of a sink; write stdout, syslog+udp://HOST:514, syslog+tcp://HOST:601, syslog+unix:///dev/log, \
         https://HOST/PATH, unix:///PATH, unixgram:///PATH or nats://HOST:4222/PREFIX"
    )]
    Shape,
    /// A scheme that no sink has.
    #[error(
        "there is no sink for {0}://; there are syslog+udp, syslog+tcp, syslog+unix, https, http, unix, unixgram, nats, tls \
         (NATS over TLS), and stdout without ://"
    )]
    Scheme(String),
    /// No host or a wrong one.
    #[error("{0}:// needs a host's name or address behind it, and its port if it is not {1}")]
    Host(String, u16),
    /// No path or a relative one.
    #[error("{0}:// needs an absolute path behind it: {0}:///run/collector.sock")]
    Path(String),
    /// An option that this sink does not have.
    #[error("{scheme} has no option {option}; it has {known}")]
    Option {
        /// The sink.
        scheme: String,
        /// What was given.
        option: String,
        /// What there is.
        known: String,
    },
    /// An option whose value is none.
    #[error("{0} must be {1}")]
    Value(&'static str, &'static str),
    /// A login where none can be used.
    #[error("{0}:// takes no user and password")]
    Login(String),
}

impl FromStr for SinkAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (plain, query) = text.split_once('?').unwrap_or((text, ""));
        if plain == "stdout" {
            let options = Options::parse("stdout", query, &["types"])?;
            return Ok(Self { target: Target::Stdout, kinds: options.kinds()? });
        }
        let (scheme, rest) = plain.split_once("://").ok_or(AddressError::Shape)?;
        let (scheme, rest) = match scheme {
            "webhook+https" => ("https", rest),
            "webhook+http" => ("http", rest),
            other => (other, rest),
        };
        let (target, options) = match scheme {
            "https" | "http" => return webhook(scheme, rest, query),
            "syslog+udp" | "syslog+tcp" | "syslog+unix" => syslog(scheme, rest, query)?,
            "unix" | "unixgram" => {
                let options = Options::parse(scheme, query, &["types"])?;
                (Target::Unix { path: absolute(scheme, rest)?, datagrams: scheme == "unixgram" }, options)
            }
            "nats" | "tls" => nats(scheme, rest, query)?,
            other => return Err(AddressError::Scheme(other.chars().take(40).collect())),
        };
        Ok(Self { target, kinds: options.kinds()? })
    }
}

/// The query is the web server's own, but for `types`.
fn webhook(scheme: &str, rest: &str, query: &str) -> Result<SinkAddress, AddressError> {
    let (ours, theirs): (Vec<_>, Vec<_>) = query.split('&').partition(|part| part.starts_with("types="));
    let options = Options::parse(scheme, &ours.join("&"), &["types"])?;
    let theirs = theirs.join("&");
    let url = format!("{scheme}://{rest}{}{theirs}", if theirs.is_empty() { "" } else { "?" });
    let url: WebUrl = url.parse().map_err(|_| AddressError::Host(scheme.to_owned(), 443))?;
    Ok(SinkAddress { target: Target::Webhook(url), kinds: options.kinds()? })
}

fn syslog(scheme: &str, rest: &str, query: &str) -> Result<(Target, Options), AddressError> {
    let options = Options::parse(scheme, query, &["types", "facility", "max"])?;
    let facility = options.get("facility").map_or(Ok(Facility::default()), |name| {
        Facility::from_name(name).ok_or(AddressError::Value("facility", Facility::NAMES))
    })?;
    let max_bytes = options.get("max").map_or(Ok(SYSLOG_BYTES), |text| match text.parse() {
        Ok(bytes @ 480..=1_048_576) => Ok(bytes),
        _ => Err(AddressError::Value("max", "a number of bytes from 480 to 1048576")),
    })?;
    let target = match scheme {
        "syslog+udp" => SyslogTarget::udp(host(scheme, rest, 514)?, facility, max_bytes),
        "syslog+tcp" => SyslogTarget::tcp(host(scheme, rest, 601)?, facility, max_bytes),
        _ => SyslogTarget::unix(absolute(scheme, rest)?, facility, max_bytes),
    };
    Ok((Target::Syslog(target), options))
}

fn nats(scheme: &str, rest: &str, query: &str) -> Result<(Target, Options), AddressError> {
    const WORD: &str = "of letters, digits, - and _, with dots between words";
    let options = Options::parse(scheme, query, &["types", "create", "ca"])?;
    let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, place) = authority.rsplit_once('@').map_or((None, authority), |(login, place)| (Some(login), place));
    let login = login.map(|login| {
        let secret = |text: &str| Secret::new(percent_decode_str(text).decode_utf8_lossy().into_owned());
        match login.split_once(':') {
            Some((user, password)) => (secret(user), Some(secret(password))),
            None => (secret(login), None),
        }
    });
    let is_word = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let prefix = if prefix.is_empty() { NATS_PREFIX } else { prefix };
    if !prefix.split('.').all(is_word) {
        return Err(AddressError::Value("the prefix of NATS subjects", WORD));
    }
    let create = options.get("create");
    if create.is_some_and(|name| !is_word(name)) {
        return Err(AddressError::Value("create", "a stream's name of letters, digits, - and _"));
    }
    let target = NatsTarget {
        host: host(scheme, place, 4222)?,
        tls: scheme == "tls",
        ca: options.get("ca").map(PathBuf::from),
        login,
        prefix: prefix.to_owned(),
        create: create.map(str::to_owned),
    };
    Ok((Target::Nats(target), options))
}

/// The host and the port behind a scheme.
fn host(scheme: &str, text: &str, port: u16) -> Result<HostPort, AddressError> {
    let wrong = || AddressError::Host(scheme.to_owned(), port);
    if text.contains('@') {
        return Err(AddressError::Login(scheme.to_owned()));
    }
    let authority: Authority = text.trim_end_matches('/').parse().map_err(|_| wrong())?;
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = match authority.port_u16() {
        Some(port) => port,
        None if authority.as_str() == authority.host() => port,
        None => return Err(wrong()),
    };
    if name.is_empty() { Err(wrong()) } else { Ok(HostPort { host: name.to_owned(), port }) }
}

fn absolute(scheme: &str, text: &str) -> Result<PathBuf, AddressError> {
    let path = percent_decode_str(text).decode_utf8_lossy().into_owned();
    if path.starts_with('/') && path.len() > 1 { Ok(path.into()) } else { Err(AddressError::Path(scheme.to_owned())) }
}

/// What is behind the question mark.
struct Options(Vec<(String, String)>);

impl Options {
    fn parse(scheme: &str, query: &str, known: &[&str]) -> Result<Self, AddressError> {
        let mut options = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            if !known.contains(&name) {
                // A password with a question mark in it ends up here.
                let option = if name.contains('@') { "…" } else { name }.to_owned();
                let (scheme, known) = (scheme.to_owned(), known.join(", "));
                return Err(AddressError::Option { scheme, option, known });
            }
            options.push((name.to_owned(), percent_decode_str(value).decode_utf8_lossy().into_owned()));
        }
        Ok(Self(options))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn kinds(&self) -> Result<Kinds, AddressError> {
        self.get("types").map_or(Ok(Kinds::of(&[EventKind::Alert])), |text| {
            Kinds::from_names(text).ok_or(AddressError::Value("types", Kinds::NAMES))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SinkAddress {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn each_kind_of_address_is_understood_and_brings_alerts_unless_told_otherwise() {
        let SinkAddress { target, kinds } = address("stdout?types=flow,stats");
        assert_eq!((target, kinds), (Target::Stdout, Kinds::of(&[EventKind::Flow, EventKind::Stats])));
        let SinkAddress { target, kinds } = address("unixgram:///run/a%20b.sock");
        let expected = Target::Unix { path: "/run/a b.sock".into(), datagrams: true };
        assert_eq!((target, kinds), (expected, Kinds::of(&[EventKind::Alert])));
        let Target::Webhook(url) = address("webhook+https://ann:x@hooks.example/a?b=c&types=flow&d").target else {
            panic!("no webhook");
        };
        assert_eq!(url.to_string(), "https://hooks.example/a?…");
        let Target::Nats(nats) = address("tls://ann:p%40ss@[::1]/site.gate?create=IDS&ca=/etc/ca.pem").target else {
            panic!("no NATS");
        };
        assert_eq!((nats.host.to_string().as_str(), nats.tls), ("[::1]:4222", true));
        assert_eq!((nats.prefix.as_str(), nats.create.as_deref()), ("site.gate", Some("IDS")));
        assert_eq!(nats.login, Some((Secret::new("ann".to_owned()), Some(Secret::new("p@ss".to_owned())))));
        let Target::Nats(nats) = address("nats://localhost:4333").target else { panic!("no NATS") };
        assert_eq!((nats.host.port, nats.prefix.as_str(), nats.tls), (4333, "mlids", false));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_password() {
        for (text, words) in [
            ("collector", "write stdout"),
            ("ftp://ann:hunter2@host/", "no sink for ftp://"),
            ("syslog+udp://", "needs a host"),
            ("syslog+tcp://host:99999", "its port if it is not 601"),
            ("syslog+tcp://ann:hunter2@host", "takes no user"),
            ("syslog+udp://host?facility=mine", "local0"),
            ("syslog+udp://host?max=10", "from 480"),
            ("syslog+udp://host?size=10", "has no option size; it has types, facility, max"),
            ("unix://run/x.sock", "absolute path"),
            ("https://", "needs a host"),
            ("nats://ann:hunter2@host/a.*", "letters, digits"),
            ("nats://ann:hunter2@host/?types=alerts", "alert, flow, stats"),
            ("stdout?types=", "alert, flow, stats"),
        ] {
            let error = text.parse::<SinkAddress>().map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("hunter2"), "{text}: {error}");
        }
        let nats = address("nats://ann:hunter2@host/x");
        assert!(!format!("{nats:?}").contains("hunter2"));
    }
}
