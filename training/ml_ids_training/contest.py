"""Owns the choice among the kinds that were tried."""

from __future__ import annotations

from collections.abc import Mapping

from .budget import Budget, bounds
from .trial import Trial


def keeps(trial: Trial, budget: Budget) -> bool:
    """Whether the counted benign alerts leave it possible that the true rate is within the budget.

    A count is not held against a model while even the lower bound of its rate is
    within: one alert more than allowed on two thousand rows may be luck.
    """
    return bounds(trial.scores["benign_alerts"], trial.scores["benign_rows"])[0] <= budget.share


def best(trials: Mapping[str, Trial], budget: Budget) -> str:
    """The kind with the greatest macro F1 of its alerts among those that keep the budget.

    If none does, the one with the fewest benign alerts. The first named wins a tie.
    """
    keeping = [kind for kind, trial in trials.items() if keeps(trial, budget)]
    if keeping:
        return max(keeping, key=lambda kind: trials[kind].scores["alert_macro_f1"])
    return min(trials, key=lambda kind: trials[kind].scores["benign_alert_rate"])
