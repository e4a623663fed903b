"""Owns turning a fitted model into an ONNX graph.

Forest and boosted: one TreeEnsembleClassifier of ai.onnx.ml 3 (for two classes
with an ArgMax of its probabilities behind it). Stacking: such a node beside a scaled linear model in plain operators, both joined and weighed up
by a second linear model. Operator set 18, input `features` float32 [N, 78],
outputs `label` int64 [N] and `probabilities` float32 [N, classes].
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from . import __version__, trees
from .boosted import Boosted
from .features import WIDTH
from .fitted import Fitted
from .stacking import Stacking

INPUT = "features"
LABEL = "label"
PROBABILITIES = "probabilities"
OPSET = 18
ML_OPSET = 3
#: The file format version that came with operator set 18.
IR_VERSION = 8


def to_onnx(fitted: Fitted, metadata: dict[str, str]) -> onnx.ModelProto:
    """The model with its contract. Equal input gives equal bytes."""
    nodes, constants = _stacking(fitted) if isinstance(fitted, Stacking) else (_alone(fitted), [])
    graph = helper.make_graph(
        nodes,
        fitted.kind,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", WIDTH])],
        [
            helper.make_tensor_value_info(LABEL, TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["N", len(fitted.classes)]),
        ],
        initializer=constants,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        ir_version=IR_VERSION,
        producer_name="ml-ids-training",
        producer_version=__version__,
    )
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model)
    return model


def to_bytes(model: onnx.ModelProto) -> bytes:
    """Serialised with a fixed field order."""
    return model.SerializeToString(deterministic=True)


def _alone(fitted: Fitted) -> list[NodeProto]:
    """All trees as one node, whose labels are right for more than two classes only.

    With two, onnxruntime's label is 1 as soon as the second score is positive.
    """
    if len(fitted.classes) > 2:
        return [_ensemble(fitted, (LABEL, PROBABILITIES))]
    return [_ensemble(fitted, ("tree_label", PROBABILITIES)), _argmax()]


def _argmax() -> NodeProto:
    return helper.make_node("ArgMax", [PROBABILITIES], [LABEL], axis=1, keepdims=0)


def _ensemble(fitted: Fitted, outputs: tuple[str, str]) -> NodeProto:
    """All trees as one node; a booster's sums become probabilities by softmax."""
    return helper.make_node(
        "TreeEnsembleClassifier",
        [INPUT],
        list(outputs),
        name="trees",
        domain="ai.onnx.ml",
        post_transform="SOFTMAX" if isinstance(fitted, Boosted) else "NONE",
        classlabels_int64s=list(range(len(fitted.classes))),
        **trees.attributes(fitted.trees()),
    )


def _stacking(fitted: Stacking) -> tuple[list[NodeProto], list[TensorProto]]:
    """Forest and linear model side by side, joined, and the final linear model."""
    scaler, regression = fitted.linear[0], fitted.linear[-1]
    final = fitted.estimator.final_estimator_
    columns = list(fitted.columns)

    # Columns that the model does not look at: subtracted from by 0, divided by 1, weighed with 0.
    mean, scale = np.zeros(WIDTH), np.ones(WIDTH)
    mean[columns], scale[columns] = scaler.mean_, scaler.scale_
    of_columns, bias = _linear(regression)
    weights = np.zeros((WIDTH, len(fitted.classes)))
    weights[columns] = of_columns

    final_weights, final_bias = _linear(final)
    if len(fitted.classes) == 2:
        # With two classes scikit-learn feeds only the second probability of each model.
        of_second, final_weights = final_weights, np.zeros((4, 2))
        final_weights[[1, 3]] = of_second

    constants = {
        "mean": mean, "scale": scale, "linear_weights": weights, "linear_bias": bias,
        "final_weights": final_weights, "final_bias": final_bias,
    }
    nodes = [
        _ensemble(fitted, ("forest_label", "forest_probabilities")),
        helper.make_node("Sub", [INPUT, "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "linear_weights"], ["linear_products"]),
        helper.make_node("Add", ["linear_products", "linear_bias"], ["linear_scores"]),
        helper.make_node("Softmax", ["linear_scores"], ["linear_probabilities"], axis=1),
        helper.make_node("Concat", ["forest_probabilities", "linear_probabilities"], ["stacked"], axis=1),
        helper.make_node("MatMul", ["stacked", "final_weights"], ["final_products"]),
        helper.make_node("Add", ["final_products", "final_bias"], ["final_scores"]),
        helper.make_node("Softmax", ["final_scores"], [PROBABILITIES], axis=1),
        _argmax(),
    ]
    return nodes, [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]


def _linear(regression) -> tuple[np.ndarray, np.ndarray]:
    """Weights [inputs, classes] and bias [classes] whose softmax are the regression's probabilities.

    With two classes scikit-learn keeps one column for the second; the first one's is zero.
    """
    weights, bias = regression.coef_.T, regression.intercept_
    if weights.shape[1] == 1:
        weights, bias = np.hstack([np.zeros_like(weights), weights]), np.array([0.0, bias[0]])
    return weights, bias
