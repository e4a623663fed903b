//! What a replayed sensor hands over is what offline replay makes of the capture, moved to now.

use std::{
    collections::BTreeSet,
    fs::File,
    net::IpAddr,
    path::Path,
    sync::mpsc::{Receiver, sync_channel},
};

use ml_ids_common::EndReason;

use super::*;
use crate::features::compute;

/// Places of `FIN Flag Count` and `RST Flag Count` among the features.
const FIN_COUNT: usize = 43;
const RST_COUNT: usize = 45;

fn open() -> OpenCapture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/handmade/random.pcap");
    Capture::new(Box::new(File::open(path).unwrap()) as Box<dyn Read + Send>).unwrap()
}

fn start(speed: Speed, again: Option<Reopen>) -> (ReplaySensor, Receiver<Vec<FlowRecord>>) {
    let (sink, records) = sync_channel(4096);
    let options = ReplayOptions { profile: Profile::Cns2022, speed, again };
    (ReplaySensor::start(open(), options, sink).unwrap(), records)
}

fn wait_over(sensor: &ReplaySensor) {
    let over = sensor.state().over();
    let begun = Instant::now();
    while !*over.borrow() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the capture is not over");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Both ends of a flow, the same whoever began it.
fn ends(record: &FlowRecord) -> [(IpAddr, u16); 2] {
    let mut ends = [record.source(), record.destination()];
    ends.sort_unstable();
    ends
}

/// Features of each flow between other ends than these, in an order of their own.
fn features(records: &[FlowRecord], without: &BTreeSet<[(IpAddr, u16); 2]>) -> Vec<String> {
    let mut rows: Vec<_> = records
        .iter()
        .filter(|record| !without.contains(&ends(record)))
        .map(|record| {
            format!("{:?} {:?} {:?}", record.source(), record.destination(), compute(record, Profile::Cns2022))
        })
        .collect();
    rows.sort_unstable();
    rows
}

#[test]
fn its_flows_have_the_features_of_offline_replay_and_end_now() {
    let mut expected = Vec::new();
    let mut replay = Replay::new(Profile::Cns2022);
    let damage = super::super::replay(&mut open(), &mut replay, |record| {
        expected.push(record);
        Ok::<_, Infallible>(())
    });
    assert!(matches!(damage, Ok(None)));
    let before_us = now_us();
    let (sensor, records) = start(Speed::Max, None);
    wait_over(&sensor);
    let state = sensor.state();
    let report = sensor.stop();
    let found: Vec<FlowRecord> = records.into_iter().flatten().collect();
    let counters = state.counters();
    assert!(counters.ingress.balanced() && counters.ingress.seen == replay.counters().ingress.seen);
    assert_eq!(counters.flows.opened, counters.flows.ended());
    assert_eq!((report.taken, report.flushed), (found.len() as u64, 0));
    // Packets that come when their terminated flow has lingered are late for a live sensor, so that flows between the same
    // ends may be others from there on.
    let terminated = |record: &&FlowRecord| {
        let features = compute(record, Profile::Cns2022);
        [FIN_COUNT, RST_COUNT].into_iter().any(|index| features.as_slice()[index] > 0.0)
    };
    let without = expected.iter().filter(terminated).map(ends).collect();
    let (found_rows, expected_rows) = (features(&found, &without), features(&expected, &without));
    assert!(expected_rows.len() > 100, "only {} flows were never terminated", expected_rows.len());
    let differs = found_rows.iter().zip(&expected_rows).find(|(found, expected)| found != expected);
    assert!(differs.is_none() && found_rows.len() == expected_rows.len(), "{differs:?}");
    for record in &found {
        let end_us = record.state().start_us.saturating_add_signed(i64::from(record.state().last));
        assert!((before_us..=now_us()).contains(&end_us), "{end_us}");
        assert!(record.reason() != EndReason::EndOfCapture && record.reason() != EndReason::Shutdown);
    }
}

#[test]
fn stopped_in_the_middle_it_hands_over_what_is_open_and_the_books_balance() {
    let (sensor, records) = start(Speed::Times(1.0), None);
    let state = sensor.state();
    let begun = Instant::now();
    while state.look(10).open == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no flow is open");
        thread::sleep(Duration::from_millis(5));
    }
    let top = state.look(3);
    assert!(top.by_packets.len() <= 3 && top.by_age.iter().all(|flow| flow.age_us >= flow.quiet_us));
    let report = sensor.stop();
    let arrived = records.into_iter().flatten().count() as u64;
    let flows = state.counters().flows;
    assert!(report.flushed + report.discarded > 0);
    assert_eq!(flows.opened, flows.ended() + report.flushed + report.discarded);
    assert_eq!((arrived, flows.emitted), (report.taken + report.flushed, report.taken));
}

#[test]
fn round_after_round_the_clock_goes_on() {
    let (sensor, records) = start(Speed::Max, Some(Box::new(|| Ok(open()))));
    let reader = thread::spawn(move || {
        let mut rounds = 0u64;
        while let Ok(batch) = records.recv() {
            rounds += batch.len() as u64;
        }
        rounds
    });
    let state = sensor.state();
    let begun = Instant::now();
    while state.rounds() < 4 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} rounds", state.rounds());
        thread::sleep(Duration::from_millis(5));
    }
    let report = sensor.stop();
    assert_eq!(reader.join().unwrap(), report.taken + report.flushed);
    let counters = state.counters();
    assert!(counters.ingress.balanced());
    assert_eq!(counters.flows.opened, counters.flows.ended() + report.flushed + report.discarded);
}

/// A capture of Ethernet frames without a packet that counts, at these times in seconds.
fn made_of(times: &[u32]) -> OpenCapture {
    let mut bytes = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    bytes.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0]);
    for time in times {
        [*time, 0, 14, 14].iter().for_each(|field| bytes.extend(field.to_le_bytes()));
        bytes.extend([0; 14]);
    }
    Capture::new(Box::new(std::io::Cursor::new(bytes)) as Box<dyn Read + Send>).unwrap()
}

#[test]
fn a_capture_without_a_frame_is_over_after_a_round_and_not_begun_again() {
    let (sink, _records) = sync_channel(16);
    let again: Reopen = Box::new(|| Ok(made_of(&[])));
    let options = ReplayOptions { profile: Profile::Fixed, speed: Speed::Times(1.0), again: Some(again) };
    let sensor = ReplaySensor::start(made_of(&[]), options, sink).unwrap();
    wait_over(&sensor);
    assert_eq!(sensor.state().rounds(), 1);
    assert_eq!(sensor.stop().taken, 0);
}

#[test]
fn a_clock_that_jumps_is_brought_back_and_that_is_counted() {
    let (sink, _records) = sync_channel(16);
    let options = ReplayOptions { profile: Profile::Fixed, speed: Speed::Max, again: None };
    let sensor = ReplaySensor::start(made_of(&[100, u32::MAX, 101, 102]), options, sink).unwrap();
    wait_over(&sensor);
    let state = sensor.state();
    assert_eq!((state.jumps(), state.counters().ingress.seen), (2, 4));
    assert!(state.damage().is_none());
    assert_eq!(sensor.stop().taken, 0);
}
