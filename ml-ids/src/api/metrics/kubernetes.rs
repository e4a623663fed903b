//! The names of pods: how many there are, and whether they are kept up to date.

use super::{Scrape, page::Page};
use crate::kubernetes::PodsState;

/// Nothing without `--kubernetes`.
pub(super) fn pods(Scrape { sensor, .. }: &Scrape<'_>, page: &mut Page<'_>) {
    let Some(state) = sensor.as_ref().and_then(|sensor| sensor.measures.pods.as_ref()) else { return };
    let PodsState { addresses, departed, known, failure, errors, refused, .. } = state;
    let up_to_date = known.is_some() && failure.is_none();
    page.gauge(
        "kubernetes_up_to_date",
        "Whether the names of this node's pods are kept up to date",
        f64::from(u8::from(up_to_date)),
    );
    page.gauges(
        "kubernetes_addresses",
        "Addresses of pods that have a name, by whether the pod is there",
        [("present", addresses.saturating_sub(*departed)), ("gone", *departed)]
            .map(|(pod, count)| ([("pod", pod)], count as f64)),
    );
    page.counter("kubernetes_errors", "Lists and watches of pods that failed", *errors);
    page.counter("kubernetes_refused_addresses", "Addresses of pods that found no room or have no name", *refused);
}
