"""Owns what a model says of the world it was trained in: histograms, ranges and usual values of each feature.

The agent compares live traffic with them to notice drift and flows far outside.
Only counts and quantiles leave the data, no row of it.
"""

from __future__ import annotations

import numpy as np

from .values import model_input

#: Bins of a feature at most; edges are quantiles of the benign training rows.
BINS = 20
#: Edges of the histogram of the greatest attack probability.
SCORE_EDGES = tuple(round(0.1 * step, 1) for step in range(1, 10))
#: Quantiles of benign rows that tell what is usual.
USUAL = (0.01, 0.05, 0.50, 0.95, 0.99)
#: Digits of a share.
_DIGITS = 6


def distribution(
    values: np.ndarray, benign: np.ndarray, held_out: np.ndarray, held_out_benign: np.ndarray, alert_rate: float
) -> dict:
    """The contract's `ml_ids.distribution`.

    `values` are the training rows as measured and `benign` says which are BENIGN;
    `held_out` are the probabilities of rows that judged the model.
    """
    inputs = model_input(values)
    attack = held_out[:, 1:].max(axis=1)
    return {
        "rows": len(inputs),
        "benign_rows": int(benign.sum()),
        "features": [_feature(column, benign) for column in inputs.T],
        "score": {
            "edges": list(SCORE_EDGES),
            "shares": _shares(attack, np.array(SCORE_EDGES)),
            "benign_shares": _shares(attack[held_out_benign], np.array(SCORE_EDGES)),
        },
        "benign_alert_rate": round(alert_rate, _DIGITS),
        "rows_benign_heldout": int(held_out_benign.sum()),
    }


def _feature(column: np.ndarray, benign: np.ndarray) -> dict:
    """One feature; every number is a float32 that was seen, so equal values compare as equal."""
    usual = column[benign]
    edges = np.unique(np.quantile(usual, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    return {
        "edges": _numbers(edges),
        "shares": _shares(column, edges),
        "benign_shares": _shares(usual, edges),
        "min": float(column.min()),
        "max": float(column.max()),
        "benign": _numbers(np.quantile(usual, USUAL, method="inverted_cdf")),
    }


def _shares(values: np.ndarray, edges: np.ndarray) -> list[float]:
    """Share of the values in each bin; bin i holds edges[i-1] < v <= edges[i]."""
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    return [round(float(share), _DIGITS) for share in counts / max(len(values), 1)]


def _numbers(values: np.ndarray) -> list[float]:
    return [float(value) for value in values]
