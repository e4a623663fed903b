//! The model that is part of the program.

use super::*;

#[test]
fn loads_and_calls_an_empty_row_something() {
    let model = Model::embedded().unwrap();
    assert_eq!(model.contract().classes.len(), probabilities(&model, [0.0; 78]).len());
    assert_eq!(model.source(), &Source::Embedded);
    assert_eq!(model.sha256().len(), 64);
    assert!(model.trees() > 1 && model.nodes() > model.trees() && model.bytes() > model.nodes());
    let sum: f32 = probabilities(&model, [1.0; 78]).iter().sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
}

#[test]
fn does_not_change_its_mind_over_unused_features() {
    let model = Model::embedded().unwrap();
    let mut row = [3.0; 78];
    let before = probabilities(&model, row);
    model.contract().unused_features.iter().for_each(|&feature| row[feature] = 1e6);
    assert_eq!(probabilities(&model, row), before);
}
