"""Owns trees as flat tables: from scikit-learn's and LightGBM's to those of one ONNX operator.

Written straight from the fitted objects rather than by a converter: ten times
faster, and without the zero class weights that make up nine tenths of
skl2onnx's leaf table. The tests hold the results against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: A child of this value marks a leaf.
LEAF = -1


@dataclass(frozen=True)
class Tree:
    """Nodes in preorder: the left child of node n is n + 1. A row goes left where value <= threshold."""

    #: Positions among the 78 columns; of no meaning at leaves, as `threshold` is.
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    #: Weighted training rows that came through each node.
    cover: np.ndarray
    #: What leaves add to which class: three columns of equal length, zeros left out where there are more than two classes.
    leaf: np.ndarray
    class_id: np.ndarray
    weight: np.ndarray

    @property
    def is_leaf(self) -> np.ndarray:
        return self.left == LEAF


@dataclass(frozen=True)
class Size:
    """How large an ensemble is, for the report and the card."""

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


def from_forest(estimators: Sequence, columns: tuple[int, ...]) -> list[Tree]:
    """The trees of a scikit-learn forest: each leaf adds its class shares, divided by the number of trees."""
    positions = np.array(columns, dtype=np.int64)
    trees = []
    for estimator in estimators:
        tree = estimator.tree_
        is_leaf = tree.children_left == LEAF
        shares = tree.value[:, 0, :] / tree.value[:, 0, :].sum(axis=1, keepdims=True)
        # onnxruntime takes a missing weight of two for a model of one score and answers with its complement.
        leaf, class_id = np.nonzero(np.broadcast_to(is_leaf[:, None], shares.shape) & ((shares != 0) | (shares.shape[1] == 2)))
        trees.append(Tree(
            feature=np.where(is_leaf, 0, positions[np.where(is_leaf, 0, tree.feature)]),
            threshold=tree.threshold,
            left=tree.children_left,
            right=tree.children_right,
            cover=tree.weighted_n_node_samples,
            leaf=leaf,
            class_id=class_id,
            weight=shares[leaf, class_id] / len(estimators),
        ))
    return trees


def from_lightgbm(dump: dict, columns: tuple[int, ...]) -> list[Tree]:
    """The trees of a dumped LightGBM model: each leaf adds its value to the one class of its tree."""
    classes = dump["num_tree_per_iteration"]
    return [
        _from_dump(entry["tree_structure"], entry["tree_index"] % classes, columns) for entry in dump["tree_info"]
    ]


def _from_dump(root: dict, class_id: int, columns: tuple[int, ...]) -> Tree:
    """Walks one dumped tree, left before right, without recursion: leaf-wise trees may be deep."""
    nodes: list[tuple[int, float, float, float]] = []
    left, right = [], []
    waiting: list[tuple[dict, int]] = [(root, LEAF)]
    while waiting:
        node, right_of = waiting.pop()
        here = len(nodes)
        if right_of != LEAF:
            right[right_of] = here
        if "leaf_value" in node:
            nodes.append((0, 0.0, node.get("leaf_count", 0), node["leaf_value"]))
            left.append(LEAF)
            right.append(LEAF)
            continue
        if node["decision_type"] != "<=" or node["missing_type"] != "None":
            raise AssertionError(f"a split of a kind that was not asked for: {node['decision_type']}, {node['missing_type']}")
        nodes.append((columns[node["split_feature"]], node["threshold"], node["internal_count"], 0.0))
        left.append(here + 1)
        right.append(LEAF)
        waiting += [(node["right_child"], here), (node["left_child"], LEAF)]
    feature, threshold, cover, value = (np.array(column, dtype=np.float64) for column in zip(*nodes))
    leaf = np.flatnonzero((np.array(left) == LEAF) & (value != 0))
    return Tree(
        feature=feature.astype(np.int64),
        threshold=threshold,
        left=np.array(left, dtype=np.int64),
        right=np.array(right, dtype=np.int64),
        cover=cover,
        leaf=leaf,
        class_id=np.full(len(leaf), class_id),
        weight=value[leaf],
    )


def attributes(trees: Sequence[Tree]) -> dict[str, list]:
    """The tables of a TreeEnsembleClassifier of ai.onnx.ml 3: nodes tree by tree, leaf weights likewise."""
    found: dict[str, list] = {
        name: []
        for name in (
            "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_modes",
            "nodes_truenodeids", "nodes_falsenodeids", "nodes_hitrates",
            "class_treeids", "class_nodeids", "class_ids", "class_weights",
        )
    }
    for tree_id, tree in enumerate(trees):
        count, is_leaf = len(tree.left), tree.is_leaf
        found["nodes_treeids"] += [tree_id] * count
        found["nodes_nodeids"] += range(count)
        found["nodes_featureids"] += np.where(is_leaf, 0, tree.feature).tolist()
        found["nodes_values"] += np.where(is_leaf, np.float32(0), round_down(tree.threshold)).tolist()
        found["nodes_modes"] += np.where(is_leaf, "LEAF", "BRANCH_LEQ").tolist()
        found["nodes_truenodeids"] += np.where(is_leaf, 0, tree.left).tolist()
        found["nodes_falsenodeids"] += np.where(is_leaf, 0, tree.right).tolist()
        # With the weighted training rows of each node the agent can say what every node along a path
        # expects, and so what each feature contributed to a verdict.
        found["nodes_hitrates"] += tree.cover.astype(np.float32).tolist()
        found["class_treeids"] += [tree_id] * len(tree.leaf)
        found["class_nodeids"] += tree.leaf.tolist()
        found["class_ids"] += tree.class_id.tolist()
        found["class_weights"] += tree.weight.tolist()
    return found


def size_of(trees: Sequence[Tree]) -> Size:
    """Counts trees, nodes and kept leaf weights."""
    counts = np.array([len(tree.left) for tree in trees])
    return Size(
        trees=len(trees),
        nodes=int(counts.sum()),
        leaf_weights=sum(len(tree.leaf) for tree in trees),
        nodes_least=int(counts.min()),
        nodes_median=float(np.median(counts)),
        nodes_most=int(counts.max()),
        depth_most=max(_depth(tree) for tree in trees),
    )


def _depth(tree: Tree) -> int:
    depth = np.zeros(len(tree.left), dtype=np.int64)
    for node in np.flatnonzero(~tree.is_leaf):
        depth[[tree.left[node], tree.right[node]]] = depth[node] + 1
    return int(depth.max())
