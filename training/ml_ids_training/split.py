"""Owns dividing rows into those a forest learns from and those that judge it.

Both splits go label by label, so that rare attacks are on both sides. Duplicate
rows must be gone before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RANDOM_TEST_SHARE = 0.20
TIMED_TEST_SHARE = 0.30


@dataclass(frozen=True)
class Split:
    """Row numbers in ascending order; together they are all rows, once each."""

    train: np.ndarray
    test: np.ndarray


def random_split(labels: np.ndarray, seed: int) -> Split:
    """Stratified 80/20: how well the forest knows traffic like that it has seen."""
    random = np.random.default_rng(seed)
    return _by_label(labels, RANDOM_TEST_SHARE, random.permutation)


def timed_split(labels: np.ndarray) -> Split:
    """The first 70 % of each label in row order train, the last 30 % test.

    Rows are in time order where times exist. Closer to life than the random
    split: neighbours in time, often nearly equal, do not sit on both sides.
    """
    return _by_label(labels, TIMED_TEST_SHARE, lambda rows: rows)


def _by_label(labels: np.ndarray, share: float, order) -> Split:
    """The last `share` of each label's rows, once ordered, is the test part.

    A label with two rows or more has at least one on either side; a single row
    trains.
    """
    train, test = [], []
    for label in sorted(set(labels)):
        rows = order(np.flatnonzero(labels == label))
        count = len(rows)
        held_out = min(max(round(count * share), 1), count - 1)
        train.append(rows[: count - held_out])
        test.append(rows[count - held_out :])
    return Split(np.sort(np.concatenate(train)), np.sort(np.concatenate(test)))


def folds(labels: np.ndarray, rows: np.ndarray, count: int) -> list[Split]:
    """Cuts `rows` into `count` blocks of each label in row order; each block is once the test part.

    Blocks, not a draw: a neighbour in time would answer for its twin. A label's
    only row always trains, for without it there would be no such class.
    """
    blocks: list[list[np.ndarray]] = [[] for _ in range(count)]
    for label in sorted(set(labels[rows])):
        own = rows[labels[rows] == label]
        if len(own) > 1:
            for block, part in zip(blocks, np.array_split(own, count)):
                block.append(part)
    tests = [np.sort(np.concatenate(block)) if block else rows[:0] for block in blocks]
    return [Split(np.setdiff1d(rows, test), test) for test in tests if len(test)]
