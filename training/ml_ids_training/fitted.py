"""Owns what the estimators have in common: how a fitted model is asked, whatever its kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .data import BENIGN
from .errors import TrainingFailed
from .trees import Tree
from .values import model_input


@dataclass(frozen=True)
class Fitted(ABC):
    """An estimator with what is needed to ask it with full 78-column rows."""

    #: The fitted scikit-learn or LightGBM object; its labels are positions in `classes`.
    estimator: Any
    classes: tuple[str, ...]
    #: Positions among the 78 columns of the columns it looks at.
    columns: tuple[int, ...]

    kind: ClassVar[str]
    #: What the card calls it.
    title: ClassVar[str]

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """float64 [rows, classes] for measured rows of 78 columns."""
        return self.ask(model_input(values[:, self.columns]))

    @abstractmethod
    def ask(self, inputs: np.ndarray) -> np.ndarray:
        """float64 [rows, classes] for float32 rows of `columns`, on one thread: several would add up in changing order."""

    @abstractmethod
    def trees(self) -> list[Tree]:
        """All its trees in the order of evaluation; feature ids are positions among the 78."""

    @abstractmethod
    def importances(self) -> np.ndarray:
        """One share a column of `columns`, from what training itself counted; their sum is 1."""


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
