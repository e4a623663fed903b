//! What becomes of finished flows: verdicts, alerts, how long it takes, and how events arrive where they are to go.

use std::collections::BTreeMap;

use super::{Scrape, page::Page};
use crate::{api::health::Measures, sink::SinkState};

pub(super) fn verdicts(Scrape { state, sensor, drift }: &Scrape<'_>, page: &mut Page<'_>) {
    if let Some(drift) = drift {
        let classes = drift.verdicts.iter().map(|(class, count)| ([("class", class.as_str())], *count));
        page.counters("verdicts", "Flows judged, by the class that the model gave them", classes);
        let far = drift.out_of_distribution;
        page.counter("out_of_distribution_flows", "Flows far outside the training data of the model", far);
    }
    let Some(sensor) = sensor else { return };
    let Measures { other_protocol, untrained, alert_classes, alerts, .. } = &sensor.measures;
    // From zero on, so that the first alert of a class is an increase; the benign class has none.
    let classes = state.predictor().map(|predictor| predictor.card().classes).unwrap_or_default();
    let mut by_class: BTreeMap<&str, u64> = classes.iter().skip(1).map(|class| (class.as_str(), 0)).collect();
    by_class.extend(alert_classes.iter().map(|(class, count)| (class.as_str(), *count)));
    page.counters(
        "alert_verdicts",
        "Verdicts that are alerts, by class",
        by_class.into_iter().map(|(class, count)| ([("class", class)], count)),
    );
    page.counters(
        "alerts",
        "Alerts that were opened, by class and severity",
        alerts.iter().map(|kind| ([("class", kind.class.as_str()), ("severity", kind.severity)], kind.opened)),
    );
    let allowed = sensor.verdicts.allowed;
    page.counter("allowed_verdicts", "Verdicts that would be alerts were their source not allowed", allowed);
    page.counter("untrained_verdicts", "Verdicts on flows of one packet or no duration: never an alert", *untrained);
    page.counters(
        "flows_not_judged",
        "Finished flows without a verdict, by reason",
        [("other_protocol", *other_protocol), ("failed", sensor.verdicts.dropped)]
            .map(|(reason, count)| ([("reason", reason)], count)),
    );
}

pub(super) fn timing(Scrape { sensor, .. }: &Scrape<'_>, page: &mut Page<'_>) {
    let Some(Measures { drain, timing, .. }) = sensor.as_ref().map(|sensor| &sensor.measures) else { return };
    for (name, help, shape) in [
        ("drain_seconds", "Time to move a batch from the ring buffer to the scoring thread", drain),
        ("scoring_seconds", "Time to score a batch", &timing.scoring),
        ("batch_flows", "Flows of a scored batch", &timing.batch_flows),
        (
            "verdict_delay_seconds",
            "From when a flow was over (after its teardown and --linger, or at its time limit) to its verdict",
            &timing.delay,
        ),
    ] {
        page.histogram(name, help, shape.clone());
    }
}

/// A number of a sink.
type OfSink<T> = fn(&SinkState) -> T;

/// Names of sinks are their kinds, of which there are few.
pub(super) fn sinks(Scrape { sensor, .. }: &Scrape<'_>, page: &mut Page<'_>) {
    let Some(sinks) = sensor.as_ref().map(|sensor| &sensor.sinks) else { return };
    let counters: [(&str, &str, OfSink<u64>); 6] = [
        ("sink_queued_events", "Events meant for a sink", |sink| sink.queued),
        ("sink_delivered_events", "Events that have arrived", |sink| sink.delivered),
        ("sink_refused_events", "Events that the other side will never take", |sink| sink.refused),
        ("sink_dropped_events", "Events that found the queue full", |sink| sink.dropped),
        ("sink_lost_events", "Events that were still waiting when the sink ended", |sink| sink.lost_at_stop),
        ("sink_retries", "Deliveries that failed and were tried again", |sink| sink.retries),
    ];
    for (name, help, count) in counters {
        page.counters(name, help, sinks.iter().map(|sink| ([("sink", sink.name)], count(sink))));
    }
    let gauges: [(&str, &str, OfSink<f64>); 3] = [
        ("sink_queue_events", "Events that wait", |sink| sink.waiting as f64),
        ("sink_queue_events_limit", "Events that may wait", |sink| sink.capacity as f64),
        ("sink_failing", "Whether nothing arrives now", |sink| f64::from(u8::from(sink.failure.is_some()))),
    ];
    for (name, help, value) in gauges {
        page.gauges(name, help, sinks.iter().map(|sink| ([("sink", sink.name)], value(sink))));
    }
}
