"""What a model file says beside its graph: the training world and stored rows with stored answers."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from flows import made_up

from ml_ids_training.check import run_onnx
from ml_ids_training.data import drop_duplicates, read_flows
from ml_ids_training.distribution import BINS, distribution
from ml_ids_training.split import random_split
from ml_ids_training.values import model_input


def _metadata(trained) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(trained.model).metadata_props}


def test_histograms_are_those_of_the_training_rows(trained):
    found = json.loads(_metadata(trained)["ml_ids.distribution"])
    flows = drop_duplicates(read_flows([str(trained.data)], "cns2022"))
    rows = random_split(flows.labels, 20170703).train
    inputs, benign = model_input(flows.values[rows]), flows.labels[rows] == "BENIGN"
    assert found["rows"] == len(rows) and found["benign_rows"] == benign.sum()
    assert len(found["features"]) == 78
    for column, feature in zip(inputs.T, found["features"]):
        edges = np.array(feature["edges"], dtype=np.float32)
        assert list(edges) == feature["edges"], "every edge is a float32"
        assert (np.diff(edges) > 0).all() and 1 <= len(edges) < BINS
        for values, shares in ((column, feature["shares"]), (column[benign], feature["benign_shares"])):
            inside = [((values > low) & (values <= high)).mean() for low, high in zip([-np.inf, *edges], [*edges, np.inf])]
            assert shares == pytest.approx(inside, abs=1e-6) and sum(shares) == pytest.approx(1, abs=1e-4)
        assert (feature["min"], feature["max"]) == (column.min(), column.max())
        assert feature["benign"] == sorted(feature["benign"]) and set(feature["benign"]) <= set(column[benign])


def test_scores_of_held_out_rows_are_told(trained):
    found = json.loads(_metadata(trained)["ml_ids.distribution"])
    report = json.loads((trained.report / "report.json").read_text())["splits"]["random"]["without_port"]
    assert found["score"]["edges"] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert sum(found["score"]["shares"]) == pytest.approx(1, abs=1e-4) and len(found["score"]["benign_shares"]) == 10
    assert found["rows_benign_heldout"] == report["benign_rows"]
    assert found["benign_alert_rate"] == pytest.approx(report["benign_alert_rate"], abs=1e-6)


def test_a_constant_column_has_one_edge_and_everything_at_or_below_it():
    values, _ = made_up(20)
    values[:, 40] = 7.0
    answers = np.full((4, 2), 0.5)
    feature = distribution(values, np.ones(len(values), bool), answers, np.ones(4, bool), 0.0)["features"][40]
    assert feature["edges"] == [7.0] and feature["shares"] == [1.0, 0.0] and feature["benign"] == [7.0] * 5


def test_stored_rows_are_answered_as_stored_and_are_no_rows_of_the_data(trained):
    stored = json.loads(_metadata(trained)["ml_ids.probes"])
    rows = np.array(stored["rows"], dtype=np.float32)
    assert 8 <= len(rows) <= 16 and rows.shape[1] == 78 and rows.tolist() == stored["rows"], "exact in float32"
    labels, probabilities = run_onnx(trained.model.read_bytes(), rows)
    assert np.abs(probabilities - np.array(stored["probabilities"])).max() < 1e-5
    assert (labels == np.argmax(stored["probabilities"], axis=1)).all() and len(set(labels)) > 1
    seen = {row.tobytes() for row in model_input(read_flows([str(trained.data)], "cns2022").values)}
    assert not seen & {row.tobytes() for row in rows}
