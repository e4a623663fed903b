"""Thresholds for a false-alarm budget: what is raised, what is left, and what is said of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import run_train
from flows import made_up, write_cns2022

from ml_ids_training.__main__ import main
from ml_ids_training.budget import Budget, bounds, choose

CLASSES = ("BENIGN", "a", "b")


def _rows(*answers: tuple[int, int, float]) -> tuple[np.ndarray, np.ndarray]:
    """(truth, verdict, probability of the verdict) as truths and probabilities."""
    probabilities = np.zeros((len(answers), 3))
    for row, (_, verdict, probability) in enumerate(answers):
        probabilities[row] = (1 - probability) / 2
        probabilities[row, verdict] = probability
    return np.array([truth for truth, _, _ in answers]), probabilities


BENIGN_RIGHT = [(0, 0, 0.9)] * 97


def test_within_the_budget_every_threshold_is_the_least():
    truth, probabilities = _rows(*BENIGN_RIGHT, (0, 1, 0.8), (1, 1, 0.7), (2, 2, 0.6))
    chosen = choose(truth, probabilities, CLASSES, Budget(100, 2), 0.5)
    assert chosen.thresholds == {"a": 0.5, "b": 0.5}
    assert (chosen.benign_rows, chosen.allowed, chosen.alerts, chosen.met) == (98, 1, 1, True)


def test_threshold_is_raised_where_it_costs_the_fewest_attacks():
    # One alert of two must go: silencing a's costs one attack of ten, silencing b's the only attack.
    truth, probabilities = _rows(*BENIGN_RIGHT, (0, 1, 0.8), (0, 2, 0.8), (1, 1, 0.7), *[(1, 1, 0.9)] * 9, (2, 2, 0.7))
    chosen = choose(truth, probabilities, CLASSES, Budget(99, 1), 0.5)
    assert chosen.thresholds == {"a": 0.85, "b": 0.5} and chosen.alerts == 1


def test_a_budget_finer_than_the_rows_allows_no_alert_at_all():
    truth, probabilities = _rows(*BENIGN_RIGHT, (0, 1, 0.8), (0, 1, 0.6), (0, 2, 0.55), (1, 1, 0.99), (2, 2, 0.99))
    chosen = choose(truth, probabilities, CLASSES, Budget(1e6, 1), 0.5)
    assert chosen.allowed == 0 and chosen.alerts == 0 and chosen.alerts_before == 3 and chosen.met
    assert 0.8 < chosen.thresholds["a"] <= 0.99 and 0.55 < chosen.thresholds["b"] <= 0.99


def test_an_error_of_full_certainty_cannot_be_silenced_and_is_said():
    truth, probabilities = _rows(*BENIGN_RIGHT, (0, 1, 1.0), (1, 1, 1.0))
    chosen = choose(truth, probabilities, CLASSES, Budget(1e6, 1), 0.5)
    assert not chosen.met and chosen.alerts == 1
    assert max(chosen.thresholds.values()) <= 1, "the agent refuses what is no probability"


def test_thresholds_keep_the_budget_on_the_rows_they_were_chosen_on():
    random = np.random.default_rng(4)
    for _ in range(20):
        truth = random.integers(0, 3, 400)
        probabilities = random.dirichlet((0.5, 0.5, 0.5), 400) * 0.6 + np.eye(3)[truth] * 0.4
        chosen = choose(truth, probabilities, CLASSES, Budget(100, random.uniform(0.5, 10)), 0.3)
        verdict, best = probabilities.argmax(axis=1), probabilities.max(axis=1)
        limit = np.array([np.inf, *chosen.thresholds.values()])[verdict]
        alerts = int(((best >= limit) & (truth == 0)).sum())
        assert alerts == chosen.alerts <= chosen.allowed
        limit = limit.astype(np.float32)  # as the agent compares
        assert int(((best.astype(np.float32) >= limit) & (truth == 0)).sum()) == alerts


def test_bounds_are_those_of_clopper_and_pearson():
    assert bounds(0, 1000) == (0.0, pytest.approx(1 - 0.05 ** (1 / 1000)))
    lower, upper = bounds(10, 1000)
    assert lower == pytest.approx(0.00543, abs=2e-5) and upper == pytest.approx(0.01690, abs=2e-5)
    assert bounds(3, 3)[1] == 1.0 and bounds(0, 0) == (0.0, 1.0)


def test_report_and_card_tell_budget_counts_and_bounds(tmp_path):
    data = write_cns2022(tmp_path / "a.csv", *made_up(60))
    assert run_train([data], tmp_path, more=["--flows-per-day", "5000", "--alerts-per-day", "50"]) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["budget"] == {"flows_per_day": 5000, "alerts_per_day": 50, "benign_alert_share": 0.01}
    fitted_benign = report["data"]["rows_by_class"]["BENIGN"] - report["splits"]["random"]["without_port"]["benign_rows"]
    assert report["thresholds_chosen"]["random"]["benign_rows"] == fitted_benign, "chosen on the training part alone"
    lower, upper = report["splits"]["random"]["without_port"]["benign_alert_rate_bounds"]
    assert lower <= report["splits"]["random"]["without_port"]["benign_alert_rate"] <= upper
    assert "50 alerts a day by harmless flows at 5000 flows a day, 1.00 % of them" in (tmp_path / "model.md").read_text()


@pytest.mark.parametrize("more", [["--alerts-per-day", "200000"], ["--class-weight", "no such=2"], ["--leave-out", "Duration"]])
def test_what_cannot_be_meant_gives_exit_2(trained, tmp_path, capsys, more):
    assert run_train([trained.data], tmp_path, more=more) == 2
    assert more[0] in capsys.readouterr().err and not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("more", [["--alerts-per-day", "0"], ["--class-weight", "x"], ["--least-threshold", "1.5"]])
def test_what_is_no_number_of_its_kind_gives_exit_2(more):
    with pytest.raises(SystemExit) as ended:
        main(["train", "x.csv", "--profile", "cns2022", "--out", "y.onnx", *more])
    assert ended.value.code == 2
