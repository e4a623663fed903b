//! The kinds of model beside the forest: what they answer, and what a file says about its kind and its answers.

use super::*;
use crate::model::{InstructionSet, Kind};

fn rows(seed: u64, count: usize) -> Vec<FeatureVector> {
    let mut random = Random(seed);
    (0..count).map(|_| random.row()).collect()
}

/// The greatest difference between our probabilities and those of stock tract.
fn greatest_difference(model: &ModelProto, rows: &[FeatureVector]) -> f32 {
    let ours = load(model).unwrap().score(rows).unwrap();
    let ours = ours.iter().flat_map(|score| &score.probabilities);
    ours.zip(by_tract(model, rows)).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f32::max)
}

#[test]
fn a_stacking_answers_as_stock_tract_does() {
    for (trees, depth, classes) in [(1, 0, 2), (9, 4, 3), (21, 6, 16)] {
        let model = stacking(&mut Random(31), trees, depth, classes);
        assert_eq!(load(&model).unwrap().kind(), Kind::Stacking);
        let difference = greatest_difference(&model, &rows(5, 100));
        assert!(difference < 1e-4, "{trees} trees, {classes} classes: off by {difference}");
    }
}

#[test]
fn boosted_trees_answer_with_the_softmax_of_their_scores() {
    let mut random = Random(17);
    let model = model_of(boosted(&mut random, 7, 4, 5), 5);
    let loaded = load(&model).unwrap();
    assert_eq!((loaded.kind(), loaded.trees()), (Kind::Boosted, 35));
    let rows = rows(6, 200);
    let mut scores = model.clone();
    attribute(&mut scores, "post_transform").s = b"NONE".to_vec();
    let scores = by_tract(&scores, &rows);
    for (ours, scores) in loaded.score(&rows).unwrap().iter().zip(scores.chunks_exact(5)) {
        let powers: Vec<f64> = scores.iter().map(|&score| f64::from(score).exp()).collect();
        for (&ours, power) in ours.probabilities.iter().zip(&powers) {
            let wanted = power / powers.iter().sum::<f64>();
            assert!((f64::from(ours) - wanted).abs() < 1e-6, "{ours} is not {wanted}");
        }
    }
}

#[test]
fn every_batch_size_gives_what_single_rows_give_for_every_kind() {
    let mut random = Random(8);
    for model in [stacking(&mut random, 18, 5, 4), model_of(boosted(&mut random, 5, 5, 4), 4)] {
        let model = load(&model).unwrap();
        let rows = rows(9, 1100);
        let singles: Vec<_> = rows.iter().map(|row| model.score(&[*row]).unwrap().remove(0)).collect();
        for size in [2, 15, 16, 17, 64, 257, 1100] {
            assert_eq!(model.score(&rows[..size]).unwrap(), singles[..size], "batch of {size}");
        }
    }
}

#[test]
fn a_stacking_has_no_exact_explanation_and_gives_none() {
    let model = load(&stacking(&mut Random(12), 3, 3, 3)).unwrap();
    assert!(!model.can_explain());
    assert_eq!((model.explain(&[0.0; 78]), model.base_rate(0), model.explanation(&[0.0; 78])), (None, None, None));
}

#[test]
fn scores_of_boosted_trees_that_are_not_finite_are_refused() {
    let refused = |change: fn(&mut ModelProto), reason: &str| {
        let mut model = model_of(boosted(&mut Random(2), 2, 2, 3), 3);
        change(&mut model);
        let message = refusal(&model);
        assert!(message.contains(reason), "expected `{reason}` in `{message}`");
    };
    refused(|m| attribute(m, "class_weights").floats[0] = f32::NAN, "leaf weight 0: the weight is NaN");
    refused(|m| attribute(m, "class_weights").floats[0] = f32::INFINITY, "leaf weight 0: the weight is inf");
    refused(|m| attribute(m, "base_values").floats[2] = f32::NEG_INFINITY, "a base value is -inf");
    refused(|m| attribute(m, "base_values").floats.truncate(2), "`base_values` has 2 values, expected 3");
    refused(|m| attribute(m, "post_transform").s = b"NONE".to_vec(), "has attribute `base_values`");
    let mut two = model_of(boosted(&mut Random(2), 2, 2, 2), 2);
    attribute(&mut two, "class_ids").ints.fill(0);
    assert!(refusal(&two).contains("have weights for class 0 only"));
}

#[test]
fn another_kind_than_the_contract_says_is_refused() {
    let mut random = Random(3);
    let kinds = [
        (sound(), "forest"),
        (stacking(&mut random, 2, 2, 3), "stacking"),
        (model_of(boosted(&mut random, 2, 2, 3), 3), "boosted"),
    ];
    for (model, kind) in kinds {
        for said in ["forest", "stacking", "boosted"] {
            let mut model = model.clone();
            set(&mut model, "ml_ids.kind", said);
            if said == kind {
                assert_eq!(load(&model).unwrap().kind().name(), kind);
            } else {
                assert_eq!(refusal(&model), format!("`ml_ids.kind` says {said} and the graph is a {kind} model"));
            }
        }
    }
    refused(|m| set(m, "ml_ids.kind", "oracle"), "`ml_ids.kind` is `oracle`, expected forest, stacking or boosted");
}

#[test]
fn stored_rows_that_are_answered_otherwise_speak_against_the_model() {
    let stored = |probabilities: &str| {
        let row = vec!["0"; 78].join(",");
        let json = format!(r#"{{"rows":[[{row}]],"probabilities":[{probabilities}]}}"#);
        move |m: &mut ModelProto| set(m, "ml_ids.probes", &json)
    };
    // The answer on a row of zeros.
    assert!(load(&changed(stored("[0.6,0.4,0.0]"))).is_ok());
    assert!(load(&changed(stored("[0.600009,0.399991,0.0]"))).is_ok());
    refused(stored("[0.60002,0.39998,0.0]"), "stored row 0: class 0 has probability 0.6, stored is 0.60002");
    refused(stored("[0.6,0.4]"), "`ml_ids.probes` has to hold 1 to 256 rows of 78 values");
    refused(stored("[0.6,0.4,0],[0.6,0.4,0]"), "has to hold");
    refused(stored("[0.6,0.4,null]"), "`ml_ids.probes` is not rows and probabilities");
    refused(stored("[0.6,0.4,1e999]"), "`ml_ids.probes` is not rows and probabilities");
    refused(|m| set(m, "ml_ids.probes", r#"{"rows":[],"probabilities":[]}"#), "has to hold");
}

#[test]
fn equal_probabilities_of_which_another_was_stored_first_speak_against_the_model() {
    let halves = [Tree::leaf(&[0.5, 0.5, 0.0], 1.0)];
    let mut model = model_of(ensemble(&halves, 3), 3);
    let row = vec!["0"; 78].join(",");
    set(&mut model, "ml_ids.probes", &format!(r#"{{"rows":[[{row}]],"probabilities":[[0.499999,0.500001,0]]}}"#));
    assert!(refusal(&model).contains("the model says class 0, stored is 1"));
}

/// All files of the kinds beside the forest, cut short and with flipped bytes, are refused or sound; none panics.
#[test]
fn broken_files_of_every_kind_never_panic() {
    let mut random = Random(77);
    for model in [stacking(&mut random, 2, 2, 3), model_of(boosted(&mut random, 2, 2, 3), 3)] {
        let sound = model.encode_to_vec();
        for length in (0..sound.len()).step_by(7) {
            assert!(load_bytes(&sound[..length]).is_err(), "{length} bytes were loaded");
        }
        for _ in 0..1000 {
            let mut bytes = sound.clone();
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.below(256) as u8;
            if let Err(error) = load_bytes(&bytes) {
                assert!(!matches!(error, ModelError::Panicked(_)), "{error}");
            }
        }
    }
}

/// Every kind on every instruction set that this CPU has, at every size of batch that goes another way: the same bits.
#[test]
fn every_instruction_set_gives_the_same_bits() {
    let mut random = Random(41);
    let deep = random.forest(70, 14, 9);
    let single: Vec<_> = (0..3).map(|_| Tree::leaf(&[0.0, 1.0 / 3.0], 1.0)).collect();
    let many = random.forest(5, 6, 200);
    let models = [
        model_of(ensemble(&deep, 9), 9),
        model_of(ensemble(&single, 2), 2),
        model_of(ensemble(&many, 200), 200),
        model_of(boosted(&mut random, 9, 6, 5), 5),
        stacking(&mut random, 33, 7, 11),
    ];
    let rows = rows(42, 1100);
    for model in models {
        let plain = load(&model).unwrap().on(InstructionSet::Plain);
        let wanted = plain.score(&rows).unwrap();
        for set in InstructionSet::ALL {
            let model = load(&model).unwrap().on(set);
            if model.instructions() != set {
                eprintln!("SKIPPED: this CPU has no {set}");
                continue;
            }
            for size in [1, 11, 12, 16, 17, 32, 33, 63, 64, 65, 75, 76, 300, 1100] {
                let found = model.score(&rows[..size]).unwrap();
                assert_eq!(found, wanted[..size], "{} on {set}, batch of {size}", model.kind());
            }
        }
    }
}

#[test]
fn the_widest_instruction_set_of_this_cpu_is_chosen() {
    let model = load(&sound()).unwrap();
    let available = InstructionSet::ALL.into_iter().find(|set| set.is_available());
    assert_eq!(Some(model.instructions()), available);
    assert_eq!(model.on(InstructionSet::Plain).instructions(), InstructionSet::Plain);
}
