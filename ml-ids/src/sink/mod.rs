//! Where verdicts go: standard error for people, JSON lines in the shape of Suricata's EVE for machines.
//!
//! ```text
//! verdict ─► Sinks ─► event, rendered once ─► Hub ─► a bounded queue and a thread for each sink
//! ```

mod address;
mod console;
mod counters;
mod datagrams;
mod eve;
mod event;
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

pub(crate) use console::protocol_name;
pub use counters::SinkState;
pub(crate) use eve::timestamp;
pub use event::{Event, EventKind, Kinds};
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

use crate::{detect::Verdict, model::Model};

/// Turns an interface index into its name.
pub type InterfaceNames = Arc<dyn Fn(u32) -> Option<String> + Send + Sync>;

/// What the scoring thread hands verdicts to.
#[derive(Clone)]
pub struct Sinks {
    hub: Arc<Hub>,
    interfaces: InterfaceNames,
}

impl Sinks {
    /// Renders events for the sinks of `hub`.
    #[must_use]
    pub fn new(hub: Arc<Hub>, interfaces: InterfaceNames) -> Self {
        Self { hub, interfaces }
    }

    /// Hands a verdict to every sink that wants it.
    pub fn write(&self, verdict: &Verdict, model: &Model) {
        console::write(verdict, model);
        let kind = if verdict.alert { EventKind::Positive } else { EventKind::Negative };
        if self.hub.wants(kind) {
            let interface = (self.interfaces)(verdict.record.state().interface);
            self.hub.emit(&Event::new(kind, &eve::verdict(verdict, model, interface.as_deref())));
        }
    }

    /// Says that so many more records are dealt with.
    pub fn mark(&self, records: u64) {
        self.hub.mark(records);
    }
}

#[cfg(test)]
mod tests;
