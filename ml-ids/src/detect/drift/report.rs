//! What a window says when it is held against the training data.

use serde::Serialize;

use super::counts::{Counts, share, stability_index, term};
use crate::{
    features::FEATURES,
    model::{Contract, Distribution, Edges},
};

/// Index above which a feature has left the training world, by convention a major shift.
pub const MAJOR_SHIFT: f64 = 0.25;

/// One feature of a window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureDrift {
    /// Its name.
    pub feature: &'static str,
    /// Population stability index against the benign training rows.
    pub psi: f64,
    /// Share of flows outside the least and greatest value of all training rows.
    pub outside: f64,
    /// Where most of the difference lies, in words.
    pub text: String,
    /// Its position, from 0.
    #[serde(skip)]
    pub index: usize,
}

/// A closed window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Window {
    /// Flows that were judged in it.
    pub flows: u64,
    /// The features that the model looks at, the greatest shift first.
    pub features: Vec<FeatureDrift>,
    /// Index of the greatest attack probabilities against those of held-out benign rows.
    pub score_psi: f64,
    /// Share of flows that were alerts.
    pub alert_share: f64,
    /// The share to be expected of benign traffic that is like the training data.
    pub expected_alert_share: f64,
    /// Share of flows far outside the training data.
    pub out_of_distribution_share: f64,
}

impl Window {
    /// Holds counts against what the model was trained on; `None` if it does not say.
    #[must_use]
    pub fn of(contract: &Contract, counts: &Counts) -> Option<Self> {
        let known = contract.distribution.as_ref()?;
        let Counts { flows, bins, outside, scores, alerts, out_of_distribution } = counts;
        let mut features: Vec<_> = known
            .used
            .iter()
            .map(|&index| FeatureDrift {
                feature: FEATURES[index].name,
                psi: stability_index(&bins[index], *flows, &known.features[index].benign_shares),
                outside: share(outside[index].into(), *flows),
                text: shift(known, index, &bins[index], *flows),
                index,
            })
            .collect();
        features.sort_by(|left, right| right.psi.total_cmp(&left.psi));
        Some(Self {
            flows: *flows,
            features,
            score_psi: stability_index(scores, *flows, &known.score.benign_shares),
            alert_share: share(*alerts, *flows),
            expected_alert_share: known.benign_alert_rate,
            out_of_distribution_share: share(*out_of_distribution, *flows),
        })
    }

    /// The features whose index is above [`MAJOR_SHIFT`], the greatest first.
    pub fn shifted(&self) -> impl Iterator<Item = &FeatureDrift> {
        self.features.iter().filter(|feature| feature.psi > MAJOR_SHIFT)
    }
}

/// The bin that has gained most: `34 % of flows above 4.1 s, 1 % in training`.
fn shift(known: &Distribution, index: usize, counts: &[u32], flows: u64) -> String {
    let feature = &known.features[index];
    let gain = |bin: usize| {
        let (found, expected) = (share(counts[bin].into(), flows), feature.benign_shares[bin]);
        if found > expected { term(found, expected) } else { 0.0 }
    };
    let bins = 0..feature.edges.bins();
    let bin = bins.max_by(|&left, &right| gain(left).total_cmp(&gain(right))).unwrap_or(0);
    format!(
        "{} of flows {}, {} of benign training flows",
        percent(share(counts[bin].into(), flows)),
        place(index, &feature.edges, bin),
        percent(feature.benign_shares[bin])
    )
}

fn place(index: usize, edges: &Edges, bin: usize) -> String {
    let words = |value: f32| FEATURES[index].words(f64::from(value));
    match edges.ends(bin) {
        (None, None) => "anywhere".to_owned(),
        (None, Some(high)) => format!("at most {}", words(high)),
        (Some(low), None) => format!("above {}", words(low)),
        (Some(low), Some(high)) => format!("from {}", words(low).to(&words(high))),
    }
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.1 { "less than 0.1 %".to_owned() } else { format!("{percent:.1} %") }
}
