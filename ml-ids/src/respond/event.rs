//! What the response did, told to people on standard error and to machines by the sinks, `block_events.log` among them.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;
use log::{Level, log};
use serde_json::{Value, json};

use super::blocklist::Cause;
use crate::{
    sensor::prefix::short,
    sink::{self, EventKind, Hub, timestamp},
};

/// What became of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It is blocked from now on.
    Block,
    /// It was, until somebody removed it.
    Unblock,
    /// Its time is over.
    Expire,
    /// It was to be blocked, and may not be.
    Refuse,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Unblock => "unblock",
            Self::Expire => "expire",
            Self::Refuse => "refuse",
        }
    }
}

/// One event.
pub(super) struct Event<'a> {
    pub(super) action: Action,
    pub(super) net: IpNet,
    /// `verdict`, `hand`, `shutdown`, `protected`, or why it was refused.
    pub(super) reason: &'static str,
    /// What there is to say about the reason, for people.
    pub(super) words: String,
    pub(super) ttl: Option<Duration>,
    pub(super) cause: Option<&'a Cause>,
    /// Packets that the block has met, once it is over.
    pub(super) packets: Option<u64>,
    pub(super) unix_us: u64,
}

/// Where events go.
pub(super) struct Journal {
    hub: Arc<Hub>,
    dry_run: bool,
}

impl Journal {
    pub(super) const fn new(hub: Arc<Hub>, dry_run: bool) -> Self {
        Self { hub, dry_run }
    }

    /// Tells of an event. Never waits.
    pub(super) fn write(&self, event: &Event<'_>) {
        let level = if matches!(event.action, Action::Block | Action::Refuse) { Level::Warn } else { Level::Info };
        log!(level, "{}", in_words(event, self.dry_run));
        if self.hub.wants(EventKind::Block) {
            self.hub.emit(&sink::Event::new(EventKind::Block, &in_json(event, self.dry_run)));
        }
    }
}

fn in_words(event: &Event<'_>, dry_run: bool) -> String {
    let net = short(&event.net);
    let mut text = match (event.action, dry_run) {
        (Action::Block, false) => format!("blocked {net}"),
        (Action::Block, true) => format!("would block {net}"),
        (Action::Unblock, _) => format!("unblocked {net}"),
        (Action::Expire, _) => format!("the block of {net} has expired"),
        (Action::Refuse, _) => format!("did not block {net}"),
    };
    if let Some(ttl) = event.ttl {
        text += &format!(" for {}", humantime::format_duration(ttl));
    }
    if let Some(cause) = event.cause {
        text += &format!(", {} {:.3}", cause.label, cause.probability);
    }
    if !event.words.is_empty() {
        text += &format!(": {}", event.words);
    }
    if let Some(packets) = event.packets {
        text += &format!(", {packets} packets {}", if dry_run { "would have been dropped" } else { "were dropped" });
    }
    text
}

fn in_json(event: &Event<'_>, dry_run: bool) -> Value {
    json!({
        "timestamp": timestamp(event.unix_us),
        "event_type": "block",
        "src_ip": short(&event.net),
        "action": event.action.name(),
        "reason": event.reason,
        "ttl": event.ttl.map(|ttl| ttl.as_secs_f64()),
        "packets": event.packets,
        "class": event.cause.map(|cause| cause.class),
        "label": event.cause.map(|cause| cause.label.as_str()),
        "probability": event.cause.map(|cause| cause.probability),
        "dry_run": dry_run,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::parse_prefix;

    #[test]
    fn an_event_says_the_same_in_words_and_in_json() {
        let cause = Cause { class: 2, label: "DoS".to_owned(), probability: 0.995 };
        let mut event = Event {
            action: Action::Block,
            net: parse_prefix("10.0.0.1").unwrap(),
            reason: "verdict",
            words: String::new(),
            ttl: Some(Duration::from_secs(600)),
            cause: Some(&cause),
            packets: None,
            unix_us: 1_700_000_000_000_000,
        };
        assert_eq!(in_words(&event, false), "blocked 10.0.0.1 for 10m, DoS 0.995");
        assert_eq!(in_words(&event, true), "would block 10.0.0.1 for 10m, DoS 0.995");
        let line = in_json(&event, false);
        assert_eq!(
            (&line["event_type"], &line["action"], &line["src_ip"]),
            (&json!("block"), &json!("block"), &json!("10.0.0.1"))
        );
        assert_eq!((&line["ttl"], &line["label"], &line["dry_run"]), (&json!(600.0), &json!("DoS"), &json!(false)));
        assert_eq!(line["timestamp"], "2023-11-14T22:13:20Z");
        event = Event { action: Action::Expire, ttl: None, cause: None, packets: Some(7), reason: "ttl", ..event };
        assert_eq!(in_words(&event, false), "the block of 10.0.0.1 has expired, 7 packets were dropped");
        event = Event { action: Action::Refuse, packets: None, words: "10.0.0.1 is a gateway".to_owned(), ..event };
        assert_eq!(in_words(&event, false), "did not block 10.0.0.1: 10.0.0.1 is a gateway");
        assert_eq!(in_json(&event, false)["action"], "refuse");
    }
}
