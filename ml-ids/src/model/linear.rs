//! A linear model as it is evaluated: in float64 from float32 constants, as scikit-learn does it.
//!
//! In float32 the scaler alone is off by more than the 1e-5 that the probabilities may differ by.

use super::{
    meaning::{Layer, Scale},
    softmax::softmax,
};

/// Classes whose scores are summed side by side, one vector register of AVX-512.
const LANES: usize = 8;

/// `softmax((row - centre) * factor · weights + bias)`.
pub(super) struct Linear {
    centre: Vec<f64>,
    factor: Vec<f64>,
    /// For each [`LANES`] classes, a row of weights a column of the input; padded with 0.
    weights: Vec<[f64; LANES]>,
    bias: Vec<f64>,
}

impl Linear {
    /// Prepares what was read.
    pub(super) fn of(layer: &Layer) -> Self {
        let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
        let factor = match &layer.scale {
            Some(Scale::Divide(divisors)) => divisors.iter().map(|&divisor| 1.0 / f64::from(divisor)).collect(),
            Some(Scale::Multiply(factors)) => wide(factors),
            None => vec![1.0; layer.width],
        };
        let mut weights = Vec::new();
        for first in (0..layer.classes).step_by(LANES) {
            for row in layer.weights.chunks_exact(layer.classes) {
                weights
                    .push(std::array::from_fn(|lane| row.get(first + lane).map_or(0.0, |&weight| f64::from(weight))));
            }
        }
        Self {
            centre: layer.centre.as_deref().map_or_else(|| vec![0.0; layer.width], wide),
            factor,
            weights,
            bias: layer.bias.as_deref().map_or_else(|| vec![0.0; layer.classes], wide),
        }
    }

    /// Number of classes.
    pub(super) fn classes(&self) -> usize {
        self.bias.len()
    }

    /// Whether the model's answer depends on a column.
    pub(super) fn looks_at(&self, column: usize) -> bool {
        let mut rows = self.weights.iter().skip(column).step_by(self.factor.len());
        self.factor[column] != 0.0 && rows.any(|row| row.iter().any(|&weight| weight != 0.0))
    }

    /// The probability of each class for one row, which is scaled in place. Each score is summed column by column, on
    /// every instruction set.
    #[inline(always)]
    pub(super) fn probabilities(&self, row: &mut [f64], probabilities: &mut [f64]) {
        for ((value, centre), factor) in row.iter_mut().zip(&self.centre).zip(&self.factor) {
            *value = (*value - centre) * factor;
        }
        let weights = self.weights.chunks_exact(self.factor.len());
        let lanes = probabilities.chunks_mut(LANES).zip(self.bias.chunks(LANES));
        for ((probabilities, bias), weights) in lanes.zip(weights) {
            let mut scores = [0.0; LANES];
            for (value, weights) in row.iter().zip(weights) {
                for (score, weight) in scores.iter_mut().zip(weights) {
                    *score += value * weight;
                }
            }
            for ((probability, bias), score) in probabilities.iter_mut().zip(bias).zip(scores) {
                *probability = score + bias;
            }
        }
        softmax(probabilities);
    }
}
