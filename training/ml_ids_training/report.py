"""Owns the report of a training run: what the command prints and the files of the report folder.

Nothing here names a path, a machine or a person, and nothing changes between two
equal runs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from dataclasses import asdict

from . import __version__, tables
from .features import NAMES

_PACKAGES = ("lightgbm", "numpy", "pandas", "scikit-learn", "onnx", "onnxruntime")


def summary(outcome: dict) -> str:
    """What the command prints when it has succeeded."""
    facts, size = outcome["data"], outcome["size"]
    lines = [
        f"data: {facts['rows_read']} rows read, {facts['rows_duplicate']} repeat another row in the measured "
        f"columns, {facts['rows_used']} used ({facts['ordered_by']})",
    ]
    for name, variants in outcome["results"].items():
        for variant, scores in variants.items():
            mark = "*" if variant == outcome["chosen"] else " "
            lines.append(f"{mark} {tables.title(name, outcome)}, {tables.VARIANTS[variant]}: {_scores_line(scores)}")
    lines.append("  (* the exported choice)")
    if len(outcome["contenders"]) > 1:
        for kind, splits in outcome["contenders"].items():
            mark = "*" if kind == outcome["contract"].kind else " "
            lines.append(f"{mark} {kind}, in time order: {_scores_line(splits['time_ordered'])}")
    for name, chosen in outcome["thresholds"].items():
        lines.append(
            f"thresholds, {tables.title(name, outcome)}: {chosen.alerts} benign alerts on {chosen.benign_rows} rows of the "
            f"training part where {chosen.allowed} are allowed" + ("" if chosen.met else "; THE BUDGET IS NOT KEPT")
        )
    lines.append(
        f"model: {outcome['contract'].kind}, {outcome['bytes']} bytes, {size.trees} trees, {size.nodes} nodes "
        f"({size.nodes_least} to {size.nodes_most} a tree), depth up to {size.depth_most}"
    )
    lines.append(f"gate: onnxruntime agrees with scikit-learn: {outcome['agreement']}")
    return "\n".join(lines)


def as_json(outcome: dict) -> str:
    """The whole outcome for programs."""
    contract = outcome["contract"]
    return json.dumps(
        {
            "name": contract.name,
            "version": contract.version,
            "kind": contract.kind,
            "profile": contract.profile,
            "date": contract.date,
            "classes": contract.classes,
            "thresholds": contract.thresholds,
            "budget": {**asdict(contract.budget), "benign_alert_share": contract.budget.share},
            "thresholds_chosen": {name: asdict(chosen) for name, chosen in outcome["thresholds"].items()},
            "unused_features": contract.unused_features,
            "training_data": contract.training_data,
            "inputs_sha256": contract.inputs_sha256,
            "settings": asdict(outcome["settings"]),
            "data": outcome["data"],
            "fitted_rows": outcome["fitted_rows"],
            "exported": outcome["chosen"],
            "splits": outcome["results"],
            "contenders": outcome["contenders"],
            "further_seeds": outcome["spread"],
            "model": {"bytes": outcome["bytes"], "sha256": sha256(outcome), **asdict(outcome["size"])},
            "gate": asdict(outcome["agreement"]),
            "importances": {NAMES[column]: share for column, share in outcome["importances"]},
            "permutation": {NAMES[column]: loss for column, loss in outcome["permutation"] or ()},
            "probe": outcome["probe"],
            "software": software(),
        },
        indent=1,
        ensure_ascii=False,
    ) + "\n"


def markdown(outcome: dict) -> str:
    """The full report: every class of every variant, confusion matrices, calibration, missed attacks."""
    classes = outcome["contract"].classes
    parts = [f"# Training report: {outcome['contract'].name} {outcome['contract'].version}", "## Data\n\n" + tables.data(outcome)]
    if len(outcome["contenders"]) > 1:
        parts.append("## Models that were tried\n\n" + tables.contenders(outcome))
    parts += ["## Thresholds\n\n" + tables.budget(outcome), tables.thresholds(outcome)]
    parts.append("## Overview\n\n" + tables.overview(outcome))
    for name, variants in outcome["results"].items():
        for variant, scores in variants.items():
            heading = f"## {tables.title(name, outcome)}, {tables.VARIANTS[variant]}"
            parts += [heading, tables.per_class(scores), tables.confusion(scores, classes), tables.calibration(scores)]
    parts.append("## What it looks at most\n\n" + tables.importances(outcome, 20))
    parts.append(
        "## Missed attacks\n\n" + f"{len(outcome['mistakes'] or ())} rows, in `mistakes.csv` with the columns that would have "
        "helped most if they had been as usual for the class."
    )
    parts.append("## Software\n\n" + "\n".join(f"- {name} {version}" for name, version in software().items()))
    return "\n\n".join(parts) + "\n"


def _scores_line(scores: dict) -> str:
    return (
        f"accuracy {scores['accuracy']:.4f}, macro F1 {scores['macro_f1']:.4f} (of alerts {scores['alert_macro_f1']:.4f}), benign false alarms "
        f"{tables.percent(scores['benign_false_alarm_rate'])}, benign alerts {tables.percent(scores['benign_alert_rate'])} ({scores['rows']} rows)"
    )


def sha256(outcome: dict) -> str:
    """Of the model file."""
    return hashlib.sha256(outcome["model"]).hexdigest()


def software() -> dict[str, str]:
    """Versions of everything that shapes the result."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # LightGBM is needed for its own kind only
    return {"ml-ids-training": __version__, "Python": platform.python_version(), **found}
