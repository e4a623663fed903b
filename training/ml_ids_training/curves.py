"""Owns the curves of a model on held-out rows: ROC and precision-recall of each class.

Points, not pictures: they go into report.json, where figures are drawn from.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

#: Most points of one curve; more cannot be told apart in a figure.
POINTS = 60
_DIGITS = 5


def curves(truth: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]) -> dict:
    """One against the rest for each class; classes without rows on either side have no curve."""
    found: dict = {"roc": {}, "precision_recall": {}}
    for index, name in enumerate(classes):
        own = truth == index
        if own.all() or not own.any():
            continue
        score = probabilities[:, index]
        false_rate, true_rate, _ = roc_curve(own, score)
        precision, recall, _ = precision_recall_curve(own, score)
        found["roc"][name] = {
            "area": _round(auc(false_rate, true_rate)),
            "false_positive_rate": _thin(false_rate),
            "true_positive_rate": _thin(true_rate),
        }
        found["precision_recall"][name] = {
            "average_precision": _round(average_precision_score(own, score)),
            "recall": _thin(recall),
            "precision": _thin(precision),
        }
    return found


def _thin(values: np.ndarray) -> list[float]:
    """Both ends and evenly spaced points between them."""
    kept = np.unique(np.linspace(0, len(values) - 1, min(POINTS, len(values))).round().astype(int))
    return [_round(value) for value in values[kept]]


def _round(value: float) -> float:
    return round(float(value), _DIGITS)
