"""Owns the made-up flow CSVs that the tests train on, in every flavour that is read.

No number here was measured anywhere: each class draws its columns from its own
random distribution, far enough apart for a small forest to learn.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from ml_ids_training.features import FEATURES, NAMES

CLASSES = ("BENIGN", "DoS Hulk", "PortScan", "Web Attack - XSS")
#: The dash as the files of 2017 have it: one byte of Windows-1252.
WEB_ATTACK_2017 = "Web Attack \x96 XSS"

CNS2022_BEFORE = ["id", "Flow ID", "Src IP", "Src Port", "Dst IP", "Dst Port", "Protocol", "Timestamp"]
CNS2022_AFTER = ["ICMP Code", "ICMP Type", "Total TCP Flow Time", "Label", "Attempted Category"]
GENERATED_BEFORE = [
    "Flow ID", " Source IP", " Source Port", " Destination IP", " Destination Port", " Protocol", " Timestamp",
]


def made_up(rows_each: int = 60, seed: int = 1, classes: tuple[str, ...] = CLASSES) -> tuple[np.ndarray, list[str]]:
    """float64 [rows, 78] and labels, classes taking turns; the repeated column repeats."""
    random = np.random.default_rng(seed)
    values, labels = [], []
    for _ in range(rows_each):
        for position, label in enumerate(classes):
            row = random.gamma(2.0 + position, 50.0 * (1 + position), size=len(NAMES))
            row[[2, 3]] = random.integers(2, 9, size=2)
            row[0] = random.integers(1, 65535)
            row[55] = row[34]
            values.append(row)
            labels.append(label)
    return np.array(values), labels


def write_cns2022(path: Path, values: np.ndarray, labels: list[str], times: list[str] | None = None) -> Path:
    """The layout of the improved CSVs: times, fork columns, no repeated column."""
    names = [feature.cicflowmeter4 for feature in FEATURES[1:] if feature.cicflowmeter4]
    header = [*CNS2022_BEFORE, *names, *CNS2022_AFTER]
    kept = [i for i in range(1, 78) if FEATURES[i].cicflowmeter4]
    lines = [header]
    for number, (row, label) in enumerate(zip(values, labels)):
        time = times[number] if times else f"2017-07-03 09:{number // 60 % 60:02}:{number % 60:02}.{number:06}"
        before = [number, "flow", "192.0.2.1", 4000, "198.51.100.2", repr(float(row[0])), 6, time]
        lines.append([*before, *(repr(float(row[i])) for i in kept), -1, -1, 0, label, -1])
    return _write(path, lines)


def write_mlcve(path: Path, values: np.ndarray, labels: list[str]) -> Path:
    """The layout of MachineLearningCVE: blanks before names, one name twice, latin-1."""
    lines: list[list] = [[feature.published for feature in FEATURES] + [" Label"]]
    lines += [[*map(_text_2017, row), _label_2017(label)] for row, label in zip(values, labels)]
    return _write(path, lines, encoding="latin-1")


def write_generated(path: Path, values: np.ndarray, labels: list[str], times: list[str]) -> Path:
    """The layout of GeneratedLabelledFlows: addresses and times in front, day first."""
    lines: list[list] = [GENERATED_BEFORE + [feature.published for feature in FEATURES[1:]] + [" Label"]]
    for row, label, time in zip(values, labels, times):
        before = ["flow", "192.0.2.1", 4000, "198.51.100.2", _text_2017(row[0]), 6, time]
        lines.append([*before, *map(_text_2017, row[1:]), _label_2017(label)])
    return _write(path, lines, encoding="latin-1")


def write_own(path: Path, rows_each: int = 30, seed: int = 1) -> Path:
    """The layout of ml-ids extract, without labels: in turn a client's web flow and a scanner's, a second apart.

    The counts obey profile `fixed`: no gap between subflows, so all four columns are 0.
    """
    values, _ = made_up(rows_each, seed, ("BENIGN", "PortScan"))
    names = list(NAMES)
    lines: list[list] = [["Flow ID", "Src IP", "Src Port", "Dst IP", "Dst Port", "Protocol", "Timestamp", *names, "Label"]]
    for number, row in enumerate(values):
        for column in ("Subflow Fwd Packets", "Subflow Bwd Packets", "Subflow Fwd Bytes", "Subflow Bwd Bytes"):
            row[names.index(column)] = 0
        client = "203.0.113.9" if number % 2 else "192.0.2.1"
        time = f"2024-05-01T10:{number // 60:02}:{number % 60:02}.000000Z"
        before = ["flow", client, 40000 + number, "198.51.100.2", 80, 6, time]
        lines.append([*before, *(repr(float(value)) for value in row), ""])
    return _write(path, lines)


def _text_2017(value: float) -> str:
    """Infinity and NaN as words, integers without a point."""
    if np.isnan(value):
        return "NaN"
    if np.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return str(int(value)) if value == int(value) else repr(float(value))


def _label_2017(label: str) -> str:
    return WEB_ATTACK_2017 if label == "Web Attack - XSS" else label


def _write(path: Path, lines: list[list], encoding: str = "utf-8") -> Path:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    path.write_bytes(text.getvalue().encode(encoding))
    return path
