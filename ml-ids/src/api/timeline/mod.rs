//! `GET /timeline`: traffic and verdicts of the last minutes and hours, and the `pulse` event of the last second.
//!
//! ```text
//! sensor ─► Totals, once a second ─► Growth ─► a row in two rings: seconds, and steps of 30 s ─► GET /timeline
//!                                        └───► pulse, to those who listen
//! ```

mod recorder;
mod ring;
mod totals;

use std::{collections::BTreeMap, sync::PoisonError, time::Duration};

use hyper::StatusCode;
use serde::Serialize;

use super::{
    alerts::number,
    answer::{Answer, json},
    error::{ApiError, quoted},
    limits::{TIMELINE, TIMELINE_DEFAULT, TIMELINE_POINTS},
    parameters::parameters,
    state::AppState,
};
pub use recorder::record;
use ring::{Ring, Row};
use totals::Growth;
pub use totals::Totals;

/// Seconds that are kept one by one.
const SECONDS: usize = 900;
/// Up to so many seconds each is a point of its own.
const SINGLE: u64 = TIMELINE_POINTS as u64;
/// Seconds of a point up to [`SECONDS`].
const MIDDLE_STEP: u64 = 5;
/// Seconds of a point beyond.
const LONG_STEP: u64 = 30;
/// Classes that have a column; there may be one model after the other.
const MOST_CLASSES: usize = 256;
/// The column of further classes.
const OTHER_CLASSES: &str = "other";

/// What is remembered.
#[derive(Debug)]
pub(super) struct Timeline {
    seconds: Ring,
    steps: Ring,
    /// Names of classes; rows know their places.
    classes: Vec<String>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { seconds: Ring::new(1, SECONDS), steps: Ring::new(LONG_STEP, TIMELINE_POINTS), classes: Vec::new() }
    }
}

/// A part of the past in columns, as it is answered.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Columns<'a> {
    step_seconds: u64,
    time: Vec<f64>,
    packets: Vec<f64>,
    bytes: Vec<f64>,
    skipped: Vec<f64>,
    flows: Vec<f64>,
    open_flows: Vec<u64>,
    alerts: Vec<u64>,
    verdicts: BTreeMap<&'a str, Vec<u64>>,
}

impl Timeline {
    /// Adds what the time up to `time` (Unix time in seconds) has brought.
    fn push(&mut self, growth: &Growth, time: f64, span: Duration) {
        let Growth { packets, bytes, skipped, flows, open_flows, alerts, verdicts } = growth;
        let row = Row {
            time,
            span: span.as_secs_f64(),
            packets: *packets,
            bytes: *bytes,
            skipped: *skipped,
            flows: *flows,
            open_flows: *open_flows,
            alerts: *alerts,
            verdicts: verdicts.iter().map(|(class, count)| (self.class(class), *count)).collect(),
        };
        self.steps.push(row.clone());
        self.seconds.push(row);
    }

    /// The place of a class among the names.
    fn class(&mut self, name: &str) -> usize {
        let place = |names: &[String], name: &str| names.iter().position(|known| known == name);
        if let Some(place) = place(&self.classes, name) {
            return place;
        }
        let name = if self.classes.len() < MOST_CLASSES { name } else { OTHER_CLASSES };
        place(&self.classes, name).unwrap_or_else(|| {
            self.classes.push(name.to_owned());
            self.classes.len() - 1
        })
    }

    /// The last so many seconds before `now` (Unix time in seconds).
    fn columns(&self, seconds: u64, now: f64) -> Columns<'_> {
        let middle;
        let (step_seconds, ring) = if seconds <= SINGLE {
            (1, &self.seconds)
        } else if seconds <= SECONDS as u64 {
            middle = self.seconds.coarser(MIDDLE_STEP);
            (MIDDLE_STEP, &middle)
        } else {
            (LONG_STEP, &self.steps)
        };
        let rows: Vec<&Row> = ring.after(now - seconds as f64).collect();
        let rows = rows.get(rows.len().saturating_sub(TIMELINE_POINTS)..).unwrap_or_default();
        let mut columns = Columns { step_seconds, ..Columns::default() };
        for (place, row) in rows.iter().enumerate() {
            columns.time.push(rounded(row.time));
            columns.packets.push(row.rate(row.packets));
            columns.bytes.push(row.rate(row.bytes));
            columns.skipped.push(row.rate(row.skipped));
            columns.flows.push(row.rate(row.flows));
            columns.open_flows.push(row.open_flows);
            columns.alerts.push(row.alerts);
            for (class, count) in &row.verdicts {
                let Some(name) = self.classes.get(*class) else { continue };
                let column = columns.verdicts.entry(name).or_insert_with(|| vec![0; rows.len()]);
                if let Some(cell) = column.get_mut(place) {
                    *cell += count;
                }
            }
        }
        columns
    }
}

impl Row {
    /// So many in this row are so many a second.
    fn rate(&self, count: u64) -> f64 {
        rounded(count as f64 / self.span.max(f64::MIN_POSITIVE))
    }
}

/// To a thousandth: more digits tell nobody anything.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// `GET /timeline`.
pub(super) fn timeline(state: &AppState, query: Option<&str>) -> Result<Answer, ApiError> {
    let mut seconds = TIMELINE_DEFAULT;
    for (name, value) in parameters(query).filter(|(name, _)| name == "seconds") {
        let wrong = || {
            let (least, most) = (TIMELINE.start(), TIMELINE.end());
            ApiError::Query(format!("{name} is '{}'; use a number from {least} to {most}", quoted(&value)))
        };
        seconds = number(&value).filter(|seconds| TIMELINE.contains(seconds)).ok_or_else(wrong)?;
    }
    if state.sensor().is_none() {
        return Err(if state.capture_asked() { ApiError::NotCapturing } else { ApiError::NoCapture });
    }
    let timeline = state.timeline.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(json(StatusCode::OK, &timeline.columns(seconds, recorder::unix_seconds())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A timeline whose last second ends at `end`; each second of `length` brings ten packets and its number in flows.
    fn timeline(end: u64, length: u64) -> Timeline {
        let mut timeline = Timeline::default();
        for number in (0..length).rev() {
            let verdicts = vec![("BENIGN".to_owned(), 3)];
            let growth = Growth { packets: 10, flows: 3, open_flows: number, verdicts, ..Growth::default() };
            timeline.push(&growth, (end - number) as f64, Duration::from_secs(1));
        }
        timeline
    }

    #[test]
    fn the_longer_the_past_the_longer_the_steps_and_never_too_many_points() {
        let timeline = timeline(1_000_000, 25_000);
        for (seconds, step, points) in [(60, 1, 60), (720, 1, 720), (900, 5, 180), (3600, 30, 121), (21_600, 30, 720)] {
            let columns = timeline.columns(seconds, 1_000_000.0);
            assert_eq!((columns.step_seconds, columns.time.len()), (step, points), "{seconds}");
            assert_eq!(columns.time.last(), Some(&1_000_000.0));
            assert!(columns.time.is_sorted_by(|one, next| one < next));
            assert!(columns.packets.iter().all(|rate| *rate == 10.0), "rates do not grow with the step");
            let whole = &columns.verdicts["BENIGN"][1..points - 1];
            assert!(whole.iter().all(|count| *count == 3 * step), "{seconds}: {whole:?}");
        }
    }

    #[test]
    fn what_was_not_seen_is_absent_and_a_class_has_a_column_where_it_occurred() {
        let mut timeline = timeline(1_000, 10);
        let verdicts = vec![("Bot".to_owned(), 7)];
        let growth = Growth { bytes: 1_000, alerts: 1, verdicts, ..Growth::default() };
        timeline.push(&growth, 1_050.5, Duration::from_secs(3));
        let columns = timeline.columns(53, 1_051.0);
        assert_eq!(columns.time, [999.0, 1_000.0, 1_050.5]);
        assert_eq!(columns.bytes, [0.0, 0.0, 333.333]);
        assert_eq!(columns.alerts, [0, 0, 1]);
        let expected = [("BENIGN", vec![3, 3, 0]), ("Bot", vec![0, 0, 7])];
        assert_eq!(columns.verdicts, BTreeMap::from(expected));
        let columns = timeline.columns(60, 1_105.0);
        assert_eq!(columns.verdicts.keys().collect::<Vec<_>>(), [&"Bot"]);
    }

    #[test]
    fn classes_without_end_share_a_column() {
        let mut timeline = Timeline::default();
        for class in 0..MOST_CLASSES + 5 {
            let growth = Growth { verdicts: vec![(class.to_string(), 1)], ..Growth::default() };
            timeline.push(&growth, 1.0 + class as f64, Duration::from_secs(1));
        }
        let columns = timeline.columns(720, 300.0);
        assert_eq!(columns.verdicts.len(), MOST_CLASSES + 1);
        assert_eq!(columns.verdicts[OTHER_CLASSES].iter().sum::<u64>(), 5);
    }
}
