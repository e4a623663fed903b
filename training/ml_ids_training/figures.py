"""Owns the figures of a training run, drawn from its report.json alone.

They show counts and curves, never a row of the data.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

TITLES = {"random": "random split", "time_ordered": "time-ordered split"}
#: Columns shown of the importances.
MOST_IMPORTANT = 20
#: Enough for reading on a screen; a figure stays below 100 KB.
_DPI = 90
#: The worst classes are told by name, the others share one colour.
_NAMED = 8


def write(facts: dict, folder: Path) -> list[Path]:
    """Draws everything that the report has numbers for, as PNG files."""
    chosen = {name: variants[facts["exported"]] for name, variants in facts["splits"].items()}
    drawn = {
        "importances": importances(facts["importances"], "What the model looks at most"),
        "calibration": calibration({TITLES[name]: scores["calibration"] for name, scores in chosen.items()}),
    }
    if facts["permutation"]:
        drawn["permutation"] = importances(facts["permutation"], "What is lost when a column is shuffled")
    for split, scores in chosen.items():
        drawn[f"confusion-{split}"] = confusion(scores["confusion_matrix"], facts["classes"], TITLES[split])
        drawn[f"roc-{split}"] = roc(facts["curves"][split]["roc"], TITLES[split])
        drawn[f"precision-recall-{split}"] = precision_recall(facts["curves"][split]["precision_recall"], TITLES[split])
    return [save(figure, folder / f"{name}.png") for name, figure in drawn.items()]


def save(figure: Figure, path: Path) -> Path:
    """Writes one figure; the same figure gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return path


def confusion(matrix: list[list[int]], classes: list[str], title: str) -> Figure:
    """Rows are the truth; the colour is the share of the row, the number the count."""
    counts = np.array(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.5 + 0.42 * len(classes)
    figure, axes = plt.subplots(figsize=(size + 1, size))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, count, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=8)
    axes.set_yticks(range(len(classes)), classes, fontsize=8)
    axes.set(xlabel="verdict", ylabel="truth", title=f"Confusion, {title}")
    return figure


def roc(curves: dict, title: str) -> Figure:
    """False alarms on a logarithmic axis: what matters is far to the left."""
    figure, axes = plt.subplots(figsize=(6.4, 4.8))
    for name, curve, style in _worst_first(curves, "area"):
        false_rate = np.maximum(curve["false_positive_rate"], 1e-5)
        axes.plot(false_rate, curve["true_positive_rate"], label=_label(name, curve["area"], style), **style)
    axes.set(xscale="log", xlabel="false positive rate", ylabel="true positive rate", title=f"ROC a class, {title}")
    axes.legend(fontsize=7, loc="lower right")
    return figure


def precision_recall(curves: dict, title: str) -> Figure:
    """One curve a class, the worst in colour."""
    figure, axes = plt.subplots(figsize=(6.4, 4.8))
    for name, curve, style in _worst_first(curves, "average_precision"):
        label = _label(name, curve["average_precision"], style)
        axes.plot(curve["recall"], curve["precision"], label=label, **style)
    axes.set(xlabel="recall", ylabel="precision", ylim=(0, 1.03), title=f"Precision and recall a class, {title}")
    axes.legend(fontsize=7, loc="lower left")
    return figure


def calibration(found: dict[str, dict]) -> Figure:
    """Said probability against the share that was right; a perfect model is on the diagonal."""
    figure, axes = plt.subplots(figsize=(5.4, 4.8))
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
    for title, scores in found.items():
        said, right = ([row[key] for row in scores["reliability"]] for key in ("mean_probability", "share_right"))
        label = f"{title}, expected error {scores['expected_calibration_error']:.3f}"
        axes.plot(said, right, marker="o", markersize=4, label=label)
    axes.set(xlabel="probability of the verdict", ylabel="share of right verdicts", title="Calibration")
    axes.legend(fontsize=8, loc="lower right")
    return figure


def importances(shares: dict[str, float], title: str) -> Figure:
    """The greatest of them, the greatest on top."""
    top = sorted(shares.items(), key=lambda item: item[1])[-MOST_IMPORTANT:]
    figure, axes = plt.subplots(figsize=(6.4, 0.9 + 0.24 * len(top)))
    axes.barh([name for name, _ in top], [share for _, share in top], color="steelblue")
    axes.tick_params(axis="y", labelsize=8)
    axes.set(xlabel="share", title=title)
    return figure


def _worst_first(curves: dict, area: str) -> list[tuple[str, dict, dict]]:
    ordered = sorted(curves.items(), key=lambda item: (item[1][area], item[0]))
    grey = {"color": "lightgrey", "linewidth": 0.8, "zorder": 1}
    colours = matplotlib.colormaps["tab10"]
    return [
        (name, curve, {"color": colours(place), "linewidth": 1.4} if place < _NAMED else grey)
        for place, (name, curve) in enumerate(ordered)
    ]


def _label(name: str, area: float, style: dict) -> str | None:
    return f"{name} {area:.4f}" if style.get("color") != "lightgrey" else None
