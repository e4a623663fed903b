"""Owns the false-alarm budget: what it allows, and the thresholds that keep it.

A budget says how many alerts a day harmless traffic may raise at a stated flow
rate. Thresholds are chosen on rows that the model answering did not learn from
and that are not those the thresholds are judged on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

#: Sureness of the bounds that are told beside a counted rate.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Budget:
    """At most so many alerts by benign flows a day, at so many flows a day."""

    flows_per_day: float = 100_000.0
    alerts_per_day: float = 100.0

    @property
    def share(self) -> float:
        """Share of the benign flows that may raise an alert."""
        return self.alerts_per_day / self.flows_per_day


@dataclass(frozen=True)
class Chosen:
    """Thresholds and what they were chosen on."""

    #: Least probability of an alert for each attack class; BENIGN has none.
    thresholds: Mapping[str, float]
    benign_rows: int
    #: Alerts that the budget allows on so many rows, rounded down.
    allowed: int
    #: Alerts of benign rows that are left.
    alerts: int
    #: Benign alerts with the least threshold everywhere.
    alerts_before: int

    @property
    def met(self) -> bool:
        return self.alerts <= self.allowed


def bounds(alerts: int, rows: int) -> tuple[float, float]:
    """One-sided lower and upper bound of the true rate (Clopper and Pearson), each at `CONFIDENCE`."""
    if not rows:
        return 0.0, 1.0
    lower = float(beta.ppf(1 - CONFIDENCE, alerts, rows - alerts + 1)) if alerts else 0.0
    upper = float(beta.ppf(CONFIDENCE, alerts + 1, rows - alerts)) if alerts < rows else 1.0
    return lower, upper


def choose(
    truth: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...], budget: Budget, least: float
) -> Chosen:
    """Starts every class at `least` and raises what costs the fewest attacks until the budget is kept.

    The cost of a step is the share of its class that each attack row stands for
    that would go without an alert, so that a rare class counts like a frequent one.
    """
    predicted = probabilities.argmax(axis=1)
    best = probabilities[np.arange(len(predicted)), predicted]
    stands_for = 1.0 / np.maximum(np.bincount(truth, minlength=len(classes)), 1)[truth]
    limits = dict.fromkeys(range(1, len(classes)), least)
    benign = truth == 0
    alert = (predicted != 0) & (best >= least)
    rows = int(benign.sum())
    allowed = math.floor(budget.share * rows + 1e-9)
    before = alerts = int((alert & benign).sum())
    while alerts > allowed:
        steps = []
        for index in limits:
            claimed = alert & (predicted == index)
            for score in np.unique(best[claimed & benign]):
                silenced = claimed & (best <= score)
                if score < 1.0:
                    gain = int((silenced & benign).sum())
                    steps.append((stands_for[silenced & ~benign].sum() / gain, index, float(score)))
        if not steps:
            break  # what is left is certain of its error: no threshold silences it
        _, index, score = min(steps)
        above = best[alert & (predicted == index) & (best > score)]
        limits[index] = _between(score, float(above.min()) if len(above) else 1.0)
        alert &= (predicted != index) | (best >= limits[index])
        alerts = int((alert & benign).sum())
    thresholds = {classes[index]: limit for index, limit in limits.items()}
    return Chosen(thresholds, rows, allowed, alerts, before)


def _between(below: float, above: float) -> float:
    """A short number above the one and not above the other, in the middle if it can be."""
    for digits in (3, 5, 7):
        middle = round((below + above) / 2, digits)
        if below < middle <= above:
            return middle
    return above
