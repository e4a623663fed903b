//! A feature's value as a person reads it: `98.4 s`, `1.5 KB`, `3 packets`.
//!
//! Three significant digits: enough to compare by eye. Who needs the number gets it beside the words.

use std::fmt;

use super::Feature;

/// Values from which the next larger unit is used, with its name.
type Scale = &'static [(f64, &'static str)];

const TIME: Scale = &[(1.0, "µs"), (1e3, "ms"), (1e6, "s")];
const BYTES: Scale = &[(1.0, "bytes"), (1e3, "KB"), (1e6, "MB"), (1e9, "GB")];
const BYTE_RATE: Scale = &[(1.0, "bytes/s"), (1e3, "KB/s"), (1e6, "MB/s"), (1e9, "GB/s")];
const SQUARE_BYTES: Scale = &[(1.0, "bytes²"), (1e6, "KB²"), (1e12, "MB²"), (1e18, "GB²")];
const PACKETS: Scale = &[(1.0, "packets")];
const PACKET_RATE: Scale = &[(1.0, "packets/s"), (1e3, "thousand packets/s"), (1e6, "million packets/s")];
const PLAIN: Scale = &[(1.0, "")];

/// A value with its unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    number: String,
    unit: &'static str,
}

impl Words {
    /// From one value to another; a unit that both have is said once.
    #[must_use]
    pub fn to(&self, other: &Self) -> String {
        if self.unit == other.unit { format!("{} to {other}", self.number) } else { format!("{self} to {other}") }
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, unit } = self;
        if unit.is_empty() { write!(f, "{number}") } else { write!(f, "{number} {unit}") }
    }
}

impl Feature {
    /// A value of this feature in words.
    #[must_use]
    pub fn words(&self, value: f64) -> Words {
        if value.is_nan() {
            return Words { number: "undefined".to_owned(), unit: "" };
        }
        if value.is_infinite() {
            return Words { number: if value > 0.0 { "infinite" } else { "minus infinite" }.to_owned(), unit: "" };
        }
        let scale = match self.unit {
            "us" => TIME,
            "bytes" => BYTES,
            "bytes/s" => BYTE_RATE,
            "bytes^2" => SQUARE_BYTES,
            "packets" => PACKETS,
            "packets/s" => PACKET_RATE,
            _ => PLAIN,
        };
        // 999.6 µs is 1000 µs when written, so it is 1 ms.
        let step = scale.iter().rev().find(|(from, _)| round(value.abs()) >= *from).unwrap_or(&scale[0]);
        let number = digits(value / step.0);
        let unit = match (number.as_str(), step.1) {
            ("1", "bytes") => "byte",
            ("1", "packets") => "packet",
            (_, unit) => unit,
        };
        Words { number, unit }
    }

    /// Whether its values can be compared as more and less. Ports are names.
    #[must_use]
    pub fn is_quantity(&self) -> bool {
        self.unit != "-"
    }
}

/// To three significant digits.
fn round(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

/// Three significant digits of what is below 1000, all digits before the point of what is above.
fn digits(value: f64) -> String {
    let value = if value.abs() < 1000.0 { round(value) } else { value.round() };
    // Display writes the shortest text and no exponent; nothing here is so small that it would be long.
    if value != 0.0 && value.abs() < 1e-4 { format!("{value:e}") } else { format!("{}", value + 0.0) }
}

#[cfg(test)]
mod tests {
    use super::super::{FEATURES, find};

    fn words(name: &str, value: f64) -> String {
        FEATURES[find(name).unwrap().0].words(value).to_string()
    }

    #[test]
    fn values_are_in_the_unit_that_a_person_would_choose() {
        for (name, value, expected) in [
            ("Flow IAT Max", 98_400_000.0, "98.4 s"),
            ("Flow IAT Max", 4_100.0, "4.1 ms"),
            ("Flow IAT Max", 999.7, "1 ms"),
            ("Flow IAT Mean", 12.345, "12.3 µs"),
            ("Flow Duration", 0.0, "0 µs"),
            ("Flow Duration", 3_600_000_000.0, "3600 s"),
            ("Total Length of Fwd Packets", 1.0, "1 byte"),
            ("Total Length of Fwd Packets", 1_460.0, "1.46 KB"),
            ("Flow Bytes/s", -1.0, "-1 bytes/s"),
            ("Flow Bytes/s", 2_070_000_000.0, "2.07 GB/s"),
            ("Flow Bytes/s", f64::INFINITY, "infinite"),
            ("Flow Bytes/s", f64::NAN, "undefined"),
            ("Flow Packets/s", 2e6, "2 million packets/s"),
            ("Packet Length Variance", 1_234_567.0, "1.23 KB²"),
            ("Total Fwd Packets", 1.0, "1 packet"),
            ("Total Fwd Packets", 123_456.0, "123456 packets"),
            ("Fwd Avg Packets/Bulk", 2.5, "2.5 packets"),
            ("Down/Up Ratio", 0.333_333, "0.333"),
            ("Down/Up Ratio", 0.000_01, "1e-5"),
            ("Destination Port", 8080.0, "8080"),
        ] {
            assert_eq!(words(name, value), expected, "{name} of {value}");
        }
    }

    #[test]
    fn a_range_says_a_common_unit_once() {
        let feature = &FEATURES[find("Flow Duration").unwrap().0];
        let range = |low, high| feature.words(low).to(&feature.words(high));
        assert_eq!(range(100_000.0, 4_100_000.0), "100 ms to 4.1 s");
        assert_eq!(range(1_000_000.0, 4_100_000.0), "1 to 4.1 s");
    }
}
