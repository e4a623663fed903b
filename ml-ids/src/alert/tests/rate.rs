//! Alerts that are more than people can read: held back, summed up, and told later.

use super::*;

#[test]
fn alerts_over_the_rate_are_summed_up_and_kept_for_the_store() {
    let mut story = Story::limited(5);
    for number in 0..20 {
        let label = if number < 15 { "DoS Hulk" } else { "Web Attack - XSS" };
        story.flow(label, 100 + number, 200 + number, 80);
    }
    let held: Vec<_> = story.changes.iter().filter(|change| change.alert.held_back).collect();
    assert_eq!(held.len(), 15);
    assert_eq!(story.alerts.counts().held_back, 15);
    assert_eq!(story.kinds(Opened), 6);
    story.wait(60);
    let summary = story.changes.iter().find(|change| change.alert.label == RATE_LABEL).unwrap();
    let held = summary.alert.held.clone().unwrap();
    assert_eq!((held.count, held.classes["DoS Hulk"], held.classes["Web Attack - XSS"]), (15, 10, 5));
    assert_eq!(summary.alert.title(), "Alert rate: 15 alerts held back");
    assert_eq!(summary.alert.evidence["flow_id"], 80);
    story.changes.clear();
    story.wait(60);
    assert_eq!(story.told(), [told(Closed, RATE_LABEL, 15)]);
}

#[test]
fn noise_does_not_crowd_out_alerts_of_high_severity() {
    let mut story = Story::limited(3);
    for number in 0..20 {
        story.flow("DoS Hulk", 100 + number, 200 + number, 80);
    }
    story.changes.clear();
    story.flow("Heartbleed", 1, 2, 443);
    assert_eq!(story.told(), [told(Opened, "Heartbleed", 1)]);
}

#[test]
fn an_alert_that_was_held_back_is_told_when_it_goes_on_and_there_is_room() {
    let mut story = Story::limited(1);
    story.flow("DoS Hulk", 1, 2, 80);
    story.flow("SSH-Patator", 1, 2, 22);
    story.changes.clear();
    story.wait(61);
    story.flow("SSH-Patator", 1, 2, 22);
    let late = story.last();
    assert_eq!((late.label.as_str(), late.held_back, late.count), ("SSH-Patator", false, 2));
    assert_eq!(story.changes.last().unwrap().kind, Opened);
    assert_eq!(story.alerts.counts().told_late, 1);
}

#[test]
fn growth_over_the_rate_is_told_in_a_later_minute() {
    let mut story = Story::limited(2);
    for label in ["DoS Hulk", "SSH-Patator"] {
        for _ in 0..1000 {
            story.flow(label, 1, 2, 80);
        }
    }
    assert_eq!(story.kinds(Grown), 2);
    story.wait(60);
    assert_eq!(story.told(), [told(Grown, "DoS Hulk", 1000), told(Grown, "SSH-Patator", 1000)]);
}
