//! Where verdicts go: standard error for people, JSON lines in the shape of Suricata's EVE for machines.
//!
//! ```text
//! verdict ─► Sinks ─► event, rendered once ─► Hub ─► a bounded queue and a thread for each sink
//! ```

mod console;
mod counters;
pub mod eve;
mod event;
mod feed;
mod hub;
mod log_file;
mod node;
mod outlet;

use std::{io, path::Path, sync::Arc};

pub use counters::SinkState;
pub(crate) use eve::{protocol_name, timestamp};
pub use event::{Event, EventKind, Kinds};
pub use feed::{FEED_KINDS, Feed};
pub use hub::{First, Hub, Port, QUEUE_EVENTS, Sink, Undelivered};
pub use log_file::LogFile;
pub use node::node_name;

use ml_ids_common::FlowRecord;
use serde_json::Value;

use self::eve::Place;
use crate::{detect::Verdict, model::Model};

/// File that holds every verdict that passed its threshold.
pub const POSITIVE_LOG: &str = "positive_predictions.log";
/// File that holds every other verdict, when asked for.
pub const NEGATIVE_LOG: &str = "negative_predictions.log";

/// Turns an interface index into its name.
pub type InterfaceNames = Arc<dyn Fn(u32) -> Option<String> + Send + Sync>;

/// The log files in `directory`, as sinks. The first of them is the one whose lines mark records as dealt with.
///
/// # Errors
/// When the directory or a file cannot be made.
pub fn log_files(directory: &Path, negative: bool) -> io::Result<Vec<(Port, Box<dyn Sink>)>> {
    let mut files: Vec<(Port, Box<dyn Sink>)> = Vec::new();
    let mut add = |name, kind, file| {
        let port = Port { name, kinds: Kinds::of(&[kind]), queue: QUEUE_EVENTS };
        LogFile::open(&directory.join(file)).map(|file| files.push((port, Box::new(file))))
    };
    add("positive_log", EventKind::Positive, POSITIVE_LOG)?;
    if negative {
        add("negative_log", EventKind::Negative, NEGATIVE_LOG)?;
    }
    Ok(files)
}

/// Where all events of this sensor come from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The sensor's name.
    pub host: String,
    /// The seed of Community IDs.
    pub community_id_seed: u16,
}

/// What the scoring thread hands verdicts to.
#[derive(Clone)]
pub struct Sinks {
    hub: Arc<Hub>,
    interfaces: InterfaceNames,
    origin: Origin,
}

impl Sinks {
    /// Renders events for the sinks of `hub`.
    #[must_use]
    pub const fn new(hub: Arc<Hub>, interfaces: InterfaceNames, origin: Origin) -> Self {
        Self { hub, interfaces, origin }
    }

    /// Hands a verdict to every sink that wants it.
    pub fn write(&self, verdict: &Verdict, model: &Model) {
        console::write(verdict, model);
        let kind = if verdict.alert { EventKind::Positive } else { EventKind::Negative };
        self.emit(kind, &verdict.record, |place| eve::verdict(verdict, model, place));
        self.emit(EventKind::Flow, &verdict.record, |place| eve::judged_flow(verdict, model, place));
    }

    /// Hands a flow that no model judges to every sink that wants flows.
    pub fn write_unjudged(&self, record: &FlowRecord) {
        self.emit(EventKind::Flow, record, |place| eve::flow(record, place));
    }

    fn emit(&self, kind: EventKind, record: &FlowRecord, render: impl FnOnce(&Place<'_>) -> Value) {
        if self.hub.wants(kind) {
            self.hub.emit(&Event::new(kind, &self.placed(record, render)));
        }
    }

    fn placed(&self, record: &FlowRecord, render: impl FnOnce(&Place<'_>) -> Value) -> Value {
        let interface = (self.interfaces)(record.state().interface);
        let Origin { host, community_id_seed } = &self.origin;
        render(&Place { host, interface: interface.as_deref(), community_id_seed: *community_id_seed })
    }

    /// The event of a verdict, to show what an alert rests on.
    #[must_use]
    pub fn evidence(&self, verdict: &Verdict, model: &Model) -> Value {
        self.placed(&verdict.record, |place| eve::verdict(verdict, model, place))
    }

    /// Says that so many more records are dealt with.
    pub fn mark(&self, records: u64) {
        self.hub.mark(records);
    }
}

#[cfg(test)]
mod tests;
