"""Owns where runs and models are kept: an MLflow server, or a local folder that stands in for one.

Both are spoken to through the same library, so what is logged to one can be
logged to the other. User name, password and token are MLflow's own affair
(`MLFLOW_TRACKING_USERNAME`, `_PASSWORD`, `_TOKEN`), never arguments of ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from .errors import TrainingFailed

URI_VARIABLE = "MLFLOW_TRACKING_URI"
EXPERIMENT = "ml-ids"
#: Folder that stands in for a server; MLflow's usual name for such a thing.
LOCAL_FOLDER = "mlruns"
#: Set before MLflow is loaded, unless the user has: it asks nobody outside, does
#: not complain of a missing git, and gives up on a dead server within seconds.
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True)
class Store:
    """One place to log to."""

    uri: str
    #: The local folder, None for a server.
    folder: Path | None
    experiment: str

    @property
    def shown(self) -> str:
        """The place in words, without any password in its URI."""
        if self.folder is not None:
            return f"folder {self.folder}"
        parts = urlsplit(self.uri)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def choose(uri: str | None, folder: Path, experiment: str) -> Store:
    """The server that is named by argument or environment, else the folder."""
    uri = uri or os.environ.get(URI_VARIABLE)
    if uri:
        return Store(uri, None, experiment)
    folder = folder.absolute()
    return Store(f"sqlite:///{folder / 'mlflow.db'}", folder, experiment)


@contextmanager
def connected(store: Store) -> Iterator[ModuleType]:
    """MLflow, pointed at the store.

    Whatever MLflow raises becomes a `TrainingFailed` that says where and what to look at.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        if store.folder is not None:
            store.folder.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(store.uri)
        mlflow.set_registry_uri(store.uri)
        yield mlflow
    except (MlflowException, RequestException) as error:
        told = str(error).replace(store.uri, store.shown)
        raise TrainingFailed(
            f"MLflow at {store.shown} refuses or does not answer: {told}; look at --mlflow-uri, {URI_VARIABLE}, "
            "and MLFLOW_TRACKING_USERNAME with MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        ) from error


@contextmanager
def opened(store: Store) -> Iterator[ModuleType]:
    """The same with a run of the experiment begun, which counts as failed if the block raises."""
    with connected(store) as mlflow, mlflow.start_run(experiment_id=_experiment(store, mlflow)):
        yield mlflow


def _experiment(store: Store, mlflow: ModuleType) -> str:
    """The experiment's id; made when it is not there. A folder keeps its artifacts inside."""
    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name(store.experiment)
    if found is not None:
        return found.experiment_id
    inside = None if store.folder is None else (store.folder / "artifacts").as_uri()
    return client.create_experiment(store.experiment, artifact_location=inside)
