//! Initialisers: the constants of a graph, read into values of a known shape.

use tract_onnx::pb::{TensorProto, tensor_proto::DataType};

use super::graph::GraphError;

/// A float32 matrix; a vector is one of a single row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constant {
    /// One or two.
    pub(super) dimensions: Vec<usize>,
    /// Row by row, all of them finite.
    pub(super) values: Vec<f32>,
}

impl Constant {
    /// Reads an initialiser. Its dimensions are held against what it carries, so that nothing is allocated on a claim.
    pub(super) fn read(tensor: &TensorProto) -> Result<Self, GraphError> {
        let name = || super::scan::printable(tensor.name.as_bytes());
        let found = if !tensor.raw_data.is_empty() { raw(tensor) } else { fields(tensor) };
        let values = found.ok_or_else(|| GraphError::InitialiserType(name()))?;
        let dimensions: Option<Vec<_>> = tensor.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        let product = |dims: &Vec<usize>| dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
        match dimensions {
            Some(dimensions) if product(&dimensions) == Some(values.len()) && !values.is_empty() => {
                match values.iter().find(|value| !value.is_finite()) {
                    Some(&value) => Err(GraphError::InitialiserValue { name: name(), value }),
                    None => Ok(Self { dimensions, values }),
                }
            }
            _ => Err(GraphError::InitialiserShape { name: name(), claimed: tensor.dims.clone(), found: values.len() }),
        }
    }

    /// What tract gets to see.
    pub(super) fn to_proto(&self, name: &str) -> TensorProto {
        TensorProto {
            name: name.to_owned(),
            dims: self.dimensions.iter().map(|&dim| dim as i64).collect(),
            data_type: DataType::Float as i32,
            raw_data: self.values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            ..Default::default()
        }
    }

    /// The values, if they are one a column: a vector, or a matrix of one row.
    pub(super) fn as_row(&self, columns: usize) -> Option<&[f32]> {
        let leading_ones = self.dimensions.iter().rev().skip(1).all(|&dim| dim == 1);
        (leading_ones && self.values.len() == columns).then_some(&self.values[..])
    }

    /// Rows and columns, if it is a matrix.
    pub(super) fn as_matrix(&self) -> Option<[usize; 2]> {
        self.dimensions.as_slice().try_into().ok()
    }
}

fn raw(tensor: &TensorProto) -> Option<Vec<f32>> {
    let bytes = &tensor.raw_data;
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => {
            let (values, rest) = bytes.as_chunks();
            rest.is_empty().then(|| values.iter().map(|value| f32::from_le_bytes(*value)).collect())
        }
        Ok(DataType::Int64) => {
            let (values, rest) = bytes.as_chunks();
            rest.is_empty().then(|| values.iter().map(|value| i64::from_le_bytes(*value) as f32).collect())
        }
        _ => None,
    }
}

fn fields(tensor: &TensorProto) -> Option<Vec<f32>> {
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => Some(tensor.float_data.clone()),
        Ok(DataType::Int64) => Some(tensor.int64_data.iter().map(|&value| value as f32).collect()),
        _ => None,
    }
}
