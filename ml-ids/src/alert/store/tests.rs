//! The store against real files: bounds, restarts, damage, locks and full disks.

mod text;

use std::{fs, io::Write as _, path::PathBuf, time::Instant};

use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    alert::{AlertChange, AlertSettings, AlertText, Alerts, Board, Ending, Sighting, State},
    sink::Feed,
};

const SECOND: u64 = 1_000_000;

fn now_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

fn sighting(label: &str, number: u8, now_us: u64) -> Sighting {
    Sighting {
        label: label.to_owned(),
        score: 0.9,
        source: [10, 0, 0, number].into(),
        target: [10, 0, 1, number].into(),
        port: 80,
        start_us: now_us,
        end_us: now_us,
        packets: 2,
        bytes: 0,
    }
}

/// Alerts of different sources and targets, one a second, the first at `begin_us`.
fn opened(count: u8, begin_us: u64) -> Vec<Arc<Alert>> {
    let mut alerts = Alerts::new(AlertSettings { rate: 0, ..AlertSettings::default() });
    let mut changes: Vec<AlertChange> = Vec::new();
    for number in 0..count {
        let now_us = begin_us + u64::from(number) * SECOND;
        let label = if number % 2 == 0 { "DoS Hulk" } else { "Portscan" };
        alerts.observe(&sighting(label, number, now_us), now_us, || json!({ "flow_id": number }), &mut changes);
    }
    changes.into_iter().map(|change| change.alert).collect()
}

struct Place {
    _folder: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state").join(ALERT_DB);
        Self { _folder: folder, path }
    }

    fn store(&self) -> Store {
        Store::start(StoreOptions::new(self.path.clone()), now_us()).unwrap()
    }

    fn all(&self) -> Vec<Stored> {
        Archive::open(&self.path).unwrap().list(&Filter { limit: 100, merged: true, ..Filter::default() }).unwrap()
    }

    fn corrupt_files(&self) -> usize {
        let names = fs::read_dir(self.path.parent().unwrap()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains(".corrupt-") && !name.ends_with("-wal") && !name.ends_with("-shm")).count()
    }
}

fn eventually(watch: &StoreWatch, what: &str, condition: impl Fn(&StoreHealth) -> bool) {
    let begun = Instant::now();
    while !condition(&watch.health()) {
        assert!(begun.elapsed() < Duration::from_secs(40), "{what}: {:?}", watch.health());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn alerts_are_there_after_a_restart_and_what_was_open_is_closed() {
    let place = Place::new();
    let store = place.store();
    let alerts = opened(3, now_us());
    alerts.iter().for_each(|alert| store.keep(alert));
    let watch = store.watch();
    eventually(&watch, "written", |health| health.written == 3);
    // As after a kill: nothing was closed.
    assert!(place.all().iter().all(|stored| stored.alert.state == State::Open));
    let copy = Place::new();
    fs::create_dir_all(copy.path.parent().unwrap()).unwrap();
    for suffix in ["", "-wal"] {
        fs::copy(beside(&place.path, suffix), beside(&copy.path, suffix)).unwrap();
    }
    let later = copy.store();
    assert!(later.last_number() > alerts[2].seq);
    later.finish();
    let found = copy.all();
    assert_eq!(found.len(), 3);
    for (stored, alert) in found.iter().rev().zip(&alerts) {
        assert_eq!((stored.alert.state, stored.alert.ending), (State::Closed, Some(Ending::Lost)));
        let as_before = Alert { state: State::Open, ending: None, seq: alert.seq, ..stored.alert.clone() };
        assert_eq!(as_before, **alert);
    }
    store.finish();
}

#[test]
fn a_later_change_replaces_an_earlier_one_and_never_the_other_way_round() {
    let place = Place::new();
    let first = opened(1, now_us()).remove(0);
    let second = Arc::new(Alert { seq: first.seq + 1, count: 10, ..(*first).clone() });
    for alerts in [[&first, &second], [&second, &first]] {
        let store = place.store();
        for alert in alerts {
            store.keep(alert);
            let written = store.watch().health().written;
            eventually(&store.watch(), "written", |health| health.written > written || written > 0);
        }
        store.finish();
        assert_eq!(place.all()[0].alert.count, 10);
    }
}

#[test]
fn what_is_asked_for_is_found_newest_first_page_by_page() {
    let place = Place::new();
    let store = place.store();
    let begin = now_us();
    opened(10, begin).iter().for_each(|alert| store.keep(alert));
    store.finish();
    let archive = Archive::open(&place.path).unwrap();
    let ids = |filter: &Filter| -> Vec<u64> {
        archive.list(filter).unwrap().iter().map(|stored| (stored.alert.id - begin) / SECOND).collect()
    };
    let filter = Filter { limit: 4, ..Filter::default() };
    assert_eq!(ids(&filter), [9, 8, 7, 6]);
    assert_eq!(ids(&Filter { before: Some(begin + 6 * SECOND), ..filter.clone() }), [5, 4, 3, 2]);
    assert_eq!(ids(&Filter { since_us: Some(begin + 8 * SECOND), ..filter.clone() }), [9, 8]);
    assert_eq!(ids(&Filter { label: Some("dos".to_owned()), ..filter.clone() }), [8, 6, 4, 2]);
    assert_eq!(ids(&Filter { label: Some("do_".to_owned()), ..filter.clone() }), Vec::<u64>::new());
    let medium = Some("medium".parse().unwrap());
    assert_eq!(ids(&Filter { severity: medium, limit: 2, ..filter }), [8, 6]);
    let changed = archive.changed_after(begin + 7 * SECOND, 10).unwrap();
    assert_eq!(changed.iter().map(|stored| stored.alert.seq - begin).collect::<Vec<_>>(), [8 * SECOND, 9 * SECOND]);
}

#[test]
fn an_acknowledgement_stays_when_the_alert_grows_while_the_store_is_in_use() {
    let place = Place::new();
    let store = place.store();
    let alert = opened(1, now_us()).remove(0);
    store.keep(&alert);
    eventually(&store.watch(), "written", |health| health.written == 1);
    let ack = Ack { at_us: 5, by: "ada".to_owned(), note: "ours".to_owned() };
    let archive = Archive::open_for_acks(&place.path).unwrap();
    assert!(archive.acknowledge(alert.id, &ack).unwrap());
    assert!(!archive.acknowledge(alert.id + 1, &ack).unwrap());
    store.keep(&Arc::new(Alert { seq: alert.seq + 1, count: 10, ..(*alert).clone() }));
    store.finish();
    let stored = archive.get(alert.id).unwrap().unwrap();
    assert_eq!((stored.alert.count, stored.ack), (10, Some(ack)));
}

#[test]
fn the_oldest_go_when_there_are_too_many_or_they_are_too_old() {
    let place = Place::new();
    let day = 86_400 * SECOND;
    let store = place.store();
    opened(10, now_us()).iter().chain(&opened(3, now_us() - 100 * day)).for_each(|alert| store.keep(alert));
    store.finish();
    assert_eq!(place.all().len(), 13);
    let options = StoreOptions { keep_rows: 4, ..StoreOptions::new(place.path.clone()) };
    let store = Store::start(options, now_us()).unwrap();
    assert_eq!(store.watch().health().removed, 9);
    store.finish();
    assert_eq!(place.all().len(), 4);
}

#[test]
fn what_was_held_back_makes_room_before_what_somebody_was_told() {
    let place = Place::new();
    let store = place.store();
    let held = |alert: &Arc<Alert>| Arc::new(Alert { held_back: true, ..(**alert).clone() });
    opened(3, now_us() - 60 * SECOND).iter().for_each(|alert| store.keep(alert));
    opened(5, now_us()).iter().map(held).for_each(|alert| store.keep(&alert));
    store.finish();
    let options = StoreOptions { keep_rows: 4, ..StoreOptions::new(place.path.clone()) };
    let store = Store::start(options, now_us()).unwrap();
    assert_eq!(store.watch().health().removed, 4);
    store.finish();
    assert_eq!(place.all().iter().filter(|stored| !stored.alert.held_back).count(), 3);
}

#[test]
fn a_page_that_memory_makes_shorter_is_not_the_last() {
    let place = Place::new();
    let store = place.store();
    let alerts = opened(4, now_us());
    alerts.iter().for_each(|alert| store.keep(alert));
    let board = Board::new(Some((place.path.clone(), store.watch())), Feed::default());
    store.finish();
    let newest = Alert { seq: alerts[3].seq + 1, state: State::Merged, ..(*alerts[3]).clone() };
    board.remember(&Arc::new(newest));
    let page = |before| {
        let page = board.list(&Filter { limit: 2, before, ..Filter::default() }).unwrap();
        (page.alerts.iter().map(|stored| stored.alert.id).collect::<Vec<_>>(), page.next)
    };
    let ids: Vec<u64> = alerts.iter().map(|alert| alert.id).collect();
    assert_eq!(page(None), (vec![ids[2]], Some(ids[2])));
    assert_eq!(page(Some(ids[2])), (vec![ids[1], ids[0]], Some(ids[0])));
    assert_eq!(page(Some(ids[0])), (Vec::new(), None));
}

#[test]
fn a_damaged_file_is_moved_aside_and_another_is_begun() {
    let place = Place::new();
    fs::create_dir_all(place.path.parent().unwrap()).unwrap();
    fs::write(&place.path, "this is no database, however long it goes on ".repeat(100)).unwrap();
    let store = place.store();
    assert_eq!((store.watch().health().corrupt, store.watch().health().failing), (1, None));
    opened(2, now_us()).iter().for_each(|alert| store.keep(alert));
    store.finish();
    assert_eq!((place.all().len(), place.corrupt_files()), (2, 1));
}

#[test]
fn a_file_that_goes_bad_while_it_is_open_stops_nothing_and_is_moved_aside_by_the_next_start_at_the_latest() {
    let place = Place::new();
    let store = place.store();
    let alerts = opened(6, now_us());
    alerts[..3].iter().for_each(|alert| store.keep(alert));
    store.finish();
    let store = place.store();
    let mut file = fs::OpenOptions::new().write(true).open(&place.path).unwrap();
    file.write_all(&[0x5a; 16_384]).unwrap();
    drop(file);
    fs::write(beside(&place.path, "-wal"), []).unwrap();
    alerts[3..].iter().for_each(|alert| store.keep(alert));
    store.finish();
    let store = place.store();
    let watch = store.watch();
    alerts.iter().for_each(|alert| store.keep(alert));
    eventually(&watch, "written", |health| health.written == 6 && health.failing.is_none());
    store.finish();
    assert_eq!((place.all().len(), place.corrupt_files()), (6, 1));
}

#[test]
fn while_another_process_holds_the_file_alerts_wait_and_are_written_then() {
    let place = Place::new();
    let store = place.store();
    let other = Connection::open(&place.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    opened(3, now_us()).iter().for_each(|alert| store.keep(alert));
    let watch = store.watch();
    eventually(&watch, "locked", |health| health.failing.as_deref().is_some_and(|error| error.contains("locked")));
    other.execute_batch("ROLLBACK").unwrap();
    eventually(&watch, "written", |health| health.written == 3 && health.failing.is_none());
    assert!(watch.health().retries > 0);
    store.finish();
    assert_eq!((place.all().len(), watch.health().lost), (3, 0));
}

#[test]
fn two_sensors_do_not_share_a_file() {
    let place = Place::new();
    let (first, second) = (place.store(), place.store());
    assert!(second.watch().health().failing.is_some_and(|error| error.contains("another sensor uses it")));
    opened(1, now_us()).iter().for_each(|alert| first.keep(alert));
    first.finish();
    second.keep(&opened(2, now_us() + SECOND)[1]);
    let watch = second.watch();
    eventually(&watch, "its turn", |health| health.written == 1);
    second.finish();
    // The first has closed nothing before it ended; the second does when it gets its turn.
    let states = place.all().iter().map(|stored| (stored.alert.state, stored.alert.ending)).collect::<Vec<_>>();
    assert_eq!(states, [(State::Open, None), (State::Closed, Some(Ending::Lost))]);
}

#[test]
fn files_of_others_are_left_alone() {
    let place = Place::new();
    fs::create_dir_all(place.path.parent().unwrap()).unwrap();
    let other = Connection::open(&place.path).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();
    let failing = || {
        let store = place.store();
        let failing = store.watch().health().failing;
        store.finish();
        failing.unwrap_or_default()
    };
    assert!(failing().contains("another program"));
    other.execute_batch("DROP TABLE theirs; PRAGMA application_id = 1296845124; PRAGMA user_version = 9").unwrap();
    assert!(failing().contains("schema 9"));
    assert_eq!(place.corrupt_files(), 0);
}

#[test]
fn a_file_that_is_removed_is_made_again() {
    let place = Place::new();
    let store = place.store();
    let alerts = opened(2, now_us());
    store.keep(&alerts[0]);
    let watch = store.watch();
    eventually(&watch, "written", |health| health.written == 1);
    fs::remove_dir_all(place.path.parent().unwrap()).unwrap();
    store.keep(&alerts[1]);
    eventually(&watch, "written again", |health| health.written == 2);
    store.finish();
    assert_eq!(place.all().len(), 1);
}

#[test]
fn a_place_that_cannot_be_written_is_said_and_costs_only_memory() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let store = Store::start(StoreOptions::new(file.join(ALERT_DB)), now_us()).unwrap();
    let watch = store.watch();
    assert!(watch.health().failing.is_some_and(|error| error.contains("file")));
    opened(3, now_us()).iter().for_each(|alert| store.keep(alert));
    store.finish();
    assert_eq!((watch.health().lost, watch.health().waiting), (3, 0));
}

#[test]
fn rows_that_are_no_alerts_are_left_out_counted_and_fail_no_page() {
    let place = Place::new();
    let store = place.store();
    let alerts = opened(6, now_us());
    alerts.iter().for_each(|alert| store.keep(alert));
    let watch = store.watch();
    store.finish();
    let other = Connection::open(&place.path).unwrap();
    for (body, alert) in [("'no JSON'", &alerts[5]), ("'{}'", &alerts[3]), ("CAST(x'ff' AS TEXT)", &alerts[0])] {
        other
            .execute(&format!("UPDATE alerts SET body = {body} WHERE id = ?1"), [i64::try_from(alert.id).unwrap()])
            .unwrap();
    }
    let board = Board::new(Some((place.path.clone(), watch)), Feed::default());
    let page = |before| {
        let page = board.list(&Filter { limit: 2, before, ..Filter::default() }).unwrap();
        (page.alerts.iter().map(|stored| stored.alert.id).collect::<Vec<_>>(), page.next)
    };
    let ids: Vec<u64> = alerts.iter().map(|alert| alert.id).collect();
    assert_eq!(page(None), (vec![ids[4], ids[2]], Some(ids[2])));
    assert_eq!(page(Some(ids[2])), (vec![ids[1]], None));
    assert_eq!(page(None).1, Some(ids[2]));
    assert_eq!(board.store().unwrap().unreadable, 3, "each is counted once");
    let text = AlertText::new("10.0.0").unwrap();
    assert_eq!(board.list(&Filter { text, limit: 100, ..Filter::default() }).unwrap().alerts.len(), 3);
    assert_eq!(board.changed_after(0).unwrap().len(), 3);
    assert!(board.get(ids[3]).unwrap_err().to_string().contains("cannot be read"));
    // The next sensor closes what can be read of it.
    other.execute("UPDATE alerts SET state = 'open'", []).unwrap();
    drop(other);
    let next = place.store();
    assert_eq!(next.watch().health().failing, None);
    next.finish();
}
