"""Owns the command line that makes a run again, as the card tells it."""

from __future__ import annotations

import shlex

from . import DEFAULT_REPEATS
from .budget import Budget
from .settings import KINDS, Settings
from .trial import LEAST_THRESHOLD


def command(outcome: dict) -> str:
    """The command of this run, data files by base name only."""
    request, facts = outcome["request"], outcome["data"]
    settings, usual = request.settings, Settings()
    kind = "best" if request.kinds == KINDS else settings.kind
    arguments = ["train", *facts["files"], "--profile", request.profile, "--model", kind]
    arguments += ["--out", f"models/{request.out.name}", "--card", f"models/{request.out.stem}.md"]
    arguments += ["--max-depth", settings.max_depth, "--seed", settings.seed]
    for flag, value, default in (
        ("--trees", settings.trees, usual.trees),
        ("--min-leaf", settings.min_leaf, usual.min_leaf),
        ("--max-features", settings.max_features, usual.max_features),
        ("--leaves", settings.leaves, usual.leaves),
        ("--learning-rate", settings.learning_rate, usual.learning_rate),
        ("--balance", settings.balance, usual.balance),
        ("--copies", settings.copies, usual.copies),
        ("--flows-per-day", request.budget.flows_per_day, Budget().flows_per_day),
        ("--alerts-per-day", request.budget.alerts_per_day, Budget().alerts_per_day),
        ("--least-threshold", request.least_threshold, LEAST_THRESHOLD),
    ):
        if value != default:
            arguments += [flag, f"{value:g}" if isinstance(value, float) else value]
    for name, factor in settings.class_weights.items():
        arguments += ["--class-weight", f"{name}={factor:g}"]
    for name in request.left_out:
        arguments += ["--leave-out", name]
    arguments += ["--date", request.date, "--name", request.name]
    if request.version != request.date:
        arguments += ["--model-version", request.version]
    arguments += ["--data-note", request.data_note]
    if request.repeats != DEFAULT_REPEATS:
        arguments += ["--repeats", request.repeats]
    if request.limit_per_class is not None:
        arguments += ["--limit-per-class", request.limit_per_class]
    if request.fit_all:
        arguments.append("--fit-all")
    if request.use_port:
        arguments.append("--use-port")
    if not request.compare_port:
        arguments.append("--no-compare-port")
    words = ["PYTHONPATH=training python -m ml_ids_training", *(shlex.quote(str(word)) for word in arguments)]
    lines, line = [], words[0]
    for word in words[1:]:
        if word.startswith("--") and len(line) > 60:
            lines.append(line)
            line = "    " + word
        else:
            line += " " + word
    return " \\\n".join([*lines, line])
