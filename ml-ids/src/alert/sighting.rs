//! One flow that raises an alert, as much of it as alerts are made of.

use std::net::IpAddr;

use crate::{detect::Verdict, model::Model};

/// A flow that the model and the allow-list leave as an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// The class's name.
    pub label: String,
    /// Its probability.
    pub score: f32,
    /// Who began the flow.
    pub source: IpAddr,
    /// With whom.
    pub target: IpAddr,
    /// At which port.
    pub port: u16,
    /// First packet, Unix time in microseconds.
    pub start_us: u64,
    /// Last packet, Unix time in microseconds.
    pub end_us: u64,
    /// Packets of both directions.
    pub packets: u64,
    /// Layer 4 payload bytes of both directions.
    pub bytes: u64,
}

impl Sighting {
    /// The flow of a verdict that is an alert.
    #[must_use]
    pub fn of(verdict: &Verdict, model: &Model) -> Self {
        let (record, score) = (&verdict.record, &verdict.score);
        let state = record.state();
        let (target, port) = record.destination();
        Self {
            label: model.contract().classes.get(score.class).cloned().unwrap_or_default(),
            score: score.probability,
            source: record.source().0,
            target,
            port,
            start_us: state.start_us,
            end_us: state.start_us.saturating_add_signed(record.duration_us().max(0)),
            packets: state.packets().into(),
            bytes: state.forward.length_sum + state.backward.length_sum,
        }
    }
}
