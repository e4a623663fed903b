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

/// Whose spelling a feature's name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The CSVs of 2017.
    MachineLearningCve,
    /// CICFlowMeter 4 and its fork.
    CicFlowMeter4,
    /// CICFlowMeter of 2018.
    CicFlowMeter2018,
    /// Python `cicflowmeter`.
    Python,
}

/// Finds a feature by its name in any dialect: its position from 0, and the dialect.
#[must_use]
pub fn find(name: &str) -> Option<(usize, Dialect)> {
    let position = |of: fn(&Feature) -> Option<&'static str>| FEATURES.iter().position(|f| of(f) == Some(name));
    None.or_else(|| position(|f| Some(f.name)).map(|i| (i, Dialect::MachineLearningCve)))
        .or_else(|| position(|f| f.cicflowmeter4).map(|i| (i, Dialect::CicFlowMeter4)))
        .or_else(|| position(|f| f.cicflowmeter2018).map(|i| (i, Dialect::CicFlowMeter2018)))
        .or_else(|| position(|f| f.python).map(|i| (i, Dialect::Python)))
}
