"""Owns what of a training run goes to MLflow, and the registration of its model.

Everything is taken from files that training has written: the model, its card,
and the report folder with report.json and the figures. So a model of last year
is logged like one of a minute ago.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from . import store
from .errors import UnreadableInput, WrongUsage
from .mlmodel import ModelFile, log_model, read_model
from .store import Store

#: MLflow's limits for one request.
_METRICS_AT_ONCE, _PARAMETERS_AT_ONCE = 1000, 100
_LONGEST_PARAMETER = 500
#: What MLflow does not take in a name.
_NOT_IN_NAMES = re.compile(r"[^\w\-. :/]")
#: Numbers of the report that are settings, and those that are results.
_SETTINGS = ("name", "version", "profile", "date", "kind", "exported", "fitted_rows", "settings", "budget", "data")
_RESULTS = ("splits", "contenders", "thresholds_chosen", "model", "gate")
_TABLES = frozenset({"other_thresholds", "rows_by_class", "rows_by_class_before", "labels_file"})


@dataclass(frozen=True)
class Registration:
    """The name under which sensors find a model."""

    name: str
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.strip() or any(sign in self.name for sign in "/:@"):
            raise WrongUsage(f"{self.name!r} is no name for a registered model: it must not hold / : or @")


@dataclass(frozen=True)
class Logged:
    """What became of it."""

    store: Store
    run_id: str
    model_uri: str
    artifact_uri: str
    registration: Registration | None
    version: str | None

    def __str__(self) -> str:
        lines = [f"logged to {self.store.shown}, experiment {self.store.experiment}, run {self.run_id}"]
        if self.registration is not None:
            name = self.registration.name
            aliases = "".join(f", mlflow:{name}@{alias}" for alias in self.registration.aliases)
            lines.append(f"registered: mlflow:{name}/{self.version}{aliases}")
        if self.store.folder is not None:
            folder = Path(url2pathname(urlsplit(self.artifact_uri).path))
            lines.append(f"model file: {folder / 'model.onnx'}")
        return "\n".join(lines)


def log(
    destination: Store,
    model_path: Path,
    card: Path | None = None,
    report: Path | None = None,
    registration: Registration | None = None,
) -> Logged:
    """Logs a model with what is known about it; registers it if a name is given."""
    model = read_model(model_path)
    facts = None if report is None else _read_report(report)
    with store.opened(destination) as mlflow:
        client, run_id = mlflow.MlflowClient(), mlflow.active_run().info.run_id
        mlflow.set_tags({"mlflow.runName": _run_name(model), "sha256": model.sha256, **_tags(model)})
        if card is not None:
            mlflow.log_artifact(str(card))
        if report is not None:
            _log_report_files(mlflow, report)
        model_uri = log_model(model, run_id)
        if facts is not None:
            # After the model: it would ask the server for the history of each metric that is there, one by one.
            _log_report(mlflow, facts, model_uri.rpartition("/")[2])
        version = None
        if registration is not None:
            version = _register(mlflow, model, model_uri, registration)
            artifact_uri = client.get_model_version_download_uri(registration.name, version)
        else:
            artifact_uri = client.get_logged_model(model_uri.rpartition("/")[2]).artifact_location
    return Logged(destination, run_id, model_uri, artifact_uri, registration, version)


def move_alias(destination: Store, name: str, version: str, alias: str) -> str:
    """Points an alias at a version that is there already: forward, or back to the last good one."""
    with store.connected(destination) as mlflow:
        client = mlflow.MlflowClient()
        client.get_model_version(name, version)  # an alias of a version that is not there would be taken
        client.set_registered_model_alias(name, alias, version)
    return f"mlflow:{name}@{alias} is version {version} now"


def _log_report_files(mlflow, folder: Path) -> None:
    """The report and its figures; mistakes.csv tells rows of the data and stays where the data is."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".md", ".json", ".png"):
            mlflow.log_artifact(str(path), artifact_path=str("report" / path.parent.relative_to(folder)))


def _register(mlflow, model: ModelFile, model_uri: str, registration: Registration) -> str:
    """A new version under the name; the aliases move to it last, when all is in place."""
    made = mlflow.register_model(model_uri, registration.name, tags={"sha256": model.sha256, **_tags(model)})
    for alias in registration.aliases:
        mlflow.MlflowClient().set_registered_model_alias(registration.name, alias, made.version)
    return str(made.version)


def _run_name(model: ModelFile) -> str:
    return f"{model.contract['ml_ids.name']} {model.contract['ml_ids.version']}"


def _tags(model: ModelFile) -> dict[str, str]:
    """What one filters models by."""
    keys = ("ml_ids.profile", "ml_ids.kind", "ml_ids.version", "ml_ids.date")
    return {key: model.contract[key] for key in keys if key in model.contract}


def _read_report(folder: Path) -> dict:
    path = folder / "report.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableInput(f"{path}: no report of train --report: {error}") from error


def _log_report(mlflow, facts: dict, model_id: str) -> None:
    """Settings as parameters of the run, results as metrics of run and model."""
    from mlflow.entities import Metric, Param

    client, run_id = mlflow.MlflowClient(), mlflow.active_run().info.run_id
    settings = [(name, value) for key in _SETTINGS for name, value in leaves(key, facts.get(key))]
    settings += [(f"inputs.{name}", digest) for name, digest in facts.get("inputs_sha256", {}).items()]
    settings += [(f"thresholds.{name}", value) for name, value in facts.get("thresholds", {}).items()]
    parameters = [Param(_name(name), str(value)[:_LONGEST_PARAMETER]) for name, value in settings]
    results = [(name, value) for key in _RESULTS for name, value in leaves(key, facts.get(key))]
    now = int(time.time() * 1000)
    metrics = [
        Metric(_name(name), float(value), now, 0, model_id=model_id) for name, value in results
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    for start in range(0, len(parameters), _PARAMETERS_AT_ONCE):
        client.log_batch(run_id, params=parameters[start : start + _PARAMETERS_AT_ONCE])
    for start in range(0, len(metrics), _METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=metrics[start : start + _METRICS_AT_ONCE])


def leaves(name: str, value: object) -> Iterator[tuple[str, object]]:
    """(dotted name, scalar) for everything below, lists and large tables left out."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in _TABLES:
                yield from leaves(f"{name}.{key}", inner)
    elif value is not None and not isinstance(value, list):
        yield name, value


def _name(raw: str) -> str:
    return _NOT_IN_NAMES.sub("_", raw)
