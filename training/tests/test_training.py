"""Splitting, fitting and scoring: what learns, what judges, and how it is counted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import run_train
from flows import made_up, write_cns2022, write_mlcve

from ml_ids_training.errors import TrainingFailed
from ml_ids_training.fitted import class_names
from ml_ids_training.measure import calibration, measure
from ml_ids_training.split import folds, random_split, timed_split
from ml_ids_training.values import NON_FINITE, model_input


def test_both_splits_use_every_row_once_and_have_every_label_on_both_sides():
    labels = np.array(["a"] * 50 + ["b"] * 2 + ["c"] * 9, dtype=object)
    for split in (random_split(labels, 3), timed_split(labels)):
        assert sorted([*split.train, *split.test]) == list(range(61))
        assert set(labels[split.train]) == set(labels[split.test]) == {"a", "b", "c"}


def test_time_ordered_split_tests_on_the_last_rows_of_each_label():
    labels = np.array(["a", "b"] * 10, dtype=object)
    split = timed_split(labels)
    assert list(split.test) == [14, 15, 16, 17, 18, 19]


def test_folds_are_blocks_in_order_and_a_labels_only_row_always_trains():
    labels = np.array(["a"] * 9 + ["b"] + ["c"] * 2, dtype=object)
    found = folds(labels, np.arange(12), 3)
    assert [list(fold.test) for fold in found] == [[0, 1, 2, 10], [3, 4, 5, 11], [6, 7, 8]]
    for fold in found:
        assert sorted([*fold.train, *fold.test]) == list(range(12)) and 9 in fold.train


def test_duplicates_are_gone_before_the_split(tmp_path):
    values, labels = made_up(30)
    data = write_cns2022(tmp_path / "a.csv", np.tile(values, (3, 1)), labels * 3)
    assert run_train([data], tmp_path) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["data"]["rows_read"] == 360 and report["data"]["rows_duplicate"] == 240
    held_out = report["splits"]["random"]["without_port"]["rows"]
    assert report["fitted_rows"] + held_out == 120
    assert "240 rows" in (tmp_path / "model.md").read_text()


def test_benign_is_class_0_and_others_are_sorted():
    assert class_names(np.array(["z", "BENIGN", "a"], dtype=object)) == ("BENIGN", "a", "z")


@pytest.mark.parametrize("labels", [["a", "b"], ["BENIGN", "BENIGN"]])
def test_without_benign_or_without_attacks_there_is_no_model(labels):
    with pytest.raises(TrainingFailed):
        class_names(np.array(labels, dtype=object))


def test_scores_are_counted_as_the_report_says():
    truth = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    probabilities = np.array([
        [0.9, 0.1, 0.0], [0.8, 0.1, 0.1], [0.4, 0.45, 0.15], [0.1, 0.9, 0.0],
        [0.1, 0.9, 0.0], [0.6, 0.4, 0.0], [0.0, 0.0, 1.0], [0.3, 0.3, 0.4],
    ])
    scores = measure(truth, probabilities, ("BENIGN", "a", "b"), {"a": 0.5, "b": 0.5})
    assert scores["accuracy"] == 5 / 8
    assert scores["benign_false_alarm_rate"] == 2 / 4, "most probable class is an attack"
    assert scores["benign_alert_rate"] == 1 / 4, "and reaches the threshold"
    assert scores["attack_called_benign_rate"] == 1 / 4
    assert scores["attack_alert_rate"] == 2 / 4
    assert scores["confusion_matrix"] == [[2, 2, 0], [1, 1, 0], [0, 0, 2]]
    counted = {"precision": 1 / 3, "recall": 0.5, "f1": 0.4, "support": 2, "alert_share": 0.5}
    assert counted.items() <= scores["per_class"]["a"].items()
    assert scores["per_class"]["b"]["roc_auc"] == 1.0 and scores["per_class"]["b"]["average_precision"] == 1.0
    f1 = {"BENIGN": 2 / 3, "a": 1 / 2, "b": 2 / 3}  # the third row and the last, at 0.4, raise no alert
    assert scores["alert_macro_f1"] == pytest.approx(sum(f1.values()) / 3)


def test_calibration_compares_probabilities_with_the_share_that_is_right():
    probabilities = np.array([[0.95, 0.05]] * 4 + [[0.25, 0.75]] * 4)
    found = calibration(np.array([0, 0, 0, 1, 1, 1, 1, 0]), probabilities)
    assert [(row["from"], row["rows"], row["share_right"]) for row in found["reliability"]] == [(0.7, 4, 0.75), (0.9, 4, 0.75)]
    assert found["expected_calibration_error"] == pytest.approx(0.1)
    wrong_and_right = 2 * 0.95**2 + 3 * 2 * 0.05**2 + 2 * 0.75**2 + 3 * 2 * 0.25**2
    assert found["brier"] == pytest.approx(wrong_and_right / 8) and found["brier_attack"] == pytest.approx(wrong_and_right / 16)


def test_non_finite_values_are_replaced_as_the_contract_says():
    row = np.array([[np.nan, np.inf, -np.inf, 1e300, -1e300, 16777217.0]])
    got = model_input(row)
    assert got.dtype == np.float32
    expected = [NON_FINITE["nan"], NON_FINITE["pos_inf"], NON_FINITE["neg_inf"], 1e9, 0.0, 16777216.0]
    assert got[0].tolist() == expected


def test_training_on_rows_with_infinity_works_and_counts_them(tmp_path):
    values, labels = made_up(30)
    values[::7, 14], values[::7, 15], values[::7, 1] = np.nan, np.inf, 0
    assert run_train([write_mlcve(tmp_path / "a.csv", values, labels)], tmp_path, "cic2017") == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    zero = len(labels[::7])
    assert report["data"]["cells_not_finite"] == 2 * zero and report["data"]["rows_zero_duration"] == zero
    assert report["data"]["ordered_by"] == "file order"
    assert "order of the rows in the files" in (tmp_path / "model.md").read_text()
    rows = (tmp_path / "rows.csv").read_text()
    assert ",NaN,inf," in rows, "rows are written as measured"


def test_limit_per_class_limits(tmp_path):
    data = write_cns2022(tmp_path / "a.csv", *made_up(30))
    assert run_train([data], tmp_path, more=["--limit-per-class", "11"]) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert set(report["data"]["rows_by_class"].values()) == {11}


def test_port_choices_are_compared_and_the_asked_one_is_exported(tmp_path):
    data = write_cns2022(tmp_path / "a.csv", *made_up(20))
    more = ["--use-port", "--compare-port", "--repeats", "2"]
    assert run_train([data], tmp_path, more=more) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["exported"] == "with_port" and report["unused_features"] == ["Fwd Header Length.1"]
    assert set(report["splits"]["random"]) == set(report["splits"]["time_ordered"]) == {"with_port", "without_port"}
    assert {name: len(found) for name, found in report["further_seeds"].items()} == {"random": 2, "time_ordered": 2}


def test_flows_that_the_data_cannot_hold_are_probed_and_told_in_the_card(trained):
    found = json.loads((trained.report / "report.json").read_text())["probe"]
    assert len(found) == 5 and all(0 <= row["alerts"] <= row["called_attack"] <= row["flows"] for row in found.values())
    text = trained.card.read_text()
    assert "One-packet flows and flows of zero duration" in text and all(kind in text for kind in found)
