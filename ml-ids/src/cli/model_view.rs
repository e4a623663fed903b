//! A model as the API asks for it.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    api::{ClassDetails, Contribution, Explanation, ModelCard, ModelDetails, Prediction, Predictor},
    detect::Shadow,
    features::{FEATURE_COUNT, FeatureVector},
    model::{Live, Model, Reason, Space},
};

/// Longest time that a verdict may take where connections are served; longer ones are another thread's.
const QUICK: Duration = Duration::from_micros(150);
/// Most nodes of a model for that.
const QUICK_NODES: usize = 1 << 20;
/// Verdicts that are timed.
const QUICK_TRIES: usize = 20;

/// One model: whoever has taken it for a request keeps it until the answer.
pub(super) struct ModelPredictor {
    live: Live,
    card: Arc<ModelCard>,
    quick: bool,
    shadow: Option<Arc<Shadow>>,
}

impl ModelPredictor {
    pub(super) fn new(live: &Live, shadow: Option<Arc<Shadow>>) -> Self {
        let (card, quick) = (Arc::new(card(live)), is_quick(&live.model));
        Self { live: live.clone(), card, quick, shadow }
    }
}

/// Whether a verdict with its explanation takes less than [`QUICK`]: the least of some tries, as whatever else the machine does
/// only ever adds. A few milliseconds at most for a model that is.
fn is_quick(model: &Model) -> bool {
    let row = [[0.0; FEATURE_COUNT], [1e4; FEATURE_COUNT]];
    let took = (0..QUICK_TRIES).map(|number| {
        let (row, begun) = (&row[number % row.len()], Instant::now());
        let class = model.score(std::slice::from_ref(row)).ok().and_then(|scores| Some(scores.first()?.class));
        black_box(class.and_then(|class| model.explanation_of(row, class)));
        begun.elapsed()
    });
    // Each class's explanation takes a pass over the whole forest the first time.
    model.nodes() <= QUICK_NODES && took.min().is_some_and(|least| least < QUICK)
}

impl Predictor for ModelPredictor {
    fn card(&self) -> ModelCard {
        ModelCard::clone(&self.card)
    }

    fn shared_card(&self) -> Arc<ModelCard> {
        Arc::clone(&self.card)
    }

    fn is_quick(&self) -> bool {
        self.quick
    }

    fn predict(&self, rows: &[FeatureVector]) -> Result<Vec<Prediction>, String> {
        let model: &Arc<Model> = &self.live.model;
        let scores = model.score(rows).map_err(|error| error.to_string())?;
        if let Some(shadow) = &self.shadow {
            shadow.offer(model, rows.iter().zip(&scores));
        }
        let predictions = scores.into_iter().zip(rows).map(|(score, row)| Prediction {
            class: score.class,
            probability: score.probability,
            probabilities: score.probabilities,
            alert: score.alert,
            out_of_distribution: model.out_of_distribution(row),
        });
        Ok(predictions.collect())
    }

    fn explain(&self, row: &FeatureVector, class: usize, most: usize) -> Option<Explanation> {
        let explanation = self.live.model.explanation_of(row, class)?;
        let contribution =
            |Reason { feature, value, contribution, text }| Contribution { feature, value, contribution, text };
        Some(Explanation {
            space: match explanation.space {
                Space::Probability => "probability",
                Space::Margin => "margin",
            },
            base: explanation.base,
            score: explanation.score(),
            contributions: explanation
                .reasons(self.live.model.contract(), row, most)
                .into_iter()
                .map(contribution)
                .collect(),
        })
    }

    fn details(&self) -> ModelDetails {
        let (model, contract) = (&self.live.model, self.live.model.contract());
        let thresholds = contract.thresholds.iter().map(|threshold| threshold.is_finite().then_some(*threshold));
        let classes = contract.classes.iter().zip(thresholds);
        ModelDetails {
            kind: model.kind().name(),
            bytes: model.bytes(),
            trees: model.trees(),
            nodes: model.nodes(),
            depth: model.depth(),
            explains: model.can_explain(),
            classes: classes.map(|(name, threshold)| ClassDetails { name: name.clone(), threshold }).collect(),
            date: contract.date.clone(),
            training_data: contract.training_data.clone(),
            citation: contract.citation.clone(),
            inputs_sha256: contract.inputs_sha256.clone(),
            metrics: contract.metrics.clone(),
        }
    }
}

/// Who the model is.
pub(super) fn card(Live { model, origin }: &Live) -> ModelCard {
    ModelCard {
        name: model.name().to_owned(),
        version: model.version().to_owned(),
        source: model.source().to_string(),
        resolved: origin.resolved.clone(),
        cached: origin.cached,
        sha256: model.sha256().to_owned(),
        profile: model.contract().profile.name(),
        runtime: model.runtime(),
        loaded_at: model.loaded_at().into(),
        classes: model.contract().classes.clone(),
    }
}
