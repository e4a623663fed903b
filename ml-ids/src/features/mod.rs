//! From a finished flow's integers to the 78 CICFlowMeter features, in each dialect.
//!
//! [`FEATURES`] is the one table: names in every dialect, unit, description and formula of each feature. CSV headers,
//! `/predict` parsing, model input checks, explanations and documentation are made from it.

mod table;

pub use table::{FEATURES, Feature};

/// Number of features of CIC-IDS2017.
pub const FEATURE_COUNT: usize = 78;

/// One flow's features, in `MachineLearningCVE` order.
pub type FeatureVector = [f64; FEATURE_COUNT];
