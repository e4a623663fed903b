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
    drawn = figures.write(facts, tmp_path)
    assert {path.name for path in drawn} == {
        *(f"{kind}-{split}.png" for kind in ("confusion", "roc", "precision-recall") for split in facts["splits"]),
        "calibration.png", "importances.png", "permutation.png",
    }
    for path in drawn:
        assert path.read_bytes().startswith(b"\x89PNG") and 2000 < path.stat().st_size < 200_000
    again = figures.save(figures.importances(facts["importances"], "What the model looks at most"), tmp_path / "again.png")
    assert again.read_bytes() == (tmp_path / "importances.png").read_bytes()
