//! What `ml-ids score` counts, and what it says of how the input compares with the training data.

use std::io::Write;

use ml_ids_common::FlowRecord;

use crate::{
    detect::{
        Verdict,
        drift::{Counts, WINDOW_LEAST, Window, named},
    },
    model::Model,
};

/// What was scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Rows with a verdict.
    pub scored: u64,
    /// Verdicts that are alerts.
    pub alerts: u64,
    /// Verdicts on rows far outside the training data.
    pub far: u64,
    /// Rows that could not be read.
    pub bad: u64,
    /// Flows of a kind that the model was not trained on, which are never alerts.
    pub untrained: u64,
    /// Flows that are neither TCP nor UDP, on which there is no verdict.
    pub unjudged: u64,
}

impl Tally {
    /// Counts a verdict.
    pub(super) fn count(&mut self, alert: bool, far: bool) {
        self.scored += 1;
        self.alerts += u64::from(alert);
        self.far += u64::from(far);
    }

    /// Counts a verdict on a flow.
    pub(super) fn count_verdict(&mut self, verdict: &Verdict) {
        self.count(verdict.alert, verdict.out_of_distribution && !verdict.untrained);
        self.untrained += u64::from(verdict.untrained);
    }

    /// Leaves the flows on which there are verdicts, and counts the others.
    pub(super) fn retain_judged(&mut self, records: &mut Vec<FlowRecord>) {
        let before = records.len();
        records.retain(FlowRecord::is_tcp_or_udp);
        self.unjudged += (before - records.len()) as u64;
    }

    /// Adds what another counted.
    pub(super) fn add(&mut self, other: &Self) {
        let Self { scored, alerts, far, bad, untrained, unjudged } = other;
        self.scored += scored;
        self.alerts += alerts;
        self.far += far;
        self.bad += bad;
        self.untrained += untrained;
        self.unjudged += unjudged;
    }
}

/// Says how the input compares with what the model was trained on, if it does not look like it.
pub(super) fn write_drift(
    report: &mut impl Write,
    name: &str,
    model: &Model,
    tally: &Tally,
    counts: &Counts,
) -> anyhow::Result<()> {
    let Tally { scored, far, .. } = tally;
    if *far > 0 {
        writeln!(
            report,
            "{name}: {far} of {scored} verdicts are guesses, the flows lie far outside the training data"
        )?;
    }
    let window = (counts.flows() >= WINDOW_LEAST).then(|| Window::of(model.contract(), counts)).flatten();
    if let Some(window) = window
        && let count @ 1.. = window.shifted().count()
    {
        writeln!(
            report,
            "{name}: warning: {count} of {} features are not as in the benign training data of model {} {}: {}",
            window.features.len(),
            model.name(),
            model.version(),
            named(window.shifted(), count)
        )?;
    }
    Ok(())
}
