"""The file: same bytes for the same input, scikit-learn's answers, a complete contract."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from conftest import QUICK, run_train
from flows import CLASSES, made_up

from ml_ids_training import check, contract, train
from ml_ids_training.__main__ import main
from ml_ids_training.data import Flows
from ml_ids_training.export import to_bytes, to_onnx
from ml_ids_training.features import NAMES, used_columns
from ml_ids_training.fitted import Fitted, class_names
from ml_ids_training.kinds import fit
from ml_ids_training.settings import KINDS, Settings
from ml_ids_training.trees import round_down, size_of
from ml_ids_training.values import model_input


def _fitted(kind: str, classes: tuple[str, ...] = CLASSES) -> tuple[Fitted, np.ndarray]:
    values, labels = made_up(80, seed=5, classes=classes)
    flows = Flows(values, np.array(labels, dtype=object), None)
    columns = used_columns("cns2022", False)
    settings = Settings(trees=20, max_depth=8, seed=3, jobs=1).resolved(kind)
    model = fit(flows, np.arange(len(labels)), class_names(flows.labels), columns, settings)
    return model, made_up(500, seed=6)[0]


@pytest.fixture(scope="module")
def fitted() -> tuple[Fitted, np.ndarray]:
    return _fitted("forest")


@pytest.fixture(scope="module", params=[(kind, count) for kind in KINDS for count in (4, 2)], ids=lambda p: f"{p[0]}-{p[1]}")
def each(request) -> tuple[Fitted, np.ndarray]:
    """Every kind of model, with four classes and with two."""
    kind, count = request.param
    return _fitted(kind, CLASSES[:count])


def _attributes(model: onnx.ModelProto) -> dict:
    return {a.name: onnx.helper.get_attribute_value(a) for a in model.graph.node[0].attribute}


def test_same_input_seed_and_date_give_the_same_bytes(trained, tmp_path):
    assert run_train([trained.data], tmp_path, more=["--jobs", "2"]) == 0
    for name, first in (("model.onnx", trained.model), ("model.md", trained.card), ("rows.csv", trained.rows)):
        assert (tmp_path / name).read_bytes() == first.read_bytes(), name


@pytest.mark.parametrize("kind", ["stacking", "boosted"])
def test_the_other_kinds_give_the_same_bytes_again_too(trained, tmp_path, kind):
    for name, jobs in (("once", "1"), ("again", "2")):
        arguments = ["train", str(trained.data), "--profile", "cns2022", "--out", str(tmp_path / name), *QUICK]
        assert main([*arguments, "--model", kind, "--trees", "4", "--jobs", jobs]) == 0
    assert (tmp_path / "once").read_bytes() == (tmp_path / "again").read_bytes()


def test_another_seed_gives_another_model(trained, tmp_path):
    assert run_train([trained.data], tmp_path, more=["--seed", "7"]) == 0
    assert (tmp_path / "model.onnx").read_bytes() != trained.model.read_bytes()


def test_onnxruntime_answers_as_the_fitted_model(each):
    model, values = each
    labels, probabilities = check.run_onnx(to_bytes(to_onnx(model, {})), model_input(values))
    expected = model.probabilities(values)
    assert expected.shape == (len(values), len(model.classes)) and len(set(labels)) > 1
    assert labels.dtype == np.int64 and (labels == expected.argmax(axis=1)).all()
    assert np.abs(probabilities - expected).max() < 1e-5


def test_skl2onnx_converts_to_the_same_answers(fitted):
    skl2onnx = pytest.importorskip("skl2onnx")
    from skl2onnx.common.data_types import FloatTensorType

    forest, values = fitted
    inputs = model_input(values)
    converted = skl2onnx.convert_sklearn(
        forest.estimator, initial_types=[("features", FloatTensorType([None, len(forest.columns)]))],
        options={"zipmap": False}, target_opset={"": 18, "ai.onnx.ml": 3},
    )
    converted.graph.node[0].output[0] = "label"
    converted.graph.output[0].name = "label"
    theirs, their_probabilities = check.run_onnx(converted.SerializeToString(), inputs[:, forest.columns])
    ours, our_probabilities = check.run_onnx(to_bytes(to_onnx(forest, {})), inputs)
    assert (ours == theirs).all()
    assert np.abs(our_probabilities - their_probabilities).max() < 1e-5


def test_thresholds_round_down_so_that_no_row_changes_sides():
    random = np.random.default_rng(0)
    limits = np.concatenate([random.normal(0, 1e6, 2000), random.normal(0, 1e-3, 2000), [0.1, -0.1, 16777217.0, 0.0]])
    rounded = round_down(limits)
    assert rounded.dtype == np.float32
    assert (rounded.astype(np.float64) <= limits).all()
    above = np.nextafter(rounded, np.float32(np.inf))
    assert (above.astype(np.float64) > limits).all(), "the nearest float32 below, not just any"
    for x in (rounded, above, np.nextafter(rounded, np.float32(-np.inf))):
        assert ((x.astype(np.float64) <= limits) == (x <= rounded)).all()


def test_rows_on_a_threshold_take_the_fitted_models_path(each):
    model, values = each
    rows = []
    for tree in model.trees():
        for node in np.flatnonzero(~tree.is_leaf)[:20]:
            row = values[len(rows) % len(values)].copy()
            row[tree.feature[node]] = tree.threshold[node]
            rows.append(row)
    agreement = check.gate(to_bytes(to_onnx(model, {})), model, np.array(rows))
    assert agreement.holds and agreement.largest_difference < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_graph_has_the_promised_signature_and_operators(kind):
    model = to_onnx(_fitted(kind)[0], {})
    trees, linear = ["TreeEnsembleClassifier"], ["Sub", "Div", "MatMul", "Add", "Softmax"]
    expected = trees + linear + ["Concat", "MatMul", "Add", "Softmax", "ArgMax"] if kind == "stacking" else trees
    assert [node.op_type for node in model.graph.node] == expected
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": 18, "ai.onnx.ml": 3}
    assert [(i.name, i.type.tensor_type.shape.dim[1].dim_value) for i in model.graph.input] == [("features", 78)]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert [o.name for o in model.graph.output] == ["label", "probabilities"]
    assert _attributes(model)["post_transform"] == (b"SOFTMAX" if kind == "boosted" else b"NONE")


def test_tables_are_pruned_and_name_only_columns_that_may_be_used(each):
    model, _ = each
    found = _attributes(to_onnx(model, {}))
    assert found["classlabels_int64s"] == list(range(len(model.classes)))
    assert len(model.classes) == 2 or all(found["class_weights"]), "zero weights are pruned"
    assert model.kind == "boosted" or min(found["class_weights"]) >= 0
    assert set(found["nodes_modes"]) == {b"BRANCH_LEQ", b"LEAF"}
    branches = [f for f, mode in zip(found["nodes_featureids"], found["nodes_modes"]) if mode != b"LEAF"]
    assert set(branches) <= set(model.columns), "ids are positions among the 78"
    assert 0 not in branches and 55 not in branches
    size = size_of(model.trees())
    assert size.nodes == len(found["nodes_values"]) and size.leaf_weights == len(found["class_weights"])


def test_nodes_are_in_preorder_and_their_rows_part_at_each_branch(each):
    found = _attributes(to_onnx(each[0], {}))
    places = zip(found["nodes_treeids"], found["nodes_nodeids"])
    cover = dict(zip(places, found["nodes_hitrates"]))
    for tree, node, left, right, mode in zip(
        found["nodes_treeids"], found["nodes_nodeids"], found["nodes_truenodeids"], found["nodes_falsenodeids"],
        found["nodes_modes"],
    ):
        if mode != b"LEAF":
            assert left == node + 1 and right > left
            assert cover[tree, node] == pytest.approx(cover[tree, left] + cover[tree, right], rel=1e-5)


def test_columns_that_are_not_used_change_no_answer_of_any_kind(each):
    model, values = each
    others = values[:50].copy()
    others[:, [0, 55]] = 1e9
    data = to_bytes(to_onnx(model, {}))
    for one, other in zip(check.run_onnx(data, model_input(values[:50])), check.run_onnx(data, model_input(others))):
        np.testing.assert_array_equal(one, other)


def test_contract_is_complete_and_every_value_is_what_it_should_be(trained):
    model = onnx.load(trained.model)
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert tuple(found) == contract.KEYS
    assert found["ml_ids.contract"] == "1" and found["ml_ids.profile"] == "cns2022"
    assert found["ml_ids.version"] == found["ml_ids.date"] == "2024-02-29"
    assert json.loads(found["ml_ids.features"]) == list(NAMES)
    assert json.loads(found["ml_ids.classes"]) == list(CLASSES)
    assert list(json.loads(found["ml_ids.thresholds"])) == list(CLASSES[1:])
    assert all(0.6 <= value <= 1 for value in json.loads(found["ml_ids.thresholds"]).values())
    assert found["ml_ids.kind"] == "forest"
    budget = {"flows_per_day": 100_000, "alerts_per_day": 100, "benign_alert_share": 0.001}
    assert json.loads(found["ml_ids.budget"]) == budget
    assert json.loads(found["ml_ids.non_finite"]) == {"nan": 0, "pos_inf": 1e9, "neg_inf": 0}
    assert json.loads(found["ml_ids.unused_features"]) == ["Destination Port", "Fwd Header Length.1"]
    assert list(json.loads(found["ml_ids.inputs_sha256"])) == ["flows.csv"]
    assert "240 rows read" in found["ml_ids.training_data"] and "ICISSP 2018" in found["ml_ids.citation"]
    metrics = json.loads(found["ml_ids.metrics"])
    assert set(metrics) == {"random", "time_ordered"}
    assert {"accuracy", "macro_f1", "benign_false_alarm_rate"} <= set(metrics["random"])


def test_nothing_written_names_a_folder_of_this_machine(trained):
    folder = str(trained.model.parent)
    for path in (trained.model, trained.card, *trained.report.iterdir()):
        assert folder.encode() not in path.read_bytes(), path.name


def test_stored_rows_are_held_out_rows_with_answers(trained):
    lines = trained.rows.read_text().splitlines()
    assert lines[0].split(",") == [*NAMES, "Label", "sklearn_label", "sklearn_probability"]
    report = json.loads((trained.report / "report.json").read_text())
    assert len(lines) - 1 == report["splits"]["random"]["without_port"]["rows"]


def test_check_agrees_with_the_stored_answers_and_notices_a_changed_one(trained, tmp_path, capsys):
    assert main(["check", str(trained.model), str(trained.rows)]) == 0
    assert capsys.readouterr().out.startswith("agrees")
    lines = trained.rows.read_text().splitlines()
    fields = lines[1].split(",")
    fields[-1] = repr(float(fields[-1]) - 0.01)
    changed = tmp_path / "changed.csv"
    changed.write_text("\n".join([lines[0], ",".join(fields), *lines[2:]]) + "\n")
    assert main(["check", str(trained.model), str(changed)]) == 1
    assert capsys.readouterr().out.startswith("DISAGREES")


@pytest.mark.parametrize("which", ["model", "rows"])
def test_check_gives_exit_3_on_files_it_cannot_read(trained, tmp_path, which):
    rubbish = tmp_path / "rubbish"
    rubbish.write_bytes(b"\xff\x00 no such thing\n1,2\n")
    model, rows = (rubbish, trained.rows) if which == "model" else (trained.model, rubbish)
    assert main(["check", str(model), str(rows)]) == 3


def test_failing_gate_gives_exit_1_and_no_model(trained, tmp_path, monkeypatch, capsys):
    wrong = check.Agreement(rows=10, label_differences=1, largest_difference=0.0)
    monkeypatch.setattr(train.check, "gate", lambda *_: wrong)
    assert run_train([trained.data], tmp_path) == 1
    assert "1 label differences" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_not_finite_differences_never_agree():
    largest = check._largest(np.array([np.nan]), np.array([0.5]))
    assert not check.Agreement(1, 0, largest).holds
    assert not check.Agreement(0, 0, 0.0).holds


@pytest.mark.parametrize("arguments", [
    ["train", "x.csv", "--out", "y.onnx"], ["train", "x.csv", "--profile", "cns2022"], ["nonsense"], [],
    ["train", "x.csv", "--out", "y", "--profile", "cns2022", "--date", "yesterday"],
    ["train", "x.csv", "--out", "y", "--profile", "cns2022", "--trees", "0"],
])
def test_wrong_usage_gives_exit_2(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "--profile cns2022" in capsys.readouterr().out
