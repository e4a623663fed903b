//! Drift: whether live traffic still looks like what the model was trained on.
//!
//! Judged flows are counted in the bins of the model's own histograms. A window closes at [`WINDOW_FLOWS`] flows, or
//! after [`WINDOW_TIME`] if it has [`WINDOW_LEAST`] of them, and is then held against the benign training rows, because
//! a live network is mostly benign. A feature whose index is a major shift in two windows in a row has left the
//! training world; that is said once until it has been back for two windows.
//!
//! Memory: one window, about 7 KB, and the report on the last one. Flows without a verdict that means anything (one
//! packet, no duration) are not counted: the training data holds none, which the verdict says already.

mod counts;
mod report;
#[cfg(test)]
mod tests;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use log::{info, warn};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub use self::{
    counts::Counts,
    report::{FeatureDrift, MAJOR_SHIFT, Window},
};
use super::Verdict;
use crate::{
    features::{FEATURE_COUNT, FEATURES},
    model::Model,
};

/// Flows that close a window. The index of 20 bins is then about 0.002 by chance alone.
pub const WINDOW_FLOWS: u64 = 10_000;
/// Age that closes a window.
pub const WINDOW_TIME: Duration = Duration::from_secs(3600);
/// Fewest flows of a window: below it chance alone (about 0.02 here) would soon be taken for drift.
pub const WINDOW_LEAST: u64 = 1_000;
/// Windows in a row after which a feature has left the training world, or is back in it.
const PATIENCE: u8 = 2;
/// Features that a line of the log names.
const NAMED: usize = 5;

/// Where a feature stands, and for how many windows the last ones have said otherwise.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    left: bool,
    contrary: u8,
}

/// Watches the verdicts of one model after the other. Shared: the scoring thread feeds it, the API asks it.
#[derive(Debug, Default)]
pub struct DriftWatch {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// SHA-256 of the model that is watched; another one starts afresh.
    model: String,
    knows: bool,
    counts: Counts,
    opened: Option<Instant>,
    standings: Vec<Standing>,
    windows: u64,
    closed_at: Option<OffsetDateTime>,
    last: Option<Window>,
    /// Verdicts by class, of the model's classes.
    verdicts: Vec<(String, u64)>,
    out_of_distribution: u64,
}

/// What the watch knows now.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DriftReport {
    /// Whether the model says what it was trained on; without it nothing here is ever known.
    pub available: bool,
    /// Windows closed with this model.
    pub windows: u64,
    /// Flows in the window that is open.
    pub open_flows: u64,
    /// When the last window was closed; `null` before the first.
    pub closed_at: Option<String>,
    /// Features that have left the training world, in the model's order.
    pub left: Vec<&'static str>,
    /// Flows far outside the training data, since the start; without those of one packet or no duration.
    pub out_of_distribution: u64,
    /// The last window.
    pub window: Option<Window>,
    /// Verdicts by class, since the start.
    #[serde(skip)]
    pub verdicts: Vec<(String, u64)>,
}

impl DriftWatch {
    /// Counts verdicts of `model`, and closes the window when it is full or old enough at `now`.
    pub fn observe(&self, model: &Model, verdicts: &[Verdict], now: Instant) {
        let mut state = self.lock();
        if state.model != model.sha256() {
            state.restart(model);
        }
        for verdict in verdicts {
            if let Some((_, count)) = state.verdicts.get_mut(verdict.score.class) {
                *count += 1;
            }
            state.out_of_distribution += u64::from(verdict.out_of_distribution && !verdict.untrained);
            let opened = *state.opened.get_or_insert(now);
            state.counts.add_verdict(model.contract(), verdict);
            let flows = state.counts.flows();
            if flows >= WINDOW_FLOWS || (flows >= WINDOW_LEAST && now.duration_since(opened) >= WINDOW_TIME) {
                state.close(model);
            }
        }
    }

    /// What it knows now.
    #[must_use]
    pub fn report(&self) -> DriftReport {
        let state = self.lock();
        let left = |(standing, feature): (&Standing, _)| standing.left.then_some(feature);
        DriftReport {
            available: state.knows,
            windows: state.windows,
            open_flows: state.counts.flows(),
            closed_at: state.closed_at.and_then(|time| time.format(&Rfc3339).ok()),
            left: state.standings.iter().zip(FEATURES.iter().map(|feature| feature.name)).filter_map(left).collect(),
            out_of_distribution: state.out_of_distribution,
            window: state.last.clone(),
            verdicts: state.verdicts.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Begins with another model. What counts since the start goes on, for the classes that both have.
    fn restart(&mut self, model: &Model) {
        let before = std::mem::take(self);
        let count = |class: &String| before.verdicts.iter().find(|(name, _)| name == class).map_or(0, |known| known.1);
        *self = Self {
            model: model.sha256().to_owned(),
            knows: model.contract().distribution.is_some(),
            standings: vec![Standing::default(); FEATURE_COUNT],
            verdicts: model.contract().classes.iter().map(|class| (class.clone(), count(class))).collect(),
            out_of_distribution: before.out_of_distribution,
            ..Self::default()
        };
    }

    fn close(&mut self, model: &Model) {
        let counts = std::mem::take(&mut self.counts);
        self.opened = None;
        let Some(window) = Window::of(model.contract(), &counts) else { return };
        self.windows += 1;
        self.closed_at = Some(OffsetDateTime::now_utc());
        let (mut left, mut back) = (Vec::new(), Vec::new());
        for feature in &window.features {
            let standing = &mut self.standings[feature.index];
            let outside = feature.psi > MAJOR_SHIFT;
            standing.contrary = if outside == standing.left { 0 } else { standing.contrary + 1 };
            if standing.contrary >= PATIENCE {
                *standing = Standing { left: outside, contrary: 0 };
                if outside { left.push(feature) } else { back.push(feature.feature) }
            }
        }
        if !left.is_empty() {
            warn!("{}", farewell(model, &window, &left));
        }
        if !back.is_empty() {
            info!("drift: back in the training world: {}", back.join(", "));
        }
        self.last = Some(window);
    }
}

/// Which features have left, and what that means to who reads it.
fn farewell(model: &Model, window: &Window, left: &[&FeatureDrift]) -> String {
    format!(
        "drift: traffic has left the training world of model {} {} in two windows in a row (the last of {} flows): {}; \
         its verdicts are less certain here than its card says, so check alerts by hand or train it with flows of this \
         network; GET /model shows more",
        model.name(),
        model.version(),
        window.flows,
        named(left.iter().copied(), left.len())
    )
}

/// The first few features with what has become of them, and how many more there are.
pub(crate) fn named<'a>(features: impl Iterator<Item = &'a FeatureDrift>, count: usize) -> String {
    let sentence = |drift: &FeatureDrift| format!("{} ({}; PSI {:.2})", drift.feature, drift.text, drift.psi);
    let mut text = features.take(NAMED).map(sentence).collect::<Vec<_>>().join(", ");
    if count > NAMED {
        text.push_str(&format!(" and {} more", count - NAMED));
    }
    text
}
