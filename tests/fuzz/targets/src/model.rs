//! Model files: whatever the bytes are, they are refused with a reason, or the model answers.

use ml_ids::{
    features::FEATURE_COUNT,
    model::{LoadOptions, Model, ModelError, Source},
};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "model",
    about: "ONNX files through scanner, contract, loading and scoring",
    run,
    longest: 1 << 20,
    words: &[
        b"ml_ids.contract",
        b"ml_ids.classes",
        b"ml_ids.profile",
        b"ml_ids.thresholds",
        b"ml_ids.kind",
        b"TreeEnsembleClassifier",
        b"ai.onnx.ml",
        b"SOFTMAX",
        b"BRANCH_LEQ",
        b"\x00\x00\xc0\x7f",
        b"\x00\x00\x80\x7f",
        b"\xff\xff\xff\xff\x0f",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    ],
    seeds: &["models/default.onnx"],
};

/// Rows that a model which was loaded must have an answer to.
const ROWS: [[f64; FEATURE_COUNT]; 4] =
    [[0.0; FEATURE_COUNT], [1e9; FEATURE_COUNT], [-1.0; FEATURE_COUNT], [f64::NAN; FEATURE_COUNT]];

fn run(data: &[u8]) {
    let model = match Model::from_bytes(data, Source::Embedded, &LoadOptions::default()) {
        Ok(model) => model,
        Err(ModelError::Panicked(message)) => panic!("loading panicked: {message}"),
        Err(error) => {
            assert!(!error.to_string().is_empty(), "{error:?} has no words");
            return;
        }
    };
    // A model that gives no number is refused row by row, with the error that says so.
    let Ok(scores) = model.score(&ROWS) else { return };
    let classes = model.contract().classes.len();
    for score in &scores {
        assert!(score.class < classes, "class {} of {classes}", score.class);
    }
    for row in &ROWS {
        let _ = (model.explain(row), model.out_of_distribution(row), model.far_outside(row));
    }
}
