//! One event on its way to the sinks: a JSON line, rendered once and shared by all of them.

use std::sync::Arc;

/// What an event tells of; sinks choose by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum EventKind {
    /// An alert has been opened, has grown or has been closed.
    Alert,
    /// A finished flow and its verdict.
    Flow,
    /// The sensor's counters.
    Stats,
    /// A flow whose verdict passed the threshold: a line of `positive_predictions.log`.
    Positive,
    /// A flow whose verdict did not: a line of `negative_predictions.log`.
    Negative,
    /// Something has happened to a block.
    Block,
    /// What the last second brought, for those who watch: in the feed only.
    Pulse,
}

impl EventKind {
    /// All kinds that sinks can choose.
    pub const ALL: [Self; 6] = [Self::Alert, Self::Flow, Self::Stats, Self::Positive, Self::Negative, Self::Block];

    /// The name, in subjects, flags and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Flow => "flow",
            Self::Stats => "stats",
            Self::Positive => "positive",
            Self::Negative => "negative",
            Self::Block => "block",
            Self::Pulse => "pulse",
        }
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// The set of these.
    #[must_use]
    pub fn of(kinds: &[EventKind]) -> Self {
        Self(kinds.iter().fold(0, |set, kind| set | 1 << *kind as u8))
    }

    /// Names for messages.
    pub const NAMES: &'static str = "one or more of alert, flow, stats, positive, negative, block, with commas between";

    /// The set of the kinds with these names, with commas between; `None` if one is unknown or there is none.
    #[must_use]
    pub fn from_names(text: &str) -> Option<Self> {
        text.split(',').try_fold(Self::default(), |set, name| {
            let kind = EventKind::ALL.into_iter().find(|kind| kind.name() == name.trim())?;
            Some(set.and(Self::of(&[kind])))
        })
    }

    /// Whether it holds this kind.
    #[must_use]
    pub const fn has(self, kind: EventKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// An event. Cloning it costs no more than a counter.
#[derive(Clone, Debug)]
pub struct Event {
    kind: EventKind,
    line: Arc<str>,
    number: Option<u64>,
}

impl Event {
    /// An event of this line of JSON, without its line end.
    #[must_use]
    pub fn new(kind: EventKind, line: &serde_json::Value) -> Self {
        Self { kind, line: line.to_string().into(), number: None }
    }

    /// The same with its number in the order of such events, by which a listener says where to go on.
    #[must_use]
    pub fn numbered(self, number: u64) -> Self {
        Self { number: Some(number), ..self }
    }

    /// Its number, if it has one.
    #[must_use]
    pub const fn number(&self) -> Option<u64> {
        self.number
    }

    /// What it tells of.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        self.kind
    }

    /// The JSON, without a line end.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_the_kinds_it_was_made_of() {
        let some = [EventKind::Alert, EventKind::Negative];
        let set = Kinds::of(&some);
        for kind in EventKind::ALL {
            assert_eq!(set.has(kind), some.contains(&kind), "{kind:?}");
            assert!(set.and(Kinds::of(&[kind])).has(kind));
        }
        assert!(!Kinds::default().has(EventKind::Alert));
    }

    #[test]
    fn sets_are_read_by_their_names() {
        assert_eq!(Kinds::from_names("alert, negative"), Some(Kinds::of(&[EventKind::Alert, EventKind::Negative])));
        for wrong in ["", "alert,", "alerts", "alert flow", "pulse"] {
            assert_eq!(Kinds::from_names(wrong), None, "{wrong:?}");
        }
        for kind in EventKind::ALL {
            assert!(Kinds::NAMES.contains(kind.name()));
        }
    }
}
