"""Owns the gate: the exported file must answer as the fitted forest does.

No label may differ, no probability by more than `TOLERANCE`. The held-out rows
with the forest's answers can be written to a CSV, against which any runtime,
this one or the sensor's, can be checked later.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd

from .contract import read_contract
from .data import Flows
from .errors import UnreadableInput
from .export import INPUT, LABEL, PROBABILITIES
from .features import NAMES, WIDTH
from .fitted import Fitted
from .values import model_input

#: Largest difference of a probability: sums of 100 float32 leaf weights in any
#: order stay within 1e-6 of the float64 sum, a wrong path does not.
TOLERANCE = 1e-4
#: The gate runs on this many rows where there are that many.
GATE_ROWS = 10_000
_BATCH = 8192

TRUTH, SKLEARN_LABEL, SKLEARN_PROBABILITY = "Label", "sklearn_label", "sklearn_probability"


@dataclass(frozen=True)
class Agreement:
    """Outcome of one comparison."""

    rows: int
    label_differences: int
    largest_difference: float

    @property
    def holds(self) -> bool:
        return self.rows > 0 and self.label_differences == 0 and self.largest_difference <= TOLERANCE

    def __str__(self) -> str:
        return (
            f"{self.rows} rows, {self.label_differences} label differences, "
            f"largest probability difference {self.largest_difference:.2e} (allowed {TOLERANCE:g})"
        )


def run_onnx(model: bytes, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of onnxruntime for float32 rows of 78 columns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    labels, probabilities = [], []
    for start in range(0, max(len(inputs), 1), _BATCH):
        answer = session.run([LABEL, PROBABILITIES], {INPUT: inputs[start : start + _BATCH]})
        labels.append(answer[0])
        probabilities.append(answer[1])
    return np.concatenate(labels), np.concatenate(probabilities)


def gate(model: bytes, fitted: Fitted, values: np.ndarray) -> Agreement:
    """Compares file and forest on measured rows, every class's probability."""
    expected = fitted.probabilities(values)
    labels, probabilities = run_onnx(model, model_input(values))
    return Agreement(
        rows=len(values),
        label_differences=int((labels != expected.argmax(axis=1)).sum()),
        largest_difference=_largest(probabilities, expected),
    )


def gate_rows(test: np.ndarray, train: np.ndarray) -> np.ndarray:
    """All test rows, filled up with training rows to `GATE_ROWS`."""
    return np.concatenate([test, train[: max(0, GATE_ROWS - len(test))]])


def write_rows(path: Path, fitted: Fitted, flows: Flows, rows: np.ndarray) -> None:
    """Writes held-out rows: 78 columns as measured, the truth, the forest's answer.

    Numbers have the shortest digits that read back as the same float64; NaN and
    Infinity stay, so that a reader's own policy is tested too.
    """
    values = flows.values[rows]
    probabilities = fitted.probabilities(values)
    best = probabilities.argmax(axis=1)
    frame = pd.DataFrame(values, columns=list(NAMES))
    frame[TRUTH] = flows.labels[rows]
    frame[SKLEARN_LABEL] = np.array(fitted.classes, dtype=object)[best]
    frame[SKLEARN_PROBABILITY] = probabilities[np.arange(len(best)), best]
    frame.to_csv(path, index=False, na_rep="NaN", lineterminator="\n")


def check_file(model_path: Path, rows_path: Path) -> Agreement:
    """Compares a model file with the answers stored in a rows file."""
    try:
        data = model_path.read_bytes()
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's own errors share no base class
        raise UnreadableInput(f"{model_path}: not a readable ONNX model: {error}") from error
    classes = json.loads(read_contract(model, str(model_path))["ml_ids.classes"])
    frame = _read_rows(rows_path)
    unknown = sorted(set(frame[SKLEARN_LABEL]) - set(classes))
    if unknown:
        raise UnreadableInput(f"{rows_path}: {unknown[0]!r} is no class of the model; are these its rows?")
    try:
        labels, probabilities = run_onnx(data, model_input(frame[list(NAMES)].to_numpy(dtype=np.float64)))
    except Exception as error:  # onnxruntime's errors derive from Exception only
        raise UnreadableInput(f"{model_path}: onnxruntime refuses the model: {error}") from error
    expected = frame[SKLEARN_LABEL].map({name: index for index, name in enumerate(classes)}).to_numpy()
    own = probabilities[np.arange(len(expected)), expected]
    return Agreement(
        rows=len(frame),
        label_differences=int((labels != expected).sum()),
        largest_difference=_largest(own, frame[SKLEARN_PROBABILITY].to_numpy()),
    )


def _read_rows(path: Path) -> pd.DataFrame:
    texts = (TRUTH, SKLEARN_LABEL)
    types = dict.fromkeys((*NAMES, SKLEARN_PROBABILITY), "float64") | dict.fromkeys(texts, "str")
    try:
        frame = pd.read_csv(path, dtype=types)
    except (OSError, EOFError, ValueError) as error:
        raise UnreadableInput(f"{path}: cannot be read: {error}") from error
    missing = [name for name in types if name not in frame.columns]
    if missing:
        raise UnreadableInput(f"{path}: no rows file, {len(missing)} columns are missing, {missing[0]} among them")
    assert len(types) == WIDTH + 3
    if frame[SKLEARN_LABEL].isna().any() or frame[SKLEARN_PROBABILITY].isna().any():
        raise UnreadableInput(f"{path}: a row has no stored answer or is cut short")
    return frame


def _largest(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference; anything not finite counts as infinite."""
    if not len(expected):
        return 0.0
    difference = np.abs(found.astype(np.float64) - expected)
    return float(difference.max()) if np.isfinite(difference).all() else float("inf")
