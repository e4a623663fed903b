//! From a finished flow's integers to the 78 CICFlowMeter features, in each dialect.
//!
//! [`FEATURES`] is the one table: names in every dialect, unit, description and formula of each feature. CSV headers,
//! `/predict` parsing, model input checks, explanations and documentation are made from it.

mod flow_id;
mod names;
mod table;
mod view;
mod words;

use ml_ids_common::{FlowRecord, Profile};

pub use flow_id::FlowId;
pub use names::{Dialect, find};
pub use table::{FEATURES, Feature};
pub use view::{FlowView, Moments, Side};
pub use words::Words;

/// Number of features of CIC-IDS2017.
pub const FEATURE_COUNT: usize = 78;

/// One flow's features, in `MachineLearningCVE` order.
pub type FeatureVector = [f64; FEATURE_COUNT];

/// The features of a finished flow. The profile must be the one that the flow was counted with. Values can be NaN or
/// infinite where the profile's tool makes them so.
#[must_use]
pub fn compute(record: &FlowRecord, profile: Profile) -> FeatureVector {
    let view = FlowView::new(record, profile);
    let mut vector = [0.0; FEATURE_COUNT];
    for (value, feature) in vector.iter_mut().zip(&FEATURES) {
        *value = (feature.value)(&view);
    }
    vector
}
