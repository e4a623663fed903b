//! What a model says of its training data: read when it is sound, refused when it is not, used for outliers.

use serde_json::json;

use super::*;

fn with(edit: impl FnOnce(&mut serde_json::Value)) -> ModelProto {
    changed(|m| set(m, "ml_ids.distribution", &distribution(edit)))
}

#[test]
fn a_sound_distribution_is_read() {
    let model = load(&with(|_| {})).unwrap();
    let known = model.contract().distribution.as_ref().unwrap();
    assert_eq!((known.rows, known.benign_rows, known.rows_benign_heldout), (1000, 900, 200));
    assert_eq!((known.features.len(), known.used.len()), (78, 78));
    let edges = &known.features[77].edges;
    assert_eq!([-1.0, 1.0, 1.5, 9.0, 9.1, 1e9].map(|value| edges.bin(value)), [0, 0, 1, 8, 9, 9]);
    assert_eq!(
        (edges.ends(0), edges.ends(3), edges.ends(9)),
        ((None, Some(1.0)), (Some(3.0), Some(4.0)), (Some(9.0), None))
    );
}

#[test]
fn a_feature_that_never_varied_may_have_a_single_bin() {
    let one =
        json!({"edges": [], "shares": [1], "benign_shares": [1.0], "min": 0, "max": 0, "benign": [0, 0, 0, 0, 0]});
    let model = load(&with(|value| value["features"][4] = one)).unwrap();
    assert!(!model.out_of_distribution(&row(&[(4, 1e9)])), "what was not learnt from cannot mislead");
}

#[test]
fn broken_distributions_are_refused_with_the_feature_and_the_reason() {
    let edges: Vec<f64> = (0..20).map(f64::from).collect();
    for (edit, reason) in [
        (("features", json!([])), "0 features, expected 78"),
        (("rows", json!(899)), "numbers of rows do not agree"),
        (("rows", json!(-1)), "invalid value"),
        (("rows_benign_heldout", json!(1_u64 << 60)), "numbers of rows do not agree"),
        (("benign_alert_rate", json!(1.5)), "`benign_alert_rate` is no share"),
        (("benign_alert_rate", json!(null)), "invalid type"),
        (
            ("score", json!({"edges": [0.5], "shares": [1], "benign_shares": [0.5, 0.5]})),
            "`score`: `shares` has 1 entries",
        ),
    ] {
        refused(|m| set(m, "ml_ids.distribution", &distribution(|value| value[edit.0] = edit.1)), reason);
    }
    for (key, part, reason) in [
        ("edges", json!([1, 2, 3, 4, 5, 6, 7, 9, 8]), "`edges` is not ascending"),
        ("edges", json!([1, 2, 3, 4, 5, 6, 7, 8, 8]), "`edges` is not ascending"),
        // Different as float64, the same as float32.
        ("edges", json!([1, 2, 3, 4, 5, 6, 7, 16_777_216, 16_777_217]), "`edges` is not ascending"),
        ("edges", json!([1, 2, 3, 4, 5, 6, 7, 8, 1e300]), "`edges` holds what is no finite float32"),
        ("edges", json!(edges), "20 edges, at most 19"),
        ("shares", json!([0.5, 0.5]), "`shares` has 2 entries for 10 bins"),
        ("shares", json!([1, 0, 0, 0, 0, 0, 0, 0, 0, 0.1]), "`shares` sums up to 1.1"),
        ("benign_shares", json!([1.5, -0.5, 0, 0, 0, 0, 0, 0, 0, 0]), "`benign_shares` holds what is no share"),
        ("min", json!(11), "`min` is above `max`"),
        ("max", json!(1e39), "`max` holds what is no finite float32"),
        ("benign", json!([0, 1, 5, 4, 9]), "`benign` is not ascending"),
        ("benign", json!([0, 1, 5, 9]), "invalid length 4"),
        ("benign", json!("x"), "invalid type"),
    ] {
        let name = super::super::expected_names()[7];
        let message = refusal(&with(|value| value["features"][7][key] = part));
        assert!(
            message.contains("`ml_ids.distribution`: ") && message.contains(reason),
            "expected `{reason}` in `{message}`"
        );
        assert!(message.contains(name) || message.contains("invalid"), "{message}");
    }
}

#[test]
fn a_distribution_of_boundless_length_is_refused_unread() {
    let text = format!("{{\"rows\":{}1}}", " ".repeat(600_000));
    refused(|m| set(m, "ml_ids.distribution", &text), "bytes, at most 524288 are read");
    refused(|m| set(m, "ml_ids.distribution", &"[".repeat(500_000)), "`ml_ids.distribution`: ");
}

#[test]
fn a_row_is_out_of_distribution_beyond_a_quarter_of_the_range_in_any_feature() {
    let model = load(&with(|value| {
        value["features"][3]["min"] = json!(-10);
    }))
    .unwrap();
    for (feature, value, far) in
        [(2, 12.5, false), (2, 12.6, true), (2, -2.5, false), (2, -2.6, true), (3, 15.0, false), (3, -15.1, true)]
    {
        assert_eq!(model.out_of_distribution(&row(&[(feature, value)])), far, "{value} in {feature}");
    }
    let far = model.far_outside(&row(&[(1, 5e6), (2, -4.0), (14, f64::INFINITY)]));
    assert_eq!(
        far,
        [
            "Flow Duration 5 s (training data: at most 10 µs)",
            "Total Fwd Packets -4 packets (training data: at least 0 packets)",
            "Flow Bytes/s infinite (training data: at most 10 bytes/s)",
        ]
    );
}

#[test]
fn features_that_the_model_never_looks_at_are_not_watched() {
    let mut proto = with(|_| {});
    set(&mut proto, "ml_ids.unused_features", r#"["Destination Port"]"#);
    let model = load(&proto).unwrap();
    assert!(!model.out_of_distribution(&row(&[(0, 60_000.0)])));
    assert_eq!(model.contract().distribution.as_ref().unwrap().used.len(), 77);
}
