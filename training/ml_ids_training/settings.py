"""Owns what shapes a model: its kind, its size, its seed and what each class weighs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from .errors import WrongUsage

#: The estimators there are, as `--model` and the contract's `ml_ids.kind` spell them.
FOREST, STACKING, BOOSTED = "forest", "stacking", "boosted"
KINDS = (FOREST, STACKING, BOOSTED)

#: How strongly a rare class is lifted: what becomes of rows / (classes * rows of the class).
BALANCES: dict[str, Callable[[float], float]] = {"balanced": float, "sqrt": math.sqrt, "none": lambda _: 1.0}


@dataclass(frozen=True)
class Settings:
    """The same settings and rows give the same model. None is what `resolved` fills in for the kind."""

    kind: str = FOREST
    #: Trees of a forest, rounds of boosting (each of one tree a class).
    trees: int | None = None
    max_depth: int = 20
    #: Least training rows in a leaf.
    min_leaf: int | None = None
    #: Share of the columns that a forest's split or a boosted tree may choose from.
    max_features: float | None = None
    balance: str | None = None
    #: Factors on the weight of single classes.
    class_weights: Mapping[str, float] = field(default_factory=dict)
    #: Copies of the training rows at another pace.
    copies: int = 1
    #: Most leaves of a boosted tree and how far each round goes.
    leaves: int = 7
    learning_rate: float = 0.08
    seed: int = 20170703
    jobs: int = 2

    def resolved(self, kind: str) -> Settings:
        """These settings for one kind, with nothing left open but a forest's square root of the columns."""
        open_ones = {name: value for name, value in USUAL[kind].items() if getattr(self, name) is None}
        return replace(self, kind=kind, **open_ones)


#: Boosting over-fits where a forest does not: small trees of few columns, rare classes lifted less.
USUAL: dict[str, dict] = {
    FOREST: {"trees": 100, "min_leaf": 1, "balance": "balanced"},
    STACKING: {"trees": 100, "min_leaf": 1, "balance": "balanced"},
    BOOSTED: {"trees": 120, "min_leaf": 10, "balance": "sqrt", "max_features": 0.3},
}


def weights(targets: np.ndarray, classes: tuple[str, ...], settings: Settings) -> dict[int, float]:
    """The weight of one row of each class, by position in `classes`."""
    unknown = sorted(set(settings.class_weights) - set(classes))
    if unknown:
        raise WrongUsage(f"--class-weight {unknown[0]}: no such class; the data has {', '.join(classes)}")
    lift = BALANCES[settings.balance]
    counts = np.bincount(targets, minlength=len(classes))
    return {
        index: lift(len(targets) / (len(classes) * max(int(counts[index]), 1))) * settings.class_weights.get(name, 1.0)
        for index, name in enumerate(classes)
    }
