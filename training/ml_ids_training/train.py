"""Owns the story of `train`: read, clean, split, fit, judge, export, gate, write.

Nothing is put in place before the gate has passed.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from . import check, export, report
from .contract import Contract
from .data import Flows, drop_duplicates, limit_per_class, read_flows
from .errors import TrainingFailed
from .features import unused_features, used_columns
from .fitted import Fitted, class_names, encode
from .kinds import fit
from .measure import measure, thresholds
from .labels import UNMATCHED, Labelling
from .probe import probe
from .settings import Settings
from .split import Split, random_split, timed_split
from .trees import size_of
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
    settings: Settings
    use_port: bool
    compare_port: bool
    repeats: int
    limit_per_class: int | None
    labels: Path | None = None
    unmatched: str = UNMATCHED[0]
    figures: bool = True


def train(request: Request) -> dict:
    """Carries out the request and returns the report as plain data."""
    steps = 5 + (2 if request.compare_port else 0) + 2 * request.repeats
    with tqdm(total=steps, desc="training", unit=" steps", disable=None) as bar:
        flows, facts = _prepare(request)
        bar.update()
        classes = class_names(flows.labels)
        splits = {
            RANDOM: random_split(flows.labels, request.settings.seed),
            TIMED: timed_split(flows.labels),
        }
        results: dict[str, dict[str, dict]] = {name: {} for name in splits}
        fitted = None
        for use_port in (request.use_port, not request.use_port) if request.compare_port else (request.use_port,):
            columns = used_columns(request.profile, use_port)
            for name, split in splits.items():
                tried, scores = try_split(flows, split, classes, columns, request.settings)
                results[name][PORT_VARIANTS[use_port]] = scores
                if name == RANDOM and use_port == request.use_port:
                    fitted = tried
                bar.update()
        assert fitted is not None
        spread: dict[str, list[dict]] = {name: [] for name in splits}
        for seed in range(request.settings.seed + 1, request.settings.seed + 1 + request.repeats):
            again = {RANDOM: random_split(flows.labels, seed), TIMED: splits[TIMED]}
            settings = replace(request.settings, seed=seed % 2**32)
            columns = used_columns(request.profile, request.use_port)
            for name, split in again.items():
                spread[name].append(_headline(try_split(flows, split, classes, columns, settings)[1]))
                bar.update()

        chosen = PORT_VARIANTS[request.use_port]
        contract = Contract(
            name=request.name,
            version=request.version,
            profile=request.profile,
            classes=classes,
            thresholds=thresholds(classes),
            unused_features=unused_features(request.profile, request.use_port),
            training_data=_describe(request, facts, len(splits[RANDOM].train)),
            date=request.date,
            inputs_sha256=flows.inputs_sha256,
            metrics={name: _headline(results[name][chosen]) for name in results},
        )
        model = export.to_bytes(export.to_onnx(fitted, contract.to_metadata()))
        bar.update()
        rows = check.gate_rows(splits[RANDOM].test, splits[RANDOM].train)
        agreement = check.gate(model, fitted, flows.values[rows])
        if not agreement.holds:
            raise TrainingFailed(f"the exported file does not answer as the forest does, nothing written: {agreement}")
        bar.update()

    outcome = {
        "contract": contract,
        "request": request,
        "data": facts,
        "fitted_rows": len(splits[RANDOM].train),
        "results": results,
        "spread": spread,
        "chosen": chosen,
        "size": size_of(fitted.trees()),
        "bytes": len(model),
        "model": model,
        "agreement": agreement,
        "importances": _importances(fitted),
        "probe": probe(fitted, request.profile),
    }
    _write(request, model, outcome)
    if request.test_rows is not None:
        request.test_rows.parent.mkdir(parents=True, exist_ok=True)
        check.write_rows(request.test_rows, fitted, flows, splits[RANDOM].test)
    return outcome


def try_split(
    flows: Flows, split: Split, classes: tuple[str, ...], columns: tuple[int, ...], settings: Settings
) -> tuple[Fitted, dict]:
    """Fits on one part of a split and evaluates on the other."""
    fitted = fit(flows, split.train, classes, columns, settings)
    truth = encode(flows.labels[split.test], classes)
    return fitted, measure(truth, fitted.probabilities(flows.values[split.test]), classes, thresholds(classes))


def _prepare(request: Request) -> tuple[Flows, dict]:
    """Reads and reduces the data; returns it with every number that was lost on the way."""
    labelling = None if request.labels is None else Labelling(request.labels, request.unmatched)
    raw = read_flows(request.data, request.profile, labelling)
    for warning in labelling.idle_rules() if labelling is not None else ():
        tqdm.write(f"warning: {warning}", file=sys.stderr)
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
        "labels_file": None if labelling is None else labelling.facts(),
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
    limit = "" if request.limit_per_class is None else f", at most {request.limit_per_class} a class"
    return (
        f"{request.data_note}; {facts['rows_read']} rows read, {facts['rows_unique']} after dropping "
        f"duplicates{limit}; fitted on {fitted_rows} rows (the training part of the random 80/20 split)"
    )


def _headline(scores: dict) -> dict:
    """The few numbers that travel inside the model file."""
    keys = ("accuracy", "macro_f1", "benign_false_alarm_rate", "benign_alert_rate", "attack_alert_rate")
    return {"rows": scores["rows"], **{key: round(scores[key], 6) for key in keys}}


def _importances(fitted: Fitted) -> list[tuple[int, float]]:
    """(column position, share of impurity removed), greatest first."""
    shares = fitted.importances()
    order = np.argsort(-shares, kind="stable")
    return [(fitted.columns[i], float(shares[i])) for i in order]


def _write(request: Request, model: bytes, outcome: dict) -> None:
    request.out.parent.mkdir(parents=True, exist_ok=True)
    partial = request.out.with_name(request.out.name + ".partial")
    partial.write_bytes(model)
    os.replace(partial, request.out)
    if request.card is not None:
        request.card.parent.mkdir(parents=True, exist_ok=True)
        request.card.write_text(report.card(outcome), encoding="utf-8")
    if request.report is not None:
        request.report.mkdir(parents=True, exist_ok=True)
        (request.report / "report.md").write_text(report.markdown(outcome), encoding="utf-8")
        facts = report.as_json(outcome)
        (request.report / "report.json").write_text(facts, encoding="utf-8")
        if request.figures:
            # Loaded when needed: drawing takes longer to load than a small model to train.
            from . import figures

            figures.write(json.loads(facts), request.report / "figures")
