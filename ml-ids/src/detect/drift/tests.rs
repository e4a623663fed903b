//! Windows of flows that look like the training data, and of flows that do not.

use ml_ids_common::{EndReason, FlowRecord, FlowState};

use super::*;
use crate::{
    features::FeatureVector,
    model::{
        Score,
        testing::{model_with_distribution, model_without_distribution},
    },
};

/// A model whose training data is spread evenly from 0 to 10 in every feature.
fn model() -> Model {
    model_with_distribution(|_| {})
}

/// Flow number `number`, spread like the training data but for `moved` features, which are all `value`.
fn verdict(model: &Model, number: u64, moved: &[usize], value: f64) -> Verdict {
    let spread = (number % 10) as f64 + 0.5;
    let features: FeatureVector = std::array::from_fn(|feature| if moved.contains(&feature) { value } else { spread });
    Verdict {
        record: FlowRecord::finish(FlowState::default(), EndReason::Idle),
        features,
        score: Score { class: 0, probability: 0.9, probabilities: vec![0.9, 0.1, 0.0], alert: false },
        alert: false,
        untrained: false,
        out_of_distribution: model.out_of_distribution(&features),
    }
}

fn verdicts(model: &Model, flows: u64, moved: &[usize], value: f64) -> Vec<Verdict> {
    (0..flows).map(|number| verdict(model, number, moved, value)).collect()
}

#[test]
fn traffic_like_the_training_data_is_no_drift_however_much_there_is() {
    let (watch, model) = (DriftWatch::default(), model());
    for _ in 0..3 {
        watch.observe(&model, &verdicts(&model, WINDOW_FLOWS, &[], 0.0), Instant::now());
    }
    let report = watch.report();
    let window = report.window.unwrap();
    assert_eq!((report.windows, report.open_flows, window.flows), (3, 0, WINDOW_FLOWS));
    assert_eq!((report.left.len(), report.out_of_distribution), (0, 0));
    assert_eq!(window.shifted().count(), 0);
    assert!(window.features.iter().all(|feature| feature.psi < 1e-9 && feature.outside == 0.0), "{window:?}");
    assert_eq!(report.verdicts[0], ("BENIGN".to_owned(), 3 * WINDOW_FLOWS));
}

#[test]
fn a_feature_leaves_after_two_windows_in_a_row_and_returns_after_two() {
    let (watch, model) = (DriftWatch::default(), model());
    let window = |moved: &[usize]| {
        watch.observe(&model, &verdicts(&model, WINDOW_FLOWS, moved, 9.5), Instant::now());
        watch.report().left
    };
    let (port, duration) = ("Destination Port", "Flow Duration");
    assert_eq!(window(&[0, 1]), [""; 0], "one window is no trend");
    assert_eq!(window(&[0]), [port]);
    assert_eq!(window(&[0, 1]), [port]);
    assert_eq!(window(&[0, 1]), [port, duration]);
    assert_eq!(window(&[1]), [port, duration], "one window is no return");
    assert_eq!(window(&[1]), [duration]);
}

#[test]
fn a_window_says_where_the_flows_have_gone() {
    let (watch, model) = (DriftWatch::default(), model());
    watch.observe(&model, &verdicts(&model, WINDOW_FLOWS, &[1], 12.0), Instant::now());
    let window = watch.report().window.unwrap();
    let FeatureDrift { feature, psi, outside, text, .. } = &window.features[0];
    assert_eq!((*feature, *outside), ("Flow Duration", 1.0));
    assert_eq!(text, "100.0 % of flows above 9 µs, 10.0 % of benign training flows");
    // Nine bins of a tenth are empty and one has all: 9(0.0001-0.1)ln(0.0001/0.1) + (1-0.1)ln(1/0.1).
    let textbook = 9.0 * (0.1 - 1e-4) * 1e3_f64.ln() + 0.9 * 10_f64.ln();
    assert!((psi - textbook).abs() < 1e-9, "{psi} is not {textbook}");
    assert_eq!((window.alert_share, window.expected_alert_share), (0.0, 0.01));
    assert_eq!(window.out_of_distribution_share, 0.0, "12 is outside but not far outside");
}

#[test]
fn flows_far_outside_are_counted_in_the_window_and_since_the_start() {
    let (watch, model) = (DriftWatch::default(), model());
    watch.observe(&model, &verdicts(&model, WINDOW_FLOWS, &[1], 1e6), Instant::now());
    watch.observe(&model, &verdicts(&model, 5, &[1], 1e6), Instant::now());
    let report = watch.report();
    assert_eq!((report.out_of_distribution, report.open_flows), (WINDOW_FLOWS + 5, 5));
    assert_eq!(report.window.unwrap().out_of_distribution_share, 1.0);
}

#[test]
fn an_hour_closes_a_window_of_enough_flows_and_no_smaller_one() {
    let (watch, model, start) = (DriftWatch::default(), model(), Instant::now());
    watch.observe(&model, &verdicts(&model, WINDOW_LEAST - 1, &[], 0.0), start);
    watch.observe(&model, &[], start + 2 * WINDOW_TIME);
    assert_eq!(watch.report().windows, 0);
    watch.observe(&model, &verdicts(&model, 1, &[], 0.0), start + 2 * WINDOW_TIME);
    let report = watch.report();
    assert_eq!((report.windows, report.window.unwrap().flows), (1, WINDOW_LEAST));
}

#[test]
fn flows_that_no_training_data_holds_are_not_compared() {
    let (watch, model) = (DriftWatch::default(), model());
    let mut untrained = verdicts(&model, WINDOW_FLOWS, &[], 0.0);
    untrained.iter_mut().for_each(|verdict| (verdict.untrained, verdict.out_of_distribution) = (true, true));
    watch.observe(&model, &untrained, Instant::now());
    let report = watch.report();
    assert_eq!((report.windows, report.open_flows, report.verdicts[0].1), (0, 0, WINDOW_FLOWS));
    assert_eq!(report.out_of_distribution, 0);
}

#[test]
fn another_model_starts_afresh_and_its_classes_count_on() {
    let (watch, first) = (DriftWatch::default(), model());
    let second = model_with_distribution(|value| value["rows"] = 1001.into());
    for _ in 0..2 {
        watch.observe(&first, &verdicts(&first, WINDOW_FLOWS, &[1], 9.5), Instant::now());
    }
    watch.observe(&first, &verdicts(&first, 7, &[], 0.0), Instant::now());
    assert_eq!(watch.report().left.len(), 1);
    watch.observe(&second, &verdicts(&second, 1, &[], 0.0), Instant::now());
    let report = watch.report();
    assert_eq!((report.windows, report.open_flows, report.left.len()), (0, 1, 0));
    assert_eq!(report.verdicts[0].1, 2 * WINDOW_FLOWS + 8);
}

#[test]
fn a_model_that_does_not_say_what_it_was_trained_on_gives_counts_and_no_drift() {
    let (watch, model) = (DriftWatch::default(), model_without_distribution());
    watch.observe(&model, &verdicts(&model, 2 * WINDOW_FLOWS, &[1], 1e9), Instant::now());
    let report = watch.report();
    assert_eq!((report.available, report.windows, report.out_of_distribution), (false, 0, 0));
    assert_eq!(report.verdicts[0].1, 2 * WINDOW_FLOWS);
}

#[test]
fn the_warning_names_what_has_left_in_words() {
    let model = model();
    let mut counts = Counts::default();
    verdicts(&model, WINDOW_FLOWS, &[1, 2, 3, 4, 5, 6, 7], 9.5)
        .iter()
        .for_each(|verdict| counts.add_verdict(model.contract(), verdict));
    let window = Window::of(model.contract(), &counts).unwrap();
    let left: Vec<_> = window.shifted().collect();
    let text = farewell(&model, &window, &left);
    assert!(
        text.contains("Flow Duration (100.0 % of flows above 9 µs, 10.0 % of benign training flows; PSI "),
        "{text}"
    );
    assert!(text.contains("model test 7") && text.contains(" and 2 more; "), "{text}");
}
