"""Owns the gradient-boosted model: LightGBM, one small tree a class and round."""

from __future__ import annotations

import numpy as np

from .fitted import Fitted
from .settings import BOOSTED, Settings
from .trees import Tree, from_lightgbm

#: Regularisation: least weight of a leaf, pull of leaf values to zero, share of the rows that a round sees.
LEAF_WEIGHT, L2, ROW_SHARE = 1.0, 10.0, 0.7


class Boosted(Fitted):
    """A fitted booster."""

    kind = BOOSTED
    title = "gradient-boosted model (LightGBM)"

    def ask(self, inputs: np.ndarray) -> np.ndarray:
        return self.estimator.predict(inputs.astype(np.float64), num_threads=1)

    def trees(self) -> list[Tree]:
        return from_lightgbm(self.estimator.dump_model(), self.columns)

    def importances(self) -> np.ndarray:
        gains = self.estimator.feature_importance("gain")
        return gains / max(gains.sum(), np.finfo(float).tiny)


def fit(inputs: np.ndarray, targets: np.ndarray, class_weight: dict[int, float], settings: Settings):
    """Fits on float32 rows; two classes are two trees a round as well, so that there is one form of export."""
    import lightgbm  # the other kinds do without it

    row_weights = np.array([class_weight[target] for target in targets])
    data = lightgbm.Dataset(inputs.astype(np.float64), targets, weight=row_weights)
    parameters = {
        "objective": "multiclass",
        "num_class": len(class_weight),
        "num_leaves": settings.leaves,
        "max_depth": settings.max_depth,
        "min_data_in_leaf": settings.min_leaf,
        "learning_rate": settings.learning_rate,
        "min_sum_hessian_in_leaf": LEAF_WEIGHT,
        "lambda_l2": L2,
        "feature_fraction": 1.0 if settings.max_features is None else settings.max_features,
        "bagging_fraction": ROW_SHARE,
        "bagging_freq": 1,
        # Inputs are finite; without a notion of missing, 0 is a number like any other.
        "use_missing": False,
        "seed": settings.seed % 2**31,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": settings.jobs,
        "verbosity": -1,
    }
    return lightgbm.train(parameters, data, num_boost_round=settings.trees)
