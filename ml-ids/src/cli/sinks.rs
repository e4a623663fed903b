//! Flags of `run` that say where events go.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::{ArgAction, builder::FalseyValueParser};
use log::warn;

use crate::{
    model::Secret,
    sink::{
        AddressError, Connected, Kinds, LogFiles, Login, OpenError, QUEUE_EVENTS, Rotation, SinkAddress, SinkOptions,
        Target, Template, TemplateError, open_sinks,
    },
};

/// The header of webhooks. Not a flag, because everybody on the host sees those.
const AUTHORIZATION: &str = "ML_IDS_WEBHOOK_AUTHORIZATION";
/// Who a NATS client is.
const NATS_LOGIN: &str = "ML_IDS_NATS_LOGIN";
/// Largest template.
const TEMPLATE_BYTES: u64 = 64 << 10;

/// Where events go besides the log files of verdicts.
#[derive(clap::Args)]
#[command(next_help_heading = "Events")]
pub(super) struct SinkArgs {
    /// Send events there, too; may be given several times. stdout, syslog+udp://HOST:514, syslog+tcp://HOST:601,
    /// syslog+unix:///dev/log, https://HOST/PATH, unix:///PATH, unixgram:///PATH, nats://HOST:4222/PREFIX
    ///
    /// ?types=alert,flow,stats chooses what is sent; alerts only if it is not given. docs/SINKS.md says what each of them
    /// promises. In the variable, addresses stand with blanks or commas between them. Put addresses that hold a password there:
    /// everybody on the host sees the flag.
    #[arg(long = "sink", value_name = "ADDRESS", env = "ML_IDS_SINKS", hide_env_values = true)]
    sinks: Vec<String>,
    /// Events that may wait for each sink that is slow or away, some 2 KB each; further ones are dropped and counted
    #[arg(long, value_name = "N", env = "ML_IDS_SINK_QUEUE", default_value_t = QUEUE_EVENTS, value_parser = queue)]
    sink_queue: usize,
    /// Body of webhooks: slack, or a file of JSON with {{field.path}} where a field of the event goes [default: the event]
    #[arg(long, value_name = "NAME|FILE", env = "ML_IDS_WEBHOOK_TEMPLATE")]
    webhook_template: Option<PathBuf>,
    /// File with the value of the header Authorization of webhooks, such as Bearer TOKEN; else it is taken from the variable
    /// ML_IDS_WEBHOOK_AUTHORIZATION
    #[arg(long, value_name = "FILE", env = "ML_IDS_WEBHOOK_AUTHORIZATION_FILE")]
    webhook_authorization_file: Option<PathBuf>,
    /// What goes into eve.json: alert, flow and stats with commas between, or none. An event for each flow is expensive where
    /// there are many
    #[arg(long, value_name = "TYPES", env = "ML_IDS_EVE", default_value = "alert,stats", value_parser = eve)]
    eve: EveKinds,
    /// Close a log file before it gets larger than this, and begin another
    #[arg(long, value_name = "SIZE", env = "ML_IDS_LOG_ROTATE_SIZE", default_value = "100MiB", value_parser = size)]
    log_rotate_size: u64,
    /// Close a log file when it is that old, for example 24h [default: however old it gets]
    #[arg(long, value_name = "DURATION", env = "ML_IDS_LOG_ROTATE_AGE", value_parser = age)]
    log_rotate_age: Option<Duration>,
    /// Closed files of each log that are kept
    #[arg(long, value_name = "N", env = "ML_IDS_LOG_KEEP", default_value_t = Rotation::default().keep, value_parser = keep)]
    log_keep: usize,
    /// Compress closed log files
    #[arg(long, env = "ML_IDS_LOG_GZIP", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    log_gzip: bool,
}

/// Kinds for `eve.json`.
#[derive(Clone, Copy, Debug)]
struct EveKinds(Kinds);

/// Why the flags are wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum SinkArgsError {
    /// Addresses are numbered, not shown: they may hold a password.
    #[error("--sink, address {0}: {1}")]
    Address(usize, AddressError),
    #[error("--webhook-template {}: {source}", path.display())]
    Template { path: PathBuf, source: TemplateError },
    #[error("cannot read {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{NATS_LOGIN} is neither USER:PASSWORD nor TOKEN; set it to one of them")]
    NatsLogin,
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl SinkArgs {
    /// When log files are closed.
    pub(super) const fn rotation(&self) -> Rotation {
        Rotation { bytes: self.log_rotate_size, age: self.log_rotate_age, keep: self.log_keep, gzip: self.log_gzip }
    }

    /// Which log files there are.
    pub(super) const fn log_files(&self, negative: bool, block: bool) -> LogFiles {
        LogFiles { negative, block, eve: self.eve.0, rotation: self.rotation() }
    }

    /// The sinks. Nothing is connected yet.
    ///
    /// # Errors
    /// When the flags or the variables are wrong.
    pub(super) fn open(&self) -> Result<Connected, SinkArgsError> {
        let texts = self.sinks.iter().flat_map(|text| addresses(text));
        let addresses: Vec<SinkAddress> = texts
            .enumerate()
            .map(|(index, text)| text.parse().map_err(|error| SinkArgsError::Address(index + 1, error)))
            .collect::<Result<_, _>>()?;
        let options = SinkOptions {
            queue: self.sink_queue,
            template: self.webhook_template.as_deref().map(template).transpose()?,
            authorization: self.authorization()?,
            nats_login: nats_login(env::var(NATS_LOGIN).ok())?,
        };
        for address in &addresses {
            if let Target::Webhook(url) = &address.target
                && !url.is_protected()
                && (url.auth().is_some() || options.authorization.is_some())
            {
                warn!("the webhook at {} gets its authorization unencrypted; use https://", url.origin_text());
            }
        }
        Ok(open_sinks(addresses, &options)?)
    }

    fn authorization(&self) -> Result<Option<Secret>, SinkArgsError> {
        let text = match &self.webhook_authorization_file {
            Some(path) => Some(read(path)?),
            None => env::var(AUTHORIZATION).ok(),
        };
        let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(text.map(Secret::new))
    }
}

/// What is wrong with the first of the addresses in a text that is none. Never says what stands in it.
pub(super) fn mistake(text: &str) -> Option<AddressError> {
    addresses(text).into_iter().find_map(|address| address.parse::<SinkAddress>().err())
}

/// The addresses in a text, with blanks or commas between them. A comma that no address follows is part of one, as in
/// `?types=alert,flow`.
fn addresses(text: &str) -> Vec<&str> {
    let mut addresses = Vec::new();
    for mut rest in text.split_whitespace() {
        let begins = |text: &str| {
            let next = text.split(',').next().unwrap_or_default();
            next.contains("://") || next == "stdout" || next.starts_with("stdout?")
        };
        while let Some((at, _)) = rest.match_indices(',').find(|(at, _)| begins(&rest[at + 1..])) {
            addresses.push(&rest[..at]);
            rest = &rest[at + 1..];
        }
        addresses.push(rest.trim_end_matches(','));
    }
    addresses.retain(|address| !address.is_empty());
    addresses
}

fn template(path: &Path) -> Result<Template, SinkArgsError> {
    if let Some(template) = path.to_str().and_then(Template::named) {
        return Ok(template);
    }
    Template::parse(&read(path)?).map_err(|source| SinkArgsError::Template { path: path.to_owned(), source })
}

/// A small text file.
fn read(path: &Path) -> Result<String, SinkArgsError> {
    let failed = |source| SinkArgsError::File { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(failed)?;
    io::read_to_string(io::Read::take(file, TEMPLATE_BYTES)).map_err(failed)
}

fn nats_login(text: Option<String>) -> Result<Option<Login>, SinkArgsError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let secret = |text: &str| Secret::new(text.to_owned());
    match text.split_once(':') {
        Some(("", _)) => Err(SinkArgsError::NatsLogin),
        Some((user, password)) => Ok(Some((secret(user), Some(secret(password))))),
        None => Ok(Some((secret(&text), None))),
    }
}

fn eve(text: &str) -> Result<EveKinds, String> {
    if text == "none" {
        return Ok(EveKinds(Kinds::default()));
    }
    Kinds::from_names(text).map(EveKinds).ok_or_else(|| format!("must be none or {}", Kinds::NAMES))
}

fn queue(text: &str) -> Result<usize, String> {
    number(text, 1..=1_000_000)
}

fn keep(text: &str) -> Result<usize, String> {
    number(text, 1..=100_000)
}

fn number<T: FromStr + PartialOrd + std::fmt::Display>(
    text: &str,
    range: std::ops::RangeInclusive<T>,
) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("must be from {} to {}", range.start(), range.end()))
}

/// Bytes: `4096`, `64KiB`, `100MiB`, `1GiB`.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => return Err("write it as 64KiB, 100MiB or 1GiB".to_owned()),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.filter(|bytes| *bytes >= 4096).ok_or_else(|| "must be at least 4KiB, such as 100MiB".to_owned())
}

fn age(text: &str) -> Result<Duration, String> {
    let age = humantime::parse_duration(text).map_err(|error| format!("{error}; write 24h or 7days"))?;
    if age < Duration::from_secs(60) { Err("must be at least 1m".to_owned()) } else { Ok(age) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_blanks_part_addresses_but_not_the_types_of_one() {
        let text = "stdout?types=alert,flow,syslog+udp://a:514,\n nats://b/x?types=flow,stats,stdout, unix:///c,";
        let expected =
            ["stdout?types=alert,flow", "syslog+udp://a:514", "nats://b/x?types=flow,stats", "stdout", "unix:///c"];
        assert_eq!(addresses(text), expected);
        assert_eq!(addresses(" , "), Vec::<&str>::new());
    }

    #[test]
    fn sizes_and_ages_have_units_and_limits() {
        assert_eq!(size("100MiB"), Ok(100 << 20));
        assert_eq!((size("4096"), size("1G")), (Ok(4096), Ok(1 << 30)));
        for text in ["", "MiB", "10", "1TB", "-1MiB", "99999999999GiB", "1 MiB"] {
            assert!(size(text).is_err(), "{text:?}");
        }
        assert_eq!(age("24h"), Ok(Duration::from_secs(86_400)));
        assert!(age("10s").is_err() && age("24").is_err());
        assert!(queue("0").is_err() && keep("0").is_err() && queue("1000000").is_ok());
    }

    #[test]
    fn a_login_is_a_user_with_a_password_or_a_token() {
        let secret = |text: &str| Secret::new(text.to_owned());
        let login = |text: &str| nats_login(Some(text.to_owned())).unwrap();
        assert_eq!(login("ann:p:w"), Some((secret("ann"), Some(secret("p:w")))));
        assert_eq!(login("token"), Some((secret("token"), None)));
        assert_eq!(login(""), None);
        assert!(nats_login(Some(":x".to_owned())).is_err());
    }

    #[test]
    fn eve_takes_names_or_none() {
        assert_eq!(eve("none").unwrap().0, Kinds::default());
        assert!(eve("alert,flow").is_ok() && eve("").is_err());
    }
}
