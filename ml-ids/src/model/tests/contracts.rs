//! Forests with a broken contract.

use super::*;

#[test]
fn each_required_key_is_named_when_it_is_missing() {
    for key in ["contract", "name", "version", "profile", "features", "classes", "thresholds", "non_finite"] {
        let key = format!("ml_ids.{key}");
        refused(|m| m.metadata_props.retain(|entry| entry.key != key), &format!("lacks `{key}`"));
    }
}

#[test]
fn features_in_another_order_or_number_are_refused() {
    let names = super::super::expected_names();
    let mut swapped = names.clone();
    swapped.swap(4, 5);
    let set_names = |names: &[&str]| {
        let names = serde_json::to_string(names).unwrap();
        move |m: &mut ModelProto| set(m, "ml_ids.features", &names)
    };
    let reason = format!("feature 5 of the model is `{}`, expected `{}`", names[5], names[4]);
    refused(set_names(&swapped), &reason);
    refused(set_names(&names[..77]), &format!("feature 78 of the model is ``, expected `{}`", names[77]));
    refused(set_names(&[&names[..], &["more"]].concat()), "feature 79 of the model is `more`, expected ``");
}

#[test]
fn values_of_another_kind_are_refused() {
    let refused = |key: &'static str, value: &'static str, reason: &str| refused(|m| set(m, key, value), reason);
    refused("ml_ids.contract", "2", "keeps contract `2`, this program knows contract `1`");
    refused("ml_ids.profile", "orig", "`ml_ids.profile` is `orig`");
    refused("ml_ids.name", " ", "`ml_ids.name` holds a name that is empty");
    refused("ml_ids.version", "1\u{1b}[2J", "`ml_ids.version` holds a name");
    refused("ml_ids.classes", "BENIGN", "`ml_ids.classes` is not a JSON array of names");
    refused("ml_ids.classes", r#"["a","BENIGN","b"]"#, "the first class has to be BENIGN");
    refused("ml_ids.classes", r#"["BENIGN","a","a"]"#, "class `a` is listed twice");
    refused("ml_ids.classes", r#"["BENIGN"]"#, "1 classes");
    refused("ml_ids.thresholds", r#"{"attack 1":0.5}"#, "attack class `attack 2` has none");
    refused("ml_ids.thresholds", r#"{"BENIGN":0.5}"#, "`BENIGN` is none of the attack classes");
    refused("ml_ids.thresholds", r#"{"attack 1":1.5,"attack 2":0}"#, "no number from 0 to 1");
    refused("ml_ids.non_finite", r#"{"nan":0,"pos_inf":1e9}"#, "`neg_inf` is missing");
    refused("ml_ids.non_finite", r#"{"nan":0,"pos_inf":1e40,"neg_inf":0}"#, "`pos_inf` is missing or no finite");
    refused("ml_ids.non_finite", r#"{"nan":0,"pos_inf":1,"neg_inf":0,"x":1}"#, "unknown key `x`");
    refused("ml_ids.unused_features", r#"["Colour"]"#, "`Colour` is no feature");
    refused("ml_ids.metrics", "[", "`ml_ids.metrics` is not JSON");
}

#[test]
fn json_nested_without_end_is_refused() {
    refused(|m| set(m, "ml_ids.metrics", &"[".repeat(500_000)), "recursion limit");
}

#[test]
fn a_key_that_occurs_twice_is_refused() {
    refused(|m| m.metadata_props.extend_from_within(3..4), "`ml_ids.profile` twice");
}

#[test]
fn a_feature_that_is_called_unused_and_is_used_is_refused() {
    let name = super::super::expected_names()[7];
    let list = serde_json::to_string(&[name]).unwrap();
    refused(|m| set(m, "ml_ids.unused_features", &list), &format!("the model does look at `{name}`"));
}

#[test]
fn megabytes_of_metadata_are_refused() {
    refused(|m| set(m, "ml_ids.training_data", &"x".repeat(2 << 20)), "bytes of metadata");
}
