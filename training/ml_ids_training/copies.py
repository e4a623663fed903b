"""Owns copies of training rows at another pace: the same flow on a faster or slower network.

In one test bed each attack has the pace of one tool and one network. A copy with
all times of a row multiplied by one factor tells a model that the shape counts
more than the pace. Only rows that are learned from are copied, never those that judge.
"""

from __future__ import annotations

import numpy as np

from .features import NAMES

#: Standard deviation of the natural logarithm of the factors: two thirds lie from 1/2.7 to 2.7.
SPREAD = 1.0

_TIMES = [i for i, name in enumerate(NAMES) if name == "Flow Duration" or " IAT " in name or name.startswith(("Active", "Idle"))]
_WHOLE = [i for i in _TIMES if "Mean" not in NAMES[i] and "Std" not in NAMES[i]]
_RATES = [i for i, name in enumerate(NAMES) if name.endswith(("/s", "Bulk Rate"))]


def with_copies(values: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The rows, then `count` times all of them again in the same order, each row at its own factor."""
    random = np.random.default_rng(seed)
    return np.concatenate([values, *(_paced(values, random) for _ in range(count))])


def _paced(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    # Rounded, as the last digits of an exponential depend on the processor.
    factors = np.round(np.exp(random.normal(0.0, SPREAD, (len(values), 1))), 4)
    paced = values.copy()
    paced[:, _TIMES] *= factors
    paced[:, _WHOLE] = np.round(paced[:, _WHOLE])
    paced[:, _RATES] /= factors
    return paced
