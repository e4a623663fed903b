"""Owns the random forest: every tree votes with the class shares of the leaf it reaches."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from .fitted import Fitted
from .settings import FOREST, Settings
from .trees import Tree, from_forest


class Forest(Fitted):
    """A fitted forest."""

    kind = FOREST
    title = "random forest"

    def ask(self, inputs: np.ndarray) -> np.ndarray:
        self.estimator.n_jobs = 1
        return self.estimator.predict_proba(inputs)

    def trees(self) -> list[Tree]:
        return from_forest(self.estimator.estimators_, self.columns)

    def importances(self) -> np.ndarray:
        return self.estimator.feature_importances_


def unfitted(class_weight: dict[int, float], settings: Settings) -> RandomForestClassifier:
    """The forest as it is set, alone or under a stacking model."""
    return RandomForestClassifier(
        n_estimators=settings.trees,
        max_depth=settings.max_depth,
        min_samples_leaf=settings.min_leaf,
        max_features="sqrt" if settings.max_features is None else settings.max_features,
        class_weight=class_weight,
        random_state=settings.seed,
        n_jobs=settings.jobs,
    )


def fit(inputs: np.ndarray, targets: np.ndarray, class_weight: dict[int, float], settings: Settings) -> RandomForestClassifier:
    """Fits on float32 rows."""
    return unfitted(class_weight, settings).fit(inputs, targets)
