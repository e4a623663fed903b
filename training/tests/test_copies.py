"""Copies of training rows at another pace: what changes with time, and what must not."""

from __future__ import annotations

import json

import numpy as np
from conftest import run_train
from flows import made_up

from ml_ids_training.copies import with_copies
from ml_ids_training.features import NAMES


def _column(values: np.ndarray, name: str) -> np.ndarray:
    return values[:, NAMES.index(name)]


def test_a_copys_times_are_multiplied_by_one_factor_and_its_rates_divided():
    values = made_up(30)[0]
    both = with_copies(values, 1, 3)
    np.testing.assert_array_equal(both[: len(values)], values)
    copy = both[len(values) :]
    factor = _column(copy, "Flow IAT Mean") / _column(values, "Flow IAT Mean")
    assert len(set(factor.round(4))) > len(values) / 2, "every row has its own"
    np.testing.assert_allclose(_column(copy, "Idle Std"), _column(values, "Idle Std") * factor)
    np.testing.assert_array_equal(_column(copy, "Flow Duration"), np.round(_column(values, "Flow Duration") * factor))
    np.testing.assert_allclose(_column(copy, "Fwd Packets/s"), _column(values, "Fwd Packets/s") / factor)
    for name in ("Destination Port", "Total Fwd Packets", "Packet Length Mean", "Init_Win_bytes_forward", "Down/Up Ratio"):
        np.testing.assert_array_equal(_column(copy, name), _column(values, name))


def test_copies_differ_from_each_other_and_come_again_with_the_seed():
    values = made_up(5)[0]
    found = with_copies(values, 2, 8)
    assert len(found) == 3 * len(values) and not np.array_equal(found[20:40], found[40:])
    np.testing.assert_array_equal(found, with_copies(values, 2, 8))
    np.testing.assert_array_equal(with_copies(values, 0, 8), values)


def test_a_model_of_all_rows_is_judged_by_models_that_had_not_seen_the_rows(trained, tmp_path):
    assert run_train([trained.data], tmp_path, more=["--fit-all"]) == 0
    part, whole = (json.loads((folder / "report" / "report.json").read_text()) for folder in (trained.model.parent, tmp_path))
    assert whole["fitted_rows"] == whole["data"]["rows_used"] > part["fitted_rows"]
    assert whole["splits"] == part["splits"] and whole["thresholds"] == part["thresholds"]
    assert (tmp_path / "model.onnx").read_bytes() != trained.model.read_bytes()
    assert "had not seen the rows that judge them" in (tmp_path / "model.md").read_text()
