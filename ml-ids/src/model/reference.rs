//! The graph of a stacking as tract runs it, with our tree operator in its register: what the evaluator is held against
//! when a model is loaded.
//!
//! tract takes microseconds a call for its bookkeeping, more than a forest takes for a row, so it does not score. But it
//! gives each operator its meaning without knowing what [`super::graph`] made of them all.

use tract_onnx::{
    pb::ModelProto,
    prelude::{
        Framework as _, InferenceModelExt as _, IntoRunnable as _, IntoTensor as _, TractResult, tract_ndarray::Array2,
        tvec,
    },
};

use super::{ModelError, operator, predictor::Predictor};
use crate::features::FEATURE_COUNT;

/// How far tract's float32 may be from our float64. What was misunderstood is off by far more.
const TOLERANCE: f32 = 1e-3;

/// Has tract run the graph on `rows` (rows of 78) and compares.
pub(super) fn compare(graph: &ModelProto, predictor: &Predictor, rows: &[f32]) -> Result<(), ModelError> {
    let wanted = run(graph, rows).map_err(|error| ModelError::Engine(format!("{error:#}")))?;
    let mut found = vec![0.0; rows.len() / FEATURE_COUNT * predictor.classes()];
    predictor.evaluate(rows, &mut found);
    let apart = |(a, b): (&f32, &f32)| (a - b).is_nan() || (a - b).abs() > TOLERANCE;
    if wanted.len() != found.len() || wanted.iter().zip(&found).any(apart) {
        return Err(ModelError::Engine("tract makes other probabilities of the graph than the evaluator".to_owned()));
    }
    Ok(())
}

fn run(graph: &ModelProto, rows: &[f32]) -> TractResult<Vec<f32>> {
    let model = operator::onnx().model_for_proto_model(graph)?.into_optimized()?.into_runnable()?;
    let input = Array2::from_shape_vec((rows.len() / FEATURE_COUNT, FEATURE_COUNT), rows.to_vec())?.into_tensor();
    let outputs = model.run(tvec!(input.into()))?;
    Ok(outputs[0].to_plain_array_view::<f32>()?.iter().copied().collect())
}
