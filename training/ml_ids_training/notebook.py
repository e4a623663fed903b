"""Owns what the notebooks share: where the flows are, how many of them are read, where figures go.

Three variables of the environment change it, for other data and for quick runs:
ML_IDS_FLOWS, ML_IDS_ROWS_PER_CLASS and ML_IDS_FIGURES.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from IPython.display import Image
from matplotlib.figure import Figure

from . import figures
from .data import Flows, limit_per_class, read_flows
from .settings import Settings

_COMMAND = "PYTHONPATH=training python -m ml_ids_training train"
_REPOSITORY = Path(__file__).resolve().parents[2]
PROFILE = "cns2022"
SEED = 20170703
QUICK_TREES = 15


def flows_path() -> Path:
    """The improved CIC-IDS2017 CSVs: a file or a folder."""
    usual = _REPOSITORY.parent / "shared/data/cicids2017-corrected/flows.csv.gz"
    return Path(os.environ.get("ML_IDS_FLOWS", usual))


def rows_per_class() -> int | None:
    """Most rows of each label; None for all."""
    text = os.environ.get("ML_IDS_ROWS_PER_CLASS")
    return int(text) if text else None


def settings() -> Settings:
    """The usual settings; in a quick run of few rows also few trees, on one thread."""
    return Settings(seed=SEED) if rows_per_class() is None else Settings(seed=SEED, trees=QUICK_TREES, jobs=1)


def load() -> Flows:
    """The flows, duplicates still in."""
    flows = read_flows([str(flows_path())], PROFILE)
    limit = rows_per_class()
    return flows if limit is None else limit_per_class(flows, limit, SEED)


def default_model_arguments(folder: Path) -> list[str]:
    """The `train` command that made the default model, as its card tells it, on the flows here and writing to `folder`."""
    card = (_REPOSITORY / "models/default.md").read_text(encoding="utf-8")
    command = shlex.split(card[card.index(_COMMAND) :].partition("```")[0].replace("\\\n", " "))
    options = command[next(place for place, word in enumerate(command) if word.startswith("--")) :]
    arguments = ["train", str(flows_path()), *options]
    for option, name in (("--out", "model.onnx"), ("--card", "model.md"), ("--report", "report"), ("--test-rows", "rows.csv")):
        arguments += [option, str(folder / name)]  # the last one counts
    if rows_per_class() is not None:
        arguments += ["--limit-per-class", str(rows_per_class()), "--trees", str(QUICK_TREES), "--jobs", "1"]
    return arguments


def keep(figure: Figure, name: str) -> Image:
    """Stores a figure for the documentation and gives it to the notebook to show."""
    return Image(figures.save(figure, figures_folder() / f"{name}.png"))


def figures_folder() -> Path:
    """Where figures are stored: docs/figures."""
    return Path(os.environ.get("ML_IDS_FIGURES", _REPOSITORY / "docs/figures"))


def scores(rows: dict[str, dict], keys: Sequence[str]) -> pd.DataFrame:
    """Some of the scores of several models, a line a model."""
    return pd.DataFrame({name: {key: row[key] for key in keys} for name, row in rows.items()}).T
