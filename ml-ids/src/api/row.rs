//! One flow of a request: from named or numbered values to 78 finite numbers and what had to be assumed.

use super::{
    error::Fault,
    units::{self, TimeUnit},
};
use crate::features::{Dialect, FEATURE_COUNT, FEATURES, FeatureVector};

/// ` Fwd Header Length`, which the CSVs of 2017 repeat under the same name.
const FWD_HEADER_LENGTH: usize = 34;
/// The repeated column.
const FWD_HEADER_LENGTH_AGAIN: usize = 55;
/// `Destination Port`.
const DESTINATION_PORT: usize = 0;
/// Numbers in a row of a CSV without `Destination Port` and the repeated `Fwd Header Length`.
pub(crate) const SHORT_ROW: usize = FEATURE_COUNT - 2;

/// A set of features, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FeatureSet(u128);

impl FeatureSet {
    pub(crate) const fn contains(self, feature: usize) -> bool {
        self.0 >> feature & 1 == 1
    }

    fn insert(&mut self, feature: usize) {
        self.0 |= 1 << feature;
    }

    fn remove(&mut self, feature: usize) {
        self.0 &= !(1 << feature);
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn names(self) -> String {
        let names: Vec<&str> = FEATURES
            .iter()
            .enumerate()
            .filter(|(feature, _)| self.contains(*feature))
            .map(|(_, feature)| feature.name)
            .collect();
        names.join(", ")
    }
}

/// The keys by which the Python client is known beside its features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientKey {
    SrcIp,
    DstIp,
    SrcPort,
    Protocol,
    Timestamp,
}

impl ClientKey {
    pub(crate) fn find(name: &str) -> Option<Self> {
        Some(match name {
            "src_ip" => Self::SrcIp,
            "dst_ip" => Self::DstIp,
            "src_port" => Self::SrcPort,
            "protocol" => Self::Protocol,
            "timestamp" => Self::Timestamp,
            _ => return None,
        })
    }
}

/// One flow as the client sent it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Values in model order; 0 where nothing was sent.
    pub(crate) values: FeatureVector,
    /// What was sent.
    pub(crate) given: FeatureSet,
    /// What was sent under the Python client's names, and may therefore be in seconds.
    pub(crate) python: FeatureSet,
    /// Sent more than once with different values.
    twice: FeatureSet,
    client_keys: u8,
}

/// One flow as the model takes it.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) values: FeatureVector,
    /// What was assumed of this flow.
    pub(crate) warnings: Vec<String>,
    /// Whether its lengths are those of the Python client, which counts whole frames.
    pub(crate) frame_lengths: bool,
    /// Whether its times came in seconds.
    pub(crate) seconds: bool,
}

impl Row {
    pub(crate) const fn new() -> Self {
        Self {
            values: [0.0; FEATURE_COUNT],
            given: FeatureSet(0),
            python: FeatureSet(0),
            twice: FeatureSet(0),
            client_keys: 0,
        }
    }

    /// A row of numbers in model order: all 78, or 76 without the destination port and the repeated column.
    pub(crate) fn from_numbers(numbers: &[f64]) -> Option<Self> {
        let mut row = Self::new();
        if numbers.len() == FEATURE_COUNT {
            row.values.copy_from_slice(numbers);
        } else if numbers.len() == SHORT_ROW {
            let features = (0..FEATURE_COUNT).filter(|f| ![DESTINATION_PORT, FWD_HEADER_LENGTH_AGAIN].contains(f));
            for (feature, value) in features.zip(numbers) {
                row.values[feature] = *value;
                row.given.insert(feature);
            }
            return Some(row);
        } else {
            return None;
        }
        row.given = FeatureSet((1 << FEATURE_COUNT) - 1);
        Some(row)
    }

    /// Takes a value by name. The last one of a name counts, as it did in the old server.
    pub(crate) fn set(&mut self, feature: usize, dialect: Dialect, value: f64) {
        let feature = if feature == FWD_HEADER_LENGTH
            && dialect != Dialect::Python
            && self.given.contains(FWD_HEADER_LENGTH)
            && !self.given.contains(FWD_HEADER_LENGTH_AGAIN)
        {
            FWD_HEADER_LENGTH_AGAIN
        } else {
            feature
        };
        let Some(slot) = self.values.get_mut(feature) else { return };
        if self.given.contains(feature) && *slot != value {
            self.twice.insert(feature);
        }
        *slot = value;
        self.given.insert(feature);
        if dialect == Dialect::Python {
            self.python.insert(feature);
        } else {
            self.python.remove(feature);
        }
    }

    pub(crate) fn set_client_key(&mut self, key: ClientKey) {
        self.client_keys |= 1 << key as u8;
    }

    /// Whether the row has the shape of what the Python client posts: its addresses beside its features.
    pub(crate) fn is_from_python_client(&self) -> bool {
        let addresses = 1 << ClientKey::SrcIp as u8 | 1 << ClientKey::DstIp as u8;
        self.client_keys & addresses == addresses && !self.python.is_empty()
    }

    /// Fills in what was not sent, converts units, and says what was done.
    pub(crate) fn finish(mut self, number: usize, strict: bool, unit: TimeUnit) -> Result<Ready, Fault> {
        if self.given.is_empty() {
            let problem =
                "no known feature; names are those of CICFlowMeter, such as 'Flow Duration' or 'flow_duration'"
                    .to_owned();
            return Err(Fault { row: number, field: None, problem });
        }
        self.repeat_header_length();
        let absent = FeatureSet(!self.given.0 & ((1 << FEATURE_COUNT) - 1));
        if strict && !absent.is_empty() {
            return Err(Fault { row: number, field: None, problem: format!("absent features: {}", absent.names()) });
        }
        let mut warnings = Vec::new();
        if !absent.is_empty() {
            warnings.push(format!("absent features taken as 0: {}", absent.names()));
        }
        if !self.twice.is_empty() {
            warnings.push(format!("given more than once, the last value counts: {}", self.twice.names()));
        }
        let seconds = units::is_seconds(&self, unit);
        if seconds {
            units::to_micros(&mut self).map_err(|feature| Fault {
                row: number,
                field: FEATURES.get(feature).and_then(|feature| feature.python).map(str::to_owned),
                problem: "too large for a time in seconds".to_owned(),
            })?;
        }
        let frame_lengths = (seconds || self.is_from_python_client()) && units::has_lengths(&self);
        Ok(Ready { values: self.values, warnings, frame_lengths, seconds })
    }

    /// The repeated column exists in the CSVs of 2017 only; elsewhere one value stands for both.
    fn repeat_header_length(&mut self) {
        match (self.given.contains(FWD_HEADER_LENGTH), self.given.contains(FWD_HEADER_LENGTH_AGAIN)) {
            (true, false) => {
                self.values[FWD_HEADER_LENGTH_AGAIN] = self.values[FWD_HEADER_LENGTH];
                self.given.insert(FWD_HEADER_LENGTH_AGAIN);
            }
            (false, true) => {
                self.values[FWD_HEADER_LENGTH] = self.values[FWD_HEADER_LENGTH_AGAIN];
                self.given.insert(FWD_HEADER_LENGTH);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::find;

    fn named(values: &[(&str, f64)]) -> Row {
        let mut row = Row::new();
        for (name, value) in values {
            let (feature, dialect) = find(name).expect(name);
            row.set(feature, dialect, *value);
        }
        row
    }

    #[test]
    fn header_length_stands_for_its_repetition_too() {
        let ready = named(&[("Fwd Header Length", 40.0)]).finish(0, false, TimeUnit::Auto).unwrap();
        assert_eq!((ready.values[34], ready.values[55]), (40.0, 40.0));
        assert!(!ready.warnings[0].contains("Fwd Header Length"), "{:?}", ready.warnings);
    }

    #[test]
    fn repeated_header_of_2017_fills_both_columns() {
        let row = named(&[("Fwd Header Length", 40.0), ("Fwd Header Length", 41.0)]);
        let ready = row.finish(0, false, TimeUnit::Auto).unwrap();
        assert_eq!((ready.values[34], ready.values[55]), (40.0, 41.0));
    }

    #[test]
    fn contradicting_names_of_one_feature_are_reported_and_the_last_counts() {
        let row = named(&[("Flow Duration", 1.0), ("flow_duration", 2.0)]);
        let ready = row.finish(0, false, TimeUnit::Auto).unwrap();
        assert_eq!(ready.values[1], 2.0);
        assert!(ready.warnings.iter().any(|w| w.contains("more than once") && w.contains("Flow Duration")));
    }

    #[test]
    fn row_of_76_leaves_out_the_port_and_the_repetition() {
        let numbers: Vec<f64> = (0..78).filter(|n| ![0, 55].contains(n)).map(f64::from).collect();
        let ready = Row::from_numbers(&numbers).unwrap().finish(0, false, TimeUnit::Auto).unwrap();
        let mut expected: FeatureVector = std::array::from_fn(|n| n as f64);
        expected[55] = 34.0;
        assert_eq!(ready.values, expected);
        assert_eq!(ready.warnings, ["absent features taken as 0: Destination Port"]);
    }

    #[test]
    fn strict_names_each_absent_feature() {
        let fault = named(&[("flow_duration", 1.0)]).finish(3, true, TimeUnit::Auto).unwrap_err();
        assert_eq!(fault.row, 3);
        assert!(fault.problem.contains("Idle Min") && !fault.problem.contains("Flow Duration"), "{fault}");
    }
}
