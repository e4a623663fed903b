//! What one window counts: how many flows fell into each bin of the training histograms.

use crate::features::FeatureVector;
use crate::{
    detect::Verdict,
    features::FEATURE_COUNT,
    model::{Contract, MAX_BINS, Score},
};

/// Flows by bin. Of fixed size, whatever is counted.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Flows.
    pub(super) flows: u64,
    /// For each feature, flows in each bin.
    pub(super) bins: Box<[[u32; MAX_BINS]; FEATURE_COUNT]>,
    /// For each feature, flows below the least or above the greatest value of the training data.
    pub(super) outside: Box<[u32; FEATURE_COUNT]>,
    /// Flows by their greatest probability of an attack.
    pub(super) scores: [u32; MAX_BINS],
    /// Alerts.
    pub(super) alerts: u64,
    /// Flows far outside the training data.
    pub(super) out_of_distribution: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            flows: 0,
            bins: Box::new([[0; MAX_BINS]; FEATURE_COUNT]),
            outside: Box::new([0; FEATURE_COUNT]),
            scores: [0; MAX_BINS],
            alerts: 0,
            out_of_distribution: 0,
        }
    }
}

impl Counts {
    /// Counts a verdict, unless the flow is of a kind that no training data holds, which the verdict says already.
    pub fn add_verdict(&mut self, contract: &Contract, verdict: &Verdict) {
        let Verdict { features, score, alert, untrained, out_of_distribution, .. } = verdict;
        if !untrained {
            self.add(contract, features, score, *alert, *out_of_distribution);
        }
    }

    /// Counts a flow of the given features and score; nothing if the model does not say what it was trained on.
    pub fn add(&mut self, contract: &Contract, features: &FeatureVector, score: &Score, alert: bool, far: bool) {
        let Some(known) = &contract.distribution else { return };
        let row = contract.non_finite.apply_all(features);
        for &index in &known.used {
            let (feature, value) = (&known.features[index], row[index]);
            self.bins[index][feature.edges.bin(value)] += 1;
            self.outside[index] += u32::from(value < feature.min || value > feature.max);
        }
        let attack = score.probabilities.iter().skip(1).copied().fold(0.0, f32::max);
        self.scores[known.score.edges.bin(attack)] += 1;
        self.flows += 1;
        self.alerts += u64::from(alert);
        self.out_of_distribution += u64::from(far);
    }

    /// Adds what another counted with the same model.
    pub fn merge(&mut self, other: &Self) {
        let Self { flows, bins, outside, scores, alerts, out_of_distribution } = other;
        self.flows += flows;
        self.alerts += alerts;
        self.out_of_distribution += out_of_distribution;
        let own = self.bins.as_flattened_mut().iter_mut().chain(self.outside.iter_mut()).chain(&mut self.scores);
        for (own, other) in own.zip(bins.as_flattened().iter().chain(outside.iter()).chain(scores)) {
            *own += other;
        }
    }

    /// Flows counted.
    #[must_use]
    pub const fn flows(&self) -> u64 {
        self.flows
    }
}

/// The population stability index of a histogram against the shares that were expected: 0 if they agree, above 0.25 by
/// convention a shift that matters. A bin that is empty on one side counts as [`FLOOR`].
pub(super) fn stability_index(counts: &[u32], flows: u64, expected: &[f64]) -> f64 {
    expected.iter().zip(counts).map(|(&expected, &count)| term(share(count.into(), flows), expected)).sum()
}

/// One bin's part of the index.
pub(super) fn term(found: f64, expected: f64) -> f64 {
    let (found, expected) = (found.max(FLOOR), expected.max(FLOOR));
    (found - expected) * (found / expected).ln()
}

/// Least share of a bin, so that an empty one does not make the index infinite: one flow of the largest window.
const FLOOR: f64 = 1e-4;

/// A part of the flows.
pub(super) fn share(part: u64, flows: u64) -> f64 {
    if flows == 0 { 0.0 } else { part as f64 / flows as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_what_was_expected_is_nothing_and_of_a_shift_the_textbook_value() {
        assert_eq!(stability_index(&[50, 30, 20], 100, &[0.5, 0.3, 0.2]), 0.0);
        // (0.2-0.5)ln(0.2/0.5) + (0.3-0.3)ln(1) + (0.5-0.2)ln(0.5/0.2)
        let shifted = stability_index(&[20, 30, 50], 100, &[0.5, 0.3, 0.2]);
        assert!((shifted - 0.6 * 2.5_f64.ln()).abs() < 1e-12, "{shifted}");
    }

    #[test]
    fn an_empty_bin_makes_the_index_large_but_not_infinite() {
        let index = stability_index(&[0, 100], 100, &[0.5, 0.5]);
        assert!((4.0..5.0).contains(&index), "{index}");
        assert!(stability_index(&[100, 0], 100, &[0.0, 1.0]).is_finite());
    }

    #[test]
    fn parts_that_are_merged_are_what_counting_at_once_gives() {
        let (mut whole, mut part) = (Counts::default(), Counts::default());
        for counts in [&mut whole, &mut part] {
            counts.flows = 3;
            counts.bins[77][19] = 2;
            counts.outside[5] = 1;
            counts.scores[9] = 4;
        }
        whole.merge(&part);
        assert_eq!((whole.flows, whole.bins[77][19], whole.outside[5], whole.scores[9]), (6, 4, 2, 8));
    }
}
