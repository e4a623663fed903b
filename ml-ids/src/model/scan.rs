//! The look at a model file before anything decodes it, and before tract sees it.
//!
//! What passes is one `TreeEnsembleClassifier` between one input of 78 float columns and the outputs `label` and
//! `probabilities`, of bounded size. There are no other operators, subgraphs, functions, initialisers or external
//! data, because a forest needs none and each of them is a way to make tract allocate, recurse or read files.

use prost::Message as _;
use thiserror::Error;
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

use super::wire::{Fields, WireError};
use crate::features::FEATURE_COUNT;

/// The one operator that may occur, with its domain.
pub(super) const OPERATOR: &str = "TreeEnsembleClassifier";
const DOMAIN: &str = "ai.onnx.ml";
/// Operator sets whose trees have the shape that is read here; 5 replaced them by another operator.
const ML_OPSETS: std::ops::RangeInclusive<i64> = 1..=4;

/// The output with the class of each row.
pub(super) const LABEL: &str = "label";
/// The output with each row's probability of each class.
pub(super) const PROBABILITIES: &str = "probabilities";

/// Most values that one attribute may list. An unlimited forest of 300,000 rows has 1.7 million nodes
/// (docs/models.md), an unpruned leaf table up to 16 entries a leaf.
const MAX_VALUES: usize = 16 << 20;
/// Most strings that one attribute may list: the mode of each node. Strings cost the most memory.
pub(super) const MAX_NODES: usize = 4 << 20;
/// Most attributes of the operator; version 3 knows 24.
const MAX_ATTRIBUTES: usize = 32;
/// Most entries of metadata, and of anything else that is a list of small things.
const MAX_ENTRIES: usize = 256;
/// Most bytes of all metadata together, in bytes.
const MAX_METADATA_BYTES: usize = 1 << 20;
/// Most bytes of the description of one input or output.
const MAX_VALUE_INFO_BYTES: usize = 4 << 10;

/// What is wrong with the file as an ONNX graph.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScanError {
    /// Not protobuf, or cut short.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Protobuf that does not decode as ONNX.
    #[error("the file does not decode as an ONNX model: {0}")]
    Decode(String),
    /// There is no graph, or more than one.
    #[error("the file has {0} graphs where an ONNX model has one")]
    Graphs(usize),
    /// An operator that is not allowed.
    #[error("operator `{0}` is not allowed; only TreeEnsembleClassifier of ai.onnx.ml is")]
    Operator(String),
    /// Not exactly one node.
    #[error("the graph has {0} nodes where a forest is one TreeEnsembleClassifier")]
    Nodes(usize),
    /// A part of ONNX that a forest does not need and this program does not read.
    #[error("the model contains {0}, which a forest does not need and which is not allowed")]
    Forbidden(&'static str),
    /// Too much of something.
    #[error("the model has more than {limit} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
    /// The operator set is missing or of a version that cannot be read.
    #[error("operator set {domain} of version {found} is not supported, only {supported}", domain = DOMAIN, supported = "1 to 4")]
    OperatorSet {
        /// The declared version, 0 if none is.
        found: i64,
    },
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
    /// Something refers to a value that does not exist, or not to the one it should.
    #[error("the operator's {what} are {found:?}, expected {expected:?}")]
    Wiring {
        /// Inputs or outputs.
        what: &'static str,
        /// What they are.
        found: Vec<String>,
        /// What they have to be.
        expected: Vec<String>,
    },
}

/// A model file that passed the scan.
#[derive(Debug)]
pub(super) struct Scanned {
    /// Keys and values of `metadata_props`, in file order.
    pub(super) metadata: Vec<(String, String)>,
    /// What tract gets to see: operator sets, the one node, and an input and outputs written by this program.
    pub(super) proto: ModelProto,
}

/// Checks the bytes, decodes them, and checks what they say.
pub(super) fn scan(bytes: &[u8]) -> Result<Scanned, ScanError> {
    scan_model(bytes)?;
    let model = ModelProto::decode(bytes).map_err(|error| ScanError::Decode(error.to_string()))?;
    let ModelProto { opset_import, graph, metadata_props, ir_version, .. } = model;
    let version = opset_import.iter().find(|set| set.domain == DOMAIN).map_or(0, |set| set.version);
    if !ML_OPSETS.contains(&version) {
        return Err(ScanError::OperatorSet { found: version });
    }
    let graph = clean_graph(graph.ok_or(ScanError::Graphs(0))?)?;
    let metadata = metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect();
    Ok(Scanned { metadata, proto: ModelProto { ir_version, opset_import, graph: Some(graph), ..Default::default() } })
}

/// Counts everything that decoding would multiply.
fn scan_model(model: &[u8]) -> Result<(), ScanError> {
    let (mut graphs, mut entries, mut metadata_bytes) = (Vec::new(), 0, 0);
    for field in Fields::of(model) {
        let field = field?;
        match field.number {
            7 => graphs.push(field.bytes()?),
            8 => entries += 1,
            14 => {
                entries += 1;
                metadata_bytes += field.bytes()?.len();
            }
            20 => return Err(ScanError::Forbidden("training information")),
            25 => return Err(ScanError::Forbidden("functions")),
            _ => {}
        }
        at_most(graphs.len(), 1, "graphs")?;
        at_most(entries, MAX_ENTRIES, "operator sets and metadata entries")?;
        at_most(metadata_bytes, MAX_METADATA_BYTES, "bytes of metadata")?;
    }
    match graphs[..] {
        [graph] => scan_graph(graph),
        _ => Err(ScanError::Graphs(graphs.len())),
    }
}

fn scan_graph(graph: &[u8]) -> Result<(), ScanError> {
    let (mut nodes, mut described) = (0, 0);
    for field in Fields::of(graph) {
        let field = field?;
        match field.number {
            1 => {
                nodes += 1;
                scan_node(field.bytes()?)?;
            }
            5 | 15 => return Err(ScanError::Forbidden(initialiser(field.bytes()?)?)),
            11..=13 => {
                described += 1;
                at_most(field.bytes()?.len(), MAX_VALUE_INFO_BYTES, "bytes of description of one value")?;
            }
            14 => return Err(ScanError::Forbidden("quantisation annotations")),
            _ => {}
        }
        at_most(described, MAX_ENTRIES, "described values")?;
    }
    if nodes == 1 { Ok(()) } else { Err(ScanError::Nodes(nodes)) }
}

/// What to call an initialiser: one that points to another file deserves its own word.
fn initialiser(tensor: &[u8]) -> Result<&'static str, ScanError> {
    for field in Fields::of(tensor) {
        if matches!(field?.number, 13 | 14) {
            return Ok("an initialiser with external data");
        }
    }
    Ok("an initialiser")
}

fn scan_node(node: &[u8]) -> Result<(), ScanError> {
    let (mut operator, mut domain): (&[u8], &[u8]) = (b"", b"");
    let (mut attributes, mut names) = (Vec::new(), 0);
    for field in Fields::of(node) {
        let field = field?;
        match field.number {
            1 | 2 => names += 1,
            4 => operator = field.bytes()?,
            5 => attributes.push(field.bytes()?),
            7 => domain = field.bytes()?,
            _ => {}
        }
        at_most(names, MAX_ENTRIES, "inputs and outputs of one operator")?;
        at_most(attributes.len(), MAX_ATTRIBUTES, "attributes of one operator")?;
    }
    if (operator, domain) != (OPERATOR.as_bytes(), DOMAIN.as_bytes()) {
        return Err(ScanError::Operator(printable(operator)));
    }
    attributes.into_iter().try_for_each(scan_attribute)
}

fn scan_attribute(attribute: &[u8]) -> Result<(), ScanError> {
    let (mut numbers, mut strings) = (0, 0);
    for field in Fields::of(attribute) {
        let field = field?;
        match field.number {
            5 | 10 | 22 | 23 => return Err(ScanError::Forbidden("a tensor attribute")),
            6 | 11 => return Err(ScanError::Forbidden("a subgraph")),
            15 => return Err(ScanError::Forbidden("a type attribute")),
            7 => numbers += field.count_floats()?,
            8 => numbers += field.count_integers()?,
            9 => strings += 1,
            _ => {}
        }
        at_most(numbers, MAX_VALUES, "values in one attribute")?;
        at_most(strings, MAX_NODES, "strings in one attribute")?;
    }
    Ok(())
}

fn at_most(count: usize, limit: usize, what: &'static str) -> Result<(), ScanError> {
    if count <= limit { Ok(()) } else { Err(ScanError::TooMany { what, limit }) }
}

/// Text of the file as it may stand in a message: short and without control characters.
pub(super) fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Checks the graph's ends and gives back the node between ends of our own making: tract parses the expressions in
/// declared dimensions, and overrides a declared width without a word.
fn clean_graph(graph: GraphProto) -> Result<GraphProto, ScanError> {
    let GraphProto { node, input, output, .. } = graph;
    let [input] = input.try_into().map_err(|inputs: Vec<_>| ScanError::Inputs(inputs.len()))?;
    check_input(&input)?;
    for required in [LABEL, PROBABILITIES] {
        if !output.iter().any(|output| output.name == required) {
            return Err(ScanError::MissingOutput(required));
        }
    }
    let [mut node] = node.try_into().map_err(|nodes: Vec<_>| ScanError::Nodes(nodes.len()))?;
    check_wiring(&node, &input.name)?;
    node.name = "forest".to_owned();
    let end = |name: &str, columns: Option<usize>| ValueInfoProto {
        name: name.to_owned(),
        r#type: columns.map(matrix),
        ..Default::default()
    };
    Ok(GraphProto {
        node: vec![node],
        input: vec![end(&input.name, Some(FEATURE_COUNT))],
        output: vec![end(LABEL, None), end(PROBABILITIES, None)],
        ..Default::default()
    })
}

fn check_wiring(node: &NodeProto, input: &str) -> Result<(), ScanError> {
    for (what, found, expected) in [
        ("inputs", &node.input, vec![input.to_owned()]),
        ("outputs", &node.output, vec![LABEL.into(), PROBABILITIES.into()]),
    ] {
        if *found != expected {
            let found = found.iter().take(4).map(|name| printable(name.as_bytes())).collect();
            return Err(ScanError::Wiring { what, found, expected });
        }
    }
    Ok(())
}

fn check_input(input: &ValueInfoProto) -> Result<(), ScanError> {
    let refuse = |found: String| ScanError::InputShape { name: printable(input.name.as_bytes()), found };
    let Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), .. }) = &input.r#type else {
        return Err(refuse("not a tensor".to_owned()));
    };
    if tensor.elem_type != DataType::Float as i32 {
        let name = DataType::try_from(tensor.elem_type).map_or("an unknown type", |data_type| data_type.as_str_name());
        return Err(refuse(format!("of type {name}")));
    }
    let dims: Vec<Option<i64>> = tensor.shape.iter().flat_map(|shape| &shape.dim).map(known).collect();
    match dims[..] {
        // A fixed number of rows is how some exporters write "one"; trees do not care.
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
