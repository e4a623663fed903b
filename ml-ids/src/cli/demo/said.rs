//! What the demonstration tells whoever has started it.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{Args, capture::Recording};
use crate::{
    alert::{
        Board, Severity,
        class::techniques,
        store::{Filter, MOST_ROWS, Stored},
    },
    cli::alerts_print::plain,
    detect::StatsSnapshot,
    offline::{ReplayState, Speed},
    sink::Event,
};

/// Alerts about many that are remembered.
const MOST_SAID: usize = 1024;

/// What is about to happen, and where to look.
pub(super) fn begin(recording: &Recording, args: &Args, url: &str) {
    let pace = match args.speed {
        Speed::Times(times) => format!("{times} times as fast as recorded"),
        Speed::Max => "as fast as its flows are judged".to_owned(),
    };
    let name = recording.name();
    eprintln!("demo: {name}, replayed {pace}");
    eprintln!("demo: look at {url} in a browser, or with `ml-ids top --url {url}`");
    eprintln!("demo: alerts as they are opened follow; Ctrl-C ends it");
}

/// Says each alert that is opened, and each that others have become part of, for as long as there are any to come.
pub(super) async fn alerts(mut alerts: Receiver<Event>) {
    let mut said = Said::default();
    loop {
        match alerts.recv().await {
            Ok(event) => {
                if let Some(line) = serde_json::from_str(event.line()).ok().and_then(|event| said.line(&event)) {
                    eprintln!("{line}");
                }
            }
            // What was missed is in the table at the end.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Alerts that have been said to be about many.
#[derive(Default)]
struct Said(BTreeSet<u64>);

impl Said {
    /// The line of a change, if it is worth one.
    fn line(&mut self, event: &Value) -> Option<String> {
        let alert = &event["alert"];
        let many = ["sources", "targets"].iter().any(|side| alert[side]["count"].as_u64() > Some(1));
        let folded = alert["change"] != "opened";
        if folded && !(many && alert["state"] == "open" && self.is_first(alert["id"].as_u64()?)) {
            return None;
        }
        let time = event["timestamp"].as_str()?.get(11..19)?;
        let severity = Severity::try_from(u8::try_from(alert["severity"].as_u64()?).ok()?).ok()?;
        let techniques = alert["metadata"]["mitre_technique_name"].as_array();
        let techniques: Vec<&str> = techniques.into_iter().flatten().filter_map(Value::as_str).collect();
        let techniques = techniques.join(", ").replace('_', " ");
        let more = match (folded, techniques.as_str()) {
            (true, _) => ": those above are part of it".to_owned(),
            (false, "") => String::new(),
            (false, techniques) => format!(" ({techniques})"),
        };
        Some(plain(&format!("{time}  {severity:<6}  {}{more}", alert["title"].as_str()?)))
    }

    /// Whether this is the first time; there are more alerts than are remembered only where that no longer matters.
    fn is_first(&mut self, id: u64) -> bool {
        while self.0.len() >= MOST_SAID {
            self.0.pop_first();
        }
        self.0.insert(id)
    }
}

/// What there was, in a line.
pub(super) fn over(state: &ReplayState, verdicts: &StatsSnapshot, took: Duration) {
    let counters = state.counters();
    eprintln!(
        "demo: {} packets in {} flows in {:.0} s; {} flows were judged, {} of them are part of these alerts:",
        counters.ingress.seen,
        counters.flows.opened,
        took.as_secs_f64(),
        verdicts.scored,
        verdicts.alerts
    );
}

/// What was wrong with the capture, if anything was.
pub(super) fn damage(state: &ReplayState) {
    if let Some(damage) = state.damage() {
        eprintln!("error: {damage}");
    }
}

/// Where to go from here.
pub(super) fn goes_on(url: &str) {
    eprintln!("demo: the capture is over and {url} stays; Ctrl-C ends it (--loop would begin again)");
    eprintln!("demo: all about one of them: curl -s '{url}/alerts?id=NUMBER'");
}

/// The alerts, the oldest first. Reads a file.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn found(board: &Arc<Board>) -> Result<Vec<Stored>> {
    let board = Arc::clone(board);
    let listed = tokio::task::spawn_blocking(move || {
        board.list(&Filter { limit: MOST_ROWS, ..Filter::default() }).map(|page| page.alerts)
    });
    let mut found = listed.await.context("the alerts could not be listed")??;
    found.reverse();
    Ok(found)
}

/// Writes the alerts to standard output, the number of each first, by which more is to be had.
///
/// # Errors
/// When it cannot be written.
pub(super) fn table(found: &[Stored]) -> Result<()> {
    let mut out = io::stdout().lock();
    for Stored { alert, .. } in found {
        let techniques: Vec<&str> = techniques(&alert.label).iter().map(|technique| technique.id).collect();
        let meant = if techniques.is_empty() { String::new() } else { format!(" ({})", techniques.join(", ")) };
        let title = plain(&alert.title());
        writeln!(out, "{}  {:<6}  {:>5} flows  {title}{meant}", alert.id, alert.severity, alert.count)?;
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(change: &str, title: &str, targets: u64) -> Value {
        json!({
            "timestamp": "2026-11-27T11:22:33.000001+0000",
            "alert": {
                "id": 7,
                "change": change,
                "state": "open",
                "severity": 3,
                "title": title,
                "targets": {"count": targets},
                "metadata": {"mitre_technique_name": ["Network_Service_Discovery", "Active_Scanning"]},
            },
        })
    }

    #[test]
    fn an_alert_that_is_opened_is_one_line_and_obeyed_by_no_terminal() {
        let line = |event| Said::default().line(&event);
        assert_eq!(
            line(event("opened", "Portscan: a against b, port 1", 1)).unwrap(),
            "11:22:33  low     Portscan: a against b, port 1 (Network Service Discovery, Active Scanning)"
        );
        assert_eq!(line(event("grown", "x", 1)), None);
        assert!(!line(event("opened", "\u{1b}[2J\n", 1)).unwrap().contains(char::is_control));
        assert_eq!(line(json!({})), None);
    }

    #[test]
    fn that_alerts_have_become_one_is_said_once() {
        let mut said = Said::default();
        assert!(said.line(&event("grown", "Portscan: a against 4 hosts", 4)).unwrap().contains("part of it"));
        assert_eq!(said.line(&event("grown", "Portscan: a against 5 hosts", 5)), None);
    }
}
