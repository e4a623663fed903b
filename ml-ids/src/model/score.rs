//! From probabilities to a verdict.

use thiserror::Error;

use super::{contract::Contract, operator::most_probable};

/// What a model says of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Index of the most probable class, the first of equals; 0 is benign.
    pub class: usize,
    /// Its probability.
    pub probability: f32,
    /// The probability of each class.
    pub probabilities: Vec<f32>,
    /// Whether the class is an attack and its probability reaches the class's threshold.
    pub alert: bool,
}

/// Why there is no verdict. Never to be taken for benign: count it and show it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScoreError {
    /// A probability came out as NaN or Infinity.
    #[error("the model gave row {row} a probability that is not finite; check the model")]
    NotFinite {
        /// Position of the row in the call.
        row: usize,
    },
}

/// The verdict on row number `row` with these probabilities.
pub(super) fn verdict(contract: &Contract, row: usize, probabilities: &[f32]) -> Result<Score, ScoreError> {
    if probabilities.iter().any(|probability| !probability.is_finite()) {
        return Err(ScoreError::NotFinite { row });
    }
    let class = most_probable(probabilities);
    let probability = probabilities[class];
    let alert = class != 0 && contract.thresholds.get(class).is_some_and(|&threshold| probability >= threshold);
    Ok(Score { class, probability, probabilities: probabilities.to_vec(), alert })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::metadata;

    fn contract() -> Contract {
        Contract::parse(&metadata(3)).unwrap()
    }

    #[test]
    fn a_probability_that_is_not_finite_is_an_error_and_never_benign() {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..3 {
                let mut probabilities = [0.9, 0.05, 0.05];
                probabilities[at] = odd;
                assert_eq!(verdict(&contract(), 4, &probabilities), Err(ScoreError::NotFinite { row: 4 }));
            }
        }
    }

    #[test]
    fn benign_is_no_alert_however_probable() {
        let score = verdict(&contract(), 0, &[1.0, 0.0, 0.0]).unwrap();
        assert_eq!((score.class, score.probability, score.alert), (0, 1.0, false));
    }

    #[test]
    fn the_first_of_equal_classes_wins() {
        assert_eq!(verdict(&contract(), 0, &[0.2, 0.4, 0.4]).unwrap().class, 1);
    }
}
