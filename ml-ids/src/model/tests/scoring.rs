//! What a loaded model says of rows.

use super::*;

#[test]
fn votes_of_the_leaves_are_added_up() {
    let model = load(&sound()).unwrap();
    assert_eq!(probabilities(&model, row(&[(3, 1.5), (7, -2.0)])), [1.0, 0.0, 0.0]);
    assert_eq!(probabilities(&model, row(&[(3, 1.6), (7, 0.0)])), [0.1, 0.8, 0.1]);
    assert_eq!(probabilities(&model, row(&[(3, 5.0), (7, 0.0)])), [0.0, 0.4, 0.6]);
    assert_eq!((model.trees(), model.nodes(), model.depth()), (2, 8, 2));
}

#[test]
fn an_attack_at_its_threshold_is_an_alert_and_below_it_is_none() {
    let at = load(&changed(|m| set(m, "ml_ids.thresholds", r#"{"attack 1":0.8,"attack 2":0}"#))).unwrap();
    let below = load(&changed(|m| set(m, "ml_ids.thresholds", r#"{"attack 1":0.81,"attack 2":0}"#))).unwrap();
    let rows = [row(&[(3, 1.6), (7, 0.0)]), row(&[(7, -3.0)])];
    let verdicts = |model: &Model| -> Vec<_> {
        model.score(&rows).unwrap().iter().map(|score| (score.class, score.alert)).collect()
    };
    assert_eq!(verdicts(&at), [(1, true), (0, false)]);
    assert_eq!(verdicts(&below), [(1, false), (0, false)]);
}

#[test]
fn values_that_are_not_finite_are_replaced_as_the_contract_says() {
    let policy = r#"{"nan":2,"pos_inf":3.0,"neg_inf":-7}"#;
    let model = load(&changed(|m| set(m, "ml_ids.non_finite", policy))).unwrap();
    for (odd, replaced) in
        [(f64::NAN, 2.0), (f64::INFINITY, 3.0), (1e300, 3.0), (f64::NEG_INFINITY, -7.0), (-1e300, -7.0)]
    {
        for feature in [3, 7] {
            let odd = probabilities(&model, row(&[(feature, odd)]));
            assert_eq!(odd, probabilities(&model, row(&[(feature, replaced)])));
        }
    }
}

#[test]
fn every_batch_size_gives_what_single_rows_give() {
    let mut random = Random(7);
    let model = load(&model_of(ensemble(&random.forest(19, 7, 5), 5), 5)).unwrap();
    let rows: Vec<_> = (0..4113).map(|_| random.row()).collect();
    let singles: Vec<_> = rows.iter().map(|row| model.score(&[*row]).unwrap().remove(0)).collect();
    for size in [0, 2, 15, 16, 17, 256, 4096, 4113] {
        assert_eq!(model.score(&rows[..size]).unwrap(), singles[..size], "batch of {size}");
    }
}

#[test]
fn labels_and_probabilities_are_those_of_tracts_own_operator() {
    let mut random = Random(11);
    for (trees, depth, classes) in [(1, 0, 3), (1, 4, 2), (20, 6, 3), (33, 9, 16)] {
        let proto = model_of(ensemble(&random.forest(trees, depth, classes), classes), classes);
        let rows: Vec<_> = (0..100).map(|_| random.row()).collect();
        let ours = load(&proto).unwrap().score(&rows).unwrap();

        let theirs = tract_onnx::onnx().model_for_proto_model(&proto).unwrap();
        let theirs = theirs.into_optimized().unwrap().into_runnable().unwrap();
        let input = rows.iter().flatten().map(|&value| value as f32).collect();
        let input = Array2::from_shape_vec((rows.len(), 78), input).unwrap().into_tensor();
        let outputs = theirs.run(tvec!(input.into())).unwrap();
        let labels = outputs[0].to_plain_array_view::<i64>().unwrap();
        let probabilities = outputs[1].to_plain_array_view::<f32>().unwrap();
        let mut ties = 0;
        for (at, score) in ours.iter().enumerate() {
            for (class, &probability) in score.probabilities.iter().enumerate() {
                let difference = (probability - probabilities[[at, class]]).abs();
                assert!(difference < 1e-6, "row {at}, class {class}: off by {difference}");
            }
            let label = usize::try_from(labels[at]).unwrap();
            // Where two classes are equal up to rounding, the order of summation decides.
            if score.probability - score.probabilities[label] > 1e-6 {
                panic!("row {at} is {label} for tract, {} for us", score.class);
            }
            ties += usize::from(label != score.class);
        }
        assert!(ties < 5, "{ties} of 100 labels differ");
    }
}

#[test]
fn two_classes_in_the_layout_of_skl2onnx_are_a_share_and_its_rest() {
    let trees = [
        Tree::branch(0, 1.0, Tree::leaf(&[0.0], 1.0), Tree::leaf(&[0.5], 1.0)),
        Tree::branch(1, 1.0, Tree::leaf(&[0.125], 1.0), Tree::leaf(&[0.375], 1.0)),
    ];
    let model = load(&model_of(ensemble(&trees, 2), 2)).unwrap();
    assert_eq!(probabilities(&model, row(&[])), [0.875, 0.125]);
    assert_eq!(probabilities(&model, row(&[(0, 2.0)])), [0.375, 0.625]);
    assert_eq!(probabilities(&model, row(&[(0, 2.0), (1, 2.0)])), [0.125, 0.875]);
}
