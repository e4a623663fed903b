"""Owns every text that tells of a training run: summary, report and model card.

All numbers come from the run's outcome. Nothing here names a path, a machine or
a person, and the card holds nothing that changes between two equal runs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import shlex
from dataclasses import asdict

from . import DEFAULT_REPEATS, __version__
from .check import GATE_ROWS
from .contract import CITATION
from .features import NAMES, UNRELIABLE
from .measure import DEFAULT_THRESHOLD
from .values import NON_FINITE

TITLES = {"random": "random 80/20 split", "time_ordered": "70/30 split in time order"}
VARIANTS = {"without_port": "without Destination Port", "with_port": "with Destination Port"}
#: Below this many held-out rows a class's ratios say little.
FEW_ROWS = 20
_PACKAGES = ("numpy", "pandas", "scikit-learn", "onnx", "onnxruntime")


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
            lines.append(f"{mark} {_title(name, outcome)}, {VARIANTS[variant]}: {_scores_line(scores)}")
    lines.append("  (* the exported choice)")
    lines.append(
        f"model: {outcome['bytes']} bytes, {size.trees} trees, {size.nodes} nodes "
        f"({size.nodes_least} to {size.nodes_most} a tree), depth up to {size.depth_most}"
    )
    lines.append(f"gate: onnxruntime agrees with scikit-learn: {outcome['agreement']}")
    return "\n".join(lines)


def as_json(outcome: dict) -> str:
    """The whole outcome for programs."""
    contract, settings = outcome["contract"], outcome["request"].settings
    return json.dumps(
        {
            "name": contract.name,
            "version": contract.version,
            "profile": contract.profile,
            "date": contract.date,
            "classes": contract.classes,
            "thresholds": contract.thresholds,
            "unused_features": contract.unused_features,
            "training_data": contract.training_data,
            "inputs_sha256": contract.inputs_sha256,
            "settings": asdict(settings),
            "data": outcome["data"],
            "fitted_rows": outcome["fitted_rows"],
            "exported": outcome["chosen"],
            "splits": outcome["results"],
            "further_seeds": outcome["spread"],
            "model": {"bytes": outcome["bytes"], "sha256": _sha256(outcome), **asdict(outcome["size"])},
            "gate": asdict(outcome["agreement"]),
            "importances": {NAMES[column]: share for column, share in outcome["importances"]},
            "probe": outcome["probe"],
            "software": _software(),
        },
        indent=1,
        ensure_ascii=False,
    ) + "\n"


def markdown(outcome: dict) -> str:
    """The full report: the card's numbers, every class of every variant, confusion matrices."""
    parts = [f"# Training report: {outcome['contract'].name} {outcome['contract'].version}", _data(outcome)]
    parts.append("## Overview\n\n" + _overview(outcome))
    for name, variants in outcome["results"].items():
        for variant, scores in variants.items():
            heading = f"## {_title(name, outcome)}, {VARIANTS[variant]}"
            parts.append(f"{heading}\n\n{_per_class(scores)}\n\n{_confusion(scores, outcome['contract'].classes)}")
    parts.append("## What the trees look at most\n\n" + _importances(outcome, 20))
    parts.append("## Software\n\n" + "\n".join(f"- {name} {version}" for name, version in _software().items()))
    return "\n\n".join(parts) + "\n"


def card(outcome: dict) -> str:
    """The model card."""
    contract, size, settings = outcome["contract"], outcome["size"], outcome["request"].settings
    chosen = outcome["chosen"]
    random, timed = (outcome["results"][name][chosen] for name in ("random", "time_ordered"))
    unused = ", ".join(f"`{name}`" for name in contract.unused_features)
    parts = [
        f"# Model card: {contract.name} {contract.version}",
        "Written by `python -m ml_ids_training train`; do not edit, train again.",
        "## What it is\n\n"
        f"A random forest that names the kind of a finished network flow from 78 numbers about it: {size.trees} trees, "
        f"depth up to {size.depth_most}, {size.nodes} nodes ({size.nodes_least} to {size.nodes_most} a tree, median "
        f"{size.nodes_median:g}), balanced class weights, float32. One `TreeEnsembleClassifier` node of ai.onnx.ml 3, "
        f"{outcome['bytes']} bytes, SHA-256 `{_sha256(outcome)}`.\n\n"
        f"- Profile: `{contract.profile}`. It must be fed flows of this profile and no other: the same column names "
        "mean different things in others.\n"
        "- Input: `features` float32 [N, 78], the columns of MachineLearningCVE in their order. In the vector but "
        f"never looked at: {unused}.\n"
        f"- Not finite: NaN becomes {NON_FINITE['nan']:g}, +Infinity {NON_FINITE['pos_inf']:g}, -Infinity "
        f"{NON_FINITE['neg_inf']:g}, then one rounding to float32; in training as in use.\n"
        f"- Classes, in the order of `probabilities`: {', '.join(contract.classes)}.",
        _data(outcome),
        "## Thresholds\n\n"
        f"A verdict is an alert if its class is an attack and its probability is at least {DEFAULT_THRESHOLD:g}, "
        "for every attack class alike: more weight on this one attack than on everything else together. BENIGN has "
        "no threshold. The value was set beforehand, not fitted to either split. With it, benign rows raise alerts at "
        f"{_percent(random['benign_alert_rate'])} (random) and {_percent(timed['benign_alert_rate'])} (in time order), "
        f"attack rows at {_percent(random['attack_alert_rate'])} and {_percent(timed['attack_alert_rate'])}. "
        "What other values would have done on the same rows:\n\n" + _other_thresholds(random, timed),
        "## What was measured\n\n" + _overview(outcome) + "\n\n"
        "A benign false alarm is a benign row whose most probable class is an attack, whatever its probability. "
        + _port_sentence(outcome) + "\n\n"
        f"### {_title('random', outcome)}, {VARIANTS[chosen]}\n\n{_per_class(random)}\n\n"
        f"### {_title('time_ordered', outcome)}, {VARIANTS[chosen]}\n\n{_per_class(timed)}\n\n"
        f"A class with fewer than {FEW_ROWS} held-out rows (marked +) can gain or lose many points by one row. "
        "\"alerts\" is the share of the class's rows that raise an alert, of whatever attack class.\n\n"
        f"Export gate: onnxruntime against scikit-learn on the held-out rows, filled up with training rows to "
        f"{GATE_ROWS} where there are fewer: {outcome['agreement']}.",
        "## What it cannot do\n\n" + _limits(outcome),
        "## What the trees look at most\n\n" + _importances(outcome, 12),
        f"## Citation\n\n{CITATION}.",
        "## How to make it again\n\n"
        f"With `training/requirements.txt` installed, Python {'.'.join(platform.python_version_tuple()[:2])}, from "
        f"the folder above `training/`:\n\n```\n{_command(outcome)}\n```\n\n"
        f"The same inputs (SHA-256 below), settings and date give the same bytes; seed {settings.seed}.\n\n"
        + "\n".join(f"- `{name}` `{digest}`" for name, digest in contract.inputs_sha256.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _data(outcome: dict) -> str:
    facts, contract = outcome["data"], outcome["contract"]
    share = facts["rows_duplicate"] / max(facts["rows_read"], 1)
    lines = [
        f"{contract.training_data}.",
        "",
        f"- {facts['rows_duplicate']} rows ({_percent(share)}) repeat another in all 76 measured columns and were dropped "
        "before any split.",
    ]
    if facts["rows_attempted"]:
        lines.append(f"- {facts['rows_attempted']} rows labelled \"Attempted\" are neither attack nor benign and were left out.")
    if facts["labels_file"]:
        rules = facts["labels_file"]["rules"]
        rest = "taken for BENIGN" if facts["labels_file"]["unmatched"] == "benign" else "left out"
        lines.append(
            f"- The flows were labelled by the {len(rules)} rules of a labels file; "
            f"{facts['labels_file']['rows_unmatched']} that no rule fits were {rest}."
        )
    if facts["rows_empty"]:
        lines.append(f"- {facts['rows_empty']} empty lines were skipped.")
    lines += [
        f"- The model was fitted on {outcome['fitted_rows']} rows, the training part of the random split; the rest was "
        "held out and is what `--test-rows` writes.",
        "- Addresses, times and flow identifiers were never fed.",
    ]
    if facts["ordered_by"] != "time":
        lines.append("- **No times in the data: \"time order\" below is the order of the rows in the files.**")
    lines.append(f"- {facts['cells_not_finite']} cells were NaN or Infinity.")
    lines += ["", "| class | rows read | rows used |", "|---|---:|---:|"]
    for name in contract.classes:
        lines.append(f"| {name} | {facts['rows_by_class_before'].get(name, 0)} | {facts['rows_by_class'][name]} |")
    return "## Data\n\n" + "\n".join(lines)


def _overview(outcome: dict) -> str:
    lines = [
        "| split | forest | rows | accuracy | macro F1 | benign false alarms | benign alerts | attacks alerted |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, variants in outcome["results"].items():
        for variant in sorted(variants, key=lambda v: v != outcome["chosen"]):
            scores = variants[variant]
            mark = "**" if variant == outcome["chosen"] else ""
            lines.append(
                f"| {_title(name, outcome)} | {mark}{VARIANTS[variant]}{mark} | {scores['rows']} | {scores['accuracy']:.4f} "
                f"| {scores['macro_f1']:.4f} | {_percent(scores['benign_false_alarm_rate'])} "
                f"| {_percent(scores['benign_alert_rate'])} | {_percent(scores['attack_alert_rate'])} |"
            )
    lines.append("\nIn bold: the exported choice.")
    if outcome["spread"]["random"]:
        lines.append(f"\n{_spread(outcome['spread'])}")
    return "\n".join(lines)


def _spread(spread: dict[str, list[dict]]) -> str:
    """How far the numbers of one split and one forest are luck."""
    lines = [
        f"The exported choice with {len(spread['random'])} further seeds (in the random split other rows and another "
        "forest, in time order the same rows and another forest), mean (least to most):",
        "",
        "| split | accuracy | macro F1 | benign false alarms | attacks alerted |",
        "|---|---:|---:|---:|---:|",
    ]
    columns = (
        ("accuracy", "{:.4f}".format), ("macro_f1", "{:.4f}".format),
        ("benign_false_alarm_rate", _percent), ("attack_alert_rate", _percent),
    )
    for name, repeats in spread.items():
        cells = []
        for key, form in columns:
            found = [scores[key] for scores in repeats]
            cells.append(f"{form(sum(found) / len(found))} ({form(min(found))} to {form(max(found))})")
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    lines.append("\nMacro F1 moves with single rows of the rarest classes.")
    return "\n".join(lines)


def _other_thresholds(random: dict, timed: dict) -> str:
    lines = [
        "| threshold for all attack classes | benign alerts, random | attacks alerted, random "
        "| benign alerts, in order | attacks alerted, in order |",
        "|---:|---:|---:|---:|---:|",
    ]
    for value in random["other_thresholds"]:
        both = (scores["other_thresholds"][value] for scores in (random, timed))
        cells = [_percent(found[key]) for found in both for key in ("benign_alert_rate", "attack_alert_rate")]
        lines.append(f"| {value} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _port_sentence(outcome: dict) -> str:
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
            f" Against the spread of accuracy over seeds, the forest {VARIANTS[other]} lies {' and '.join(within)}; "
            "inside means that the difference may be luck."
        )
    return text


def _per_class(scores: dict) -> str:
    lines = ["| class | precision | recall | F1 | held-out rows | alerts |", "|---|---:|---:|---:|---:|---:|"]
    for name, row in scores["per_class"].items():
        few = " +" if row["support"] < FEW_ROWS else ""
        lines.append(
            f"| {name}{few} | {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} | {row['support']} "
            f"| {_percent(row['alert_share'])} |"
        )
    return "\n".join(lines)


def _confusion(scores: dict, classes: tuple[str, ...]) -> str:
    head = "| truth \\ verdict | " + " | ".join(str(index) for index in range(len(classes))) + " |"
    lines = [head, "|---|" + "---:|" * len(classes)]
    for index, (name, row) in enumerate(zip(classes, scores["confusion_matrix"])):
        cells = " | ".join(str(count) if count else "." for count in row)
        lines.append(f"| {index} {name} | {cells} |")
    return "\n".join(lines)


def _limits(outcome: dict) -> str:
    facts, profile = outcome["data"], outcome["contract"].profile
    lines = [
        f"- **One-packet flows and flows of zero duration**: the training data holds {facts['rows_one_packet']} and "
        f"{facts['rows_zero_duration']} of them, a live sensor meets both all day. What the forest says of them is "
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
        "- **Probabilities** are shares of tree votes under balanced weights, not the chance that an alert is true. "
        "Real traffic holds far fewer attacks than this data.",
        "- **Evasion**: whoever controls packet sizes and pauses can move a flow across any of these thresholds.",
    ]
    if UNRELIABLE[profile]:
        names = ", ".join(f"`{name}`" for name in UNRELIABLE[profile])
        lines.append(f"- {names} are not used: for UDP the published files hold values no sensor can reproduce.")
    return "\n".join(lines)


def _importances(outcome: dict, count: int) -> str:
    lines = ["| column | share of impurity removed |", "|---|---:|"]
    lines += [f"| {NAMES[column]} | {share:.3f} |" for column, share in outcome["importances"][:count]]
    return "\n".join(lines)


def _command(outcome: dict) -> str:
    """The command of this run, data files by base name only."""
    request, facts = outcome["request"], outcome["data"]
    settings = request.settings
    labels_file = facts["labels_file"]
    data = [name for name in facts["files"] if labels_file is None or name != labels_file["file"]]
    arguments = ["train", *data, "--profile", request.profile]
    if labels_file is not None:
        arguments += ["--labels", labels_file["file"], "--unmatched", request.unmatched]
    arguments += ["--out", f"models/{request.out.name}", "--card", f"models/{request.out.stem}.md"]
    arguments += ["--trees", settings.trees, "--max-depth", settings.max_depth, "--seed", settings.seed]
    arguments += ["--date", request.date, "--name", request.name]
    if request.version != request.date:
        arguments += ["--model-version", request.version]
    arguments += ["--data-note", request.data_note]
    if request.repeats != DEFAULT_REPEATS:
        arguments += ["--repeats", request.repeats]
    if request.limit_per_class is not None:
        arguments += ["--limit-per-class", request.limit_per_class]
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


def _title(name: str, outcome: dict) -> str:
    if name == "time_ordered" and outcome["data"]["ordered_by"] != "time":
        return "70/30 split in file order (no times in the data)"
    return TITLES[name]


def _scores_line(scores: dict) -> str:
    return (
        f"accuracy {scores['accuracy']:.4f}, macro F1 {scores['macro_f1']:.4f}, benign false alarms "
        f"{_percent(scores['benign_false_alarm_rate'])} ({scores['rows']} rows)"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _sha256(outcome: dict) -> str:
    return hashlib.sha256(outcome["model"]).hexdigest()


def _software() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"ml-ids-training": __version__, "Python": platform.python_version(), **found}
