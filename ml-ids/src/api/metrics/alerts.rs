//! Alerts besides those opened: how many are open, held back, kept, and listened to.

use std::sync::atomic::Ordering;

use super::{Scrape, page::Page};
use crate::{alert::AlertCounts, api::health::QueueHealth};

pub(super) fn alerts(Scrape { state, .. }: &Scrape<'_>, page: &mut Page<'_>) {
    let Some(alerting) = state.alerts() else { return };
    let AlertCounts { flows, grown, closed, merged, evicted, held_back, told_late, open, .. } = alerting.board.counts();
    page.gauge("open_alerts", "Alerts that are open", open as f64);
    page.counter("alert_flows", "Flows that opened or joined an alert", flows);
    page.counters(
        "alert_ends",
        "Alerts that are no longer open, by reason",
        [("over", closed.saturating_sub(evicted)), ("room", evicted), ("merged", merged)]
            .map(|(reason, count)| ([("reason", reason)], count)),
    );
    page.counter("alert_growths", "Growths of alerts that were told", grown);
    page.counter("held_back_alerts", "Alerts over the rate, which are only kept", held_back);
    page.counter("late_alerts", "Alerts that were held back and told later", told_late);
    let QueueHealth { length, capacity, refused } = alerting.health();
    page.gauge("event_listeners", "Clients that listen to events", length as f64);
    page.gauge("event_listeners_limit", "Most clients that may", capacity as f64);
    page.counter("event_listeners_refused", "Clients that found no place", refused);
    page.counter("event_listeners_cut", "Clients that were too slow", alerting.cut.load(Ordering::Relaxed));
}

pub(super) fn store(Scrape { state, .. }: &Scrape<'_>, page: &mut Page<'_>) {
    let Some(store) = state.alerts().and_then(|alerting| alerting.board.store()) else { return };
    page.counter("alert_store_written_changes", "Changes of alerts that were written", store.written);
    page.counter("alert_store_lost_changes", "Changes of alerts that could not be kept", store.lost);
    page.counter("alert_store_retries", "Writes that failed and were tried again", store.retries);
    page.counter("alert_store_removed_alerts", "Alerts removed because of their number or age", store.removed);
    page.counter("alert_store_damaged_files", "Files that were damaged and moved aside", store.corrupt);
    page.gauge("alert_store_unreadable_rows", "Rows met that are no alerts and are left out", store.unreadable as f64);
    page.gauge("alert_store_waiting_alerts", "Alerts that wait for the file", store.waiting as f64);
    page.gauge(
        "alert_store_failing",
        "Whether the file cannot be written",
        f64::from(u8::from(store.failing.is_some())),
    );
}
