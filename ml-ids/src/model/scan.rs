//! The look at a model file before anything decodes it.
//!
//! What passes is of bounded size and holds only what the three kinds of model need: one `TreeEnsembleClassifier`, some
//! plain operators on matrices, and a few small initialisers. There are no other operators, subgraphs, functions or
//! external data, because each of them is a way to allocate, recurse or read files. What the graph means,
//! [`super::graph`] finds out.

use prost::Message as _;
use thiserror::Error;
use tract_onnx::pb::ModelProto;

use super::wire::{Fields, WireError};

/// The operator with the trees, and its domain.
pub(super) const TREES: &str = "TreeEnsembleClassifier";
const ML_DOMAIN: &str = "ai.onnx.ml";
/// The plain operators that may occur beside it, with their domain.
const PLAIN: [&str; 11] =
    ["Add", "ArgMax", "Cast", "Concat", "Div", "Gemm", "Identity", "MatMul", "Mul", "Softmax", "Sub"];
const PLAIN_DOMAINS: [&str; 2] = ["", "ai.onnx"];
/// Operator sets whose trees have the shape that is read here; 5 replaced them by another operator.
const ML_OPSETS: std::ops::RangeInclusive<i64> = 1..=4;
/// First operator set whose arithmetic broadcasts as it is read here.
const LEAST_PLAIN_OPSET: i64 = 7;

/// Most values that one attribute may list. An unlimited forest of 300,000 rows has 1.7 million nodes
/// (docs/models.md), an unpruned leaf table up to 16 entries a leaf.
const MAX_VALUES: usize = 16 << 20;
/// Most strings that one attribute may list: the mode of each node. Strings cost the most memory.
pub(super) const MAX_NODES: usize = 4 << 20;
/// Most attributes of an operator; TreeEnsembleClassifier of version 3 knows 24.
const MAX_ATTRIBUTES: usize = 32;
/// Most values of one attribute of a plain operator.
const MAX_PLAIN_VALUES: usize = 8;
/// Most operators; a stacking has eleven.
const MAX_OPERATORS: usize = 32;
/// Most initialisers; a stacking with two scalers has eight.
const MAX_INITIALISERS: usize = 16;
/// Most values of all initialisers together: a linear model on 256 classes of two models, and one on the features.
const MAX_INITIALISER_VALUES: usize = 1 << 18;
/// Most dimensions of an initialiser.
const MAX_DIMENSIONS: usize = 2;
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
    #[error("operator `{0}` is not allowed; TreeEnsembleClassifier of ai.onnx.ml is, and of ai.onnx {allowed}", allowed = PLAIN.join(", "))]
    Operator(String),
    /// Not exactly one set of trees.
    #[error("the graph has {0} operators TreeEnsembleClassifier where one is expected")]
    Trees(usize),
    /// A part of ONNX that no model of ours needs and this program does not read.
    #[error("the model contains {0}, which a classifier of flows does not need and which is not allowed")]
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
    #[error("operator set {domain} of version {found} is not supported, only {supported}")]
    OperatorSet {
        /// The set.
        domain: &'static str,
        /// The declared version, 0 if none is.
        found: i64,
        /// The versions that can be read.
        supported: &'static str,
    },
}

/// Checks the bytes and decodes them.
pub(super) fn scan(bytes: &[u8]) -> Result<ModelProto, ScanError> {
    scan_model(bytes)?;
    let model = ModelProto::decode(bytes).map_err(|error| ScanError::Decode(error.to_string()))?;
    let version = |domains: &[&str]| {
        let set = model.opset_import.iter().find(|set| domains.contains(&set.domain.as_str()));
        set.map_or(0, |set| set.version)
    };
    let (trees, plain) = (version(&[ML_DOMAIN]), version(&PLAIN_DOMAINS));
    if !ML_OPSETS.contains(&trees) {
        return Err(ScanError::OperatorSet { domain: ML_DOMAIN, found: trees, supported: "1 to 4" });
    }
    let uses_plain = model.graph.iter().flat_map(|graph| &graph.node).any(|node| node.op_type != TREES);
    if uses_plain && plain < LEAST_PLAIN_OPSET {
        return Err(ScanError::OperatorSet { domain: "ai.onnx", found: plain, supported: "7 and later" });
    }
    Ok(model)
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
    let (mut operators, mut trees, mut described) = (0, 0, 0);
    let (mut initialisers, mut values) = (0, 0);
    for field in Fields::of(graph) {
        let field = field?;
        match field.number {
            1 => {
                operators += 1;
                trees += usize::from(scan_node(field.bytes()?)?);
            }
            5 => {
                initialisers += 1;
                values += scan_initialiser(field.bytes()?)?;
            }
            11..=13 => {
                described += 1;
                at_most(field.bytes()?.len(), MAX_VALUE_INFO_BYTES, "bytes of description of one value")?;
            }
            14 => return Err(ScanError::Forbidden("quantisation annotations")),
            15 => return Err(ScanError::Forbidden("a sparse initialiser")),
            _ => {}
        }
        at_most(operators, MAX_OPERATORS, "operators")?;
        at_most(initialisers, MAX_INITIALISERS, "initialisers")?;
        at_most(values, MAX_INITIALISER_VALUES, "values in its initialisers")?;
        at_most(described, MAX_ENTRIES, "described values")?;
    }
    if trees == 1 { Ok(()) } else { Err(ScanError::Trees(trees)) }
}

/// Counts the values that an initialiser carries, which need not be what its dimensions claim.
fn scan_initialiser(tensor: &[u8]) -> Result<usize, ScanError> {
    let (mut dimensions, mut values) = (0, 0);
    for field in Fields::of(tensor) {
        let field = field?;
        match field.number {
            1 => dimensions += field.count_integers()?,
            4 => values += field.count_floats()?,
            7 => values += field.count_integers()?,
            9 => values += field.bytes()?.len() / size_of::<f32>(),
            2 | 8 | 12 => {}
            13 | 14 => return Err(ScanError::Forbidden("an initialiser with external data")),
            _ => return Err(ScanError::Forbidden("an initialiser of another type than float32 and int64")),
        }
        at_most(dimensions, MAX_DIMENSIONS, "dimensions of one initialiser")?;
    }
    Ok(values)
}

/// Whether the node holds the trees.
fn scan_node(node: &[u8]) -> Result<bool, ScanError> {
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
    let among = |names: &[&str], name: &[u8]| names.iter().any(|known| known.as_bytes() == name);
    let trees = (operator, domain) == (TREES.as_bytes(), ML_DOMAIN.as_bytes());
    let plain = among(&PLAIN, operator) && among(&PLAIN_DOMAINS, domain);
    if !trees && !plain {
        return Err(ScanError::Operator(printable(operator)));
    }
    let (values, strings) = if trees { (MAX_VALUES, MAX_NODES) } else { (MAX_PLAIN_VALUES, 0) };
    attributes.into_iter().try_for_each(|attribute| scan_attribute(attribute, values, strings))?;
    Ok(trees)
}

fn scan_attribute(attribute: &[u8], most_values: usize, most_strings: usize) -> Result<(), ScanError> {
    let (mut values, mut strings) = (0, 0);
    for field in Fields::of(attribute) {
        let field = field?;
        match field.number {
            5 | 10 | 22 | 23 => return Err(ScanError::Forbidden("a tensor attribute")),
            6 | 11 => return Err(ScanError::Forbidden("a subgraph")),
            15 => return Err(ScanError::Forbidden("a type attribute")),
            7 => values += field.count_floats()?,
            8 => values += field.count_integers()?,
            9 => strings += 1,
            _ => {}
        }
        at_most(values, most_values, "values in one attribute")?;
        at_most(strings, most_strings, "strings in one attribute")?;
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
