//! Where verdicts go: standard error for people, JSON lines in the shape of Suricata's EVE for machines.
//!
//! ```text
//! verdict ─► Sinks ─► event, rendered once ─► Hub ─► a bounded queue and a thread for each sink
//! ```

mod address;
mod console;
mod counters;
mod datagrams;
pub mod eve;
mod event;
mod feed;
mod hub;
mod lines;
mod log_file;
mod nats;
mod node;
mod open;
mod outlet;
mod rotation;
mod socket;
mod stream;
mod syslog;
mod template;
mod webhook;

use std::sync::Arc;

pub use address::{AddressError, HostPort, NatsTarget, SinkAddress, Target};
pub use counters::SinkState;
pub(crate) use eve::{protocol_name, timestamp};
pub use event::{Event, EventKind, Kinds};
pub use feed::{FEED_KINDS, Feed};
pub use hub::{First, Hub, Port, QUEUE_EVENTS, Sink, Undelivered};
pub use log_file::LogFile;
pub use nats::Login;
pub use node::node_name;
pub use open::{
    Connected, EVE_LOG, LogFiles, NEGATIVE_LOG, OpenError, POSITIVE_LOG, SinkOptions, log_files, open_sinks,
};
pub use rotation::Rotation;
pub use syslog::{Facility, SyslogTarget};
pub use template::{Template, TemplateError};
pub use webhook::AuthorizationError;

use ml_ids_common::FlowRecord;
use serde_json::Value;

use self::eve::Place;
use crate::{alert::Severities, detect::Verdict, kubernetes::Pods, model::Model};

/// Turns an interface index into its name.
pub type InterfaceNames = Arc<dyn Fn(u32) -> Option<String> + Send + Sync>;

/// Where all events of this sensor come from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The sensor's name.
    pub host: String,
    /// The seed of Community IDs.
    pub community_id_seed: u16,
    /// How grave classes are.
    pub severities: Severities,
    /// The pods of this node, where they are asked for.
    pub pods: Option<Arc<Pods>>,
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
        let Origin { host, community_id_seed, severities, pods } = &self.origin;
        render(&Place {
            host,
            interface: interface.as_deref(),
            community_id_seed: *community_id_seed,
            severities: Some(severities),
            pods: pods.as_deref(),
        })
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
