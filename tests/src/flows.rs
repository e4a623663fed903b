//! Flows as the reference and the agent see them, and the comparison of the two.

use std::{fmt, fs::File, net::IpAddr, path::Path};

use anyhow::{Context, Result, ensure};
use ml_ids::{
    features::{self, FEATURE_COUNT, FEATURES, FeatureVector, FlowId},
    offline::{self, Capture, Replay, source},
};
use ml_ids_common::Profile;

/// A flow and its features.
#[derive(Clone, Debug)]
pub struct Row {
    /// Five-tuple.
    pub id: FlowId,
    /// Time of the first packet, microseconds since 1970.
    pub start_us: u64,
    /// The 78 features.
    pub values: FeatureVector,
}

impl Row {
    fn order(&self) -> (IpAddr, u16, IpAddr, u16, u8, u64) {
        let FlowId { source, destination, source_port, destination_port, protocol } = self.id;
        (source, source_port, destination, destination_port, protocol, self.start_us)
    }

    /// From the columns of `spec_model.py`: five-tuple in the order of its CSV, start, 78 features.
    ///
    /// # Errors
    /// A column that is missing or no number.
    pub fn from_reference<'a>(mut columns: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut next = || columns.next().context("a column is missing");
        let source = next()?.parse()?;
        let source_port = next()?.parse()?;
        let destination = next()?.parse()?;
        let destination_port = next()?.parse()?;
        let protocol = next()?.parse()?;
        let start_us = next()?.parse()?;
        let mut values = [0.0; FEATURE_COUNT];
        for value in &mut values {
            *value = next()?.parse()?;
        }
        ensure!(columns.next().is_none(), "more columns than there are features");
        Ok(Self { id: FlowId { source, destination, source_port, destination_port, protocol }, start_us, values })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} us", self.id, self.start_us)
    }
}

/// The TCP and UDP flows of a capture in the order in which they end, as `ml-ids extract` computes them. A damaged
/// capture yields what can be read.
///
/// # Errors
/// A file that cannot be opened or is no capture.
pub fn extract(path: &Path, profile: Profile) -> Result<Vec<Row>> {
    let mut capture = Capture::new(source::unpack(File::open(path)?)?)?;
    let mut replay = Replay::new(profile);
    let mut rows = Vec::new();
    offline::replay(&mut capture, &mut replay, |record| {
        if record.is_tcp_or_udp() {
            let id = FlowId::of(&record);
            let values = features::compute(&record, profile);
            rows.push(Row { id, start_us: record.state().start_us, values });
        }
        anyhow::Ok(())
    })?;
    let books = replay.counters();
    ensure!(books.ingress.balanced(), "packets do not add up: {books:?}");
    let flows = &books.flows;
    ensure!(flows.opened == flows.emitted + flows.discarded, "flows do not add up: {books:?}");
    Ok(rows)
}

/// True when two values are the same number within a relative tolerance. NaN equals NaN.
#[must_use]
pub fn same(left: f64, right: f64, tolerance: f64) -> bool {
    if left.is_nan() || right.is_nan() {
        return left.is_nan() && right.is_nan();
    }
    left == right || (left - right).abs() <= tolerance * left.abs().max(right.abs())
}

/// What differs between the flows expected and those computed, one line each; empty when nothing does. Flows are
/// matched by five-tuple and start, several of the same in the order in which they ended.
#[must_use]
pub fn differences(expected: &[Row], computed: &[Row], tolerance: f64) -> Vec<String> {
    let mut found = Vec::new();
    if expected.len() != computed.len() {
        found.push(format!("{} flows expected, {} computed", expected.len(), computed.len()));
    }
    let (mut expected, mut computed) = (expected.to_vec(), computed.to_vec());
    expected.sort_by_key(Row::order);
    computed.sort_by_key(Row::order);
    let (mut left, mut right) = (expected.iter().peekable(), computed.iter().peekable());
    loop {
        match (left.peek(), right.peek()) {
            (None, None) => return found,
            (Some(e), Some(c)) if e.order() == c.order() => {
                for ((feature, expected), value) in FEATURES.iter().zip(e.values).zip(c.values) {
                    if !same(expected, value, tolerance) {
                        found.push(format!("{c}: {} is {value}, expected {expected}", feature.name));
                    }
                }
                left.next();
                right.next();
            }
            (Some(e), c) if c.is_none_or(|c| e.order() < c.order()) => {
                found.push(format!("{e} is missing"));
                left.next();
            }
            (_, Some(c)) => {
                found.push(format!("{c} is not expected"));
                right.next();
            }
            (Some(_), None) => unreachable!("a flow without counterpart is missing"),
        }
    }
}
