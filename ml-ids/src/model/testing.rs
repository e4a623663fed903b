//! Builds small ONNX models of each kind for tests, sound ones and broken ones.

use prost::Message as _;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType,
    tensor_shape_proto::Dimension, tensor_shape_proto::dimension, type_proto,
};

use super::{LoadOptions, Model, ModelError, Source, contract::expected_names};

/// A tree to be written; leaves hold a share of votes for each class.
pub(super) enum Tree {
    Leaf { votes: Vec<f32>, cover: f32 },
    Branch { feature: i64, threshold: f32, left: Box<Self>, right: Box<Self> },
}

impl Tree {
    pub(super) fn leaf(votes: &[f32], cover: f32) -> Self {
        Self::Leaf { votes: votes.to_vec(), cover }
    }

    pub(super) fn branch(feature: i64, threshold: f32, left: Self, right: Self) -> Self {
        Self::Branch { feature, threshold, left: Box::new(left), right: Box::new(right) }
    }

    fn cover(&self) -> f32 {
        match self {
            Self::Leaf { cover, .. } => *cover,
            Self::Branch { left, right, .. } => left.cover() + right.cover(),
        }
    }
}

/// A generator of numbers that are random enough for trees and rows.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// One of 40 values, so that rows often hit thresholds exactly.
    pub(super) fn value(&mut self) -> f32 {
        self.below(40) as f32 * 0.25 - 5.0
    }

    pub(super) fn tree(&mut self, depth: u32, classes: usize, trees: usize) -> Tree {
        if depth == 0 || self.below(8) == 0 {
            let mut votes: Vec<f32> = (0..classes).map(|_| self.below(4) as f32).collect();
            votes[self.below(classes as u64) as usize] += 1.0;
            let sum: f32 = votes.iter().sum();
            votes.iter_mut().for_each(|vote| *vote /= sum * trees as f32);
            return Tree::Leaf { votes, cover: 1.0 + self.below(9) as f32 };
        }
        let (feature, threshold) = (self.below(78) as i64, self.value());
        let left = self.tree(depth - 1, classes, trees);
        Tree::branch(feature, threshold, left, self.tree(depth - 1, classes, trees))
    }

    pub(super) fn forest(&mut self, trees: usize, depth: u32, classes: usize) -> Vec<Tree> {
        (0..trees).map(|_| self.tree(depth, classes, trees)).collect()
    }

    pub(super) fn row(&mut self) -> [f64; 78] {
        std::array::from_fn(|_| f64::from(self.value()))
    }
}

/// Two trees over three classes, with cover.
pub(super) fn two_trees() -> Vec<Tree> {
    vec![
        Tree::branch(3, 1.5, Tree::leaf(&[0.5, 0.0, 0.0], 60.0), Tree::leaf(&[0.0, 0.4, 0.1], 40.0)),
        Tree::branch(
            7,
            -2.0,
            Tree::leaf(&[0.5, 0.0, 0.0], 50.0),
            Tree::branch(3, 4.0, Tree::leaf(&[0.1, 0.4, 0.0], 30.0), Tree::leaf(&[0.0, 0.0, 0.5], 20.0)),
        ),
    ]
}

pub(super) fn integers(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Ints as i32, ints, ..Default::default() }
}

pub(super) fn floats(name: &str, floats: Vec<f32>) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Floats as i32, floats, ..Default::default() }
}

pub(super) fn text(name: &str, text: &str) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::String as i32, s: text.into(), ..Default::default() }
}

#[derive(Default)]
struct Columns {
    trees: Vec<i64>,
    nodes: Vec<i64>,
    features: Vec<i64>,
    values: Vec<f32>,
    modes: Vec<Vec<u8>>,
    lefts: Vec<i64>,
    rights: Vec<i64>,
    cover: Vec<f32>,
    leaf_trees: Vec<i64>,
    leaf_nodes: Vec<i64>,
    classes: Vec<i64>,
    weights: Vec<f32>,
}

impl Columns {
    fn add(&mut self, tree: i64, start: usize, node: &Tree) -> i64 {
        let at = self.trees.len();
        let id = (at - start) as i64;
        self.trees.push(tree);
        self.nodes.push(id);
        self.cover.push(node.cover());
        self.lefts.push(0);
        self.rights.push(0);
        match node {
            Tree::Leaf { votes, .. } => {
                self.features.push(0);
                self.values.push(0.0);
                self.modes.push(b"LEAF".to_vec());
                for (class, &weight) in votes.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
                    self.leaf_trees.push(tree);
                    self.leaf_nodes.push(id);
                    self.classes.push(class as i64);
                    self.weights.push(weight);
                }
            }
            Tree::Branch { feature, threshold, left, right } => {
                self.features.push(*feature);
                self.values.push(*threshold);
                self.modes.push(b"BRANCH_LEQ".to_vec());
                self.lefts[at] = self.add(tree, start, left);
                self.rights[at] = self.add(tree, start, right);
            }
        }
        id
    }
}

/// The operator, as the training side writes it and with cover.
pub(super) fn ensemble(trees: &[Tree], classes: usize) -> NodeProto {
    let mut columns = Columns::default();
    for (id, tree) in trees.iter().enumerate() {
        columns.add(id as i64, columns.trees.len(), tree);
    }
    let modes = AttributeProto {
        name: "nodes_modes".into(),
        r#type: AttributeType::Strings as i32,
        strings: columns.modes,
        ..Default::default()
    };
    NodeProto {
        op_type: "TreeEnsembleClassifier".into(),
        domain: "ai.onnx.ml".into(),
        input: vec!["features".into()],
        output: vec!["label".into(), "probabilities".into()],
        attribute: vec![
            integers("nodes_treeids", columns.trees),
            integers("nodes_nodeids", columns.nodes),
            integers("nodes_featureids", columns.features),
            floats("nodes_values", columns.values),
            modes,
            integers("nodes_truenodeids", columns.lefts),
            integers("nodes_falsenodeids", columns.rights),
            floats("nodes_hitrates", columns.cover),
            integers("class_treeids", columns.leaf_trees),
            integers("class_nodeids", columns.leaf_nodes),
            integers("class_ids", columns.classes),
            floats("class_weights", columns.weights),
            integers("classlabels_int64s", (0..classes as i64).collect()),
            text("post_transform", "NONE"),
        ],
        ..Default::default()
    }
}

/// A random forest's trees as boosted ones: leaves add scores of either sign to one class each.
pub(super) fn boosted(random: &mut Random, rounds: usize, depth: u32, classes: usize) -> NodeProto {
    let trees = random.forest(rounds * classes, depth, 1);
    let mut node = ensemble(&trees, classes);
    for attribute in &mut node.attribute {
        match attribute.name.as_str() {
            "post_transform" => attribute.s = b"SOFTMAX".to_vec(),
            "class_weights" => attribute.floats.iter_mut().for_each(|weight| *weight = random.value() * 0.1),
            _ => {}
        }
    }
    let owners = node.attribute.iter().find(|attribute| attribute.name == "class_treeids").map(|a| a.ints.clone());
    let owners = owners.unwrap().into_iter().map(|tree| tree % classes as i64).collect();
    *node.attribute.iter_mut().find(|attribute| attribute.name == "class_ids").unwrap() = integers("class_ids", owners);
    node.attribute.push(floats("base_values", (0..classes).map(|class| class as f32 * -0.25).collect()));
    node
}

/// An initialiser with its values as a field of their own.
pub(super) fn constant(name: &str, dims: &[i64], values: Vec<f32>) -> TensorProto {
    let data_type = DataType::Float as i32;
    TensorProto { name: name.into(), dims: dims.to_vec(), data_type, float_data: values, ..Default::default() }
}

/// A plain operator.
pub(super) fn plain(operator: &str, input: &[&str], output: &str) -> NodeProto {
    let axis = AttributeProto { name: "axis".into(), r#type: AttributeType::Int as i32, i: 1, ..Default::default() };
    NodeProto {
        op_type: operator.into(),
        input: input.iter().map(|&name| name.into()).collect(),
        output: vec![output.into()],
        attribute: if matches!(operator, "Softmax" | "ArgMax" | "Concat") { vec![axis] } else { vec![] },
        ..Default::default()
    }
}

/// A stacking of a forest and a scaled linear model, as the training side writes it.
pub(super) fn stacking(random: &mut Random, trees: usize, depth: u32, classes: usize) -> ModelProto {
    let mut forest = ensemble(&random.forest(trees, depth, classes), classes);
    forest.output = vec!["voted".into(), "votes".into()];
    let mut model = model_of(forest, classes);
    let (wide, narrow) = (78, classes as i64);
    let mut values = |count: i64, factor: f32| (0..count).map(|_| random.value() * factor).collect::<Vec<_>>();
    let initialisers = vec![
        constant("mean", &[wide], values(wide, 1.0)),
        constant("scale", &[wide], values(wide, 1.0).into_iter().map(|value| value.abs() + 0.5).collect()),
        constant("w1", &[wide, narrow], values(wide * narrow, 0.1)),
        constant("b1", &[narrow], values(narrow, 1.0)),
        constant("w2", &[2 * narrow, narrow], values(2 * narrow * narrow, 1.0)),
        constant("b2", &[narrow], values(narrow, 1.0)),
    ];
    let graph = graph(&mut model);
    graph.initializer = initialisers;
    graph.node.extend([
        plain("Sub", &["features", "mean"], "centred"),
        plain("Div", &["centred", "scale"], "scaled"),
        plain("MatMul", &["scaled", "w1"], "products"),
        plain("Add", &["products", "b1"], "scores"),
        plain("Softmax", &["scores"], "shares"),
        plain("Concat", &["votes", "shares"], "answers"),
        plain("MatMul", &["answers", "w2"], "last products"),
        plain("Add", &["last products", "b2"], "last scores"),
        plain("Softmax", &["last scores"], "probabilities"),
        plain("ArgMax", &["probabilities"], "label"),
    ]);
    model
}

/// The operator of that output, to be changed.
pub(super) fn operator<'a>(model: &'a mut ModelProto, output: &str) -> &'a mut NodeProto {
    graph(model).node.iter_mut().find(|node| node.output.iter().any(|name| name == output)).unwrap()
}

/// The initialiser of that name, to be changed.
pub(super) fn initialiser<'a>(model: &'a mut ModelProto, name: &str) -> &'a mut TensorProto {
    graph(model).initializer.iter_mut().find(|tensor| tensor.name == name).unwrap()
}

/// The attribute of that name, to be changed.
pub(super) fn attribute<'a>(model: &'a mut ModelProto, name: &str) -> &'a mut AttributeProto {
    let node = &mut model.graph.as_mut().unwrap().node[0];
    node.attribute.iter_mut().find(|attribute| attribute.name == name).unwrap()
}

pub(super) fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

/// The type of a tensor with these dimensions, 0 for a named one.
pub(super) fn tensor_type(data_type: DataType, dims: &[i64]) -> TypeProto {
    let dim = |&dim: &i64| Dimension {
        value: Some(match dim {
            0 => dimension::Value::DimParam("N".into()),
            _ => dimension::Value::DimValue(dim),
        }),
        ..Default::default()
    };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor = type_proto::Tensor { elem_type: data_type as i32, shape };
    TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }
}

fn end(name: &str, data_type: DataType, dims: &[i64]) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), r#type: Some(tensor_type(data_type, dims)), ..Default::default() }
}

/// A sound contract for classes BENIGN, attack 1, attack 2, …
pub(super) fn metadata(classes: usize) -> Vec<(String, String)> {
    let names: Vec<_> =
        (0..classes).map(|class| if class == 0 { "BENIGN".to_owned() } else { format!("attack {class}") }).collect();
    let thresholds: serde_json::Map<_, _> = names[1..].iter().map(|name| (name.clone(), 0.5.into())).collect();
    [
        ("ml_ids.contract", "1".to_owned()),
        ("ml_ids.name", "test".to_owned()),
        ("ml_ids.version", "7".to_owned()),
        ("ml_ids.profile", "fixed".to_owned()),
        ("ml_ids.features", serde_json::to_string(&expected_names()).unwrap()),
        ("ml_ids.classes", serde_json::to_string(&names).unwrap()),
        ("ml_ids.thresholds", serde_json::to_string(&thresholds).unwrap()),
        ("ml_ids.non_finite", r#"{"nan":0,"pos_inf":1e9,"neg_inf":0}"#.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec()
}

/// A distribution in which every feature is spread evenly over the edges 1 to 9 from 0 to 10, after a change.
pub(super) fn distribution(edit: impl FnOnce(&mut serde_json::Value)) -> String {
    let feature = serde_json::json!({
        "edges": [1, 2, 3, 4, 5, 6, 7, 8, 9], "shares": [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
        "benign_shares": [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
        "min": 0, "max": 10, "benign": [0, 1, 5, 9, 9.5],
    });
    let mut value = serde_json::json!({
        "rows": 1000, "benign_rows": 900, "benign_alert_rate": 0.01, "rows_benign_heldout": 200,
        "features": vec![feature; 78],
        "score": {"edges": [0.5], "shares": [0.5, 0.5], "benign_shares": [0.99, 0.01]},
    });
    edit(&mut value);
    value.to_string()
}

/// A whole model around an operator.
pub(super) fn model_of(node: NodeProto, classes: usize) -> ModelProto {
    let set = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    let entry = |(key, value)| StringStringEntryProto { key, value };
    ModelProto {
        ir_version: 8,
        opset_import: vec![set("", 18), set("ai.onnx.ml", 3)],
        metadata_props: metadata(classes).into_iter().map(entry).collect(),
        graph: Some(GraphProto {
            name: "forest".into(),
            node: vec![node],
            input: vec![end("features", DataType::Float, &[0, 78])],
            output: vec![
                end("label", DataType::Int64, &[0]),
                end("probabilities", DataType::Float, &[0, classes as i64]),
            ],
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A model that knows its training data; see [`two_trees`] and [`distribution`].
pub(crate) fn model_with_distribution(edit: impl FnOnce(&mut serde_json::Value)) -> Model {
    let mut proto = sound();
    proto.metadata_props.push(StringStringEntryProto { key: "ml_ids.distribution".into(), value: distribution(edit) });
    load(&proto).unwrap()
}

/// The same model when it does not.
pub(crate) fn model_without_distribution() -> Model {
    load(&sound()).unwrap()
}

/// The model of [`two_trees`].
pub(super) fn sound() -> ModelProto {
    model_of(ensemble(&two_trees(), 3), 3)
}

pub(super) fn load_bytes(bytes: &[u8]) -> Result<Model, ModelError> {
    Model::from_bytes(bytes, Source::File("test.onnx".into()), &LoadOptions::default())
}

pub(super) fn load(model: &ModelProto) -> Result<Model, ModelError> {
    load_bytes(&model.encode_to_vec())
}

/// The message with which a broken model is refused.
pub(super) fn refusal(model: &ModelProto) -> String {
    let error = load(model).expect_err("a broken model was loaded");
    assert!(!matches!(error, ModelError::Panicked(_)), "{error}");
    error.to_string()
}
