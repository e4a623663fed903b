"""Owns the model card: what the model is, every number that was measured, and what it cannot do.

All numbers come from the run's outcome. Nothing here names a path, a machine or
a person, and nothing changes between two equal runs.
"""

from __future__ import annotations

import platform

from . import tables
from .check import GATE_ROWS
from .command import command
from .contract import CITATION
from .features import UNRELIABLE
from .report import sha256
from .values import NON_FINITE


def card(outcome: dict) -> str:
    """The whole card."""
    contract, chosen = outcome["contract"], outcome["chosen"]
    random, timed = (outcome["results"][name][chosen] for name in ("random", "time_ordered"))
    parts = [
        f"# Model card: {contract.name} {contract.version}",
        "Written by `python -m ml_ids_training train`; do not edit, train again.",
        "## What it is\n\n" + _identity(outcome),
        "## Data\n\n" + tables.data(outcome),
        "## Thresholds\n\n" + _thresholds(outcome, random, timed),
        "## What was measured\n\n" + _measured(outcome, random, timed),
        "## What it cannot do\n\n" + _limits(outcome),
        "## What it looks at most\n\n" + tables.importances(outcome, 12) + "\n\n"
        "Left: the share of impurity or loss that splits by the column removed. Right: among held-out rows, rare classes "
        "whole and others drawn; columns that say the same stand in for each other, so a small loss does not mean that a "
        "column says nothing.",
        f"## Citation\n\n{CITATION}.",
        "## How to make it again\n\n" + _again(outcome),
    ]
    return "\n\n".join(parts) + "\n"


def _identity(outcome: dict) -> str:
    contract, size, fitted = outcome["contract"], outcome["size"], outcome["fitted"]
    unused = ", ".join(f"`{name}`" for name in contract.unused_features)
    return (
        f"A {fitted.title} that names the kind of a finished network flow from 78 numbers about it: {size.trees} trees, "
        f"depth up to {size.depth_most}, {size.nodes} nodes ({size.nodes_least} to {size.nodes_most} a tree, median "
        f"{size.nodes_median:g}), {_weights(outcome['settings'])}, float32. {outcome['bytes']} bytes of ONNX, SHA-256 "
        f"`{sha256(outcome)}`.\n\n"
        f"- Profile: `{contract.profile}`. It must be fed flows of this profile and no other: the same column names "
        "mean different things in others.\n"
        "- Input: `features` float32 [N, 78], the columns of MachineLearningCVE in their order. In the vector but "
        f"never looked at: {unused}.\n"
        f"- Not finite: NaN becomes {NON_FINITE['nan']:g}, +Infinity {NON_FINITE['pos_inf']:g}, -Infinity "
        f"{NON_FINITE['neg_inf']:g}, then one rounding to float32; in training as in use.\n"
        f"- Classes, in the order of `probabilities`: {', '.join(contract.classes)}."
    )


def _weights(settings) -> str:
    """How classes were weighed and rows copied."""
    base = {
        "balanced": "balanced class weights", "sqrt": "class weights balanced by the square root", "none": "no class weights",
    }[settings.balance]
    if settings.copies:
        base += f", {settings.copies} more {'copy' if settings.copies == 1 else 'copies'} of each training row at another pace"
    if settings.class_weights:
        base += ", times " + ", ".join(f"{factor:g} for {name}" for name, factor in settings.class_weights.items())
    return base


def _thresholds(outcome: dict, random: dict, timed: dict) -> str:
    return (
        "A verdict is an alert if its class is an attack and its probability is at least the threshold of that class. "
        f"BENIGN has none. No threshold is below {outcome['request'].least_threshold:g}; where that would have let harmless "
        "rows raise more alerts than the budget allows, those were raised that cost the fewest attacks.\n\n"
        + tables.budget(outcome) + "\n\n" + tables.thresholds(outcome) + "\n\n"
        "What one value for all classes would have done on the rows that judge:\n\n" + tables.other_thresholds(random, timed)
    )


def _measured(outcome: dict, random: dict, timed: dict) -> str:
    variant = tables.VARIANTS[outcome["chosen"]]
    text = ""
    if len(outcome["contenders"]) > 1:
        text = (
            "Tried were, with the same columns, weights and budget:\n\n" + tables.contenders(outcome) + "\n\n"
            "In bold: the best by macro F1 of its alerts in time order among those whose benign alerts there leave the "
            "budget possible. It is this model.\n\n"
        )
    return (
        text + tables.overview(outcome) + "\n\n"
        "A benign false alarm is a benign row whose most probable class is an attack, whatever its probability; a benign "
        "alert also reaches the threshold. Macro F1 of alerts takes verdicts below their threshold for BENIGN. "
        + _port_sentence(outcome) + "\n\n"
        f"### {tables.title('random', outcome)}, {variant}\n\n{tables.per_class(random)}\n\n"
        f"### {tables.title('time_ordered', outcome)}, {variant}\n\n{tables.per_class(timed)}\n\n"
        f"A class with fewer than {tables.FEW_ROWS} held-out rows (marked +) can gain or lose many points by one row. "
        "\"alerts\" is the share of the class's rows that raise an alert, of whatever attack class. ROC AUC and average "
        "precision rank the class's probability against all other rows.\n\n"
        f"### Calibration, {tables.title('time_ordered', outcome)}\n\n{tables.calibration(timed)}\n\n"
        f"Export gate: onnxruntime against the fitted model on the rows that the random split holds out, filled up with training rows to "
        f"{GATE_ROWS} where there are fewer: {outcome['agreement']}."
    )


def _port_sentence(outcome: dict) -> str:
    """Why the port is left out, or not, and what the other choice would be worth."""
    used = outcome["chosen"] == "with_port"
    kept = "The port is used because it was asked for" if used else "The port is left out by default"
    text = (
        f"{kept}: in the test bed of this data each attack went to one service of a few victims, so a port is a "
        "shortcut that says nothing about another network."
    )
    other = "without_port" if used else "with_port"
    within = []
    for name, repeats in outcome["spread"].items():
        if repeats and other in outcome["results"][name]:
            seen = [scores["accuracy"] for scores in [*repeats, outcome["results"][name][outcome["chosen"]]]]
            # Headlines are rounded to six digits, so compare with that slack.
            inside = min(seen) - 1e-6 <= outcome["results"][name][other]["accuracy"] <= max(seen) + 1e-6
            within.append(f"{'inside' if inside else 'outside'} it ({name.replace('_', ' ')})")
    if within:
        text += (
            f" Against the spread of accuracy over seeds, the model {tables.VARIANTS[other]} lies {' and '.join(within)}; "
            "inside means that the difference may be luck."
        )
    return text


def _limits(outcome: dict) -> str:
    """What whoever relies on the model must know."""
    facts, profile = outcome["data"], outcome["contract"].profile
    lines = [
        f"- **One-packet flows and flows of zero duration**: the training data holds {facts['rows_one_packet']} and "
        f"{facts['rows_zero_duration']} of them, a live sensor meets both all day. What the model says of them is "
        "a guess. Asked about harmless ones made up from the column definitions:",
    ]
    for kind, answer in outcome["probe"].items():
        classes = ", ".join(f"{name} {count}" for name, count in answer["alerts_by_class"].items())
        lines.append(
            f"  - {kind}: {answer['alerts']} of {answer['flows']} raise an alert"
            + (f" ({classes})" if classes else "")
            + f", {answer['called_attack']} are called an attack at any probability"
        )
    lines += [
        "- **Other networks**: all attacks came from a few hosts with a few tools to a few victims in one test bed "
        "in July 2017. The numbers above are for that test bed. Expect more false alarms and more misses elsewhere; "
        "judge it on your own traffic before acting on its alerts.",
        "- **Fingerprints of the test bed**: initial window sizes, header lengths with TCP options and pauses between "
        "packets partly identify the operating systems, tools and settings of those hosts, not the attack as such. "
        "TTLs and addresses are not fed.",
        "- **What it has not seen**: attacks, tools and versions after 2017, or classes not in the list, are called "
        "whatever is nearest, BENIGN included.",
        "- **Encrypted payload, and payload at all**: it sees sizes, times and flags only. An injection that looks like "
        "an ordinary request in these is not found.",
        "- **Slow or spread attacks**: each flow is judged alone, when it ends or reaches its time limit.",
        "- **Probabilities** come from training rows weighed and drawn as said above, not the chance that an alert is true. "
        "Real traffic holds far fewer attacks than this data.",
        f"- **The budget** is counted on {outcome['thresholds']['random'].benign_rows} benign rows of one test bed. On another "
        "network the same thresholds may raise many times as many alerts; count there, then set your own.",
        "- **Evasion**: whoever controls packet sizes and pauses can move a flow across any of these thresholds.",
    ]
    if outcome["settings"].copies:
        lines.append(
            "- **Copies at another pace** multiply a row's times and divide its rates. Where a real flow at that pace would "
            "have been cut elsewhere, or counted as idle, the copy does not know it."
        )
    if UNRELIABLE[profile]:
        names = ", ".join(f"`{name}`" for name in UNRELIABLE[profile])
        lines.append(f"- {names} are not used: for UDP the published files hold values no sensor can reproduce.")
    return "\n".join(lines)


def _again(outcome: dict) -> str:
    digests = "\n".join(f"- `{name}` `{digest}`" for name, digest in outcome["contract"].inputs_sha256.items())
    linear = outcome["contract"].kind == "stacking"
    return (
        f"With `training/requirements.txt` installed, Python {'.'.join(platform.python_version_tuple()[:2])}, from "
        f"the folder above `training/`:\n\n```\n{command(outcome)}\n```\n\n"
        f"The same inputs (SHA-256 below), settings and date give the same bytes; seed {outcome['settings'].seed}."
        + (" The linear part's last bits depend on the processor's instruction set too." if linear else "")
        + "\n\n" + digests
    )
