"""Owns a real MLflow server for tests: sqlite behind it, artifacts through its proxy, a password before it."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER, PASSWORD = "admin", "only-for-this-test"
#: What MLflow's own client reads them from.
CREDENTIALS = {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
#: It needs half a minute on a busy machine.
PATIENCE_SECONDS = 180


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The server's URL; it is stopped at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts",
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--app-name", "basic-auth",
    ]
    settings = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "only-for-this-test",
    }
    log = folder / "server.log"
    with log.open("wb") as output:
        # A session of its own: the server has workers, which are stopped with it. It keeps its users where it stands.
        server = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=output, env={**os.environ, **settings}, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, server, log)
        yield url
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def _wait(url: str, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.3)
    raise AssertionError(f"the MLflow server did not start:\n{log.read_text()}")


def ask(url: str, call: str, **query: str) -> dict:
    """One call of the REST interface, as a sensor makes it."""
    return json.loads(_get(f"{url}/api/2.0/mlflow/{call}?{urllib.parse.urlencode(query)}"))


def artifact(url: str, path: str) -> bytes:
    """One file through the server's proxy."""
    return _get(f"{url}/api/2.0/mlflow-artifacts/artifacts/{urllib.parse.quote(path)}")


def _get(url: str) -> bytes:
    credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {credentials}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()
