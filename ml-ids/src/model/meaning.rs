//! What each operator of a graph makes of what its inputs mean.
//!
//! The structure is recognised, not the names: a linear model is centring, scaling, weights, bias and softmax in this
//! order, whichever operators write them, and a stacking is such a model over the trees' probabilities beside those of
//! other linear models. A scaler in front of the trees is refused: rounding it flips paths (docs/models.md).

use std::{fmt, sync::Arc};

use tract_onnx::pb::{AttributeProto, NodeProto, attribute_proto::AttributeType, tensor_proto::DataType};

use super::{constant::Constant, scan::TREES};
use crate::features::FEATURE_COUNT;

/// Most answers that a stacking puts side by side.
const MAX_PARTS: usize = 8;

/// What a value of the graph is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Meaning {
    /// The input.
    Features,
    /// An initialiser.
    Constant(Arc<Constant>),
    /// What the trees say: a value a class.
    Trees,
    /// Answers side by side.
    Parts(Arc<[Part]>),
    /// A linear model that still lacks its end.
    Unfinished(Arc<Layer>),
    /// The probabilities of a linear model.
    Softmax(Arc<Layer>),
    /// The most probable class of this.
    Label(Arc<Self>),
}

/// What a linear model looks at.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    /// The features.
    Features,
    /// The answers of others, side by side.
    Parts(Arc<[Part]>),
}

/// One of the answers that a stacking puts side by side.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// That of the trees.
    Trees,
    /// That of a linear model on the features.
    Linear(Arc<Layer>),
}

/// A linear model: `softmax((source - centre) * scale · weights + bias)`, as far as it has been read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layer {
    pub(super) source: Source,
    /// Columns of the source.
    pub(super) width: usize,
    pub(super) centre: Option<Vec<f32>>,
    pub(super) scale: Option<Scale>,
    /// One row a column of the source, one column a class.
    pub(super) weights: Vec<f32>,
    pub(super) bias: Option<Vec<f32>>,
    /// Columns of the weights; 0 while there are none.
    pub(super) classes: usize,
}

/// How the columns are scaled.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scale {
    /// Each is divided by this, which is never 0.
    Divide(Vec<f32>),
    /// Each is multiplied by this.
    Multiply(Vec<f32>),
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Features => "the input",
            Self::Constant(_) => "a constant",
            Self::Trees => "what the trees say",
            Self::Parts(_) => "several answers side by side",
            Self::Unfinished(_) => "a linear model without softmax",
            Self::Softmax(_) => "a linear model's softmax",
            Self::Label(_) => "a most probable class",
        })
    }
}

/// What the outputs of `node` mean, or what is wrong with it. `classes` are those of the trees.
pub(super) fn of_node(node: &NodeProto, inputs: &[Meaning], classes: usize) -> Result<Vec<Meaning>, String> {
    let attributes = Attributes(&node.attribute);
    let meaning = match (node.op_type.as_str(), inputs) {
        (TREES, [Meaning::Features]) => {
            return Ok(vec![Meaning::Label(Arc::new(Meaning::Trees)), Meaning::Trees]);
        }
        (TREES, _) => return Err("the trees have to see the features as they are".to_owned()),
        ("Identity", [value]) => value.clone(),
        ("Cast", [value]) => {
            let to = attributes.integer("to", 0)?;
            let wanted = if matches!(value, Meaning::Label(_)) { DataType::Int64 } else { DataType::Float };
            if to != wanted as i64 {
                return Err(format!("a cast of {value} to another type than {}", wanted.as_str_name()));
            }
            value.clone()
        }
        ("ArgMax", [value @ (Meaning::Trees | Meaning::Softmax(_))]) => {
            attributes.last_axis(0)?;
            if attributes.integer("select_last_index", 0)? != 0 {
                return Err("of equal classes the first one has to win".to_owned());
            }
            Meaning::Label(Arc::new(value.clone()))
        }
        ("Concat", parts) => {
            attributes.last_axis(0)?;
            Meaning::Parts(concat(parts)?)
        }
        ("Softmax", [Meaning::Unfinished(layer)]) if layer.classes > 0 => {
            attributes.last_axis(-1)?;
            Meaning::Softmax(Arc::clone(layer))
        }
        ("Sub" | "Add" | "Mul" | "Div" | "MatMul" | "Gemm", inputs) => {
            Meaning::Unfinished(Arc::new(arithmetic(node, inputs, &attributes, classes)?))
        }
        (_, inputs) => {
            let found: Vec<_> = inputs.iter().take(4).map(Meaning::to_string).collect();
            return Err(format!("it is not expected on {}", found.join(" and ")));
        }
    };
    Ok(vec![meaning])
}

fn concat(parts: &[Meaning]) -> Result<Arc<[Part]>, String> {
    if !(1..=MAX_PARTS).contains(&parts.len()) {
        return Err(format!("it has {} inputs, supported are 1 to {MAX_PARTS}", parts.len()));
    }
    let part = |part: &Meaning| match part {
        Meaning::Trees => Ok(Part::Trees),
        Meaning::Softmax(layer) if layer.source == Source::Features => Ok(Part::Linear(Arc::clone(layer))),
        other => Err(format!("it is given {other}, expected probabilities of models on the features")),
    };
    parts.iter().map(part).collect()
}

/// The linear model after one more operator of its arithmetic.
fn arithmetic(
    node: &NodeProto,
    inputs: &[Meaning],
    attributes: &Attributes<'_>,
    classes: usize,
) -> Result<Layer, String> {
    // Addition and multiplication do not mind their order.
    let (model, constants): (&Meaning, Vec<&Constant>) = match (node.op_type.as_str(), inputs) {
        ("Add" | "Mul", [Meaning::Constant(constant), model]) => (model, vec![constant]),
        (_, [model, Meaning::Constant(constant)]) => (model, vec![constant]),
        ("Gemm", [model, Meaning::Constant(weights), Meaning::Constant(bias)]) => (model, vec![weights, bias]),
        _ => return Err("it has to have one input that is computed, and constants".to_owned()),
    };
    let mut layer = started(model, classes)?;
    let centred = layer.centre.is_some();
    let (scaled, weighed) = (layer.scale.is_some(), layer.classes > 0);
    let row = |columns: usize| {
        let row = constants[0].as_row(columns).map(<[f32]>::to_vec);
        row.ok_or_else(|| format!("a constant of shape {:?} where {columns} are expected", constants[0].dimensions))
    };
    match node.op_type.as_str() {
        "Sub" if !centred && !scaled && !weighed => layer.centre = Some(row(layer.width)?),
        "Div" if !scaled && !weighed => {
            let divisors = row(layer.width)?;
            if divisors.contains(&0.0) {
                return Err("a division by 0".to_owned());
            }
            layer.scale = Some(Scale::Divide(divisors));
        }
        "Mul" if !scaled && !weighed => layer.scale = Some(Scale::Multiply(row(layer.width)?)),
        "MatMul" if !weighed => layer.weigh(constants[0], false)?,
        "Gemm" if !weighed => {
            attributes.one("alpha")?;
            attributes.one("beta")?;
            if attributes.integer("transA", 0)? != 0 {
                return Err("its first input is transposed".to_owned());
            }
            layer.weigh(constants[0], attributes.integer("transB", 0)? != 0)?;
            if let Some(bias) = constants.get(1) {
                layer.bias = Some(bias.as_row(layer.classes).ok_or("the bias has not one value a class")?.to_vec());
            }
        }
        "Add" if weighed && layer.bias.is_none() => layer.bias = Some(row(layer.classes)?),
        _ => return Err("centring, scaling, weights and bias have to come once and in this order".to_owned()),
    }
    Ok(layer)
}

/// The linear model of which `meaning` is a part, or the start of one.
fn started(meaning: &Meaning, classes: usize) -> Result<Layer, String> {
    let (source, width) = match meaning {
        Meaning::Unfinished(layer) => return Ok((**layer).clone()),
        Meaning::Features => (Source::Features, FEATURE_COUNT),
        Meaning::Parts(parts) => {
            let width = |part: &Part| match part {
                Part::Trees => classes,
                Part::Linear(layer) => layer.classes,
            };
            (Source::Parts(Arc::clone(parts)), parts.iter().map(width).sum())
        }
        other => return Err(format!("it is given {other}")),
    };
    Ok(Layer { source, width, centre: None, scale: None, weights: Vec::new(), bias: None, classes: 0 })
}

impl Layer {
    fn weigh(&mut self, constant: &Constant, transposed: bool) -> Result<(), String> {
        let shape =
            constant.as_matrix().map(|[rows, columns]| if transposed { [columns, rows] } else { [rows, columns] });
        let Some([rows, columns]) = shape.filter(|&[rows, _]| rows == self.width) else {
            let found = &constant.dimensions;
            return Err(format!("weights of shape {found:?} where {} columns are looked at", self.width));
        };
        self.classes = columns;
        self.weights = if transposed {
            (0..rows)
                .flat_map(|row| (0..columns).map(move |column| column * rows + row))
                .map(|at| constant.values[at])
                .collect()
        } else {
            constant.values.clone()
        };
        Ok(())
    }
}

/// The attributes of a plain operator.
struct Attributes<'a>(&'a [AttributeProto]);

impl Attributes<'_> {
    fn get(&self, name: &str, kind: AttributeType) -> Result<Option<&AttributeProto>, String> {
        match self.0.iter().find(|attribute| attribute.name == name) {
            Some(attribute) if attribute.r#type != kind as i32 => Err(format!("attribute `{name}` has the wrong type")),
            found => Ok(found),
        }
    }

    fn integer(&self, name: &str, default: i64) -> Result<i64, String> {
        Ok(self.get(name, AttributeType::Int)?.map_or(default, |attribute| attribute.i))
    }

    fn one(&self, name: &str) -> Result<(), String> {
        match self.get(name, AttributeType::Float)? {
            Some(attribute) if attribute.f != 1.0 => Err(format!("its {name} is {}, not 1", attribute.f)),
            _ => Ok(()),
        }
    }

    /// That the axis is that of the columns.
    fn last_axis(&self, default: i64) -> Result<(), String> {
        match self.integer("axis", default)? {
            1 | -1 => Ok(()),
            axis => Err(format!("it runs along axis {axis}, not along the columns")),
        }
    }
}
