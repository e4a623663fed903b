"""Owns the list of held-out attacks that a model missed, for whoever holds the data.

It names rows by number and tells measured values, so it goes into the local
report only and never into a card or a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .data import Flows
from .features import NAMES
from .split import Split
from .trial import Trial
from .values import model_input

#: Mistakes told of each class and split: enough to see a pattern.
TOLD = 20
#: Columns told of each mistake.
TOP = 5


@dataclass(frozen=True)
class Mistake:
    """One attack row taken for something else."""

    split: str
    #: Row number, from 0, after duplicates were dropped and rows put in order.
    row: int
    truth: str
    verdict: str
    probability: float
    probability_of_truth: float
    #: (column, value, what the true class usually has there, probability of the truth if it had that here).
    top: tuple[tuple[str, float, float, float], ...]


def of_trial(name: str, trial: Trial, flows: Flows, split: Split) -> list[Mistake]:
    """Every class's missed attacks, the most surely missed first, up to `TOLD`."""
    predicted = trial.probabilities.argmax(axis=1)
    found = []
    for label in range(1, len(trial.fitted.classes)):
        wrong = np.flatnonzero((trial.truth == label) & (predicted != label))
        wrong = wrong[np.argsort(trial.probabilities[wrong, label], kind="stable")][:TOLD]
        own = split.train[flows.labels[split.train] == trial.fitted.classes[label]]
        usual = np.median(model_input(flows.values[own]), axis=0)
        for place in wrong:
            row, said = int(split.test[place]), int(predicted[place])
            found.append(Mistake(
                name, row, trial.fitted.classes[label], trial.fitted.classes[said],
                float(trial.probabilities[place, said]), float(trial.probabilities[place, label]),
                _top(trial, flows.values[row], usual, label),
            ))
    return found


def _top(trial: Trial, row: np.ndarray, usual: np.ndarray, label: int) -> tuple[tuple[str, float, float, float], ...]:
    """The columns that, one at a time set to the true class's median, help the truth most."""
    columns = np.array(trial.fitted.columns)
    changed = np.tile(row, (len(columns), 1))
    changed[np.arange(len(columns)), columns] = usual[columns]
    would = trial.fitted.probabilities(changed)[:, label]
    order = np.argsort(-would, kind="stable")[:TOP]
    return tuple((NAMES[columns[i]], float(row[columns[i]]), float(usual[columns[i]]), float(would[i])) for i in order)


def write(path: Path, mistakes: list[Mistake]) -> None:
    """One line a mistake."""
    columns = ("split", "row", "truth", "verdict", "probability", "probability_of_truth")
    lines = [
        {column: getattr(mistake, column) for column in columns}
        | {"top": "; ".join(f"{name} {value:g} (usual {usual:g}: {would:.3f})" for name, value, usual, would in mistake.top)}
        for mistake in mistakes
    ]
    pd.DataFrame(lines, columns=[*columns, "top"]).to_csv(path, index=False, lineterminator="\n")
