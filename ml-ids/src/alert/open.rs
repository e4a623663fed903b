//! An alert that is still growing.

use std::{net::IpAddr, sync::Arc};

use serde_json::Value;

use super::{
    class::Severity,
    record::{Alert, Ending, State},
    seen::{Seen, SeenPorts},
    sighting::Sighting,
};

/// What flows of one alert have in common. `None` is anyone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) label: Arc<str>,
    pub(super) source: Option<IpAddr>,
    pub(super) target: Option<IpAddr>,
}

/// What alerts of one class have in common that may become one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Group {
    Source(Arc<str>, IpAddr),
    Target(Arc<str>, IpAddr),
    /// Being on many hosts, or from many.
    Folds(Arc<str>),
}

impl Key {
    /// The groups that an alert of this key belongs to.
    pub(super) fn groups(&self) -> impl Iterator<Item = Group> {
        let label = || Arc::clone(&self.label);
        let found = match (self.source, self.target) {
            (Some(source), Some(target)) => {
                [Some(Group::Source(label(), source)), Some(Group::Target(label(), target))]
            }
            (None, None) => [None, None],
            _ => [Some(Group::Folds(label())), None],
        };
        found.into_iter().flatten()
    }
}

/// An open alert, and what was last told of it.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) id: u64,
    pub(super) severity: Severity,
    pub(super) opened_us: u64,
    /// When the last flow joined.
    pub(super) touched_us: u64,
    /// When it was last told.
    pub(super) told_us: u64,
    /// The count at which it is told next.
    pub(super) next_count: u64,
    /// Flows have joined since it was last told.
    pub(super) grown: bool,
    /// Flows have joined since it was last shown.
    pub(super) unseen: bool,
    /// The number of its last change.
    pub(super) seq: u64,
    pub(super) held_back: bool,
    count: u64,
    first_seen_us: u64,
    last_seen_us: u64,
    score: f32,
    sources: Seen<IpAddr>,
    targets: Seen<IpAddr>,
    ports: SeenPorts,
    packets: u64,
    bytes: u64,
    pub(super) evidence: Arc<Value>,
}

impl Open {
    pub(super) fn new(id: u64, severity: Severity, sighting: &Sighting, now_us: u64, evidence: Value) -> Self {
        Self {
            id,
            severity,
            opened_us: now_us,
            touched_us: now_us,
            told_us: now_us,
            next_count: 10,
            grown: false,
            unseen: false,
            seq: id,
            held_back: false,
            count: 1,
            first_seen_us: sighting.start_us,
            last_seen_us: sighting.end_us,
            score: sighting.score,
            sources: Seen::new(sighting.source),
            targets: Seen::new(sighting.target),
            ports: SeenPorts::new(sighting.port),
            packets: sighting.packets,
            bytes: sighting.bytes,
            evidence: Arc::new(evidence),
        }
    }

    /// Another flow.
    pub(super) fn join(&mut self, sighting: &Sighting, now_us: u64) {
        self.count += 1;
        self.first_seen_us = self.first_seen_us.min(sighting.start_us);
        self.last_seen_us = self.last_seen_us.max(sighting.end_us);
        self.score = self.score.max(sighting.score);
        self.sources.insert(sighting.source);
        self.targets.insert(sighting.target);
        self.ports.insert(sighting.port);
        self.packets = self.packets.saturating_add(sighting.packets);
        self.bytes = self.bytes.saturating_add(sighting.bytes);
        self.touched_us = now_us;
        self.grown = true;
        self.unseen = true;
    }

    /// Takes in all flows of another alert.
    pub(super) fn absorb(&mut self, other: &Self) {
        let Self { count, first_seen_us, last_seen_us, score, sources, targets, ports, packets, bytes, .. } = other;
        self.count += count;
        self.first_seen_us = self.first_seen_us.min(*first_seen_us);
        self.last_seen_us = self.last_seen_us.max(*last_seen_us);
        self.score = self.score.max(*score);
        self.sources.merge(sources);
        self.targets.merge(targets);
        self.ports.merge(ports);
        self.packets = self.packets.saturating_add(*packets);
        self.bytes = self.bytes.saturating_add(*bytes);
        self.touched_us = self.touched_us.max(other.touched_us);
        self.grown = true;
        self.unseen = true;
    }

    /// Whether it has reached the next power of ten since it was last told.
    pub(super) const fn passed_a_power(&self) -> bool {
        self.count >= self.next_count
    }

    /// Notes that it is told now, by the change of this number.
    pub(super) const fn told(&mut self, now_us: u64, seq: u64) {
        self.told_us = now_us;
        self.seq = seq;
        self.grown = false;
        self.unseen = false;
        while self.next_count <= self.count {
            self.next_count = self.next_count.saturating_mul(10);
        }
    }

    /// As it is now.
    pub(super) fn snapshot(&self, label: &str, seq: u64) -> Alert {
        Alert {
            id: self.id,
            seq,
            state: State::Open,
            ending: None,
            merged_into: None,
            label: label.to_owned(),
            severity: self.severity,
            count: self.count,
            first_seen_us: self.first_seen_us,
            last_seen_us: self.last_seen_us,
            score: self.score,
            sources: self.sources.counted(),
            targets: self.targets.counted(),
            ports: self.ports.counted(),
            packets: self.packets,
            bytes: self.bytes,
            held_back: self.held_back,
            held: None,
            evidence: Arc::clone(&self.evidence),
        }
    }

    /// As it ends.
    pub(super) fn ended(&self, label: &str, seq: u64, ending: Ending, merged_into: Option<u64>) -> Alert {
        let state = if ending == Ending::Merged { State::Merged } else { State::Closed };
        Alert { state, ending: Some(ending), merged_into, ..self.snapshot(label, seq) }
    }
}
