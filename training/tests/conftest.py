"""Owns what several test files share: one trained model and a way to run the command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from flows import made_up, write_cns2022

from ml_ids_training.__main__ import main

QUICK = ["--trees", "12", "--max-depth", "6", "--date", "2024-02-29", "--repeats", "0", "--no-compare-port", "--no-figures", "--jobs", "1"]


@dataclass(frozen=True)
class Trained:
    data: Path
    model: Path
    card: Path
    report: Path
    rows: Path


def run_train(
    data: list[Path], folder: Path, profile: str = "cns2022", more: list[str] | None = None,
    track: tuple[str, ...] = ("--no-track",),
) -> int:
    """The command as a user gives it, with few small trees."""
    return main([
        "train", *map(str, data), "--profile", profile, "--out", str(folder / "model.onnx"),
        "--card", str(folder / "model.md"), "--report", str(folder / "report"),
        "--test-rows", str(folder / "rows.csv"), *QUICK, *track, *(more or []),
    ])


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model of made-up rows in the improved layout."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_cns2022(folder / "flows.csv", *made_up())
    assert run_train([data], folder) == 0
    return Trained(data, folder / "model.onnx", folder / "model.md", folder / "report", folder / "rows.csv")
