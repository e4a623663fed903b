"""Owns what happens to a number between the CSV and the forest.

The sensor does the same, in the same order: replace what is not finite, then
round once to float32. The replacements travel in the model's contract.
"""

from __future__ import annotations

import numpy as np

#: Replacements, by the contract's keys. 1e9 is far above the highest finite
#: rate that a flow of at least a microsecond reaches in practice, and says what
#: the Infinity of a zero duration meant: a rate beyond measure.
NON_FINITE: dict[str, float] = {"nan": 0.0, "pos_inf": 1e9, "neg_inf": 0.0}


def count_non_finite(values: np.ndarray) -> int:
    """How many cells the policy would replace."""
    return int(values.size - np.count_nonzero(np.isfinite(values)))


def model_input(values: np.ndarray) -> np.ndarray:
    """Turns measured float64 values into the float32 that every tree sees.

    A finite value beyond float32's range becomes infinite by rounding, so the
    policy is applied on both sides of it.
    """
    finite = np.nan_to_num(
        values,
        nan=NON_FINITE["nan"],
        posinf=NON_FINITE["pos_inf"],
        neginf=NON_FINITE["neg_inf"],
    )
    with np.errstate(over="ignore"):
        rounded = finite.astype(np.float32)
    return np.nan_to_num(
        rounded,
        copy=False,
        posinf=NON_FINITE["pos_inf"],
        neginf=NON_FINITE["neg_inf"],
    )
