"""Owns the story of `train`: read, clean, split, fit, judge, export, gate, write.

Nothing is put in place before the gate has passed.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from . import card, check, contest, export, importances, mistakes, report
from .budget import Budget
from .contract import Contract
from .data import BENIGN, Flows, drop_duplicates, limit_per_class, read_flows
from .distribution import distribution
from .errors import TrainingFailed
from .features import unused_features, used_columns
from .fitted import class_names
from .kinds import fit
from .probe import probe
from .settings import Settings
from .split import random_split, timed_split
from .stored import stored_rows
from .trees import size_of
from .trial import Trial, scores_with, try_split
from .values import count_non_finite

PORT_VARIANTS = {False: "without_port", True: "with_port"}
RANDOM, TIMED = "random", "time_ordered"


@dataclass(frozen=True)
class Request:
    """One `train` command, parsed."""

    data: tuple[str, ...]
    profile: str
    out: Path
    card: Path | None
    report: Path | None
    test_rows: Path | None
    name: str
    version: str
    date: str
    data_note: str
    #: As asked for; what is left open is filled in for each kind.
    settings: Settings
    #: Kinds that are tried; the best is exported.
    kinds: tuple[str, ...]
    budget: Budget
    #: No threshold is lower.
    least_threshold: float
    use_port: bool
    left_out: tuple[str, ...]
    compare_port: bool
    repeats: int
    #: Export a model of all rows, not of the training part of the random split.
    fit_all: bool
    limit_per_class: int | None


def train(request: Request) -> dict:
    """Carries out the request and returns the outcome: what the report tells, and the objects behind it."""
    columns = used_columns(request.profile, request.use_port, request.left_out)
    steps = 3 + 2 * len(request.kinds) + 2 * request.compare_port + 2 * request.repeats + request.fit_all
    with tqdm(total=steps, desc="training", unit=" steps", disable=None) as bar:
        flows, facts = _prepare(request)
        bar.update()
        classes = class_names(flows.labels)
        splits = {RANDOM: random_split(flows.labels, request.settings.seed), TIMED: timed_split(flows.labels)}
        trials: dict[str, dict[str, Trial]] = {}
        for kind in request.kinds:
            trials[kind] = {}
            for name, split in splits.items():
                trials[kind][name] = try_split(
                    flows, split, classes, columns, request.settings.resolved(kind),
                    request.budget, request.least_threshold,
                )
                bar.update()
        kind = contest.best({kind: tried[TIMED] for kind, tried in trials.items()}, request.budget)
        settings = request.settings.resolved(kind)
        exported = trials[kind][RANDOM]
        limits = exported.chosen.thresholds

        chosen, other = PORT_VARIANTS[request.use_port], PORT_VARIANTS[not request.use_port]
        results = {name: {chosen: trial.scores} for name, trial in trials[kind].items()}
        if request.compare_port:
            columns_of_other = used_columns(request.profile, not request.use_port, request.left_out)
            for name, split in splits.items():
                thresholds = trials[kind][name].chosen.thresholds
                results[name][other] = scores_with(flows, split, classes, columns_of_other, settings, thresholds)
                bar.update()
        spread: dict[str, list[dict]] = {name: [] for name in splits}
        for seed in range(settings.seed + 1, settings.seed + 1 + request.repeats):
            again = {RANDOM: random_split(flows.labels, seed), TIMED: splits[TIMED]}
            reseeded = replace(settings, seed=seed % 2**32)
            for name, split in again.items():
                thresholds = trials[kind][name].chosen.thresholds
                spread[name].append(_headline(scores_with(flows, split, classes, columns, reseeded, thresholds)))
                bar.update()

        fitted, learned = exported.fitted, splits[RANDOM].train
        if request.fit_all:
            learned = np.arange(len(flows.labels))
            fitted = fit(flows, learned, classes, columns, settings)
            bar.update()
        contract = Contract(
            name=request.name,
            version=request.version,
            profile=request.profile,
            classes=classes,
            thresholds=dict(limits),
            unused_features=unused_features(request.profile, request.use_port, request.left_out),
            training_data=_describe(request, facts, len(learned)),
            date=request.date,
            inputs_sha256=flows.inputs_sha256,
            metrics={name: _headline(trial.scores) for name, trial in trials[kind].items()},
            kind=kind,
            budget=request.budget,
            distribution=distribution(
                flows.values[learned], flows.labels[learned] == BENIGN, exported.probabilities,
                exported.truth == 0, exported.scores["benign_alert_rate"],
            ),
            probes=stored_rows(fitted, flows.values[learned], settings.seed),
        )
        model = export.to_bytes(export.to_onnx(fitted, contract.to_metadata()))
        bar.update()
        rows = check.gate_rows(splits[RANDOM].test, learned)
        agreement = check.gate(model, fitted, flows.values[rows])
        if not agreement.holds:
            raise TrainingFailed(f"the exported file does not answer as the fitted model does, nothing written: {agreement}")
        bar.update()

    outcome = {
        "contract": contract,
        "request": request,
        "settings": settings,
        "data": facts,
        "fitted": fitted,
        "fitted_rows": len(learned),
        "results": results,
        "spread": spread,
        "chosen": chosen,
        "contenders": {kind: {name: trial.scores for name, trial in tried.items()} for kind, tried in trials.items()},
        "thresholds": {name: trial.chosen for name, trial in trials[kind].items()},
        "held_out": {name: (trial.truth, trial.probabilities) for name, trial in trials[kind].items()},
        "size": size_of(fitted.trees()),
        "bytes": len(model),
        "model": model,
        "agreement": agreement,
        "importances": importances.built_in(fitted),
        "permutation": None,
        "mistakes": None,
        "probe": probe(fitted, request.profile, limits),
    }
    if request.card is not None or request.report is not None:
        test = splits[RANDOM].test
        outcome["permutation"] = importances.by_permutation(exported.fitted, flows.values[test], exported.truth, settings.seed)
    if request.report is not None:
        outcome["mistakes"] = [
            mistake for name, trial in trials[kind].items() for mistake in mistakes.of_trial(name, trial, flows, splits[name])
        ]
    _write(request, model, outcome)
    if request.test_rows is not None:
        request.test_rows.parent.mkdir(parents=True, exist_ok=True)
        check.write_rows(request.test_rows, fitted, flows, splits[RANDOM].test)
    return outcome


def _prepare(request: Request) -> tuple[Flows, dict]:
    """Reads and reduces the data; returns it with every number that was lost on the way."""
    raw = read_flows(request.data, request.profile)
    unique = drop_duplicates(raw)
    limit = request.limit_per_class
    flows = unique if limit is None else limit_per_class(unique, limit, request.settings.seed)
    packets = flows.values[:, 2] + flows.values[:, 3]
    facts = {
        "files": list(raw.inputs_sha256),
        "flavours": list(raw.flavours),
        "rows_read": raw.rows_read,
        "rows_empty": raw.rows_empty,
        "rows_attempted": raw.rows_attempted,
        "rows_duplicate": len(raw.labels) - len(unique.labels),
        "rows_unique": len(unique.labels),
        "rows_used": len(flows.labels),
        "limit_per_class": limit,
        "rows_by_class_before": dict(Counter(raw.labels)),
        "rows_by_class": dict(Counter(flows.labels)),
        "ordered_by": "file order" if flows.times is None else "time",
        "cells_not_finite": count_non_finite(flows.values),
        "rows_zero_duration": int((flows.values[:, 1] == 0).sum()),
        "rows_one_packet": int((packets == 1).sum()),
    }
    return flows, facts


def _describe(request: Request, facts: dict, fitted_rows: int) -> str:
    """The contract's one-line account of the data."""
    part = "all of them" if request.fit_all else "the training part of the random 80/20 split"
    limit = "" if request.limit_per_class is None else f", at most {request.limit_per_class} a class"
    return (
        f"{request.data_note}; {facts['rows_read']} rows read, {facts['rows_unique']} after dropping "
        f"duplicates{limit}; fitted on {fitted_rows} rows ({part})"
    )


def _headline(scores: dict) -> dict:
    """The few numbers that travel inside the model file."""
    keys = ("accuracy", "macro_f1", "alert_macro_f1", "benign_false_alarm_rate", "benign_alert_rate", "attack_alert_rate")
    return {"rows": scores["rows"], **{key: round(scores[key], 6) for key in keys}}


def _write(request: Request, model: bytes, outcome: dict) -> None:
    request.out.parent.mkdir(parents=True, exist_ok=True)
    partial = request.out.with_name(request.out.name + ".partial")
    partial.write_bytes(model)
    os.replace(partial, request.out)
    if request.card is not None:
        request.card.parent.mkdir(parents=True, exist_ok=True)
        request.card.write_text(card.card(outcome), encoding="utf-8")
    if request.report is not None:
        request.report.mkdir(parents=True, exist_ok=True)
        (request.report / "report.md").write_text(report.markdown(outcome), encoding="utf-8")
        mistakes.write(request.report / "mistakes.csv", outcome["mistakes"])
        (request.report / "report.json").write_text(report.as_json(outcome), encoding="utf-8")
