//! From finished flows to verdicts: features, model, sinks, and the books of what became of each flow.

pub mod drift;
mod pipeline;
mod shadow;
mod stats;
mod timing;
mod verdict;

pub use pipeline::{Pipeline, QUEUE_BATCHES, Watchers};
pub use shadow::{Disagreement, Shadow, ShadowCounts};
pub use stats::{Stats, StatsSnapshot};
pub use timing::{Timing, TimingShapes};
pub use verdict::{Judge, Judged, Verdict};
