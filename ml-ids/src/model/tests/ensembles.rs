//! Forests with broken trees.

use super::*;

#[track_caller]
fn refused_attribute(name: &str, change: impl FnOnce(&mut AttributeProto), reason: &str) {
    refused(|m| change(attribute(m, name)), reason);
}

#[test]
fn cycles_shared_and_lost_nodes_are_refused() {
    // Nodes 0 to 2 are the first tree, 0 to 4 the second.
    refused_attribute("nodes_truenodeids", |a| a.ints[0] = 0, "node 0 of tree 0: it is reached twice");
    refused_attribute("nodes_truenodeids", |a| a.ints[5] = 0, "node 0 of tree 1: it is reached twice");
    refused_attribute("nodes_falsenodeids", |a| a.ints[0] = 1, "node 1 of tree 0: it is reached twice");
    refused_attribute("nodes_modes", |a| a.strings[5] = b"LEAF".to_vec(), "node 3 of tree 1: no path leads to it");
}

#[test]
fn children_features_and_modes_that_do_not_exist_are_refused() {
    for child in [3, -1, i64::MAX, i64::MIN] {
        refused_attribute("nodes_falsenodeids", |a| a.ints[0] = child, &format!("child {child} does not exist"));
    }
    for feature in [78, 255, 256, -1, i64::MAX] {
        let reason = format!("feature {feature} does not exist");
        refused_attribute("nodes_featureids", |a| a.ints[0] = feature, &reason);
    }
    for mode in ["BRANCH_GTE", "BRANCH_LT", "BRANCH_EQ", "", "leaf"] {
        let reason = format!("node 0 of tree 0: mode `{mode}` is not supported");
        refused_attribute("nodes_modes", |a| a.strings[0] = mode.into(), &reason);
    }
}

#[test]
fn leaf_weights_for_what_does_not_exist_are_refused() {
    for class in [3, -1, 70_000, i64::MAX] {
        let reason = format!("leaf weight 1: class {class} does not exist");
        refused_attribute("class_ids", |a| a.ints[1] = class, &reason);
    }
    refused_attribute("class_nodeids", |a| a.ints[0] = 0, "node 0 of tree 0 is no leaf");
    refused_attribute("class_nodeids", |a| a.ints[0] = 3, "node 3 of tree 0 does not exist");
    refused_attribute("class_treeids", |a| a.ints[0] = 2, "node 1 of tree 2 does not exist");
    refused_attribute("class_treeids", |a| a.ints[0] = -1, "node 1 of tree -1 does not exist");
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        refused_attribute("nodes_values", |a| a.floats[0] = odd, &format!("the threshold is {odd}"));
        refused_attribute("class_weights", |a| a.floats[2] = odd, &format!("leaf weight 2: the weight is {odd}"));
        refused_attribute("nodes_hitrates", |a| a.floats[4] = odd, &format!("the hit rate is {odd}"));
    }
    refused_attribute("class_weights", |a| a.floats[0] = -0.5, "the weight is -0.5");
}

#[test]
fn votes_that_are_no_probabilities_are_refused() {
    refused_attribute("class_weights", |a| a.floats[0] = 0.7, "add up to between");
    refused_attribute("class_weights", |a| a.floats.iter_mut().for_each(|w| *w *= 2.0), "between 2 and 2");
    refused_attribute("post_transform", |a| a.s = b"PROBIT".to_vec(), "post transform `PROBIT`");
}

#[test]
fn lists_of_different_length_order_or_type_are_refused() {
    refused_attribute("nodes_values", |a| a.floats.truncate(7), "`nodes_values` has 7 values, expected 8");
    refused_attribute("class_ids", |a| a.ints.push(0), "`class_treeids` has ");
    refused_attribute("nodes_nodeids", |a| a.ints.swap(1, 2), "node entry 1 is node 2 of tree 0");
    refused_attribute("nodes_treeids", |a| a.ints[7] = 7, "node entry 7 is node 4 of tree 7");
    refused_attribute("nodes_treeids", |a| a.r#type = AttributeType::Floats as i32, "has the wrong type");
    refused_attribute("classlabels_int64s", |a| a.ints.reverse(), "class labels have to be");
    refused_attribute("classlabels_int64s", |a| a.ints.push(3), "lists 3 classes and the model has 4");
    refused_attribute("classlabels_int64s", |a| a.ints.clear(), "has 0 classes");
}

#[test]
fn missing_repeated_and_unknown_attributes_are_refused() {
    let node = |m: &mut ModelProto| std::mem::take(&mut graph(m).node[0].attribute);
    let required = node(&mut sound()).into_iter().map(|attribute| attribute.name);
    for name in required.filter(|name| name != "nodes_hitrates" && name != "post_transform") {
        let reason = format!("lacks attribute `{name}`");
        refused(|m| graph(m).node[0].attribute.retain(|attribute| attribute.name != name), &reason);
    }
    let with = |attribute: AttributeProto| move |m: &mut ModelProto| graph(m).node[0].attribute.push(attribute);
    refused(with(integers("class_ids", vec![])), "attribute `class_ids` twice");
    refused(with(floats("nodes_values_as_tensor", vec![])), "`nodes_values_as_tensor`, which is not supported");
    refused(with(floats("base_values", vec![0.0; 3])), "`base_values`, which is not supported");
    refused(with(text("aggregate_function", "MAX")), "`aggregate_function`, which is not supported");
    refused(with(integers("nodes_missing_value_tracks_true", vec![1; 8])), "missing values take the true branch");
    refused(with(integers("nodes_missing_value_tracks_true", vec![0; 7])), "has 7 values, expected 8");
    assert!(load(&changed(with(integers("nodes_missing_value_tracks_true", vec![0; 8])))).is_ok());
}

#[test]
fn a_tree_of_a_hundred_thousand_levels_is_refused() {
    // Written flat: branch 2i has leaf 2i+1 and branch 2i+2.
    let levels = 100_000;
    let nodes = 2 * levels + 1;
    let mut model = sound();
    let branch = |id: i64| id % 2 == 0 && id < nodes - 1;
    let per_node = |of: &dyn Fn(i64) -> i64| (0..nodes).map(of).collect::<Vec<_>>();
    attribute(&mut model, "nodes_treeids").ints = per_node(&|_| 0);
    attribute(&mut model, "nodes_nodeids").ints = per_node(&|id| id);
    attribute(&mut model, "nodes_featureids").ints = per_node(&|_| 0);
    attribute(&mut model, "nodes_values").floats = vec![0.0; nodes as usize];
    attribute(&mut model, "nodes_hitrates").floats.clear();
    attribute(&mut model, "nodes_truenodeids").ints = per_node(&|id| if branch(id) { id + 1 } else { 0 });
    attribute(&mut model, "nodes_falsenodeids").ints = per_node(&|id| if branch(id) { id + 2 } else { 0 });
    attribute(&mut model, "nodes_modes").strings =
        (0..nodes).map(|id| if branch(id) { b"BRANCH_LEQ".to_vec() } else { b"LEAF".to_vec() }).collect();
    attribute(&mut model, "class_treeids").ints = vec![0];
    attribute(&mut model, "class_nodeids").ints = vec![1];
    attribute(&mut model, "class_ids").ints = vec![0];
    attribute(&mut model, "class_weights").floats = vec![1.0];
    assert!(refusal(&model).contains("deeper than 1024 branches"));
}
