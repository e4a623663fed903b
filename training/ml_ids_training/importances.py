"""Owns what a model looks at: what training itself counted, and what it loses without a column."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import confusion_matrix

from .fitted import Fitted
from .measure import macro_f1

#: Rows that permutation is tried on at most: one answer for each column and row.
PERMUTED_ROWS = 2000


def built_in(fitted: Fitted) -> list[tuple[int, float]]:
    """(column position, share of impurity or loss removed), greatest first."""
    shares = fitted.importances()
    return [(fitted.columns[i], float(shares[i])) for i in np.argsort(-shares, kind="stable")]


def by_permutation(fitted: Fitted, values: np.ndarray, truth: np.ndarray, seed: int) -> list[tuple[int, float]]:
    """(column position, macro F1 lost when the column's values change places among held-out rows), greatest first.

    Columns that say the same stand in for each other here, so a small loss does
    not mean that a column says nothing.
    """
    random = np.random.default_rng(seed)
    rows = _rare_first(truth, random)
    values, truth = values[rows], truth[rows]
    whole = _score(fitted, values, truth)
    losses = []
    for column in fitted.columns:
        mixed = values.copy()
        mixed[:, column] = random.permutation(mixed[:, column])
        losses.append(whole - _score(fitted, mixed, truth))
    return [(fitted.columns[i], float(losses[i])) for i in np.argsort(-np.array(losses), kind="stable")]


def _rare_first(truth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """All rows of rare classes and a draw of the others, `PERMUTED_ROWS` or fewer."""
    if len(truth) <= PERMUTED_ROWS:
        return np.arange(len(truth))
    share = PERMUTED_ROWS // len(np.unique(truth))
    parts = [random.permutation(np.flatnonzero(truth == label))[:share] for label in np.unique(truth)]
    return np.sort(np.concatenate(parts))


def _score(fitted: Fitted, values: np.ndarray, truth: np.ndarray) -> float:
    predicted = fitted.probabilities(values).argmax(axis=1)
    return macro_f1(confusion_matrix(truth, predicted, labels=range(len(fitted.classes))))
