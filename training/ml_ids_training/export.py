"""Owns turning a fitted forest into one ONNX operator.

Written straight from scikit-learn's `tree_` arrays rather than by skl2onnx:
ten times faster, and without the zero class weights that make up nine tenths
of the converter's leaf table. The tests hold both against each other.

Format: TreeEnsembleClassifier of ai.onnx.ml 3 (operator set 18), input
`features` float32 [N, 78], outputs `label` int64 [N] and `probabilities`
float32 [N, classes].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from . import __version__
from .features import WIDTH
from .forest import Fitted

INPUT = "features"
LABEL = "label"
PROBABILITIES = "probabilities"
OPSET = 18
ML_OPSET = 3
#: The file format version that came with operator set 18.
IR_VERSION = 8

#: A child of this value marks a leaf in scikit-learn's arrays.
_LEAF = -1


@dataclass(frozen=True)
class Size:
    """How large a forest is, for the report and the card."""

    trees: int
    nodes: int
    leaf_weights: int
    nodes_least: int
    nodes_median: float
    nodes_most: int
    depth_most: int


def round_down(thresholds: np.ndarray) -> np.ndarray:
    """The greatest float32 not above each float64.

    For any float32 x: x <= t exactly when x <= round_down(t), so no row takes
    another path. Rounding to nearest may round up, and then one may.
    """
    rounded = thresholds.astype(np.float32)
    above = rounded.astype(np.float64) > thresholds
    rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
    return rounded


def to_onnx(fitted: Fitted, metadata: dict[str, str]) -> onnx.ModelProto:
    """The forest with its contract. Equal input gives equal bytes."""
    attributes = _ensemble(fitted)
    node = helper.make_node(
        "TreeEnsembleClassifier",
        [INPUT],
        [LABEL, PROBABILITIES],
        name="forest",
        domain="ai.onnx.ml",
        post_transform="NONE",
        classlabels_int64s=list(range(len(fitted.classes))),
        **attributes,
    )
    graph = helper.make_graph(
        [node],
        "forest",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", WIDTH])],
        [
            helper.make_tensor_value_info(LABEL, TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["N", len(fitted.classes)]),
        ],
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


def size_of(fitted: Fitted) -> Size:
    """Counts trees, nodes and kept leaf weights."""
    trees = [estimator.tree_ for estimator in fitted.forest.estimators_]
    counts = np.array([tree.node_count for tree in trees])
    weights = sum(
        int(np.count_nonzero(tree.value[tree.children_left == _LEAF, 0, :])) for tree in trees
    )
    return Size(
        trees=len(trees),
        nodes=int(counts.sum()),
        leaf_weights=weights,
        nodes_least=int(counts.min()),
        nodes_median=float(np.median(counts)),
        nodes_most=int(counts.max()),
        depth_most=max(int(tree.max_depth) for tree in trees),
    )


def _ensemble(fitted: Fitted) -> dict[str, list]:
    """The operator's flat tables: nodes tree by tree in preorder, leaf weights likewise."""
    columns = np.array(fitted.columns, dtype=np.int64)
    trees = [estimator.tree_ for estimator in fitted.forest.estimators_]
    nodes: dict[str, list] = {
        name: []
        for name in (
            "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_modes",
            "nodes_truenodeids", "nodes_falsenodeids", "nodes_hitrates",
            "class_treeids", "class_nodeids", "class_ids", "class_weights",
        )
    }
    for tree_id, tree in enumerate(trees):
        leaf = tree.children_left == _LEAF
        count = tree.node_count
        nodes["nodes_treeids"] += [tree_id] * count
        nodes["nodes_nodeids"] += range(count)
        nodes["nodes_featureids"] += np.where(leaf, 0, columns[np.where(leaf, 0, tree.feature)]).tolist()
        nodes["nodes_values"] += np.where(leaf, np.float32(0), round_down(tree.threshold)).tolist()
        nodes["nodes_modes"] += np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
        nodes["nodes_truenodeids"] += np.where(leaf, 0, tree.children_left).tolist()
        nodes["nodes_falsenodeids"] += np.where(leaf, 0, tree.children_right).tolist()
        # The weighted training samples of each node: with them the agent can say what every node
        # along a path expects, and so what each feature contributed to a verdict.
        nodes["nodes_hitrates"] += tree.weighted_n_node_samples.astype(np.float32).tolist()

        fractions = tree.value[:, 0, :] / tree.value[:, 0, :].sum(axis=1, keepdims=True)
        leaf_rows, class_ids = np.nonzero(fractions * leaf[:, None])
        nodes["class_treeids"] += [tree_id] * len(leaf_rows)
        nodes["class_nodeids"] += leaf_rows.tolist()
        nodes["class_ids"] += class_ids.tolist()
        nodes["class_weights"] += (fractions[leaf_rows, class_ids] / len(trees)).tolist()
    return nodes
