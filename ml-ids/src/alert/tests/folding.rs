//! Many alerts that are one: sweeps, floods, and what stays apart.

use super::*;

#[test]
fn a_source_that_sweeps_many_hosts_becomes_one_alert_that_counts_them() {
    let mut story = Story::new(AlertSettings::default());
    for target in 100..100 + FOLD_AT as u32 {
        story.flow("Portscan", 1, target, 22);
    }
    let whole = story.last().clone();
    assert_eq!((whole.targets.count, whole.count, whole.id), (FOLD_AT as u32, FOLD_AT as u64, START));
    let merged: Vec<_> = story.changes.iter().filter(|change| change.alert.state == State::Merged).collect();
    assert_eq!(merged.len(), FOLD_AT - 2);
    assert!(merged.iter().all(|change| change.kind == Closed && change.alert.merged_into == Some(START)));
    story.changes.clear();
    for target in 0..1000 {
        story.flow("Portscan", 1, 100 + target, 22);
    }
    assert_eq!(story.alerts.counts().open, 1);
    let last = story.last();
    assert_eq!((last.targets.count, last.targets.sample.len(), last.ports.count), (996, SAMPLE, 1));
    assert_eq!(last.title(), "Portscan: 10.0.0.1 against 996 hosts, port 22");
    assert_eq!(story.told().len(), 3);
}

#[test]
fn many_sources_of_one_target_are_one_flood() {
    let mut story = Story::new(AlertSettings::default());
    for source in 0..2000 {
        story.flow("DDoS", 1000 + source, 2, 80);
    }
    assert_eq!(story.alerts.counts().open, 1);
    story.wait(60);
    let last = story.last();
    assert_eq!((last.count, last.sources.count, last.sources.exact), (2000, MOST_ADDRESSES as u32, false));
    assert_eq!(last.title(), "DDoS: 1024+ sources against 10.0.0.2, port 80");
}

#[test]
fn a_few_targets_of_a_source_stay_apart_and_so_do_classes() {
    let mut story = Story::new(AlertSettings::default());
    for target in 0..FOLD_AT as u32 - 1 {
        for label in ["Portscan", "SSH-Patator"] {
            story.flow(label, 1, 100 + target, 22);
            story.flow(label, 1, 100 + target, 22);
        }
    }
    assert_eq!(story.alerts.counts().open, 2 * (FOLD_AT - 1));
    assert_eq!(story.alerts.counts().merged, 0);
}

#[test]
fn hundreds_of_sweeping_sources_are_one_alert_of_the_class() {
    let mut story = Story::limited(0);
    for source in 0..200 {
        for target in 0..FOLD_AT as u32 {
            story.flow("Portscan", 1000 + source, 100 + 7 * source + target, 22);
        }
    }
    story.flow("Botnet", 1, 2, 443);
    assert_eq!(story.alerts.counts().open, 2);
    story.wait(60);
    let scans = story.changes.iter().rev().find(|change| change.alert.label == "Portscan").unwrap();
    assert_eq!((scans.alert.sources.count, scans.alert.count), (200, 800));
}

#[test]
fn alerts_that_are_over_are_not_folded_into_new_ones() {
    let mut story = Story::new(AlertSettings::default());
    for target in 0..FOLD_AT as u32 {
        story.flow("Portscan", 1, 100 + target, 22);
        story.now_us += 301 * SECOND;
    }
    assert_eq!((story.alerts.counts().open, story.alerts.counts().merged), (1, 0));
}
