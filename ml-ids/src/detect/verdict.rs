//! What the model says of a flow, and whether that is an alert.

use std::sync::Arc;

use ml_ids_common::FlowRecord;

use crate::{
    features::{self, FeatureVector},
    model::{Model, ModelHandle, Score, ScoreError},
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

/// The verdicts on a batch, and the one model that made them all.
#[derive(Debug)]
pub struct Judged {
    /// The model.
    pub model: Arc<Model>,
    /// In the order of the records.
    pub verdicts: Vec<Verdict>,
}

/// Turns records into verdicts with the model that is at work when a batch begins.
#[derive(Clone)]
pub struct Judge {
    models: Arc<ModelHandle>,
}

impl Judge {
    /// A judge by the model at work.
    #[must_use]
    pub const fn new(models: Arc<ModelHandle>) -> Self {
        Self { models }
    }

    /// The model at work now.
    #[must_use]
    pub fn model(&self) -> Arc<Model> {
        self.models.current().model
    }

    /// Judges a batch, in order.
    ///
    /// # Errors
    /// When the model fails on the batch; no verdict is made up.
    pub fn judge(&self, records: Vec<FlowRecord>) -> Result<Judged, ScoreError> {
        let model = self.model();
        let profile = model.contract().profile;
        let rows: Vec<FeatureVector> = records.iter().map(|record| features::compute(record, profile)).collect();
        let scores = model.score(&rows)?;
        let verdicts = records.into_iter().zip(rows).zip(scores);
        let verdicts = verdicts
            .map(|((record, features), score)| {
                let untrained = record.state().packets() < 2 || record.duration_us() <= 0;
                let out_of_distribution = model.out_of_distribution(&features);
                Verdict { alert: score.alert && !untrained, untrained, out_of_distribution, record, features, score }
            })
            .collect();
        Ok(Judged { model, verdicts })
    }
}

/// TCP and UDP flows are judged; the models know no others.
#[must_use]
pub(super) const fn is_judged(record: &FlowRecord) -> bool {
    record.is_tcp_or_udp()
}
