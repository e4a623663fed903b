"""Owns what shapes a model: its kind, its size, its seed and what each class weighs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .errors import WrongUsage

#: The estimators there are, as `--model` and the contract's `ml_ids.kind` spell them.
FOREST, STACKING, BOOSTED = "forest", "stacking", "boosted"
KINDS = (FOREST, STACKING, BOOSTED)

#: How strongly a rare class is lifted: its weight is (rows / (classes * rows of the class)) to this power.
BALANCES = {"balanced": 1.0, "sqrt": 0.5, "none": 0.0}


@dataclass(frozen=True)
class Settings:
    """The same settings and rows give the same model."""

    kind: str = FOREST
    #: Trees of a forest, rounds of boosting (each of one tree a class).
    trees: int = 100
    max_depth: int = 20
    #: Least training rows in a leaf.
    min_leaf: int = 1
    #: Share of the columns that a forest's split may choose from; None is the square root of their number.
    max_features: float | None = None
    #: Most leaves of a boosted tree and how far each round goes.
    leaves: int = 15
    learning_rate: float = 0.1
    balance: str = "balanced"
    #: Factors on the weight of single classes.
    class_weights: Mapping[str, float] = field(default_factory=dict)
    seed: int = 20170703
    jobs: int = 2


def weights(targets: np.ndarray, classes: tuple[str, ...], settings: Settings) -> dict[int, float]:
    """The weight of one row of each class, by position in `classes`."""
    unknown = sorted(set(settings.class_weights) - set(classes))
    if unknown:
        raise WrongUsage(f"--class-weight {unknown[0]}: no such class; the data has {', '.join(classes)}")
    power = BALANCES[settings.balance]
    counts = np.bincount(targets, minlength=len(classes))
    return {
        index: float((len(targets) / (len(classes) * max(counts[index], 1))) ** power) * settings.class_weights.get(name, 1.0)
        for index, name in enumerate(classes)
    }
