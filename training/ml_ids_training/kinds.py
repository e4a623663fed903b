"""Owns the register of estimators: from a kind's name to a fitted model of it."""

from __future__ import annotations

import numpy as np

from . import boosted, forest, stacking
from .copies import with_copies
from .data import Flows
from .errors import TrainingFailed
from .fitted import Fitted, encode
from .settings import BOOSTED, FOREST, STACKING, Settings, weights
from .values import model_input

_FIT = {FOREST: (forest.fit, forest.Forest), STACKING: (stacking.fit, stacking.Stacking), BOOSTED: (boosted.fit, boosted.Boosted)}


def fit(
    flows: Flows, rows: np.ndarray, classes: tuple[str, ...], columns: tuple[int, ...], settings: Settings
) -> Fitted:
    """Fits the asked kind on these rows. Rare attacks are lifted by weight as `settings` say."""
    targets = encode(flows.labels[rows], classes)
    missing = sorted(set(range(len(classes))) - set(targets))
    if missing:
        raise TrainingFailed(f"class {classes[missing[0]]} has no row in the training part of the split")
    learn, wrap = _FIT[settings.kind]
    class_weight = weights(targets, classes, settings)
    inputs = model_input(with_copies(flows.values[rows], settings.copies, settings.seed)[:, columns])
    learned = learn(inputs, np.tile(targets, 1 + settings.copies), class_weight, settings)
    return wrap(learned, classes, columns)
