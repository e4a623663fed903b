//! What the model says of a flow, and whether that is an alert.

use std::sync::Arc;

use ml_ids_common::FlowRecord;

use crate::{
    features::{self, FeatureVector},
    model::{Model, Score, ScoreError},
};

/// A flow with the model's answer.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The flow.
    pub record: FlowRecord,
    /// Its features.
    pub features: FeatureVector,
    /// The model's answer.
    pub score: Score,
    /// The verdict is not benign, its probability reaches the class's threshold, and the flow is of a kind that the
    /// model has been trained on.
    pub alert: bool,
    /// The flow has one packet or no duration: the training data holds no such flow, so its score is a guess and
    /// never an alert.
    pub untrained: bool,
    /// A feature lies far outside what the model was trained on: its score is a guess. It stays an alert if it is one,
    /// because what was never seen is no reason for silence.
    pub out_of_distribution: bool,
}

/// Turns records into verdicts with one model.
#[derive(Clone)]
pub struct Judge {
    model: Arc<Model>,
}

impl Judge {
    /// A judge by this model.
    #[must_use]
    pub const fn new(model: Arc<Model>) -> Self {
        Self { model }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Judges a batch, in order.
    ///
    /// # Errors
    /// When the model fails on the batch; no verdict is made up.
    pub fn judge(&self, records: Vec<FlowRecord>) -> Result<Vec<Verdict>, ScoreError> {
        let profile = self.model.contract().profile;
        let rows: Vec<FeatureVector> = records.iter().map(|record| features::compute(record, profile)).collect();
        let scores = self.model.score(&rows)?;
        let verdicts = records.into_iter().zip(rows).zip(scores);
        Ok(verdicts
            .map(|((record, features), score)| {
                let untrained = record.state().packets() < 2 || record.duration_us() <= 0;
                let out_of_distribution = self.model.out_of_distribution(&features);
                Verdict { alert: score.alert && !untrained, untrained, out_of_distribution, record, features, score }
            })
            .collect())
    }
}

/// TCP and UDP flows are judged; the models know no others.
#[must_use]
pub(super) const fn is_judged(record: &FlowRecord) -> bool {
    record.is_tcp_or_udp()
}
