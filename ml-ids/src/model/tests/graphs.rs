//! Files that are ONNX, but no model of one of the three kinds.

use super::*;

fn node(operator: &str) -> NodeProto {
    NodeProto { op_type: operator.into(), input: vec!["shape".into()], output: vec!["x".into()], ..Default::default() }
}

fn tensor(dims: &[i64]) -> TensorProto {
    TensorProto { name: "shape".into(), dims: dims.to_vec(), data_type: 7, ..Default::default() }
}

#[test]
fn other_operators_are_refused() {
    refused(|m| graph(m).node.insert(0, node("ConstantOfShape")), "operator `ConstantOfShape` is not allowed");
    refused(|m| graph(m).node.insert(0, node("Scaler")), "operator `Scaler` is not allowed");
    refused(|m| graph(m).node[0].domain.clear(), "operator `TreeEnsembleClassifier` is not allowed");
    refused(|m| graph(m).node.clear(), "has 0 operators TreeEnsembleClassifier");
    refused(|m| graph(m).node.push(ensemble(&super::super::testing::two_trees(), 3)), "has 2 operators");
    refused(|m| m.graph = None, "has 0 graphs");
}

/// A tensor of terabytes, made of a shape, as a file of a hundred bytes asks for.
#[test]
fn a_constant_of_terabytes_is_refused() {
    refused(
        |m| {
            let mut shape = tensor(&[2]);
            shape.int64_data = vec![1 << 20, 1 << 20];
            graph(m).initializer.push(shape);
            graph(m).node.insert(0, node("ConstantOfShape"));
        },
        "operator `ConstantOfShape` is not allowed",
    );
    let claim = "claims the dimensions [1099511627776, 1099511627776] and has 0 values";
    refused(|m| graph(m).initializer.push(tensor(&[1 << 40, 1 << 40])), claim);
}

#[test]
fn external_data_is_refused() {
    let mut external = tensor(&[4]);
    external.data_location = Some(1);
    external.external_data = vec![StringStringEntryProto { key: "location".into(), value: "/etc/passwd".into() }];
    refused(|m| graph(m).initializer.push(external), "an initialiser with external data");
}

#[test]
fn subgraphs_tensors_and_functions_are_refused() {
    let with = |attribute| move |m: &mut ModelProto| graph(m).node[0].attribute.push(attribute);
    let subgraph = AttributeProto { name: "body".into(), g: Some(GraphProto::default()), ..Default::default() };
    refused(with(subgraph), "contains a subgraph");
    let constant = AttributeProto { name: "value".into(), t: Some(tensor(&[1 << 50])), ..Default::default() };
    refused(with(constant), "contains a tensor attribute");
    refused(|m| m.functions.push(Default::default()), "contains functions");
}

#[test]
fn messages_nested_a_thousand_deep_are_refused() {
    let mut nested: Vec<u8> = Vec::new();
    for _ in 0..1000 {
        // An attribute (5) with a graph (6) with a node (1), around the last one.
        for key in [0x0a, 0x32, 0x2a] {
            let mut outer = vec![key];
            prost::encoding::encode_varint(nested.len() as u64, &mut outer);
            outer.append(&mut nested);
            nested = outer;
        }
    }
    let mut bytes = sound().encode_to_vec();
    bytes.push(0x3a);
    prost::encoding::encode_varint(nested.len() as u64, &mut bytes);
    bytes.extend(nested);
    assert!(load_bytes(&bytes).unwrap_err().to_string().contains("more than 1 graphs"));
}

#[test]
fn inputs_of_another_width_type_or_number_are_refused() {
    let retyped = |data_type, dims: &'static [i64]| {
        move |m: &mut ModelProto| graph(m).input[0].r#type = Some(tensor_type(data_type, dims))
    };
    refused(retyped(DataType::Float, &[0, 76]), "input `features` is [N, 76], expected float32 [N, 78]");
    refused(retyped(DataType::Float, &[0, 1 << 60]), "is [N, 1152921504606846976]");
    refused(retyped(DataType::Float, &[78]), "is [78]");
    refused(retyped(DataType::Float, &[-1, -78]), "is [-1, -78]");
    refused(retyped(DataType::Double, &[0, 78]), "is of type DOUBLE");
    refused(|m| graph(m).input[0].r#type = None, "is not a tensor");
    refused(|m| graph(m).input.clear(), "has 0 inputs");
    refused(|m| graph(m).input.extend(sound().graph.unwrap().input), "has 2 inputs");
    assert!(load(&changed(retyped(DataType::Float, &[1, 78]))).is_ok());
}

#[test]
fn outputs_and_names_that_lead_nowhere_are_refused() {
    refused(|m| graph(m).output.clear(), "no output `label`");
    refused(|m| drop(graph(m).output.pop()), "no output `probabilities`");
    let unresolved = "operator `TreeEnsembleClassifier` refers to `elsewhere`, which nothing before it makes";
    refused(|m| graph(m).node[0].input[0] = "elsewhere".into(), unresolved);
    refused(|m| graph(m).node[0].input[0] = "label".into(), "refers to `label`, which nothing before it makes");
    refused(|m| graph(m).node[0].input.clear(), "the trees have to see the features as they are");
    refused(|m| graph(m).node[0].output.reverse(), "output `probabilities` is a most probable class");
    refused(|m| graph(m).node[0].output[0] = "elsewhere".into(), "an output refers to `label`");
    refused(|m| drop(graph(m).node[0].output.pop()), "it has 1 outputs, expected 2");
    refused(|m| graph(m).node[0].output[0] = "features".into(), "the graph makes `features` twice");
}

#[test]
fn unknown_operator_sets_are_refused() {
    refused(|m| m.opset_import[1].version = 5, "operator set ai.onnx.ml of version 5 is not supported");
    refused(|m| drop(m.opset_import.pop()), "of version 0");
    let mut old = stacking(&mut Random(5), 2, 2, 3);
    old.opset_import[0].version = 6;
    assert!(refusal(&old).contains("operator set ai.onnx of version 6 is not supported"));
}
