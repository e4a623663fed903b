//! Explanations that a person can read: `Flow IAT Max 98.4 s (usual for BENIGN: below 4.1 s) +0.21`.

use serde::Serialize;

use super::{
    contract::{BENIGN, Contract},
    distribution::{Distribution, FeatureDistribution},
    explain::Contribution,
};
use crate::features::{FEATURE_COUNT, FEATURES, FeatureVector};

/// Both ends of a usual range are said if the upper one is at most this many times the lower one; beyond it only the
/// end that the value is past says something.
const NARROW: f64 = 1000.0;

/// What contributions are parts of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// The class's probability.
    Probability,
    /// The class's raw score, whose softmax with those of the other classes is the probability.
    Margin,
}

/// Why a row got its class: `base` and all contributions together are its score in `space`.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Index of the class that is explained, the most probable one.
    pub class: usize,
    /// What is added up.
    pub space: Space,
    /// The class's score before anything is known of the row.
    pub base: f32,
    /// What each feature adds, the greatest effect first.
    pub contributions: Vec<Contribution>,
}

/// One contribution with the words for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reason {
    /// The feature's name.
    pub feature: &'static str,
    /// Its value in the row.
    pub value: f64,
    /// What it adds.
    pub contribution: f32,
    /// All of that in words.
    pub text: String,
}

impl Explanation {
    /// The class's score in [`Explanation::space`].
    #[must_use]
    pub fn score(&self) -> f32 {
        let sum: f64 = self.contributions.iter().map(|part| f64::from(part.contribution)).sum();
        (f64::from(self.base) + sum) as f32
    }

    /// The `most` strongest contributions in words.
    #[must_use]
    pub fn reasons(&self, contract: &Contract, row: &FeatureVector, most: usize) -> Vec<Reason> {
        let reason = |part: &Contribution| {
            let (feature, value) = (FEATURES.get(part.feature)?, *row.get(part.feature)?);
            let usual = usual(contract, part.feature, value).unwrap_or_default();
            let (words, contribution) = (feature.words(value), part.contribution);
            let space = if self.space == Space::Margin { " raw score" } else { "" };
            let text = format!("{} {words}{usual} {contribution:+.2}{space}", feature.name);
            Some(Reason { feature: feature.name, value, contribution, text })
        };
        self.contributions.iter().take(most).filter_map(reason).collect()
    }
}

/// What is usual for benign rows, in brackets, if the value is not.
fn usual(contract: &Contract, index: usize, value: f64) -> Option<String> {
    let feature = &FEATURES[index];
    let FeatureDistribution { usual: (low, high), .. } = *contract.distribution.as_ref()?.features.get(index)?;
    let seen = contract.non_finite.apply(value);
    if !feature.is_quantity() || (low..=high).contains(&seen) {
        return None;
    }
    let (low, high) = (f64::from(low), f64::from(high));
    let (least, greatest) = (feature.words(low), feature.words(high));
    let range = if least == greatest {
        least.to_string()
    } else if low > 0.0 && high <= low * NARROW {
        least.to(&greatest)
    } else if f64::from(seen) > high {
        format!("below {greatest}")
    } else {
        format!("above {least}")
    };
    Some(format!(" (usual for {BENIGN}: {range})"))
}

impl Distribution {
    /// The features in which the row lies far outside the training data, in words; see
    /// [`super::Model::out_of_distribution`].
    pub(super) fn far_in_words(&self, row: &FeatureVector, seen: &[f32; FEATURE_COUNT]) -> Vec<String> {
        let sentence = |index: usize| {
            let (feature, known) = (FEATURES.get(index)?, self.features.get(index)?);
            let limit = |value: f32| feature.words(f64::from(value));
            let range = if seen[index] > known.max {
                format!("at most {}", limit(known.max))
            } else {
                format!("at least {}", limit(known.min))
            };
            Some(format!("{} {} (training data: {range})", feature.name, feature.words(row[index])))
        };
        self.far(seen).filter_map(sentence).collect()
    }
}
