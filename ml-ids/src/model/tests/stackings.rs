//! Stackings that are broken, or written in other ways.

use super::*;

fn small() -> ModelProto {
    stacking(&mut Random(21), 5, 3, 3)
}

#[track_caller]
fn refused_stacking(change: impl FnOnce(&mut ModelProto), reason: &str) {
    let mut model = small();
    change(&mut model);
    let message = refusal(&model);
    assert!(message.contains(reason), "expected `{reason}` in `{message}`");
}

/// That a change of spelling changes no answer.
#[track_caller]
fn same_answers(change: impl FnOnce(&mut ModelProto)) {
    let mut other = small();
    change(&mut other);
    let mut random = Random(4);
    let rows: Vec<_> = (0..50).map(|_| random.row()).collect();
    let scores = [small(), other].map(|model| load(&model).unwrap().score(&rows).unwrap());
    for (a, b) in scores[0].iter().zip(&scores[1]) {
        assert_eq!(a.class, b.class);
        assert!((a.probability - b.probability).abs() < 1e-6, "{a:?} is not {b:?}");
    }
}

#[test]
fn a_scaler_in_front_of_the_trees_is_refused() {
    let reason = "the trees have to see the features as they are";
    refused_stacking(
        |m| {
            let trees = graph(m).node.remove(0);
            graph(m).node.insert(2, trees);
            operator(m, "votes").input = vec!["scaled".into()];
        },
        reason,
    );
}

#[test]
fn cycles_and_operators_out_of_order_are_refused() {
    refused_stacking(|m| graph(m).node.swap(1, 2), "operator `Div` refers to `centred`, which nothing before it makes");
    let cyclic = "operator `Sub` refers to `scaled`, which nothing before it makes: the graph is cyclic";
    refused_stacking(|m| operator(m, "centred").input[0] = "scaled".into(), cyclic);
    refused_stacking(|m| operator(m, "probabilities").input[0] = "probabilities".into(), "the graph is cyclic");
}

#[test]
fn shapes_that_do_not_fit_are_refused_before_anything_is_made_of_them() {
    let claim = "initialiser `w1` claims the dimensions [1073741824, 1073741824] and has 234 values";
    refused_stacking(|m| initialiser(m, "w1").dims = vec![1 << 30, 1 << 30], claim);
    refused_stacking(|m| initialiser(m, "w1").dims = vec![i64::MAX, i64::MAX], "claims the dimensions");
    refused_stacking(|m| initialiser(m, "w1").dims = vec![-78, -3], "claims the dimensions [-78, -3]");
    refused_stacking(|m| initialiser(m, "w1").dims = vec![3, 78], "weights of shape [3, 78] where 78 columns");
    refused_stacking(|m| initialiser(m, "w1").dims = vec![78, 3, 1], "more than 2 dimensions of one initialiser");
    refused_stacking(|m| *initialiser(m, "mean") = constant("mean", &[1], vec![1.0]), "a constant of shape [1]");
    refused_stacking(|m| *initialiser(m, "b2") = constant("b2", &[0], vec![]), "claims the dimensions [0]");
    let two = |name: &'static str, rows: usize| {
        move |m: &mut ModelProto| *initialiser(m, name) = constant(name, &[rows as i64, 2], vec![0.0; rows * 2])
    };
    // Narrower than the bias, and than the classes.
    refused_stacking(two("w2", 6), "a constant of shape [3] where 2 are expected");
    refused_stacking(
        |m| {
            two("w2", 6)(m);
            *initialiser(m, "b2") = constant("b2", &[2], vec![0.0; 2]);
        },
        "lists 3 classes and the model has 2",
    );
}

#[test]
fn initialisers_that_are_not_finite_or_of_another_type_or_too_many_are_refused() {
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let reason = format!("initialiser `b1` holds {odd}, not a finite number");
        refused_stacking(|m| initialiser(m, "b1").float_data[1] = odd, &reason);
    }
    refused_stacking(|m| initialiser(m, "scale").float_data[7] = 0.0, "a division by 0");
    refused_stacking(|m| initialiser(m, "b1").data_type = DataType::Double as i32, "neither float32 nor int64");
    refused_stacking(|m| initialiser(m, "b1").double_data = vec![1.0], "another type than float32 and int64");
    refused_stacking(|m| initialiser(m, "b1").string_data = vec![vec![]; 9], "another type than float32 and int64");
    let large = || constant("large", &[1 << 18], vec![0.0; 1 << 18]);
    refused_stacking(|m| graph(m).initializer.push(large()), "more than 262144 values in its initialisers");
    let many = |m: &mut ModelProto| {
        graph(m).initializer.extend((0..16).map(|number| constant(&format!("c{number}"), &[1], vec![0.0])));
    };
    refused_stacking(many, "more than 16 initialisers");
    refused_stacking(|m| graph(m).initializer.push(constant("mean", &[1], vec![0.0])), "makes `mean` twice");
    let chain = |m: &mut ModelProto| {
        graph(m).node.extend((0..40).map(|number| plain("Identity", &["features"], &format!("i{number}"))));
    };
    refused_stacking(chain, "more than 32 operators");
}

#[test]
fn linear_models_in_another_order_are_refused() {
    let order = "centring, scaling, weights and bias have to come once and in this order";
    refused_stacking(
        |m| {
            *operator(m, "centred") = plain("Div", &["features", "scale"], "centred");
            *operator(m, "scaled") = plain("Sub", &["centred", "mean"], "scaled");
        },
        order,
    );
    refused_stacking(|m| operator(m, "scores").op_type = "Mul".into(), order);
    refused_stacking(|m| operator(m, "centred").input.reverse(), "one input that is computed, and constants");
    refused_stacking(
        |m| operator(m, "shares").input[0] = "scaled".into(),
        "it is not expected on a linear model without",
    );
    refused_stacking(
        |m| operator(m, "answers").input[1] = "scores".into(),
        "it is given a linear model without softmax",
    );
    refused_stacking(|m| operator(m, "answers").input[1] = "features".into(), "it is given the input");
    refused_stacking(|m| operator(m, "last products").input[0] = "votes".into(), "it is given what the trees say");
    for output in ["shares", "answers", "label"] {
        let along = "it runs along axis 0, not along the columns";
        refused_stacking(|m| operator(m, output).attribute[0].i = 0, along);
    }
}

#[test]
fn outputs_that_are_not_the_stackings_are_refused() {
    let swap = |m: &mut ModelProto, name: &str| {
        operator(m, "probabilities").output[0] = "p".into();
        operator(m, "label").input[0] = "p".into();
        operator(m, name).output[0] = "probabilities".into();
        graph(m).node.iter_mut().flat_map(|node| &mut node.input).filter(|input| *input == name).for_each(|input| {
            *input = "probabilities".into();
        });
    };
    refused_stacking(|m| swap(m, "shares"), "output `probabilities` is a linear model's softmax, expected");
    refused_stacking(|m| swap(m, "answers"), "output `probabilities` is several answers side by side");
    refused_stacking(|m| operator(m, "label").input[0] = "shares".into(), "output `label` is a most probable class");
}

#[test]
fn other_spellings_of_the_same_stacking_give_the_same_answers() {
    same_answers(|m| {
        let raw = initialiser(m, "w1").float_data.drain(..).flat_map(f32::to_le_bytes).collect();
        initialiser(m, "w1").raw_data = raw;
        initialiser(m, "b2").dims = vec![1, 3];
        operator(m, "scores").input.reverse();
    });
    same_answers(|m| {
        operator(m, "scaled").op_type = "Mul".into();
        initialiser(m, "scale").float_data.iter_mut().for_each(|scale| *scale = 1.0 / *scale);
    });
    same_answers(|m| {
        let gemm = plain("Gemm", &["scaled", "w1", "b1"], "scores");
        graph(m).node.retain(|node| node.output[0] != "products");
        *operator(m, "scores") = gemm;
        let transposed: Vec<_> = (0..3).flat_map(|class| (0..78).map(move |row| row * 3 + class)).collect();
        let weights = initialiser(m, "w1");
        weights.float_data = transposed.into_iter().map(|at| weights.float_data[at]).collect();
        weights.dims.reverse();
        let transposed =
            AttributeProto { name: "transB".into(), r#type: AttributeType::Int as i32, i: 1, ..Default::default() };
        operator(m, "scores").attribute.push(transposed);
    });
    same_answers(|m| {
        operator(m, "shares").output[0] = "same".into();
        let at = graph(m).node.iter().position(|node| node.op_type == "Concat").unwrap();
        graph(m).node.insert(at, plain("Identity", &["same"], "shares"));
        // The linear model first, and its rows of the weights with it.
        operator(m, "answers").input.reverse();
        initialiser(m, "w2").float_data.rotate_left(9);
    });
}
