"""The choice among kinds, and what the report says of mistakes and columns."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import onnx
import pandas as pd
import pytest
from conftest import run_train
from flows import CLASSES, made_up, write_cns2022

from ml_ids_training import contest
from ml_ids_training.budget import Budget
from ml_ids_training.features import NAMES
from ml_ids_training.settings import KINDS, Settings, weights

BUDGET = Budget(1000, 1)


def _trial(f1: float, alerts: int) -> SimpleNamespace:
    scores = {"alert_macro_f1": f1, "benign_alerts": alerts, "benign_rows": 2000, "benign_alert_rate": alerts / 2000}
    return SimpleNamespace(scores=scores)


def test_best_alerts_win_among_those_that_may_keep_the_budget():
    assert contest.best({"forest": _trial(0.90, 1), "stacking": _trial(0.95, 2), "boosted": _trial(0.99, 30)}, BUDGET) == "stacking"


def test_one_alert_more_than_allowed_is_not_held_against_a_model():
    assert contest.keeps(_trial(0.9, 3), BUDGET) and not contest.keeps(_trial(0.9, 8), BUDGET)


def test_if_none_keeps_the_budget_the_fewest_alerts_win():
    assert contest.best({"forest": _trial(0.99, 40), "boosted": _trial(0.9, 30)}, BUDGET) == "boosted"


@pytest.fixture(scope="module")
def contested(tmp_path_factory):
    """All kinds tried on classes that overlap, so that there are mistakes to tell of."""
    folder = tmp_path_factory.mktemp("contested")
    values, labels = made_up(40)
    random = np.random.default_rng(9)
    labels = [random.choice(CLASSES) if random.random() < 0.1 else label for label in labels]
    data = write_cns2022(folder / "a.csv", values, labels)
    assert run_train([data], folder, more=["--model", "best", "--trees", "6"]) == 0
    return folder


def test_best_is_exported_and_every_kind_is_in_report_and_card(contested):
    report = json.loads((contested / "report" / "report.json").read_text())
    assert set(report["contenders"]) == set(KINDS) and report["kind"] in KINDS
    timed = {kind: found["time_ordered"]["alert_macro_f1"] for kind, found in report["contenders"].items()}
    kept = [kind for kind, found in report["contenders"].items() if found["time_ordered"]["benign_alert_rate_bounds"][0] <= 0.001]
    assert not kept or timed[report["kind"]] == max(timed[kind] for kind in kept)
    metadata = {entry.key: entry.value for entry in onnx.load(contested / "model.onnx").metadata_props}
    assert metadata["ml_ids.kind"] == report["kind"]
    card = (contested / "model.md").read_text()
    headings = [line for line in card.splitlines() if line.startswith("## ")]
    assert len(headings) == len(set(headings)) == 8
    assert f"| **{report['kind']}** |" in card and all(kind in card for kind in KINDS) and "--model best" in card


def test_mistakes_are_held_out_attacks_and_stay_out_of_card_and_model(contested):
    found = pd.read_csv(contested / "report" / "mistakes.csv")
    assert len(found) and set(found.split) <= {"random", "time_ordered"} and (found.truth != "BENIGN").all()
    assert (found.truth != found.verdict).all() and (found.probability >= found.probability_of_truth).all()
    assert found.top.str.count("usual").eq(5).all()
    values = made_up(40)[0]
    for row, top in zip(found.row, found.top):
        name, value = top.split(" (usual")[0].rsplit(" ", 1)
        assert float(value) == pytest.approx(values[row, NAMES.index(name)], rel=1e-4), "rows are numbered in time order"
    card = (contested / "model.md").read_text()
    assert "mistakes" not in card and found.top[0] not in card


def test_columns_that_nothing_hangs_on_lose_nothing_when_mixed_up(contested):
    report = json.loads((contested / "report" / "report.json").read_text())
    assert set(report["permutation"]) == set(report["importances"]) and len(report["permutation"]) == 76
    for name, share in report["importances"].items():
        if share == 0 and report["kind"] != "stacking":
            assert report["permutation"][name] == 0
    assert max(report["permutation"].values()) > 0


def test_weights_lift_rare_classes_as_asked():
    targets, classes = np.array([0] * 16 + [1] * 4), ("BENIGN", "a")
    assert weights(targets, classes, Settings(balance="balanced")) == {0: 20 / 32, 1: 20 / 8}
    assert weights(targets, classes, Settings(balance="none", class_weights={"a": 3.0})) == {0: 1.0, 1: 3.0}
    found = weights(targets, classes, Settings(balance="sqrt"))
    assert found[1] / found[0] == pytest.approx(2.0)
