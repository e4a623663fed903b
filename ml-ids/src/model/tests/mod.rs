//! What a loaded model does, and that broken files are refused with a reason.

mod contracts;
mod distributions;
mod ensembles;
mod explanations;
mod files;
mod graphs;
mod scoring;
mod the_embedded_model;

use prost::Message as _;
use tract_onnx::{
    pb::{
        AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
        attribute_proto::AttributeType, tensor_proto::DataType,
    },
    prelude::{
        Framework as _, InferenceModelExt as _, IntoRunnable as _, IntoTensor as _, tract_ndarray::Array2, tvec,
    },
};

use super::{
    LoadOptions, Model, ModelError, Source,
    testing::{
        Random, Tree, attribute, distribution, ensemble, floats, graph, integers, load, load_bytes, model_of, refusal,
        sound, tensor_type, text,
    },
};
use crate::features::FeatureVector;

fn row(values: &[(usize, f64)]) -> FeatureVector {
    let mut row = [0.0; 78];
    values.iter().for_each(|&(feature, value)| row[feature] = value);
    row
}

fn probabilities(model: &Model, row: FeatureVector) -> Vec<f32> {
    model.score(&[row]).unwrap().remove(0).probabilities
}

/// The sound model after a change.
fn changed(change: impl FnOnce(&mut ModelProto)) -> ModelProto {
    let mut model = sound();
    change(&mut model);
    model
}

fn set(model: &mut ModelProto, key: &str, value: &str) {
    model.metadata_props.retain(|entry| entry.key != key);
    model.metadata_props.push(StringStringEntryProto { key: key.into(), value: value.into() });
}

#[track_caller]
fn refused(change: impl FnOnce(&mut ModelProto), reason: &str) {
    let message = refusal(&changed(change));
    assert!(message.contains(reason), "expected `{reason}` in `{message}`");
}
