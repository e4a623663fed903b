//! A linear model as it is evaluated: in float64 from float32 constants, as scikit-learn does it.
//!
//! In float32 the scaler alone is off by more than the 1e-5 that the probabilities may differ by.

use super::{
    meaning::{Layer, Scale},
    softmax::softmax,
};

/// `softmax((row - centre) * factor · weights + bias)`.
pub(super) struct Linear {
    centre: Vec<f64>,
    factor: Vec<f64>,
    /// One row a column of the input, one column a class.
    weights: Vec<f64>,
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
        Self {
            centre: layer.centre.as_deref().map_or_else(|| vec![0.0; layer.width], wide),
            factor,
            weights: wide(&layer.weights),
            bias: layer.bias.as_deref().map_or_else(|| vec![0.0; layer.classes], wide),
        }
    }

    /// Number of classes.
    pub(super) fn classes(&self) -> usize {
        self.bias.len()
    }

    /// Whether the model's answer depends on a column.
    pub(super) fn looks_at(&self, column: usize) -> bool {
        let row = self.weights.chunks_exact(self.classes()).nth(column);
        self.factor[column] != 0.0 && row.is_some_and(|row| row.iter().any(|&weight| weight != 0.0))
    }

    /// The probability of each class for one row.
    #[inline(always)]
    pub(super) fn probabilities(&self, row: impl Iterator<Item = f64>, probabilities: &mut [f64]) {
        probabilities.copy_from_slice(&self.bias);
        let columns = self.centre.iter().zip(&self.factor).zip(self.weights.chunks_exact(self.classes()));
        for (value, ((centre, factor), weights)) in row.zip(columns) {
            let value = (value - centre) * factor;
            for (score, weight) in probabilities.iter_mut().zip(weights) {
                *score += value * weight;
            }
        }
        softmax(probabilities);
    }
}
