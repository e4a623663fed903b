//! Why rows got their scores, in numbers and in words.

use super::*;
use crate::{
    features::FEATURES,
    model::{Space, trees::Below},
};

#[test]
fn contributions_and_base_rate_add_up_to_the_probability() {
    let mut random = Random(3);
    let model = load(&model_of(ensemble(&random.forest(25, 8, 6), 6), 6)).unwrap();
    assert!(model.can_explain());
    for _ in 0..200 {
        let row = random.row();
        let score = model.score(&[row]).unwrap().remove(0);
        let contributions = model.explain(&row).unwrap();
        let sum: f32 = contributions.iter().map(|part| part.contribution).sum();
        let total = model.base_rate(score.class).unwrap() + sum;
        assert!((total - score.probability).abs() < 1e-5, "{total} is not {}", score.probability);
        assert!(contributions.is_sorted_by(|a, b| a.contribution.abs() >= b.contribution.abs()));
    }
}

#[test]
fn a_contribution_is_credited_to_the_feature_of_the_branch() {
    let tree = Tree::branch(5, 0.0, Tree::leaf(&[0.9, 0.1], 75.0), Tree::leaf(&[0.1, 0.9], 25.0));
    let model = load(&model_of(ensemble(&[tree], 2), 2)).unwrap();
    let [part] = model.explain(&row(&[(5, 1.0)])).unwrap()[..] else { panic!("one feature is looked at") };
    assert_eq!(part.feature, 5);
    assert!((part.contribution - 0.6).abs() < 1e-6, "{part:?}");
    assert!((model.base_rate(1).unwrap() - 0.3).abs() < 1e-6);
    assert_eq!(model.base_rate(2), None);
}

#[test]
fn without_sample_counts_there_is_no_explanation() {
    for change in [
        |cover: &mut AttributeProto| cover.floats.clear(),
        // What skl2onnx writes.
        |cover: &mut AttributeProto| cover.floats.fill(1.0),
    ] {
        let model = load(&changed(|m| change(attribute(m, "nodes_hitrates")))).unwrap();
        assert_eq!((model.explain(&row(&[])), model.base_rate(0)), (None, None));
    }
}

#[test]
fn the_embedded_models_explanations_add_up_to_its_scores() {
    let (model, mut random) = (Model::embedded().unwrap(), Random(17));
    let mut classes = std::collections::BTreeSet::new();
    for _ in 0..300 {
        // Values over all magnitudes, so that paths end all over the trees.
        let row: FeatureVector = std::array::from_fn(|_| 10_f64.powi(random.below(9) as i32) * random.below(10) as f64);
        let score = model.score(&[row]).unwrap().remove(0);
        let explanation = model.explanation(&row).unwrap();
        assert_eq!(explanation.class, score.class);
        let wanted = match explanation.space {
            Space::Probability => f64::from(score.probability),
            Space::Margin => margin(&model, &row, score.class),
        };
        let sum: f64 = explanation.contributions.iter().map(|part| f64::from(part.contribution)).sum();
        let total = f64::from(explanation.base) + sum;
        // Raw scores go up to ten or so, and the parts are float32.
        assert!((total - wanted).abs() < 1e-5 * wanted.abs().max(1.0), "{total} is not {wanted}");
        classes.insert(score.class);
    }
    assert!(classes.len() > 3, "rows of {classes:?} only");
}

/// The raw score that boosted trees give `class`.
fn margin(model: &Model, row: &FeatureVector, class: usize) -> f64 {
    let row = row.map(|value| value as f32);
    let leaf = |&root: &u32| match model.forest.below(model.forest.path(root, &row).last().unwrap()) {
        Below::Votes(votes) => {
            votes.iter().filter(|vote| usize::from(vote.class) == class).map(|vote| f64::from(vote.weight)).sum::<f64>()
        }
        Below::Children(..) => panic!("a path ends at a leaf"),
    };
    model.forest.base.as_ref().map_or(0.0, |base| base[class]) + model.forest.roots.iter().map(leaf).sum::<f64>()
}

#[test]
fn boosted_trees_explain_the_raw_score_and_say_so() {
    let mut random = Random(29);
    let model = load(&model_of(boosted(&mut random, 20, 6, 4), 4)).unwrap();
    for _ in 0..200 {
        let row = random.row();
        let score = model.score(&[row]).unwrap().remove(0);
        let explanation = model.explanation(&row).unwrap();
        assert_eq!((explanation.class, explanation.space), (score.class, Space::Margin));
        let margins: Vec<_> = (0..4).map(|class| margin(&model, &row, class)).collect();
        let found = f64::from(explanation.score());
        assert!((found - margins[score.class]).abs() < 1e-5, "{found} is not of {margins:?}");
        // The softmax of what is explained is the probability.
        let share = margins[score.class].exp() / margins.iter().map(|margin| margin.exp()).sum::<f64>();
        assert!((share - f64::from(score.probability)).abs() < 1e-5, "{share} is not {}", score.probability);
        let reasons = explanation.reasons(model.contract(), &row, 1);
        assert!(reasons[0].text.ends_with(" raw score"), "{}", reasons[0].text);
    }
}

/// What is said of `value` in the one column that a tree looks at, with these percentiles of the benign rows.
fn said(feature: usize, value: f64, usual: [f64; 2]) -> String {
    let tree = Tree::branch(feature as i64, 0.5, Tree::leaf(&[0.9, 0.1], 75.0), Tree::leaf(&[0.1, 0.9], 25.0));
    let mut proto = model_of(ensemble(&[tree], 2), 2);
    let [low, high] = usual;
    let known = distribution(|value| value["features"][feature]["benign"] = vec![low, low, low, high, high].into());
    set(&mut proto, "ml_ids.distribution", &known);
    let model = load(&proto).unwrap();
    let row = row(&[(feature, value)]);
    let [reason] = &model.explanation(&row).unwrap().reasons(model.contract(), &row, 5)[..] else {
        panic!("one reason")
    };
    assert_eq!(reason.feature, FEATURES[feature].name);
    reason.text.clone()
}

#[test]
fn a_reason_says_what_would_be_usual_only_where_the_value_is_not() {
    const FLOW_IAT_MAX: usize = 18;
    for (value, usual, expected) in [
        (98.4e6, [0.0, 4.1e6], "Flow IAT Max 98.4 s (usual for BENIGN: below 4.1 s) +0.60"),
        (98.4e6, [1e5, 4.1e6], "Flow IAT Max 98.4 s (usual for BENIGN: 100 ms to 4.1 s) +0.60"),
        (98.4e6, [1e6, 4.1e6], "Flow IAT Max 98.4 s (usual for BENIGN: 1 to 4.1 s) +0.60"),
        // On the left of the branch the benign class is explained: 0.9 where 0.7 is the rule.
        (0.0, [20.0, 4.1e6], "Flow IAT Max 0 µs (usual for BENIGN: above 20 µs) +0.20"),
        (3.0, [1.0, 1.0], "Flow IAT Max 3 µs (usual for BENIGN: 1 µs) +0.60"),
        (3.0, [0.0, 4.1e6], "Flow IAT Max 3 µs +0.60"),
        (4.1e6, [0.0, 4.1e6], "Flow IAT Max 4.1 s +0.60"),
    ] {
        assert_eq!(said(FLOW_IAT_MAX, value, usual), expected, "{value} where {usual:?} is usual");
    }
}

#[test]
fn a_port_is_a_name_and_has_no_usual_range() {
    assert_eq!(said(0, 6667.0, [53.0, 443.0]), "Destination Port 6667 +0.60");
}

#[test]
fn without_a_distribution_a_reason_is_value_and_contribution() {
    let tree = Tree::branch(1, 0.5, Tree::leaf(&[0.9, 0.1], 75.0), Tree::leaf(&[0.1, 0.9], 25.0));
    let model = load(&model_of(ensemble(&[tree], 2), 2)).unwrap();
    let row = row(&[(1, 2e6)]);
    let reasons = model.explanation(&row).unwrap().reasons(model.contract(), &row, 5);
    assert_eq!(reasons[0].text, "Flow Duration 2 s +0.60");
    assert!(!model.out_of_distribution(&row) && model.far_outside(&row).is_empty());
}
