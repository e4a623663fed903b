//! The attributes of a `TreeEnsembleClassifier` by name, each of the type and length that it should have.

use std::collections::HashMap;

use tract_onnx::pb::{AttributeProto, NodeProto, attribute_proto::AttributeType};

use super::{faults::EnsembleError, scan::printable};

/// Attributes with which the operator may come. Those of the newer `as_tensor` kind are not among them.
const KNOWN: [&str; 18] = [
    "base_values",
    "class_ids",
    "class_nodeids",
    "class_treeids",
    "class_weights",
    "classlabels_int64s",
    "classlabels_strings",
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_nodeids",
    "nodes_treeids",
    "nodes_truenodeids",
    "nodes_values",
    "post_transform",
    "aggregate_function",
];

/// The attributes of the node by name.
pub(super) struct Attributes<'a>(pub(super) HashMap<&'a str, &'a AttributeProto>);

impl<'a> Attributes<'a> {
    pub(super) fn of(node: &'a NodeProto) -> Result<Self, EnsembleError> {
        let mut by_name = HashMap::new();
        for attribute in &node.attribute {
            let name = attribute.name.as_str();
            if !KNOWN.contains(&name) {
                return Err(EnsembleError::Unsupported(printable(name.as_bytes())));
            }
            if by_name.insert(name, attribute).is_some() {
                return Err(EnsembleError::Twice(name.to_owned()));
            }
        }
        Ok(Self(by_name))
    }

    pub(super) fn typed(
        &self,
        name: &'static str,
        kind: AttributeType,
    ) -> Result<Option<&'a AttributeProto>, EnsembleError> {
        match self.0.get(name) {
            Some(attribute) if attribute.r#type == kind as i32 => Ok(Some(attribute)),
            Some(_) => Err(EnsembleError::WrongType(name)),
            None => Ok(None),
        }
    }

    pub(super) fn integers(&self, name: &'static str, length: Option<usize>) -> Result<&'a [i64], EnsembleError> {
        let found = self.typed(name, AttributeType::Ints)?.ok_or(EnsembleError::Missing(name))?;
        of_length(name, &found.ints, length)
    }

    pub(super) fn floats(&self, name: &'static str, length: Option<usize>) -> Result<Option<&'a [f32]>, EnsembleError> {
        let Some(found) = self.typed(name, AttributeType::Floats)? else { return Ok(None) };
        of_length(name, &found.floats, length).map(Some)
    }

    pub(super) fn strings(&self, name: &'static str, length: usize) -> Result<&'a [Vec<u8>], EnsembleError> {
        let found = self.typed(name, AttributeType::Strings)?.ok_or(EnsembleError::Missing(name))?;
        of_length(name, &found.strings, Some(length))
    }
}

pub(super) fn of_length<'a, T>(
    name: &'static str,
    found: &'a [T],
    length: Option<usize>,
) -> Result<&'a [T], EnsembleError> {
    match length {
        Some(expected) if expected != found.len() => Err(EnsembleError::Length { name, found: found.len(), expected }),
        _ => Ok(found),
    }
}

pub(super) fn counted(what: &'static str, found: usize, limit: usize) -> Result<usize, EnsembleError> {
    if (1..=limit).contains(&found) { Ok(found) } else { Err(EnsembleError::Count { what, found, limit }) }
}
