//! What the training data looked like, out of `ml_ids.distribution`: histograms and ranges of every feature, and the
//! histogram of scores. Optional; where it is there it is as untrusted as the rest of the file.
//!
//! Everything is checked and bounded once, here. Explanations, drift and out-of-distribution flags read it.

use serde::Deserialize;

use super::contract::ContractError;
use crate::features::{FEATURE_COUNT, FEATURES};

/// Most bins of a histogram.
pub(crate) const MAX_BINS: usize = 20;
/// Edges as they are searched: padded so that whole vector registers are compared.
const PADDED: usize = 24;
const _: () = assert!(MAX_BINS <= PADDED);
/// Longest text of the key, in bytes. 78 features of 20 bins take about 60,000.
const MAX_BYTES: usize = 512 << 10;
/// How far shares may be from summing up to 1: they are written with a few decimals each.
const SUM_TOLERANCE: f64 = 1e-3;
/// Most rows that a file may claim; above it a float64 is no exact count.
const MAX_ROWS: u64 = 1 << 53;
/// A value is far outside when it is this part of the training range's width beyond it. Measured (docs/models.md): 2 of
/// 6,450 held-out rows are, and 8 % of the benign flows of captures from elsewhere.
const FAR: f64 = 0.25;

/// A histogram's upper edges: bin `i` holds what is above edge `i - 1` and not above edge `i`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Edges {
    /// Ascending, then infinity.
    padded: [f32; PADDED],
    count: usize,
}

impl Edges {
    /// The bin of a finite value: as many edges as it is above. All are compared, which costs less than a search.
    pub(crate) fn bin(&self, value: f32) -> usize {
        self.padded.iter().map(|&edge| u32::from(value > edge)).sum::<u32>() as usize
    }

    /// Number of bins.
    pub(crate) fn bins(&self) -> usize {
        self.count + 1
    }

    /// Lower and upper end of a bin; `None` where it is open.
    pub(crate) fn ends(&self, bin: usize) -> (Option<f32>, Option<f32>) {
        let edge = |at: usize| self.padded[..self.count].get(at).copied();
        (bin.checked_sub(1).and_then(edge), edge(bin))
    }
}

/// One feature in the training data, as the model sees it: finite and in float32.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FeatureDistribution {
    /// The bins, quantiles of the benign rows.
    pub(crate) edges: Edges,
    /// Share of the benign rows in each bin.
    pub(crate) benign_shares: Vec<f64>,
    /// Least value of all rows.
    pub(crate) min: f32,
    /// Greatest value of all rows.
    pub(crate) max: f32,
    /// Where 98 of 100 benign rows lie: their first and their 99th percentile.
    pub(crate) usual: (f32, f32),
}

/// The greatest probability of an attack class, of rows that the model was not trained on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScoreDistribution {
    /// The bins.
    pub(crate) edges: Edges,
    /// Share of the benign rows in each bin.
    pub(crate) benign_shares: Vec<f64>,
}

/// The training world of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Rows that it describes.
    pub rows: u64,
    /// Of these, benign ones.
    pub benign_rows: u64,
    /// Share of benign rows, unknown to the model, that raised an alert.
    pub benign_alert_rate: f64,
    /// How many rows that share was taken of.
    pub rows_benign_heldout: u64,
    /// One for each feature, in their order.
    pub(crate) features: Vec<FeatureDistribution>,
    /// How benign rows were scored.
    pub(crate) score: ScoreDistribution,
    /// Indices of the features that the model looks at, ascending.
    pub(crate) used: Vec<usize>,
    /// Beyond these a value is far outside; infinite for what is not used or never varied, and so was not learnt from.
    fences: Vec<(f32, f32)>,
}

impl Distribution {
    /// Reads and checks the key's text, for a model that never looks at the features `unused`.
    pub(super) fn parse(text: &str, unused: &[usize]) -> Result<Self, ContractError> {
        if text.len() > MAX_BYTES {
            return Err(refuse(format!("{} bytes, at most {MAX_BYTES} are read", text.len())));
        }
        let raw: Raw = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
        let Raw { rows, benign_rows, features, score, benign_alert_rate, rows_benign_heldout } = raw;
        if benign_rows > rows || rows > MAX_ROWS || rows_benign_heldout > MAX_ROWS {
            return Err(refuse("the numbers of rows do not agree".to_owned()));
        }
        if !(0.0..=1.0).contains(&benign_alert_rate) {
            return Err(refuse("`benign_alert_rate` is no share".to_owned()));
        }
        if features.len() != FEATURE_COUNT {
            return Err(refuse(format!("{} features, expected {FEATURE_COUNT}", features.len())));
        }
        let features = features
            .iter()
            .zip(&FEATURES)
            .map(|(raw, feature)| raw.check().map_err(|fault| refuse(format!("`{}`: {fault}", feature.name))));
        let features = features.collect::<Result<Vec<_>, _>>()?;
        let used: Vec<usize> = (0..FEATURE_COUNT).filter(|feature| !unused.contains(feature)).collect();
        let fence = |(index, known): (usize, &FeatureDistribution)| {
            if used.contains(&index) { known.fence() } else { (f32::NEG_INFINITY, f32::INFINITY) }
        };
        Ok(Self {
            rows,
            benign_rows,
            benign_alert_rate,
            rows_benign_heldout,
            score: score.check().map_err(|fault| refuse(format!("`score`: {fault}")))?,
            fences: features.iter().enumerate().map(fence).collect(),
            used,
            features,
        })
    }

    /// The features that lie far outside what the model was trained on, for a row as the model sees it. One is enough to
    /// doubt the verdict: beyond the last branch every value is the same to a tree.
    pub(crate) fn far(&self, row: &[f32; FEATURE_COUNT]) -> impl Iterator<Item = usize> {
        let beyond = |(&value, &(low, high)): (&f32, &(f32, f32))| value < low || value > high;
        row.iter().zip(&self.fences).enumerate().filter(move |(_, pair)| beyond(*pair)).map(|(index, _)| index)
    }
}

impl FeatureDistribution {
    fn fence(&self) -> (f32, f32) {
        let (min, max) = (f64::from(self.min), f64::from(self.max));
        let margin = FAR * (max - min);
        if margin > 0.0 { ((min - margin) as f32, (max + margin) as f32) } else { (f32::NEG_INFINITY, f32::INFINITY) }
    }
}

fn refuse(fault: String) -> ContractError {
    ContractError::Distribution(fault)
}

#[derive(Deserialize)]
struct Raw {
    rows: u64,
    benign_rows: u64,
    features: Vec<RawFeature>,
    score: RawScore,
    benign_alert_rate: f64,
    rows_benign_heldout: u64,
}

#[derive(Deserialize)]
struct RawFeature {
    edges: Vec<f64>,
    shares: Vec<f64>,
    benign_shares: Vec<f64>,
    min: f64,
    max: f64,
    benign: [f64; 5],
}

impl RawFeature {
    fn check(&self) -> Result<FeatureDistribution, String> {
        let Self { edges, shares, benign_shares, min, max, benign } = self;
        let edges = check_edges(edges)?;
        check_shares("shares", shares, &edges)?;
        check_shares("benign_shares", benign_shares, &edges)?;
        let (min, max) = (finite("min", *min)?, finite("max", *max)?);
        if min > max {
            return Err("`min` is above `max`".to_owned());
        }
        for percentile in benign {
            finite("benign", *percentile)?;
        }
        if !benign.is_sorted() {
            return Err("`benign` is not ascending".to_owned());
        }
        let usual = (finite("benign", benign[0])?, finite("benign", benign[4])?);
        Ok(FeatureDistribution { edges, benign_shares: benign_shares.clone(), min, max, usual })
    }
}

#[derive(Deserialize)]
struct RawScore {
    edges: Vec<f64>,
    shares: Vec<f64>,
    benign_shares: Vec<f64>,
}

impl RawScore {
    fn check(&self) -> Result<ScoreDistribution, String> {
        let edges = check_edges(&self.edges)?;
        check_shares("shares", &self.shares, &edges)?;
        check_shares("benign_shares", &self.benign_shares, &edges)?;
        Ok(ScoreDistribution { edges, benign_shares: self.benign_shares.clone() })
    }
}

fn finite(name: &str, value: f64) -> Result<f32, String> {
    let value = value as f32;
    if value.is_finite() { Ok(value) } else { Err(format!("`{name}` holds what is no finite float32")) }
}

fn check_edges(edges: &[f64]) -> Result<Edges, String> {
    if edges.len() >= MAX_BINS {
        return Err(format!("{} edges, at most {} are read", edges.len(), MAX_BINS - 1));
    }
    let mut padded = [f32::INFINITY; PADDED];
    for (place, edge) in padded.iter_mut().zip(edges) {
        *place = finite("edges", *edge)?;
    }
    // Compared as float32: edges that are equal there would make a bin that nothing can fall into.
    if !padded[..edges.len()].is_sorted_by(|left, right| left < right) {
        return Err("`edges` is not ascending".to_owned());
    }
    Ok(Edges { padded, count: edges.len() })
}

fn check_shares(name: &str, shares: &[f64], edges: &Edges) -> Result<(), String> {
    if shares.len() != edges.bins() {
        return Err(format!("`{name}` has {} entries for {} bins", shares.len(), edges.bins()));
    }
    if !shares.iter().all(|share| (0.0..=1.0).contains(share)) {
        return Err(format!("`{name}` holds what is no share"));
    }
    let sum: f64 = shares.iter().sum();
    if (sum - 1.0).abs() > SUM_TOLERANCE {
        return Err(format!("`{name}` sums up to {sum}"));
    }
    Ok(())
}
