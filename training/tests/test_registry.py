"""Logging and registering: what a sensor then reads from a real server, and what a local folder holds."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import urllib.error

import mlflow_server
import pytest
import yaml
from conftest import run_train
from flows import made_up, write_cns2022

from ml_ids_training.__main__ import main
from ml_ids_training.errors import WrongUsage
from ml_ids_training.tracking import Registration, leaves


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with mlflow_server.running(tmp_path_factory.mktemp("mlflow")) as url, pytest.MonkeyPatch.context() as patch:
        for name, value in mlflow_server.CREDENTIALS.items():
            patch.setenv(name, value)
        yield url


def _fetch(server, name, alias):
    """A sensor's way from an alias to a model file: (version, MLmodel, file)."""
    found = mlflow_server.ask(server, "registered-models/alias", name=name, alias=alias)["model_version"]
    where = mlflow_server.ask(
        server, "model-versions/get-download-uri", name=name, version=found["version"]
    )["artifact_uri"]
    assert where.startswith("mlflow-artifacts:/")
    folder = where.removeprefix("mlflow-artifacts:/").lstrip("/")
    about = yaml.safe_load(mlflow_server.artifact(server, f"{folder}/MLmodel"))
    return found, about, mlflow_server.artifact(server, f"{folder}/{about['flavors']['onnx']['data']}")


def test_a_registered_model_is_read_back_byte_for_byte_and_its_alias_moves(server, trained, tmp_path, capsys):
    assert run_train([trained.data], tmp_path, more=["--seed", "5"]) == 0
    other = tmp_path / "model.onnx"
    common = ["--name", "edge", "--alias", "champion", "--mlflow-uri", server]
    for number, model in enumerate((trained.model, other), start=1):
        more = ["--card", str(trained.card), "--report", str(trained.report)] if number == 1 else []
        assert main(["register", str(model), *common, *more]) == 0
        assert f"mlflow:edge/{number}, mlflow:edge@champion" in capsys.readouterr().out
        version, about, data = _fetch(server, "edge", "champion")
        assert version["version"] == str(number) and version["status"] == "READY"
        assert data == model.read_bytes()
        assert about["metadata"]["sha256"] == hashlib.sha256(data).hexdigest()
        assert about["metadata"]["ml_ids.profile"] == "cns2022"
        inputs = json.loads(about["signature"]["inputs"])
        assert inputs[0]["name"] == "features" and inputs[0]["tensor-spec"] == {"dtype": "float32", "shape": [-1, 78]}
    assert main(["alias", "edge", "1", "champion", "--mlflow-uri", server]) == 0
    assert _fetch(server, "edge", "champion")[2] == trained.model.read_bytes(), "and back again"
    assert main(["alias", "edge", "9", "champion", "--mlflow-uri", server]) == 1
    assert _fetch(server, "edge", "champion")[0]["version"] == "1"
    first = mlflow_server.ask(server, "model-versions/get", name="edge", version="1")["model_version"]
    run = mlflow_server.ask(server, "runs/get", run_id=first["run_id"])["run"]
    assert run["info"]["status"] == "FINISHED"
    parameters = {row["key"]: row["value"] for row in run["data"]["params"]}
    metrics = {row["key"]: row["value"] for row in run["data"]["metrics"]}
    facts = json.loads((trained.report / "report.json").read_text())
    assert parameters["profile"] == "cns2022" and parameters["settings.seed"] == str(facts["settings"]["seed"])
    scores = facts["splits"]["random"]["without_port"]
    assert metrics["splits.random.without_port.macro_f1"] == pytest.approx(scores["macro_f1"])
    listed = mlflow_server.ask(server, "artifacts/list", run_id=first["run_id"])["files"]
    assert {"model.md", "report"} <= {row["path"] for row in listed}
    told = mlflow_server.ask(server, "artifacts/list", run_id=first["run_id"], path="report")["files"]
    assert (trained.report / "mistakes.csv").exists()
    assert {row["path"] for row in told} == {"report/report.md", "report/report.json"}, "no rows leave the machine"


def test_training_logs_registers_and_moves_the_alias_in_one_command(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    data = write_cns2022(tmp_path / "a.csv", *made_up(20))
    more = ["--figures", "--experiment", "tried", "--register", "trained", "--alias", "blue"]
    assert run_train([data], tmp_path, more=more, track=()) == 0
    assert "mlflow:trained/1, mlflow:trained@blue" in capsys.readouterr().out
    version, _, model = _fetch(server, "trained", "blue")
    assert model == (tmp_path / "model.onnx").read_bytes()
    drawn = mlflow_server.ask(server, "artifacts/list", run_id=version["run_id"], path="report/figures")["files"]
    assert "report/figures/calibration.png" in {row["path"] for row in drawn}


def test_a_wrong_password_is_a_failure_that_says_which_variables_count(server, trained, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    assert main(["register", str(trained.model), "--name", "edge", "--mlflow-uri", server]) == 1
    said = capsys.readouterr().err
    assert "401" in said and "MLFLOW_TRACKING_PASSWORD" in said


def test_an_alias_without_a_name_is_wrong_usage(tmp_path, capsys):
    assert run_train([tmp_path / "a.csv"], tmp_path, more=["--alias", "blue"]) == 2
    assert run_train([tmp_path / "a.csv"], tmp_path, more=["--register", "x"]) == 2, "with --no-track"
    assert "--register" in capsys.readouterr().err


def test_an_unknown_alias_is_told_apart_from_an_unknown_model(server, trained):
    assert main(["register", str(trained.model), "--name", "lonely", "--mlflow-uri", server]) == 0
    for name, code in (("lonely", 400), ("absent", 404)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            mlflow_server.ask(server, "registered-models/alias", name=name, alias="champion")
        assert refused.value.code == code


def test_without_a_server_a_folder_holds_the_same(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "a store"
    command = ["register", str(trained.model), "--name", "edge", "--alias", "champion", "--out-dir", str(folder)]
    assert main(command) == 0
    said = capsys.readouterr().out
    path = said.rpartition("model file: ")[2].strip()
    assert open(path, "rb").read() == trained.model.read_bytes()
    with sqlite3.connect(folder / "mlflow.db") as database:
        rows = database.execute("select name, alias, version from registered_model_aliases").fetchall()
    assert rows == [("edge", "champion", 1)]


def test_a_dead_server_is_a_failure_that_keeps_passwords_to_itself(trained, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = "http://someone:secret@127.0.0.1:9"
    assert main(["register", str(trained.model), "--name", "edge", "--mlflow-uri", uri]) == 1
    said = capsys.readouterr().err
    assert "http://127.0.0.1:9" in said and "MLFLOW_TRACKING_PASSWORD" in said and "secret" not in said


def test_a_file_that_is_no_model_of_ours_is_not_registered(tmp_path, capsys):
    (tmp_path / "x.onnx").write_bytes(b"\x00\x01 no model")
    assert main(["register", str(tmp_path / "x.onnx"), "--name", "edge", "--out-dir", str(tmp_path / "s")]) == 3
    assert "x.onnx" in capsys.readouterr().err and not (tmp_path / "s").exists()


@pytest.mark.parametrize("name", ["", " ", "a/b", "a:b", "a@b"])
def test_names_that_a_source_could_not_spell_are_refused(name):
    with pytest.raises(WrongUsage):
        Registration(name)


def test_leaves_are_scalars_with_dotted_names():
    found = dict(leaves("a", {"b": {"c": 1, "list": [1]}, "none": None, "other_thresholds": {"0.5": 1}, "d": "x"}))
    assert found == {"a.b.c": 1, "a.d": "x"}
