"""Owns counting what a model is worth on rows it has not learned from."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import confusion_matrix

from .curves import curves
from .data import BENIGN

DEFAULT_THRESHOLD = 0.5

#: Thresholds whose effect is reported beside the chosen ones, for whoever must choose.
OTHER_THRESHOLDS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def thresholds(classes: tuple[str, ...]) -> dict[str, float]:
    """One value for each attack class; BENIGN raises no alert and has none."""
    return {name: DEFAULT_THRESHOLD for name in classes if name != BENIGN}


def measure(truth: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...], limits: dict[str, float]) -> dict:
    """Accuracy, macro F1, one row a class, confusion matrix, false alarms.

    `benign_false_alarm_rate` counts benign rows whose most probable class is an
    attack; `benign_alert_rate` those that also reach that class's threshold.
    Undefined ratios (no row predicted, no row present) are 0.
    """
    predicted = probabilities.argmax(axis=1)
    best = probabilities[np.arange(len(predicted)), predicted]
    limit = np.array([limits.get(name, np.inf) for name in classes])
    alert = best >= limit[predicted]
    matrix = confusion_matrix(truth, predicted, labels=range(len(classes)))

    per_class = {}
    for index, name in enumerate(classes):
        hits, support, claimed = matrix[index, index], matrix[index].sum(), matrix[:, index].sum()
        precision, recall = _ratio(hits, claimed), _ratio(hits, support)
        per_class[name] = {
            "precision": precision,
            "recall": recall,
            "f1": _ratio(2 * precision * recall, precision + recall),
            "support": int(support),
            "alert_share": _ratio(alert[truth == index].sum(), support),
        }
    present = [row["f1"] for row in per_class.values() if row["support"]]
    attack = truth != 0
    others = {}
    for value in OTHER_THRESHOLDS:
        would = (predicted != 0) & (best >= value)
        others[f"{value:.1f}"] = {
            "benign_alert_rate": _ratio(would[~attack].sum(), (~attack).sum()),
            "attack_alert_rate": _ratio(would[attack].sum(), attack.sum()),
        }
    return {
        "rows": int(len(truth)),
        "accuracy": _ratio(np.trace(matrix), matrix.sum()),
        "macro_f1": float(np.mean(present)),
        "benign_false_alarm_rate": _ratio((predicted[~attack] != 0).sum(), (~attack).sum()),
        "benign_alert_rate": _ratio(alert[~attack].sum(), (~attack).sum()),
        "attack_called_benign_rate": _ratio((predicted[attack] == 0).sum(), attack.sum()),
        "attack_alert_rate": _ratio(alert[attack].sum(), attack.sum()),
        "other_thresholds": others,
        "per_class": per_class,
        "confusion_matrix": matrix.tolist(),
        "curves": curves(truth, probabilities, classes),
    }


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else 0.0
