//! From a scanned graph to what it computes: every name resolves, nothing is used before it is made, and the whole is
//! one of the three kinds of model.

use std::collections::HashMap;

use thiserror::Error;
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

use super::{
    constant::Constant,
    meaning::{Layer, Meaning, Source, of_node},
    scan::{TREES, printable},
};
use crate::features::FEATURE_COUNT;

/// The output with the class of each row.
pub(super) const LABEL: &str = "label";
/// The output with each row's probability of each class.
pub(super) const PROBABILITIES: &str = "probabilities";

/// What is wrong with the graph.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum GraphError {
    /// Not exactly one input.
    #[error("the model has {0} inputs where one is expected")]
    Inputs(usize),
    /// The input is no matrix of 78 float32 columns.
    #[error("input `{name}` is {found}, expected float32 [N, 78]")]
    InputShape {
        /// Name of the input.
        name: String,
        /// What it is instead.
        found: String,
    },
    /// A required output is missing.
    #[error("the model has no output `{0}`; export it with that name (skl2onnx: option zipmap=False)")]
    MissingOutput(&'static str),
    /// An operator or an output names a value that nothing has made before it.
    #[error(
        "{user} refers to `{name}`, which nothing before it makes: the graph is cyclic, out of order or incomplete"
    )]
    Unresolved {
        /// The operator or output.
        user: String,
        /// The value.
        name: String,
    },
    /// Two values have one name.
    #[error("the graph makes `{0}` twice")]
    NamedTwice(String),
    /// An initialiser of another type.
    #[error("initialiser `{0}` is neither float32 nor int64")]
    InitialiserType(String),
    /// An initialiser that does not carry what its dimensions claim.
    #[error("initialiser `{name}` claims the dimensions {claimed:?} and has {found} values")]
    InitialiserShape {
        /// Its name.
        name: String,
        /// Its dimensions.
        claimed: Vec<i64>,
        /// The number of values in the file.
        found: usize,
    },
    /// NaN or Infinity in an initialiser.
    #[error("initialiser `{name}` holds {value}, not a finite number")]
    InitialiserValue {
        /// Its name.
        name: String,
        /// The value.
        value: f32,
    },
    /// An operator where no model of the three kinds has it.
    #[error("operator `{operator}` that makes `{output}`: {fault}")]
    Operator {
        /// The operator.
        operator: String,
        /// Its first output.
        output: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The outputs are not those of one of the three kinds.
    #[error("output `{output}` is {found}, expected {expected}")]
    Output {
        /// The output.
        output: &'static str,
        /// What it is.
        found: String,
        /// What it has to be.
        expected: &'static str,
    },
}

/// A graph that has been understood.
pub(super) struct Graph {
    /// The operator with the trees.
    pub(super) trees: NodeProto,
    /// The linear model that has the last word, in a stacking.
    pub(super) last: Option<Layer>,
    /// The same graph for tract: only what leads to the probabilities, between ends of our own making, because tract
    /// parses the expressions in declared dimensions and overrides a declared width without a word.
    pub(super) proto: ModelProto,
}

/// Finds out what the graph computes. `classes` are those that the trees have to know.
pub(super) fn understand(model: ModelProto, classes: usize) -> Result<Graph, GraphError> {
    let ModelProto { opset_import, graph, ir_version, .. } = model;
    let GraphProto { node: nodes, input, output, initializer, .. } = graph.unwrap_or_default();
    let [input] = input.try_into().map_err(|inputs: Vec<_>| GraphError::Inputs(inputs.len()))?;
    check_input(&input)?;
    for required in [LABEL, PROBABILITIES] {
        if !output.iter().any(|output| output.name == required) {
            return Err(GraphError::MissingOutput(required));
        }
    }
    let mut values = Values::default();
    values.name(&input.name, Meaning::Features)?;
    for tensor in &initializer {
        values.name(&tensor.name, Meaning::Constant(Constant::read(tensor)?.into()))?;
    }
    for node in &nodes {
        let inputs = node.input.iter().map(|name| values.get(&user(node), name)).collect::<Result<Vec<_>, _>>()?;
        let outputs = of_node(node, &inputs, classes).map_err(|fault| GraphError::Operator {
            operator: printable(node.op_type.as_bytes()),
            output: printable(node.output.first().map_or(b"", |name| name.as_bytes())),
            fault,
        })?;
        if outputs.len() != node.output.len() {
            return Err(GraphError::Operator {
                operator: printable(node.op_type.as_bytes()),
                output: printable(node.output.first().map_or(b"", |name| name.as_bytes())),
                fault: format!("it has {} outputs, expected {}", node.output.len(), outputs.len()),
            });
        }
        for (name, meaning) in node.output.iter().zip(outputs) {
            values.name(name, meaning)?;
        }
    }
    let probabilities = values.get("an output", PROBABILITIES)?;
    let last = match &probabilities {
        Meaning::Trees => None,
        Meaning::Softmax(layer) if matches!(layer.source, Source::Parts(_)) => Some((**layer).clone()),
        other => {
            let expected = "what the trees say, or a linear model's softmax over that and others";
            return Err(GraphError::Output { output: PROBABILITIES, found: other.to_string(), expected });
        }
    };
    match values.get("an output", LABEL)? {
        Meaning::Label(of) if *of == probabilities => {}
        other => {
            let expected = "the most probable class of output `probabilities`";
            return Err(GraphError::Output { output: LABEL, found: other.to_string(), expected });
        }
    }
    let trees = nodes.iter().find(|node| node.op_type == TREES).cloned().unwrap_or_default();
    let graph = for_tract(nodes, &values, &input.name);
    let proto = ModelProto { ir_version, opset_import, graph: Some(graph), ..Default::default() };
    Ok(Graph { trees, last, proto })
}

/// What the values of the graph mean, by name.
#[derive(Default)]
struct Values(HashMap<String, Meaning>);

impl Values {
    fn name(&mut self, name: &str, meaning: Meaning) -> Result<(), GraphError> {
        match self.0.insert(name.to_owned(), meaning) {
            None => Ok(()),
            Some(_) => Err(GraphError::NamedTwice(printable(name.as_bytes()))),
        }
    }

    fn get(&self, user: &str, name: &str) -> Result<Meaning, GraphError> {
        let unresolved = || GraphError::Unresolved { user: user.to_owned(), name: printable(name.as_bytes()) };
        self.0.get(name).cloned().ok_or_else(unresolved)
    }
}

fn user(node: &NodeProto) -> String {
    format!("operator `{}`", printable(node.op_type.as_bytes()))
}

fn for_tract(nodes: Vec<NodeProto>, values: &Values, input: &str) -> GraphProto {
    let mut wanted = vec![PROBABILITIES.to_owned()];
    let mut kept = Vec::new();
    for (number, mut node) in nodes.into_iter().enumerate().rev() {
        if node.output.iter().any(|output| wanted.contains(output)) {
            wanted.extend_from_slice(&node.input);
            node.name = format!("operator {number}");
            kept.push(node);
        }
    }
    kept.reverse();
    let constant = |name: &String| match values.0.get(name) {
        Some(Meaning::Constant(constant)) => Some(constant.to_proto(name)),
        _ => None,
    };
    wanted.sort_unstable();
    wanted.dedup();
    let end = |name: &str, columns: Option<usize>| ValueInfoProto {
        name: name.to_owned(),
        r#type: columns.map(matrix),
        ..Default::default()
    };
    GraphProto {
        node: kept,
        initializer: wanted.iter().filter_map(constant).collect(),
        input: vec![end(input, Some(FEATURE_COUNT))],
        output: vec![end(PROBABILITIES, None)],
        ..Default::default()
    }
}

fn check_input(input: &ValueInfoProto) -> Result<(), GraphError> {
    let refuse = |found: String| GraphError::InputShape { name: printable(input.name.as_bytes()), found };
    let Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), .. }) = &input.r#type else {
        return Err(refuse("not a tensor".to_owned()));
    };
    if tensor.elem_type != DataType::Float as i32 {
        let name = DataType::try_from(tensor.elem_type).map_or("an unknown type", |data_type| data_type.as_str_name());
        return Err(refuse(format!("of type {name}")));
    }
    let dims: Vec<Option<i64>> = tensor.shape.iter().flat_map(|shape| &shape.dim).map(known).collect();
    match dims[..] {
        // A fixed number of rows is how some exporters write "one"; no kind of model cares.
        [_, Some(78)] => Ok(()),
        _ => {
            let dims: Vec<_> =
                dims.iter().take(8).map(|dim| dim.map_or("N".to_owned(), |dim| dim.to_string())).collect();
            Err(refuse(format!("[{}]", dims.join(", "))))
        }
    }
}

fn known(dim: &Dimension) -> Option<i64> {
    match dim.value {
        Some(dimension::Value::DimValue(value)) => Some(value),
        _ => None,
    }
}

/// The type float32 [N, columns].
fn matrix(columns: usize) -> TypeProto {
    let dim = |value| Dimension { value: Some(value), ..Default::default() };
    let dims = vec![dim(dimension::Value::DimParam("N".to_owned())), dim(dimension::Value::DimValue(columns as i64))];
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(TensorShapeProto { dim: dims }) };
    TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }
}
