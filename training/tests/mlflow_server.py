"""Owns a real MLflow server for tests: sqlite behind it, artifacts through its proxy, on a free port."""

from __future__ import annotations

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
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = folder / "server.log"
    with log.open("wb") as output:
        # A session of its own: the server has workers, which are stopped with it.
        server = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **quiet}, start_new_session=True
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
    with urllib.request.urlopen(f"{url}/api/2.0/mlflow/{call}?{urllib.parse.urlencode(query)}", timeout=60) as answer:
        return json.load(answer)


def artifact(url: str, path: str) -> bytes:
    """One file through the server's proxy."""
    quoted = urllib.parse.quote(path)
    with urllib.request.urlopen(f"{url}/api/2.0/mlflow-artifacts/artifacts/{quoted}", timeout=60) as answer:
        return answer.read()
