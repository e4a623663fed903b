//! What becomes of streams of flows, to the microsecond.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use super::*;

mod folding;
mod rate;

const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;
/// When the stories begin.
const START: u64 = 1_790_000_000 * SECOND;

fn host(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + number).into()
}

/// A sensor's alerts with their time.
struct Story {
    alerts: Alerts,
    now_us: u64,
    changes: Vec<AlertChange>,
}

impl Story {
    fn new(settings: AlertSettings) -> Self {
        Self { alerts: Alerts::new(settings), now_us: START, changes: Vec::new() }
    }

    fn limited(rate: u32) -> Self {
        Self::new(AlertSettings { rate, ..AlertSettings::default() })
    }

    /// A flow of 3 packets and 100 bytes that ends now.
    fn flow(&mut self, label: &str, source: u32, target: u32, port: u16) {
        let sighting = Sighting {
            label: label.to_owned(),
            score: 0.75,
            source: host(source),
            target: host(target),
            port,
            start_us: self.now_us - 1000,
            end_us: self.now_us,
            packets: 3,
            bytes: 100,
        };
        self.alerts.observe(&sighting, self.now_us, || json!({ "flow_id": port }), &mut self.changes);
    }

    /// Lets time pass with a tick every second.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now_us += SECOND;
            self.alerts.tick(self.now_us, &mut self.changes);
        }
    }

    /// What has happened since the last time: kind, label, count.
    fn told(&mut self) -> Vec<(ChangeKind, String, u64)> {
        let told = |change: AlertChange| (change.kind, change.alert.label.clone(), change.alert.count);
        self.changes.drain(..).filter(|change| !change.alert.held_back).map(told).collect()
    }

    fn last(&self) -> &Alert {
        &self.changes.last().expect("nothing has happened").alert
    }

    fn kinds(&mut self, kind: ChangeKind) -> usize {
        self.told().into_iter().filter(|(found, ..)| *found == kind).count()
    }
}

fn told(kind: ChangeKind, label: &str, count: u64) -> (ChangeKind, String, u64) {
    (kind, label.to_owned(), count)
}

use ChangeKind::{Closed, Grown, Opened};

#[test]
fn a_thousand_ports_of_one_host_are_one_alert_told_at_powers_of_ten() {
    let mut story = Story::new(AlertSettings::default());
    for port in 1..=1000 {
        story.flow("Portscan", 1, 2, port);
        story.now_us += SECOND / 100;
    }
    let last = story.last().clone();
    assert_eq!((last.ports.count, last.ports.sample.len(), last.targets.count), (1000, SAMPLE, 1));
    assert_eq!((last.packets, last.bytes, last.score), (3000, 100_000, 0.75));
    assert_eq!((last.first_seen_us, last.last_seen_us), (START - 1000, START + 999 * SECOND / 100));
    assert_eq!(last.title(), "Portscan: 10.0.0.1 against 10.0.0.2, 1000 ports");
    let expected = [told(Opened, "Portscan", 1), told(Grown, "Portscan", 10), told(Grown, "Portscan", 100)];
    assert_eq!(story.told(), [expected.as_slice(), &[told(Grown, "Portscan", 1000)]].concat());
}

#[test]
fn an_alert_closes_when_the_window_has_passed_since_its_last_flow() {
    let mut story = Story::new(AlertSettings::default());
    story.flow("Portscan", 1, 2, 80);
    story.wait(299);
    story.flow("Portscan", 1, 2, 81);
    story.changes.clear();
    story.wait(299);
    assert!(story.changes.iter().all(|change| change.kind == Grown), "{:?}", story.changes);
    story.wait(1);
    let closed = story.last();
    assert_eq!((closed.state, closed.ending, closed.count), (State::Closed, Some(Ending::Quiet), 2));
    assert_eq!(closed.last_seen_us, START + 299 * SECOND);
    story.changes.clear();
    story.flow("Portscan", 1, 2, 80);
    assert_eq!(story.told(), [told(Opened, "Portscan", 1)]);
}

#[test]
fn without_a_tick_the_next_flow_finds_that_the_window_has_passed() {
    let mut story = Story::new(AlertSettings::default());
    story.flow("Portscan", 1, 2, 80);
    story.now_us += 300 * SECOND - 1;
    story.flow("Portscan", 1, 2, 80);
    story.now_us += 300 * SECOND;
    story.flow("Portscan", 1, 2, 80);
    let expected = [told(Opened, "Portscan", 1), told(Grown, "Portscan", 2), told(Closed, "Portscan", 2)];
    assert_eq!(story.told(), [expected.as_slice(), &[told(Opened, "Portscan", 1)]].concat());
}

#[test]
fn an_attack_without_end_is_told_every_minute_and_is_another_alert_every_hour() {
    let mut story = Story::new(AlertSettings::default());
    for _ in 0..3599 {
        story.flow("DoS Hulk", 1, 2, 80);
        story.wait(1);
    }
    assert_eq!(story.last().ending, None);
    // Powers of ten at 10, 100 and 1000 flows begin the minute anew.
    assert_eq!(story.kinds(Grown), 3 + (3599 - 1000) / 60 + (1000 - 100) / 60 + (100 - 10) / 60);
    story.flow("DoS Hulk", 1, 2, 80);
    story.wait(1);
    story.flow("DoS Hulk", 1, 2, 80);
    assert_eq!(story.told(), [told(Closed, "DoS Hulk", 3600), told(Opened, "DoS Hulk", 1)]);
}

#[test]
fn growth_that_is_not_told_is_shown_once_to_those_who_look() {
    let mut story = Story::new(AlertSettings::default());
    for port in 1..=55 {
        story.flow("Portscan", 1, 2, port);
    }
    let told = story.last().seq;
    let mut shown = Vec::new();
    story.alerts.show_growth(|alert| shown.push((alert.count, alert.seq)));
    story.alerts.show_growth(|alert| shown.push((alert.count, alert.seq)));
    assert_eq!(shown, [(55, told)]);
}

#[test]
fn nothing_is_told_of_an_alert_that_does_not_grow() {
    let mut story = Story::new(AlertSettings::default());
    story.flow("Portscan", 1, 2, 80);
    story.wait(1);
    story.flow("Portscan", 1, 2, 80);
    story.wait(200);
    assert_eq!(story.told(), [told(Opened, "Portscan", 1), told(Grown, "Portscan", 2)]);
}

#[test]
fn the_one_that_is_quiet_for_longest_makes_room() {
    let mut story = Story::new(AlertSettings { max_open: 8, rate: 0, ..AlertSettings::default() });
    for number in 0..8 {
        story.flow("Botnet", 100 + number, 200 + number, 443);
        story.now_us += 1;
    }
    story.flow("Botnet", 100, 200, 443);
    story.flow("Botnet", 99, 199, 443);
    let closed: Vec<_> = story.changes.iter().filter(|change| change.kind == Closed).collect();
    assert_eq!(closed.len(), 1);
    assert_eq!((closed[0].alert.ending, closed[0].alert.sources.sample[0]), (Some(Ending::Room), host(101)));
    assert_eq!((story.alerts.counts().open, story.alerts.counts().evicted), (8, 1));
}

#[test]
fn a_clock_that_is_set_back_stops_nothing() {
    let mut story = Story::limited(1);
    story.flow("DoS Hulk", 1, 2, 80);
    story.now_us -= 10 * MINUTE;
    story.wait(1);
    story.flow("SSH-Patator", 1, 2, 22);
    story.wait(301);
    let (open, closed) = (story.alerts.counts().open, story.alerts.counts().closed);
    assert_eq!((open, closed), (1, 1), "the other waits until the clock is where it was");
    story.wait(600);
    assert_eq!(story.alerts.counts().open, 0);
}

#[test]
fn numbers_never_repeat_and_changes_are_in_their_order() {
    let mut story = Story::limited(0);
    for number in 0..50 {
        story.flow("Botnet", 100 + number, 200 + number, 443);
        story.now_us -= u64::from(number % 3);
    }
    story.wait(301);
    let numbers: Vec<_> = story.changes.iter().map(|change| change.alert.seq).collect();
    assert!(numbers.is_sorted_by(|before, after| before < after), "{numbers:?}");
}

#[test]
fn the_end_of_the_sensor_closes_everything() {
    let mut story = Story::limited(1);
    story.flow("DoS Hulk", 1, 2, 80);
    story.flow("DoS Hulk", 3, 4, 80);
    story.changes.clear();
    story.alerts.finish(story.now_us, &mut story.changes);
    assert!(story.changes.iter().all(|change| change.alert.ending == Some(Ending::Stopped)));
    let labels: Vec<_> = story.changes.iter().map(|change| change.alert.label.as_str()).collect();
    assert_eq!(labels, ["DoS Hulk", "DoS Hulk", RATE_LABEL]);
}

#[test]
fn the_event_is_that_of_the_flow_with_what_the_alert_has_become() {
    let mut story = Story::new(AlertSettings::default());
    story.flow("SSH-Patator", 1, 2, 22);
    story.wait(301);
    let event = story.changes.last().unwrap().event();
    assert_eq!((&event["event_type"], &event["flow_id"]), (&json!("alert"), &json!(22)));
    let alert = &event["alert"];
    assert_eq!(alert["metadata"]["mitre_technique_id"], json!(["T1110.001"]));
    assert_eq!(alert["metadata"]["mitre_tactic_name"], json!(["Credential_Access"]));
    assert_eq!((&alert["gid"], &alert["signature_id"]), (&json!(1_000_001), &json!(1_000_012)));
    let found = ["action", "signature", "category", "severity", "state", "change", "ending", "id", "count"];
    let expected = json!(["allowed", "ML-IDS SSH-Patator", "SSH-Patator", 2, "closed", "closed", "quiet", START, 1]);
    assert_eq!(Value::from_iter(found.map(|name| alert[name].clone())), expected);
    assert_eq!(alert["first_seen"], "2026-09-21T14:13:19.999000+0000");
}

#[test]
fn an_alert_survives_its_json() {
    let mut story = Story::limited(1);
    for number in 0..3 {
        story.flow("DoS Hulk", 100 + number, 200 + number, 80);
    }
    story.alerts.finish(story.now_us, &mut story.changes);
    for change in &story.changes {
        let text = serde_json::to_string(&*change.alert).unwrap();
        assert_eq!(serde_json::from_str::<Alert>(&text).unwrap(), *change.alert);
    }
}

#[test]
fn a_flood_of_any_alerts_stays_within_its_bounds() {
    let mut story = Story::limited(60);
    let mut number: u32 = 1;
    for step in 0..20_000_u32 {
        // A walk over sources, targets and classes without a pattern.
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let label = ["Portscan", "DDoS", "Botnet", "Heartbleed"][(number >> 30) as usize];
        story.flow(label, number >> 12 & 0xffff, number >> 4 & 0xffff, number as u16);
        story.now_us += 1000;
        if step % 1000 == 0 {
            story.alerts.tick(story.now_us, &mut story.changes);
        }
        assert!(story.alerts.counts().open <= 1024);
    }
    let counts = story.alerts.counts().clone();
    let told = story.told();
    let opened = told.iter().filter(|(kind, label, _)| *kind == Opened && label != RATE_LABEL).count() as u64;
    assert_eq!(opened, counts.opened_total() - counts.held_back + counts.told_late);
    assert_eq!(counts.opened_total(), counts.open as u64 + counts.closed + counts.merged);
    assert!(told.len() < 1000, "{} in twenty seconds", told.len());
}
