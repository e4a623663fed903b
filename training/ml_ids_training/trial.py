"""Owns one attempt: a model of one part of a split, its thresholds, and its scores on the other part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .budget import Budget, Chosen, choose
from .data import Flows
from .fitted import Fitted, encode
from .kinds import fit
from .measure import measure
from .settings import Settings
from .split import Split, folds

#: Blocks of the training part, each answered by a model of the others, to choose
#: thresholds on: a third is about what the split in time order holds out.
FOLDS = 3
#: Least threshold of any class unless told otherwise. The data's few benign rows cannot tell 0.5 from 0.6; on
#: captures of other networks 0.6 raised a half to a quarter of the false alarms of 0.5.
LEAST_THRESHOLD = 0.6


@dataclass(frozen=True)
class Trial:
    """A fitted model with its answers on rows it did not learn from."""

    fitted: Fitted
    chosen: Chosen
    truth: np.ndarray
    probabilities: np.ndarray
    scores: dict


def try_split(
    flows: Flows, split: Split, classes: tuple[str, ...], columns: tuple[int, ...], settings: Settings,
    budget: Budget, least: float,
) -> Trial:
    """Fits on one part of a split, chooses thresholds inside that part, and counts on the other."""
    truths, answers = [], []
    for fold in folds(flows.labels, split.train, FOLDS):
        part = fit(flows, fold.train, classes, columns, settings)
        truths.append(encode(flows.labels[fold.test], classes))
        answers.append(part.probabilities(flows.values[fold.test]))
    chosen = choose(np.concatenate(truths), np.concatenate(answers), classes, budget, least)
    fitted, truth, probabilities = _fit_and_ask(flows, split, classes, columns, settings)
    return Trial(fitted, chosen, truth, probabilities, measure(truth, probabilities, classes, chosen.thresholds))


def scores_with(
    flows: Flows, split: Split, classes: tuple[str, ...], columns: tuple[int, ...], settings: Settings,
    thresholds: Mapping[str, float],
) -> dict:
    """The scores of another model with thresholds that are already there."""
    _, truth, probabilities = _fit_and_ask(flows, split, classes, columns, settings)
    return measure(truth, probabilities, classes, thresholds)


def _fit_and_ask(
    flows: Flows, split: Split, classes: tuple[str, ...], columns: tuple[int, ...], settings: Settings
) -> tuple[Fitted, np.ndarray, np.ndarray]:
    fitted = fit(flows, split.train, classes, columns, settings)
    return fitted, encode(flows.labels[split.test], classes), fitted.probabilities(flows.values[split.test])
