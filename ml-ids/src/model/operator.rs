//! The tract operator around a [`Forest`], registered in place of tract's own.

use std::sync::Arc;

use tract_onnx::{
    model::{Onnx, ParsingContext},
    pb::NodeProto,
    tract_hir::{internal::*, tract_ndarray::Array2},
};

use super::{ensemble, scan, trees::Forest};
use crate::features::FEATURE_COUNT;

/// tract's ONNX reader with our operator.
pub(super) fn onnx() -> Onnx {
    let mut onnx = tract_onnx::onnx();
    onnx.op_register.insert(scan::TREES, build);
    onnx
}

fn build(_: &ParsingContext<'_>, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    // The error travels through tract's chain and is taken out of it again by the loader.
    let forest = ensemble::read(node)?;
    Ok((expand(DeclaredEnsemble(Arc::new(forest))), vec![]))
}

/// The operator while tract still infers shapes.
#[derive(Clone, Debug)]
struct DeclaredEnsemble(Arc<Forest>);

impl Expansion for DeclaredEnsemble {
    fn name(&self) -> StaticName {
        scan::TREES.into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(2)
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 2)?;
        let [input, labels, probabilities] = [&inputs[0], &outputs[0], &outputs[1]];
        solver.equals(&input.datum_type, f32::datum_type())?;
        solver.equals(&labels.datum_type, i64::datum_type())?;
        solver.equals(&probabilities.datum_type, f32::datum_type())?;
        solver.equals(&input.rank, 2)?;
        solver.equals(&labels.rank, 1)?;
        solver.equals(&probabilities.rank, 2)?;
        solver.equals(&labels.shape[0], &input.shape[0])?;
        solver.equals(&probabilities.shape[0], &input.shape[0])?;
        solver.equals(&input.shape[1], FEATURE_COUNT.to_dim())?;
        solver.equals(&probabilities.shape[1], self.0.classes.to_dim())
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, TreeEnsemble(Arc::clone(&self.0)), inputs)
    }
}

/// The operator that runs.
#[derive(Clone, Debug)]
pub(super) struct TreeEnsemble(pub(super) Arc<Forest>);

impl PartialEq for TreeEnsemble {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for TreeEnsemble {}

impl Op for TreeEnsemble {
    fn name(&self) -> StaticName {
        scan::TREES.into()
    }

    op_as_typed_op!();
}

impl EvalOp for TreeEnsemble {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let &[rows, FEATURE_COUNT] = input.shape() else {
            bail!("the forest takes rows of {FEATURE_COUNT} columns, not a tensor of shape {:?}", input.shape());
        };
        let input = input.to_plain_array_view::<f32>()?;
        let input = input.as_standard_layout();
        let classes = self.0.classes;
        let mut probabilities = vec![0.0; rows * classes];
        self.0.evaluate(input.as_slice().context("the rows are not contiguous")?, &mut probabilities);
        let labels: Vec<i64> = probabilities.chunks_exact(classes).map(|row| most_probable(row) as i64).collect();
        let probabilities: Tensor = Array2::from_shape_vec((rows, classes), probabilities)?.into();
        Ok(tvec!(tensor1(&labels).into_tvalue(), probabilities.into_tvalue()))
    }
}

impl TypedOp for TreeEnsemble {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let rows = inputs[0].shape[0].clone();
        Ok(tvec!(i64::fact([rows.clone()]), f32::fact([rows, self.0.classes.to_dim()])))
    }

    as_op!();
}

/// Index of the greatest value; the first of equals.
pub(super) fn most_probable(probabilities: &[f32]) -> usize {
    let mut best = 0;
    for (class, probability) in probabilities.iter().enumerate() {
        if *probability > probabilities[best] {
            best = class;
        }
    }
    best
}
