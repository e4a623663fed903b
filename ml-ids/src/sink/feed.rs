//! What happens, as it happens, for those who listen now: a bounded ring for each kind of event.
//!
//! Whoever publishes never waits; a listener that falls behind by a whole ring is told that it did.

use tokio::sync::broadcast;

use super::event::{Event, EventKind};

/// Kinds that can be listened to.
pub const FEED_KINDS: [EventKind; 4] = [EventKind::Alert, EventKind::Flow, EventKind::Stats, EventKind::Pulse];
/// Events that a listener may be behind.
const RING: usize = 1024;

/// The rings.
#[derive(Clone, Debug)]
pub struct Feed([broadcast::Sender<Event>; FEED_KINDS.len()]);

impl Default for Feed {
    fn default() -> Self {
        Self(FEED_KINDS.map(|_| broadcast::channel(RING).0))
    }
}

impl Feed {
    /// Whether anybody listens for this kind.
    #[must_use]
    pub fn wants(&self, kind: EventKind) -> bool {
        self.ring(kind).is_some_and(|ring| ring.receiver_count() > 0)
    }

    /// Tells those who listen.
    pub(crate) fn publish(&self, event: &Event) {
        if let Some(ring) = self.ring(event.kind())
            && ring.receiver_count() > 0
        {
            // The last one may have left meanwhile.
            let _nobody = ring.send(event.clone()).is_err();
        }
    }

    /// Listens from now on. `None` for kinds that are not published.
    #[must_use]
    pub fn listen(&self, kind: EventKind) -> Option<broadcast::Receiver<Event>> {
        self.ring(kind).map(broadcast::Sender::subscribe)
    }

    fn ring(&self, kind: EventKind) -> Option<&broadcast::Sender<Event>> {
        FEED_KINDS.iter().position(|known| *known == kind).and_then(|place| self.0.get(place))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;

    #[test]
    fn who_listens_gets_its_kind_and_who_is_too_slow_is_told() {
        let feed = Feed::default();
        assert!(!feed.wants(EventKind::Alert));
        let mut alerts = feed.listen(EventKind::Alert).unwrap();
        assert!(feed.wants(EventKind::Alert) && !feed.wants(EventKind::Flow));
        assert!(feed.listen(EventKind::Positive).is_none());
        feed.publish(&Event::new(EventKind::Flow, &json!(1)));
        feed.publish(&Event::new(EventKind::Alert, &json!(2)).numbered(7));
        let told = alerts.try_recv().unwrap();
        assert_eq!((told.line(), told.number()), ("2", Some(7)));
        for number in 0..=RING {
            feed.publish(&Event::new(EventKind::Alert, &json!(number)));
        }
        assert!(matches!(alerts.try_recv(), Err(TryRecvError::Lagged(1))));
        drop(alerts);
        assert!(!feed.wants(EventKind::Alert));
    }
}
