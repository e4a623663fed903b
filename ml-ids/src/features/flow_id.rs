//! Who a flow is between: the columns of a feature row that are not features.

use std::{fmt, net::IpAddr};

use ml_ids_common::FlowRecord;

/// A flow's five-tuple in the order of its direction. Prints as CICFlowMeter's Flow ID, `src-dst-sport-dport-proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId {
    /// Address of the flow's source.
    pub source: IpAddr,
    /// Address of the flow's destination.
    pub destination: IpAddr,
    /// Port of the source, 0 unless TCP or UDP.
    pub source_port: u16,
    /// Port of the destination, 0 unless TCP or UDP.
    pub destination_port: u16,
    /// IP protocol number: 6, 17, or 0 for everything else.
    pub protocol: u8,
}

impl FlowId {
    /// The five-tuple of a record.
    #[must_use]
    pub fn of(record: &FlowRecord) -> Self {
        let (source, destination) = (record.source(), record.destination());
        Self {
            source: source.0,
            destination: destination.0,
            source_port: source.1,
            destination_port: destination.1,
            protocol: record.protocol(),
        }
    }
}

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, destination, source_port, destination_port, protocol } = self;
        write!(f, "{source}-{destination}-{source_port}-{destination_port}-{protocol}")
    }
}
