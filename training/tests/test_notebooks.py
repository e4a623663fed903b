"""The notebooks: kept without outputs, and still running from the first cell to the last."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbconvert.preprocessors import ExecutePreprocessor

TRAINING = Path(__file__).parents[1]
NOTEBOOKS = sorted((TRAINING / "notebooks").glob("*.ipynb"))
FIGURES = TRAINING.parent / "docs/figures"
FLOWS = TRAINING.parents[1] / "shared/data/cicids2017-corrected/flows.csv.gz"
#: Enough for every label to be on both sides of a split, few enough for a busy machine.
ROWS_PER_CLASS = "150"
#: A cell that takes longer hangs.
CELL_SECONDS = 600


def test_there_are_four():
    assert [path.stem[0] for path in NOTEBOOKS] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, (
                f"{path.name} holds outputs, which may show rows of the data: strip them with "
                "jupyter nbconvert --clear-output --inplace"
            )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_its_figures_are_those_of_the_documentation(path, tmp_path, monkeypatch):
    if not FLOWS.exists():
        pytest.skip(f"there are no flows at {FLOWS}; name some in ML_IDS_FLOWS to run the notebooks by hand")
    for name, value in {
        "ML_IDS_FLOWS": FLOWS, "ML_IDS_ROWS_PER_CLASS": ROWS_PER_CLASS, "ML_IDS_FIGURES": tmp_path,
        "PYTHONPATH": TRAINING, "OMP_NUM_THREADS": "1",
    }.items():
        monkeypatch.setenv(name, str(value))
    book = nbformat.read(path, as_version=4)
    ExecutePreprocessor(timeout=CELL_SECONDS).preprocess(book, {"metadata": {"path": str(path.parent)}})
    drawn = {figure.name for figure in tmp_path.glob("*.png")}
    assert drawn
    missing = sorted(name for name in drawn if not (FIGURES / name).exists())
    assert not missing, f"run {path.name} without ML_IDS_FIGURES: docs/figures lacks {', '.join(missing)}"
