//! Seconds or microseconds: finding out which of the two a Python client sent, and converting.
//!
//! `cicflowmeter` 0.2 posts microseconds, 0.3 and later seconds, under the same names. A flow's rates tell them apart
//! exactly: packets per second times duration is the number of packets only if the duration is in seconds.

use clap::ValueEnum;

use super::row::Row;
use crate::features::FEATURES;

/// In which unit values under the Python client's names are taken to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TimeUnit {
    /// Found out for each flow.
    #[default]
    Auto,
    /// Microseconds.
    Us,
    /// Seconds.
    S,
}

// Positions in the feature table, pinned to their names by a test.
const FLOW_DURATION: usize = 1;
const TOT_FWD_PKTS: usize = 2;
const TOT_BWD_PKTS: usize = 3;
const TOTLEN_FWD_PKTS: usize = 4;
const TOTLEN_BWD_PKTS: usize = 5;
const FLOW_BYTS_S: usize = 14;
const FLOW_PKTS_S: usize = 15;
const FWD_PKTS_S: usize = 36;
const BWD_PKTS_S: usize = 37;

/// Each rate with what it counts.
const RATES: [(usize, &[usize]); 4] = [
    (FLOW_PKTS_S, &[TOT_FWD_PKTS, TOT_BWD_PKTS]),
    (FWD_PKTS_S, &[TOT_FWD_PKTS]),
    (BWD_PKTS_S, &[TOT_BWD_PKTS]),
    (FLOW_BYTS_S, &[TOTLEN_FWD_PKTS, TOTLEN_BWD_PKTS]),
];

/// The two outcomes are a factor of a million apart; rounding and a packet counted twice stay far below this.
const TOLERANCE: f64 = 10.0;
const MICROS: f64 = 1e6;
/// The client ends flows at 90 s of age or 240 s of silence, checked rarely; above this a duration is not seconds.
const LONGEST_SECONDS: f64 = 600.0;

/// Whether the row's times are seconds. Only values under the Python client's names can be.
pub(crate) fn is_seconds(row: &Row, unit: TimeUnit) -> bool {
    match unit {
        TimeUnit::Us => false,
        TimeUnit::S => !row.python.is_empty(),
        TimeUnit::Auto => by_rate(row).unwrap_or_else(|| by_shape(row)),
    }
}

/// The exact test; `None` where the duration is 0 or the row has no rate with its counts.
fn by_rate(row: &Row) -> Option<bool> {
    let python = |feature: usize| row.python.contains(feature).then(|| row.values.get(feature).copied()).flatten();
    let duration = python(FLOW_DURATION).filter(|duration| *duration > 0.0)?;
    RATES.iter().find_map(|(rate, counted)| {
        let rate = python(*rate)?;
        let count = counted.iter().map(|feature| python(*feature)).sum::<Option<f64>>().filter(|sum| *sum > 0.0)?;
        let ratio = rate * duration / count;
        let near = |target: f64| ratio > target / TOLERANCE && ratio < target * TOLERANCE;
        if near(1.0) {
            Some(true)
        } else if near(MICROS) {
            Some(false)
        } else {
            None
        }
    })
}

/// A subset without rates: seconds if the client's addresses are there and the duration is one that a flow has in
/// seconds. In microseconds it would be a flow of less than a millisecond, from the oldest release, without its rates.
fn by_shape(row: &Row) -> bool {
    let duration = row.values[FLOW_DURATION];
    row.is_from_python_client() && row.python.contains(FLOW_DURATION) && duration > 0.0 && duration < LONGEST_SECONDS
}

/// Multiplies the Python client's times to microseconds. The error is a feature that left the range of a float32.
pub(crate) fn to_micros(row: &mut Row) -> Result<(), usize> {
    for (feature, (value, entry)) in row.values.iter_mut().zip(&FEATURES).enumerate() {
        if entry.unit == "us" && row.python.contains(feature) {
            *value *= MICROS;
            if value.abs() > f64::from(f32::MAX) {
                return Err(feature);
            }
        }
    }
    Ok(())
}

/// Whether the row has a length under the Python client's names, which are of frames and not of payloads.
pub(crate) fn has_lengths(row: &Row) -> bool {
    FEATURES
        .iter()
        .enumerate()
        .any(|(feature, entry)| row.python.contains(feature) && matches!(entry.unit, "bytes" | "bytes/s" | "bytes^2"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::row::ClientKey, features::find};

    fn row(values: &[(&str, f64)], client: bool) -> Row {
        let mut row = Row::new();
        for (name, value) in values {
            let (feature, dialect) = find(name).expect(name);
            row.set(feature, dialect, *value);
        }
        if client {
            row.set_client_key(ClientKey::SrcIp);
            row.set_client_key(ClientKey::DstIp);
        }
        row
    }

    #[test]
    fn positions_are_those_of_the_table() {
        let python = |feature: usize| FEATURES[feature].python.unwrap_or_default();
        assert_eq!(python(FLOW_DURATION), "flow_duration");
        assert_eq!(python(TOT_FWD_PKTS), "tot_fwd_pkts");
        assert_eq!(python(TOT_BWD_PKTS), "tot_bwd_pkts");
        assert_eq!(python(TOTLEN_FWD_PKTS), "totlen_fwd_pkts");
        assert_eq!(python(TOTLEN_BWD_PKTS), "totlen_bwd_pkts");
        assert_eq!(python(FLOW_BYTS_S), "flow_byts_s");
        assert_eq!(python(FLOW_PKTS_S), "flow_pkts_s");
        assert_eq!(python(FWD_PKTS_S), "fwd_pkts_s");
        assert_eq!(python(BWD_PKTS_S), "bwd_pkts_s");
    }

    #[test]
    fn rates_tell_seconds_from_microseconds() {
        let flow = |duration| {
            let rate = [("flow_pkts_s", 20.0), ("tot_fwd_pkts", 6.0), ("tot_bwd_pkts", 4.0)];
            row(&[&[("flow_duration", duration)][..], &rate].concat(), false)
        };
        assert!(is_seconds(&flow(0.5), TimeUnit::Auto));
        assert!(!is_seconds(&flow(500_000.0), TimeUnit::Auto));
        assert!(!is_seconds(&flow(0.5), TimeUnit::Us));
        assert!(is_seconds(&flow(500_000.0), TimeUnit::S));
    }

    #[test]
    fn one_sided_rate_is_enough() {
        let values = [("flow_duration", 2.0), ("fwd_pkts_s", 3.0), ("tot_fwd_pkts", 6.0)];
        assert!(is_seconds(&row(&values, false), TimeUnit::Auto));
    }

    #[test]
    fn without_rates_only_the_clients_own_shape_can_be_seconds() {
        assert!(is_seconds(&row(&[("flow_duration", 0.25)], true), TimeUnit::Auto));
        assert!(!is_seconds(&row(&[("flow_duration", 0.25)], false), TimeUnit::Auto));
        assert!(!is_seconds(&row(&[("flow_duration", 250_000.0)], true), TimeUnit::Auto));
        assert!(!is_seconds(&row(&[("flow_duration", 0.0)], true), TimeUnit::Auto));
    }

    #[test]
    fn only_the_clients_own_times_are_converted() {
        let mut row = row(&[("flow_duration", 0.5), ("Flow IAT Max", 7.0), ("tot_fwd_pkts", 6.0)], true);
        to_micros(&mut row).unwrap();
        assert_eq!((row.values[1], row.values[18], row.values[2]), (500_000.0, 7.0, 6.0));
    }
}
