"""Curves and figures: points that are right, pictures that show no row."""

from __future__ import annotations

import json

import numpy as np

from ml_ids_training import figures
from ml_ids_training.curves import POINTS, curves

CLASSES = ("BENIGN", "a", "b")


def test_curves_of_a_perfect_and_of_a_blind_model():
    truth = np.array([0, 1] * 50)
    perfect = np.eye(3)[truth]
    found = curves(truth, perfect, CLASSES)
    assert found["roc"]["a"]["area"] == found["precision_recall"]["a"]["average_precision"] == 1
    assert "b" not in found["roc"], "a class without rows has no curve"
    blind = np.tile([0.5, 0.4, 0.1], (100, 1))
    assert curves(truth, blind, CLASSES)["roc"]["a"]["area"] == 0.5


def test_curves_keep_both_ends_and_few_points():
    random = np.random.default_rng(1)
    truth = random.integers(0, 2, 5000)
    score = np.clip(truth * 0.2 + random.random(5000), 0, 1)
    found = curves(truth, np.column_stack([1 - score, score, np.zeros(5000)]), CLASSES)["roc"]["a"]
    rates = found["false_positive_rate"]
    assert len(rates) == len(found["true_positive_rate"]) == POINTS and rates[0] == 0 and rates[-1] == 1
    assert rates == sorted(rates)


def test_figures_are_drawn_from_the_report_and_are_the_same_each_time(trained, tmp_path):
    facts = json.loads((trained.report / "report.json").read_text())
    first, second = (figures.write(facts, tmp_path / name) for name in ("first", "second"))
    assert {path.name for path in first} >= {
        "confusion-random.png", "roc-time_ordered.png", "precision-recall-random.png", "calibration.png", "importances.png",
    }
    for one, other in zip(first, second, strict=True):
        data = one.read_bytes()
        assert data.startswith(b"\x89PNG") and data == other.read_bytes()
        assert 2000 < len(data) < 200_000
