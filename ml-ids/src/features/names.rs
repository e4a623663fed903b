//! Finding a feature by any of its names.

use std::{collections::HashMap, sync::LazyLock};

use super::{FEATURES, Feature};

/// A tool's way of naming the features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// The CIC-IDS2017 CSVs.
    MachineLearningCve,
    /// CICFlowMeter 4 and its fork; the improved CIC-IDS2017 CSVs.
    CicFlowMeter4,
    /// CICFlowMeter of 2018; the CSE-CIC-IDS2018 CSVs.
    CicFlowMeter2018,
    /// Python `cicflowmeter`.
    Python,
}

impl Dialect {
    /// All dialects, in the order in which [`find`] prefers them.
    pub const ALL: [Self; 4] = [Self::MachineLearningCve, Self::CicFlowMeter4, Self::CicFlowMeter2018, Self::Python];
}

impl Feature {
    /// The feature's name in a dialect, `None` if it has no such column.
    #[must_use]
    pub const fn name_in(&self, dialect: Dialect) -> Option<&'static str> {
        match dialect {
            Dialect::MachineLearningCve => Some(self.name),
            Dialect::CicFlowMeter4 => self.cicflowmeter4,
            Dialect::CicFlowMeter2018 => self.cicflowmeter2018,
            Dialect::Python => self.python,
        }
    }
}

static BY_NAME: LazyLock<HashMap<&'static str, (usize, Dialect), foldhash::fast::RandomState>> = LazyLock::new(|| {
    let mut names = HashMap::default();
    for dialect in Dialect::ALL {
        for (index, feature) in FEATURES.iter().enumerate() {
            if let Some(name) = feature.name_in(dialect) {
                names.entry(name).or_insert((index, dialect));
            }
        }
    }
    names
});

/// The index (from 0) of the feature called `name` in some dialect, and the first dialect that calls it so. Blanks
/// around the name are ignored, so the published `MachineLearningCVE` headers are found as they are; of the two columns
/// that they call ` Fwd Header Length` it is the first.
#[must_use]
pub fn find(name: &str) -> Option<(usize, Dialect)> {
    BY_NAME.get(name.trim()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spelling_means_the_same_column_in_every_dialect() {
        for dialect in Dialect::ALL {
            for (index, feature) in FEATURES.iter().enumerate() {
                if let Some(name) = feature.name_in(dialect) {
                    assert_eq!(find(name).map(|found| found.0), Some(index), "{name} of {dialect:?}");
                }
            }
        }
    }

    #[test]
    fn names_of_a_dialect_are_unique_and_complete() {
        for dialect in Dialect::ALL {
            let mut names: Vec<_> = FEATURES.iter().filter_map(|feature| feature.name_in(dialect)).collect();
            let all = if dialect == Dialect::MachineLearningCve { 78 } else { 77 };
            assert_eq!(names.len(), all, "{dialect:?}");
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{dialect:?}");
        }
    }

    #[test]
    fn published_headers_are_found_with_their_blanks() {
        assert_eq!(find(" Destination Port"), Some((0, Dialect::MachineLearningCve)));
        assert_eq!(find(" Fwd Header Length"), Some((34, Dialect::MachineLearningCve)));
        assert_eq!(find(" Fwd Header Length.1"), Some((55, Dialect::MachineLearningCve)));
        assert_eq!(find("CWR Flag Count"), Some((49, Dialect::CicFlowMeter4)));
        assert_eq!(find("Init Fwd Win Byts"), Some((66, Dialect::CicFlowMeter2018)));
        assert_eq!(find("cwr_flag_count"), Some((49, Dialect::Python)));
        assert_eq!(find("Label"), None);
    }
}
