"""Owns the stacking model: a forest and a scaled logistic regression, weighed up by another logistic regression.

The scaler stands in front of the linear model only. In front of the trees its
rounding to float32 would send rows down other paths than in training.
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.ensemble import StackingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from . import forest
from .fitted import Fitted
from .settings import STACKING, Settings
from .trees import Tree, from_forest

#: Parts of the training rows: what the final model learns from, each part answered by models of the others.
FOLDS = 3
#: Steps of the solver at most: enough for a base model, whose errors the final one weighs, and until it settles for that.
BASE_STEPS, FINAL_STEPS = 100, 500


class Stacking(Fitted):
    """A fitted stacking model."""

    kind = STACKING
    title = "stacking model (random forest and logistic regression, logistic regression on top)"

    @property
    def forest(self):
        return self.estimator.named_estimators_["forest"]

    @property
    def linear(self):
        """The scaler and the regression behind it."""
        return self.estimator.named_estimators_["linear"]

    def ask(self, inputs: np.ndarray) -> np.ndarray:
        self.forest.n_jobs = 1
        # The linear parts as the float64 they were fitted in; trees see the same float32 either way.
        with threadpool_limits(1):
            return self.estimator.predict_proba(inputs.astype(np.float64))

    def trees(self) -> list[Tree]:
        return from_forest(self.forest.estimators_, self.columns)

    def importances(self) -> np.ndarray:
        """Those of its forest: a coefficient is no share of anything."""
        return self.forest.feature_importances_


def fit(inputs: np.ndarray, targets: np.ndarray, class_weight: dict[int, float], settings: Settings) -> StackingClassifier:
    """Fits on float32 rows. One thread in the linear algebra: several would round in changing order."""
    model = StackingClassifier(
        [
            ("forest", forest.unfitted(class_weight, settings)),
            ("linear", make_pipeline(StandardScaler(), LogisticRegression(max_iter=BASE_STEPS, class_weight=class_weight))),
        ],
        # Without weights: lifted a second time, rare attacks drown the benign rows (2.9 % false alarms, not 0.2 %).
        final_estimator=LogisticRegression(max_iter=FINAL_STEPS),
        cv=_parts(targets, settings),
        stack_method="predict_proba",
    )
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="Number of classes in training fold")
        return model.fit(inputs.astype(np.float64), targets)


def _parts(targets: np.ndarray, settings: Settings) -> list[tuple[np.ndarray, np.ndarray]]:
    """Stratified parts in which a row and its copies stay together, or one would answer for the other."""
    blocks = 1 + settings.copies
    rows = len(targets) // blocks
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=settings.seed)
    with warnings.catch_warnings():
        # A class of fewer rows than parts is absent from some, and its probability zero there.
        warnings.filterwarnings("ignore", message="The least populated class")
        parts = list(splitter.split(np.zeros(rows), targets[:rows]))
    offsets = np.arange(blocks)[:, None] * rows
    return [((offsets + learn).ravel(), (offsets + judge).ravel()) for learn, judge in parts]
