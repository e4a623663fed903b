//! The sinks that an operator has asked for, each with its name and its queue.

use std::{io, path::Path};

use super::{
    address::{SinkAddress, Target},
    event::{EventKind, Kinds},
    hub::{Port, QUEUE_EVENTS, Sink},
    lines::{Output, UnixDatagrams, UnixLines},
    log_file::LogFile,
    nats::{Login, Nats},
    rotation::Rotation,
    syslog::Syslog,
    template::Template,
    webhook::{AuthorizationError, Webhook},
};
use crate::model::Secret;

/// File that holds every verdict that passed its threshold.
pub const POSITIVE_LOG: &str = "positive_predictions.log";
/// File that holds every other verdict, when asked for.
pub const NEGATIVE_LOG: &str = "negative_predictions.log";
/// File that holds what happens to blocks, when there may be any.
const BLOCK_LOG: &str = "block_events.log";
/// File that holds events of several kinds.
pub const EVE_LOG: &str = "eve.json";

/// Sinks for [`super::Hub::start`].
pub type Connected = Vec<(Port, Box<dyn Sink>)>;

/// Which log files there are.
#[derive(Clone, Copy, Debug)]
pub struct LogFiles {
    /// Whether verdicts that are no alerts have one.
    pub negative: bool,
    /// Whether what happens to blocks has one.
    pub block: bool,
    /// What goes into `eve.json`; without any kind there is none.
    pub eve: Kinds,
    /// When they are closed.
    pub rotation: Rotation,
}

/// The log files in `directory`, as sinks. The first of them is the one whose lines mark records as dealt with.
///
/// # Errors
/// When the directory or a file cannot be made.
pub fn log_files(directory: &Path, files: &LogFiles) -> io::Result<Connected> {
    let mut connected: Connected = Vec::new();
    let mut add = |name, kinds, file| {
        let port = Port { name, kinds, queue: QUEUE_EVENTS };
        LogFile::open(&directory.join(file), files.rotation).map(|file| connected.push((port, Box::new(file))))
    };
    add("positive_log", Kinds::of(&[EventKind::Positive]), POSITIVE_LOG)?;
    if files.negative {
        add("negative_log", Kinds::of(&[EventKind::Negative]), NEGATIVE_LOG)?;
    }
    if files.block {
        add("block_log", Kinds::of(&[EventKind::Block]), BLOCK_LOG)?;
    }
    if files.eve != Kinds::default() {
        add("eve_log", files.eve, EVE_LOG)?;
    }
    Ok(connected)
}

/// What is not in the addresses.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// Events that may wait for each.
    pub queue: usize,
    /// Body of webhooks; the event itself without one.
    pub template: Option<Template>,
    /// Value of the header `Authorization` of webhooks.
    pub authorization: Option<Secret>,
    /// Who a NATS client is whose address does not say it.
    pub nats_login: Option<Login>,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self { queue: QUEUE_EVENTS, template: None, authorization: None, nats_login: None }
    }
}

/// Why a sink cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no standard output.
    #[error("there is no standard output to write events to: {0}")]
    Stdout(io::Error),
    /// A webhook's authorization.
    #[error(transparent)]
    Authorization(#[from] AuthorizationError),
}

/// The sinks that these addresses lead to. Nothing is connected before the first event.
///
/// # Errors
/// When one cannot work, whatever the other side does.
pub fn open_sinks(addresses: Vec<SinkAddress>, options: &SinkOptions) -> Result<Connected, OpenError> {
    let mut connected: Connected = Vec::new();
    for SinkAddress { target, kinds } in addresses {
        let (kind, sink): (_, Box<dyn Sink>) = match target {
            Target::Stdout => ("stdout", Box::new(Output::stdout().map_err(OpenError::Stdout)?)),
            Target::Syslog(target) => ("syslog", Box::new(Syslog::new(target))),
            Target::Webhook(url) => {
                let webhook = Webhook::new(url, options.authorization.as_ref(), options.template.clone())?;
                ("webhook", Box::new(webhook))
            }
            Target::Unix { path, datagrams: false } => ("unix", Box::new(UnixLines::new(path))),
            Target::Unix { path, datagrams: true } => ("unix", Box::new(UnixDatagrams::new(path))),
            Target::Nats(target) => ("nats", Box::new(Nats::new(target, options.nats_login.clone()))),
        };
        let before = connected.iter().filter(|(port, _)| port.name.split('-').next() == Some(kind)).count();
        // There are as many as the operator has typed, and they live as long as the process.
        let name = if before == 0 { kind } else { String::leak(format!("{kind}-{}", before + 1)) };
        connected.push((Port { name, kinds, queue: options.queue }, sink));
    }
    Ok(connected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sink_has_a_name_of_its_own() {
        let texts =
            ["syslog+udp://a", "unix:///a", "syslog+tcp://b?types=flow", "unixgram:///b", "syslog+unix:///dev/log"];
        let addresses = texts.map(|text| text.parse().unwrap()).into();
        let connected = open_sinks(addresses, &SinkOptions { queue: 7, ..SinkOptions::default() }).unwrap();
        let names: Vec<_> = connected.iter().map(|(port, _)| port.name).collect();
        assert_eq!(names, ["syslog", "unix", "syslog-2", "unix-2", "syslog-3"]);
        assert!(connected.iter().all(|(port, _)| port.queue == 7));
        assert_eq!(connected[2].0.kinds, Kinds::of(&[EventKind::Flow]));
    }

    #[test]
    fn there_are_the_files_that_were_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let names = |further, eve| {
            let files = LogFiles { negative: further, block: further, eve, rotation: Rotation::default() };
            let connected = log_files(folder.path(), &files).unwrap();
            connected.iter().map(|(port, _)| port.name).collect::<Vec<_>>()
        };
        assert_eq!(names(false, Kinds::default()), ["positive_log"]);
        assert_eq!(
            names(true, Kinds::of(&[EventKind::Stats])),
            ["positive_log", "negative_log", "block_log", "eve_log"]
        );
    }
}
