//! From verdicts to alerts that a person can live with: de-duplicated, graded, few, and kept.
//!
//! ```text
//! verdict that is an alert ─► Sighting ─► Alerts (join, fold, rate) ─► AlertChange ─► sinks, store, API
//! ```
//!
//! What an alert is and how many there may be is `docs/ALERTS.md`.

mod board;
pub mod class;
mod counts;
mod desk;
mod engine;
mod event_clock;
mod open;
mod rate;
mod record;
mod seen;
mod sighting;
mod since;
pub mod store;
#[cfg(test)]
mod tests;
mod text;

pub use board::{Board, Page};
pub use class::{Severities, Severity, SeverityError, SeverityRule, Technique};
pub use counts::AlertCounts;
pub use desk::Desk;
pub use engine::{AlertSettings, Alerts, FOLD_AT, FOLD_FOLDS, LONGEST};
pub use event_clock::EventClock;
pub use record::{Alert, AlertChange, ChangeKind, Ending, HeldBack, RATE_LABEL, State};
pub use seen::{Counted, MOST_ADDRESSES, SAMPLE};
pub use sighting::Sighting;
pub use since::since_us;
pub use text::{AlertText, LONGEST_TEXT, TextError};
