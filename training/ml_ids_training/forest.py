"""Owns fitting the random forest and measuring what it is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import confusion_matrix

from .data import BENIGN, Flows
from .errors import TrainingFailed
from .split import Split
from .values import model_input

#: Least probability of its own class that makes a verdict an alert. One half
#: means: the forest puts more weight on this attack than on all else together.
DEFAULT_THRESHOLD = 0.5
#: Thresholds whose effect is reported beside the default's, for whoever must choose.
OTHER_THRESHOLDS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Settings:
    """What shapes a forest. The same settings and rows give the same trees."""

    trees: int = 100
    max_depth: int = 20
    seed: int = 20170703
    jobs: int = 2


@dataclass(frozen=True)
class Fitted:
    """A forest with what is needed to ask it with full 78-column rows."""

    forest: RandomForestClassifier
    #: Class names; the forest's own labels are positions in this tuple.
    classes: tuple[str, ...]
    #: Positions among the 78 columns of the columns the trees look at.
    columns: tuple[int, ...]

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """float64 [rows, classes] for measured rows of 78 columns.

        One thread: several would add up the trees in changing order.
        """
        self.forest.n_jobs = 1
        return self.forest.predict_proba(model_input(values[:, self.columns]))


def class_names(labels: np.ndarray) -> tuple[str, ...]:
    """BENIGN first, the attacks sorted after it."""
    names = set(labels)
    if BENIGN not in names:
        raise TrainingFailed(f"no row is labelled {BENIGN}, so there is nothing to tell attacks from")
    if len(names) < 2:
        raise TrainingFailed("no row is labelled as an attack, so there is nothing to learn")
    return (BENIGN, *sorted(names - {BENIGN}))


def encode(labels: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Labels as positions in `classes`."""
    position = {name: index for index, name in enumerate(classes)}
    return np.array([position[label] for label in labels], dtype=np.int64)


def fit(
    flows: Flows, rows: np.ndarray, classes: tuple[str, ...], columns: tuple[int, ...], settings: Settings
) -> Fitted:
    """Fits on these rows. Balanced weights: a rare attack counts like benign traffic."""
    forest = RandomForestClassifier(
        n_estimators=settings.trees,
        max_depth=settings.max_depth,
        class_weight="balanced",
        random_state=settings.seed,
        n_jobs=settings.jobs,
    )
    values = model_input(flows.values[np.ix_(rows, columns)])
    forest.fit(values, encode(flows.labels[rows], classes))
    if tuple(forest.classes_) != tuple(range(len(classes))):
        raise TrainingFailed("a class has no row in the training part of the split")
    return Fitted(forest, classes, columns)


def thresholds(classes: tuple[str, ...]) -> dict[str, float]:
    """One value for each attack class; BENIGN raises no alert and has none."""
    return {name: DEFAULT_THRESHOLD for name in classes if name != BENIGN}


def evaluate(fitted: Fitted, flows: Flows, rows: np.ndarray) -> dict:
    """Scores on these rows, in plain numbers that go to JSON as they are."""
    truth = encode(flows.labels[rows], fitted.classes)
    probabilities = fitted.probabilities(flows.values[rows])
    limits = thresholds(fitted.classes)
    return measure(truth, probabilities, fitted.classes, limits)


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
    }


def try_split(
    flows: Flows, split: Split, classes: tuple[str, ...], columns: tuple[int, ...], settings: Settings
) -> tuple[Fitted, dict]:
    """Fits on one part of a split and evaluates on the other."""
    fitted = fit(flows, split.train, classes, columns, settings)
    return fitted, evaluate(fitted, flows, split.test)


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else 0.0
