"""Owns the Markdown tables that report and card share. All numbers come from the run's outcome."""

from __future__ import annotations

from .features import NAMES
from .trial import FOLDS

TITLES = {"random": "random 80/20 split", "time_ordered": "70/30 split in time order"}
VARIANTS = {"without_port": "without Destination Port", "with_port": "with Destination Port"}
#: Below this many held-out rows a class's ratios say little.
FEW_ROWS = 20


def title(name: str, outcome: dict) -> str:
    """What a split is called in headings."""
    if name == "time_ordered" and outcome["data"]["ordered_by"] != "time":
        return "70/30 split in file order (no times in the data)"
    return TITLES[name]


def percent(share: float) -> str:
    """A share with two digits after the point, three if it is small."""
    return f"{100 * share:.3f} %" if 0 < share < 0.0005 else f"{100 * share:.2f} %"


def data(outcome: dict) -> str:
    """What was read, dropped and used."""
    facts, contract = outcome["data"], outcome["contract"]
    share = facts["rows_duplicate"] / max(facts["rows_read"], 1)
    lines = [
        f"{contract.training_data}.",
        "",
        f"- {facts['rows_duplicate']} rows ({percent(share)}) repeat another in all 76 measured columns and were dropped "
        "before any split.",
    ]
    if facts["rows_attempted"]:
        lines.append(f"- {facts['rows_attempted']} rows labelled \"Attempted\" are neither attack nor benign and were left out.")
    if facts["rows_empty"]:
        lines.append(f"- {facts['rows_empty']} empty lines were skipped.")
    lines += [
        _fitted_on(outcome),
        "- Addresses, times and flow identifiers were never fed.",
    ]
    if facts["ordered_by"] != "time":
        lines.append("- **No times in the data: \"time order\" below is the order of the rows in the files.**")
    lines.append(f"- {facts['cells_not_finite']} cells were NaN or Infinity.")
    lines += ["", "| class | rows read | rows used |", "|---|---:|---:|"]
    for name in contract.classes:
        lines.append(f"| {name} | {facts['rows_by_class_before'].get(name, 0)} | {facts['rows_by_class'][name]} |")
    return "\n".join(lines)

def _fitted_on(outcome: dict) -> str:
    if outcome["request"].fit_all:
        return (
            f"- The exported model was fitted on all {outcome['fitted_rows']} rows. **Every number below was measured on models "
            "of the same settings that had not seen the rows that judge them**; so were the thresholds chosen. "
            "`--test-rows` writes the rows that the random split holds out, with the exported model's answers: they tell "
            "whether a runtime answers alike, not how good the model is."
        )
    return (
        f"- The model was fitted on {outcome['fitted_rows']} rows, the training part of the random split; the rest was "
        "held out and is what `--test-rows` writes."
    )


def overview(outcome: dict) -> str:
    """Both splits with and without the port, and the spread over seeds."""
    lines = [
        "| split | columns | rows | accuracy | macro F1 | macro F1 of alerts | benign false alarms | benign alerts | attacks alerted |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, variants in outcome["results"].items():
        for variant in sorted(variants, key=lambda v: v != outcome["chosen"]):
            scores = variants[variant]
            mark = "**" if variant == outcome["chosen"] else ""
            lines.append(
                f"| {title(name, outcome)} | {mark}{VARIANTS[variant]}{mark} | {scores['rows']} | {scores['accuracy']:.4f} "
                f"| {scores['macro_f1']:.4f} | {scores['alert_macro_f1']:.4f} | {percent(scores['benign_false_alarm_rate'])} "
                f"| {percent(scores['benign_alert_rate'])} | {percent(scores['attack_alert_rate'])} |"
            )
    if len(lines) > 4:
        lines.append("\nIn bold: the exported choice. The other is judged with its thresholds.")
    if outcome["spread"]["random"]:
        lines.append(f"\n{_spread(outcome['spread'])}")
    return "\n".join(lines)

def _spread(spread: dict[str, list[dict]]) -> str:
    """How far the numbers of one split and one model are luck."""
    lines = [
        f"The exported choice with {len(spread['random'])} further seeds (in the random split other rows and another "
        "model, in time order the same rows and another model), mean (least to most):",
        "",
        "| split | accuracy | macro F1 | macro F1 of alerts | benign false alarms | attacks alerted |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    columns = (
        ("accuracy", "{:.4f}".format), ("macro_f1", "{:.4f}".format),
        ("alert_macro_f1", "{:.4f}".format),
        ("benign_false_alarm_rate", percent), ("attack_alert_rate", percent),
    )
    for name, repeats in spread.items():
        cells = []
        for key, form in columns:
            found = [scores[key] for scores in repeats]
            cells.append(f"{form(sum(found) / len(found))} ({form(min(found))} to {form(max(found))})")
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    lines.append("\nMacro F1 moves with single rows of the rarest classes.")
    return "\n".join(lines)

def other_thresholds(random: dict, timed: dict) -> str:
    """What one threshold for all classes would have done."""
    lines = [
        "| threshold for all attack classes | benign alerts, random | attacks alerted, random "
        "| benign alerts, in order | attacks alerted, in order |",
        "|---:|---:|---:|---:|---:|",
    ]
    for value in random["other_thresholds"]:
        both = (scores["other_thresholds"][value] for scores in (random, timed))
        cells = [percent(found[key]) for found in both for key in ("benign_alert_rate", "attack_alert_rate")]
        lines.append(f"| {value} | " + " | ".join(cells) + " |")
    return "\n".join(lines)

def per_class(scores: dict) -> str:
    """One row a class."""
    lines = [
        "| class | precision | recall | F1 | ROC AUC | average precision | held-out rows | alerts |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in scores["per_class"].items():
        few = " +" if 0 < row["support"] < FEW_ROWS else ""
        ranks = " | ".join("-" if row[key] is None else f"{row[key]:.4f}" for key in ("roc_auc", "average_precision"))
        lines.append(
            f"| {name}{few} | {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} | {ranks} | {row['support']} "
            f"| {percent(row['alert_share'])} |"
        )
    return "\n".join(lines)

def confusion(scores: dict, classes: tuple[str, ...]) -> str:
    """Rows are the truth, columns the verdicts."""
    head = "| truth \\ verdict | " + " | ".join(str(index) for index in range(len(classes))) + " |"
    lines = [head, "|---|" + "---:|" * len(classes)]
    for index, (name, row) in enumerate(zip(classes, scores["confusion_matrix"])):
        cells = " | ".join(str(count) if count else "." for count in row)
        lines.append(f"| {index} {name} | {cells} |")
    return "\n".join(lines)

def calibration(scores: dict) -> str:
    """How often verdicts of each probability are right."""
    found = scores["calibration"]
    lines = [
        f"Brier score {found['brier']:.5f} (0 best, 2 worst), of attack against benign {found['brier_attack']:.5f}; "
        f"probability and share of right verdicts lie {found['expected_calibration_error']:.4f} apart on average.",
        "",
        "| probability of the verdict | rows | mean probability | share right |",
        "|---|---:|---:|---:|",
    ]
    for row in found["reliability"]:
        lines.append(
            f"| {row['from']:.1f} to {row['from'] + 0.1:.1f} | {row['rows']} | {row['mean_probability']:.3f} "
            f"| {row['share_right']:.3f} |"
        )
    return "\n".join(lines)


def importances(outcome: dict, count: int) -> str:
    """What training counted, and beside it what is lost without the column."""
    if outcome["permutation"] is None:
        lines = ["| column | share at training |", "|---|---:|"]
        return "\n".join(lines + [f"| {NAMES[column]} | {share:.3f} |" for column, share in outcome["importances"][:count]])
    lines = ["| column | share at training | column | macro F1 lost when mixed up |", "|---|---:|---|---:|"]
    pairs = list(zip(outcome["importances"], outcome["permutation"]))[:count]
    lines += [f"| {NAMES[one]} | {share:.3f} | {NAMES[other]} | {loss:.4f} |" for (one, share), (other, loss) in pairs]
    return "\n".join(lines)


def contenders(outcome: dict) -> str:
    """Every kind that was tried, on both splits."""
    lines = [
        "| model | split | accuracy | macro F1 | macro F1 of alerts | benign alerts | attacks alerted | Brier score |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for kind, splits in outcome["contenders"].items():
        mark = "**" if kind == outcome["contract"].kind else ""
        for name, scores in splits.items():
            lines.append(
                f"| {mark}{kind}{mark} | {title(name, outcome)} | {scores['accuracy']:.4f} | {scores['macro_f1']:.4f} "
                f"| {scores['alert_macro_f1']:.4f} | {percent(scores['benign_alert_rate'])} "
                f"| {percent(scores['attack_alert_rate'])} | {scores['calibration']['brier']:.5f} |"
            )
    return "\n".join(lines)


def thresholds(outcome: dict) -> str:
    """The value of each class, as exported and as chosen for the split in time order."""
    random, timed = (outcome["thresholds"][name].thresholds for name in ("random", "time_ordered"))
    lines = ["| class | threshold | of the model judged in time order |", "|---|---:|---:|"]
    return "\n".join(lines + [f"| {name} | {value:g} | {timed[name]:g} |" for name, value in random.items()])


def budget(outcome: dict) -> str:
    """What was allowed, what thresholds were chosen on, and what came of it on other rows."""
    asked = outcome["contract"].budget
    lines = [
        f"Budget: {asked.alerts_per_day:g} alerts a day by harmless flows at {asked.flows_per_day:g} flows a day, "
        f"{percent(asked.share)} of them.",
        "",
        "| split | benign rows chosen on | allowed alerts | alerts left | benign rows judged on | alerts | a day | 95 % bounds, a day |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, chosen in outcome["thresholds"].items():
        scores = outcome["contenders"][outcome["contract"].kind][name]
        lower, upper = (bound * asked.flows_per_day for bound in scores["benign_alert_rate_bounds"])
        lines.append(
            f"| {title(name, outcome)} | {chosen.benign_rows} | {chosen.allowed} | {chosen.alerts} | {scores['benign_rows']} "
            f"| {scores['benign_alerts']} | {scores['benign_alert_rate'] * asked.flows_per_day:.0f} | {lower:.0f} to {upper:.0f} |"
        )
    random = outcome["thresholds"]["random"]
    finest = random.benign_rows and 3 / random.benign_rows * asked.flows_per_day
    lines += [
        "",
        f"Chosen on rows of the training part only: it is cut into {FOLDS} blocks in time order and each block answered by a "
        f"model of the others. No alert at all among {random.benign_rows} benign rows would still leave up to "
        f"{finest:.0f} a day possible (95 %), so no budget below that can be shown to be kept with this data.",
    ]
    if not all(chosen.met for chosen in outcome["thresholds"].values()):
        lines.append("\n**The budget is not kept where more alerts are left than allowed: those rows are taken for attacks with certainty.**")
    return "\n".join(lines)
