"""Owns the stored rows with stored answers that a model carries, for the agent to ask before it trusts it.

The rows are made up: each column is drawn on its own from the quantiles of the
training rows, so none is a row of the data.
"""

from __future__ import annotations

import numpy as np

from .check import run_onnx
from .errors import TrainingFailed
from .export import to_bytes, to_onnx
from .fitted import Fitted
from .values import model_input

#: Rows that are stored, and the made-up ones they are picked from.
ROWS, CANDIDATES = 12, 400
#: A picked row's best class leads by this much, so that rounding cannot change it.
LEAD = 0.01
#: What onnxruntime may differ on a picked row: a fifth of what the agent may.
NEAR = 2e-6
_QUANTILES = 101


def stored_rows(fitted: Fitted, values: np.ndarray, seed: int) -> dict:
    """The contract's `ml_ids.probes`: rows of 78 float32 and the model's probabilities for them."""
    inputs = model_input(values)
    quantiles = np.quantile(inputs, np.linspace(0, 1, _QUANTILES), axis=0, method="inverted_cdf")
    random = np.random.default_rng(seed)
    picks = random.integers(0, _QUANTILES, size=(CANDIDATES, inputs.shape[1]))
    rows = np.take_along_axis(quantiles, picks, axis=0)
    answers = fitted.probabilities(rows.astype(np.float64))
    _, found = run_onnx(to_bytes(to_onnx(fitted, {})), rows)
    ordered = np.sort(answers, axis=1)
    sound = (ordered[:, -1] - ordered[:, -2] >= LEAD) & (np.abs(found - answers).max(axis=1) <= NEAR)
    kept = _spread(np.flatnonzero(sound), answers.argmax(axis=1))
    if not len(kept):
        raise TrainingFailed("the model has a clear answer to not one made-up row; it has learned nothing to store")
    return {
        "rows": [[float(value) for value in row] for row in rows[kept]],
        "probabilities": [[round(float(value), 9) for value in row] for row in answers[kept]],
    }


def _spread(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Up to `ROWS` of them, one of each answered class first, then in order."""
    _, first = np.unique(labels[rows], return_index=True)
    rest = np.setdiff1d(rows, rows[first])
    return np.sort(np.concatenate([rows[first], rest])[:ROWS])
