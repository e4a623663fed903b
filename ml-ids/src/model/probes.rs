//! Stored rows with stored answers: a model that answers them otherwise is not run.
//!
//! They catch what no other check can: a file whose every part is sound and that is not the model that was trained.

use serde::Deserialize;
use thiserror::Error;

use super::{operator::most_probable, score::Score};
use crate::features::{FEATURE_COUNT, FeatureVector};

/// Most rows that a file may store.
const MAX_ROWS: usize = 256;
/// How far a probability may be from the stored one.
const TOLERANCE: f64 = 1e-5;

/// What `ml_ids.probes` holds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probes {
    /// The rows, 78 values each.
    rows: Vec<Vec<f64>>,
    /// The probability of each class for each row.
    probabilities: Vec<Vec<f64>>,
}

/// Why stored rows speak against a model.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ProbeError {
    /// They are not rows of 78 with probabilities of all classes.
    #[error(
        "`ml_ids.probes` has to hold 1 to {MAX_ROWS} rows of {FEATURE_COUNT} values, and as many of {classes} probabilities"
    )]
    Shape {
        /// Classes of the contract.
        classes: usize,
    },
    /// Another probability.
    #[error(
        "stored row {row}: class {class} has probability {found}, stored is {stored}; this is not the model that was trained"
    )]
    Probability {
        /// Which row, from 0.
        row: usize,
        /// Which class.
        class: usize,
        /// What the model says.
        found: f32,
        /// What the file says.
        stored: f64,
    },
    /// Another class.
    #[error(
        "stored row {row}: the model says class {found}, stored is {stored}; this is not the model that was trained"
    )]
    Class {
        /// Which row, from 0.
        row: usize,
        /// What the model says.
        found: usize,
        /// What the file says.
        stored: usize,
    },
}

impl Probes {
    /// Checks the numbers of rows and values.
    pub(super) fn check_shape(&self, classes: usize) -> Result<(), ProbeError> {
        let sound = (1..=MAX_ROWS).contains(&self.rows.len())
            && self.rows.len() == self.probabilities.len()
            && self.rows.iter().all(|row| row.len() == FEATURE_COUNT)
            && self.probabilities.iter().all(|row| row.len() == classes);
        if sound { Ok(()) } else { Err(ProbeError::Shape { classes }) }
    }

    /// The rows, to be scored.
    pub(super) fn rows(&self) -> Vec<FeatureVector> {
        self.rows.iter().filter_map(|row| row.as_slice().try_into().ok()).collect()
    }

    /// Compares with what the model says of [`Self::rows`].
    pub(super) fn compare(&self, scores: &[Score]) -> Result<(), ProbeError> {
        for (row, (stored, score)) in self.probabilities.iter().zip(scores).enumerate() {
            for (class, (&stored, &found)) in stored.iter().zip(&score.probabilities).enumerate() {
                let apart = (f64::from(found) - stored).abs();
                if apart > TOLERANCE || apart.is_nan() {
                    return Err(ProbeError::Probability { row, class, found, stored });
                }
            }
            let stored = most_probable(&stored.iter().map(|&probability| probability as f32).collect::<Vec<_>>());
            if stored != score.class {
                return Err(ProbeError::Class { row, found: score.class, stored });
            }
        }
        Ok(())
    }
}
