"""Owns counting what a model is worth on rows it has not learned from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from .budget import bounds

#: Thresholds whose effect is reported beside the chosen ones, for whoever must choose.
OTHER_THRESHOLDS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def measure(
    truth: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...], limits: Mapping[str, float]
) -> dict:
    """Accuracy, macro F1, one row a class, confusion matrix, false alarms: plain numbers that go to JSON as they are.

    `benign_false_alarm_rate` counts benign rows whose most probable class is an
    attack; `benign_alert_rate` those that also reach that class's threshold.
    `alert_macro_f1` takes a verdict below its threshold for BENIGN, as whoever
    reads only alerts does. Undefined ratios (no row predicted, no row present) are 0.
    """
    predicted = probabilities.argmax(axis=1)
    best = probabilities[np.arange(len(predicted)), predicted]
    limit = np.array([limits.get(name, np.inf) for name in classes])
    alert = best >= limit[predicted]
    matrix = confusion_matrix(truth, predicted, labels=range(len(classes)))
    alert_matrix = confusion_matrix(truth, np.where(alert, predicted, 0), labels=range(len(classes)))
    attack = truth != 0

    per_class = {}
    for index, name in enumerate(classes):
        precision, recall, f1 = _ratios(matrix, index)
        own = truth == index
        ranked = own.any() and not own.all()
        per_class[name] = {
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "support": int(own.sum()),
            "alert_share": _ratio(alert[own].sum(), own.sum()),
            "roc_auc": float(roc_auc_score(own, probabilities[:, index])) if ranked else None,
            "average_precision": float(average_precision_score(own, probabilities[:, index])) if ranked else None,
        }
    others = {}
    for value in OTHER_THRESHOLDS:
        would = (predicted != 0) & (best >= value)
        others[f"{value:.1f}"] = {
            "benign_alert_rate": _ratio(would[~attack].sum(), (~attack).sum()),
            "attack_alert_rate": _ratio(would[attack].sum(), attack.sum()),
        }
    benign_alerts, benign_rows = int(alert[~attack].sum()), int((~attack).sum())
    return {
        "rows": int(len(truth)),
        "accuracy": _ratio(np.trace(matrix), matrix.sum()),
        "macro_f1": macro_f1(matrix),
        "alert_macro_f1": macro_f1(alert_matrix),
        "benign_rows": benign_rows,
        "benign_false_alarm_rate": _ratio((predicted[~attack] != 0).sum(), benign_rows),
        "benign_alerts": benign_alerts,
        "benign_alert_rate": _ratio(benign_alerts, benign_rows),
        "benign_alert_rate_bounds": list(bounds(benign_alerts, benign_rows)),
        "attack_called_benign_rate": _ratio((predicted[attack] == 0).sum(), attack.sum()),
        "attack_alert_rate": _ratio(alert[attack].sum(), attack.sum()),
        "other_thresholds": others,
        "per_class": per_class,
        "confusion_matrix": matrix.tolist(),
        "calibration": calibration(truth, probabilities),
    }


def macro_f1(matrix: np.ndarray) -> float:
    """Mean F1 of the classes that have rows; `matrix` is truth by verdict."""
    return float(np.mean([_ratios(matrix, index)[2] for index in range(len(matrix)) if matrix[index].sum()]))


def calibration(truth: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> dict:
    """How far probabilities can be taken at their word.

    Brier score over all classes (0 best, 2 worst); for the most probable class, by
    tenths of its probability, how often it is right; their mean distance, weighted.
    """
    best, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    wanted = np.eye(probabilities.shape[1])[truth]
    place = np.minimum((best * bins).astype(int), bins - 1)
    table = []
    for index in range(bins):
        inside = place == index
        if inside.any():
            table.append({
                "from": index / bins,
                "rows": int(inside.sum()),
                "mean_probability": float(best[inside].mean()),
                "share_right": float(right[inside].mean()),
            })
    off = sum(row["rows"] * abs(row["mean_probability"] - row["share_right"]) for row in table)
    return {
        "brier": float(((probabilities - wanted) ** 2).sum(axis=1).mean()),
        "brier_attack": float(((1 - probabilities[:, 0] - (truth != 0)) ** 2).mean()),
        "expected_calibration_error": _ratio(off, len(truth)),
        "reliability": table,
    }


def _ratios(matrix: np.ndarray, index: int) -> tuple[float, float, float]:
    """Precision, recall and F1 of one class."""
    hits = matrix[index, index]
    precision, recall = _ratio(hits, matrix[:, index].sum()), _ratio(hits, matrix[index].sum())
    return precision, recall, _ratio(2 * precision * recall, precision + recall)


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else 0.0
