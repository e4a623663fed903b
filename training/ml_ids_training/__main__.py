"""Owns the command line: parses it into a request, prints the outcome, exits."""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import DEFAULT_REPEATS, labels, tracking_options
from .errors import EXIT_FAILED, EXIT_OK, TrainingFailed, UnreadableInput, WrongUsage
from .features import PROFILES
from .settings import BALANCES, FOREST, KINDS

EPILOG = """\
exit codes: 0 done, 1 failed, 2 wrong usage, 3 input unreadable or malformed

example:
  python -m ml_ids_training train flows.csv.gz --profile cns2022 \\
      --out models/default.onnx --card models/default.md --report report/ \\
      --test-rows held-out.csv
  python -m ml_ids_training check models/default.onnx held-out.csv
  python -m ml_ids_training register models/default.onnx --name ml-ids --alias champion
"""

#: The choice of `--model` that tries all kinds.
BEST = "best"

#: What the data is called in the contract unless --data-note says it better.
DATA_NOTES = {
    "cns2022": "improved CIC-IDS2017 / CSE-CIC-IDS2018 (CNS2022)",
    "cic2017": "CIC-IDS2017 as published in 2017",
    "fixed": "own captures, corrected feature definitions",
}


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError("must be from 0 to 4294967295")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError("must be above 0 and at most 1")
    return value


def _leaves(text: str) -> int:
    value = int(text)
    if value < 2:
        raise argparse.ArgumentTypeError("must be at least 2")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e15:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _class_weight(text: str) -> tuple[str, float]:
    name, _, factor = text.rpartition("=")
    value = float(factor)
    if not name or not 0 < value < 1e6:
        raise argparse.ArgumentTypeError("must be NAME=W with W above 0 and below a million")
    return name, value


def _date(text: str) -> str:
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date of the form YYYY-MM-DD") from None


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    raw = argparse.RawDescriptionHelpFormatter
    main_parser = argparse.ArgumentParser(
        prog="python -m ml_ids_training",
        description="Trains the models of ML-IDS and writes them as checked ONNX files.",
        epilog=EPILOG,
        formatter_class=raw,
    )
    commands = main_parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train", help="CSV files of flows in, model out", epilog=EPILOG, formatter_class=raw,
        description="Reads labelled flows, drops duplicates, fits a model, chooses its thresholds for a false-alarm budget, judges "
        "it on a random and on a time-ordered split, exports it and compares the export with the fitted model.",
    )
    train.add_argument("data", nargs="+", metavar="DATA", help="CSV or CSV.gz file, or a folder of them")
    train.add_argument("--profile", required=True, choices=PROFILES, help="feature semantics the data was made with")
    train.add_argument("--out", required=True, type=Path, metavar="FILE", help="model file to write (.onnx)")
    train.add_argument("--card", type=Path, metavar="FILE", help="model card to write (Markdown)")
    train.add_argument("--report", type=Path, metavar="DIR", help="folder for report.md, report.json, mistakes.csv and figures")
    train.add_argument(
        "--figures", action=argparse.BooleanOptionalAction, default=True, help="draw figures into the report folder"
    )
    train.add_argument(
        "--labels", type=Path, metavar="FILE",
        help="CSV of rules that say what each flow was, for own captures: " + ",".join(labels.COLUMNS)
        + "; empty is any, the first rule that fits counts",
    )
    train.add_argument(
        "--unmatched", choices=labels.UNMATCHED, default=labels.UNMATCHED[0],
        help="what becomes of flows that no rule of --labels fits; default: %(default)s",
    )
    train.add_argument("--test-rows", type=Path, metavar="FILE", help="write the held-out rows with the fitted model's answers")
    train.add_argument(
        "--model", choices=(*KINDS, BEST), default=FOREST,
        help="kind of estimator; best tries all and exports the one with the best macro F1 of alerts in time order "
        "within the budget; default: %(default)s",
    )
    train.add_argument("--trees", type=_positive, metavar="N", help="trees, or rounds of boosting; default: 100, boosted 120")
    train.add_argument("--max-depth", type=_positive, default=20, metavar="N", help="default: %(default)s")
    train.add_argument("--min-leaf", type=_positive, metavar="N", help="least training rows in a leaf; default: 1, boosted 10")
    train.add_argument(
        "--max-features", type=_share, metavar="SHARE",
        help="share of the columns that a split, or a boosted tree, may choose from; default: the square root of their "
        "number for a split, 0.3 for a boosted tree",
    )
    train.add_argument("--leaves", type=_leaves, default=7, metavar="N", help="most leaves of a boosted tree; default: %(default)s")
    train.add_argument("--learning-rate", type=_share, default=0.08, metavar="X", help="of boosting; default: %(default)s")
    train.add_argument("--balance", choices=BALANCES, help="lifting of rare classes; default: balanced, boosted sqrt")
    train.add_argument(
        "--copies", type=_count, default=1, metavar="N",
        help="copies of the training rows at another pace, against learning one network's times; default: %(default)s",
    )
    train.add_argument(
        "--flows-per-day", type=_rate, default=100_000.0, metavar="N", help="harmless flows a day; default: %(default)g",
    )
    train.add_argument(
        "--alerts-per-day", type=_rate, default=100.0, metavar="N",
        help="alerts a day that they may raise, which thresholds are chosen for; default: %(default)g",
    )
    train.add_argument(
        "--least-threshold", type=_share, default=0.6, metavar="P", help="no threshold is lower; default: %(default)s",
    )
    train.add_argument(
        "--class-weight", type=_class_weight, action="append", default=[], metavar="NAME=W",
        help="factor on the weight of one class, may be given several times",
    )
    train.add_argument("--seed", type=_seed, default=20170703, metavar="N", help="default: %(default)s")
    train.add_argument("--jobs", type=_positive, default=2, metavar="N", help="threads while fitting; default: %(default)s")
    train.add_argument("--date", type=_date, metavar="YYYY-MM-DD", help="date in the contract; default: today (UTC)")
    train.add_argument("--name", default="default", help="model name in the contract; default: %(default)s")
    train.add_argument("--model-version", metavar="TEXT", help="version in the contract; default: the date")
    train.add_argument("--data-note", metavar="TEXT", help="what the data is, for contract and card")
    train.add_argument("--limit-per-class", type=_positive, metavar="N", help="draw at most N rows of each label")
    train.add_argument("--use-port", action="store_true", help="let the model look at Destination Port")
    train.add_argument(
        "--leave-out", action="append", default=[], metavar="COLUMN",
        help="a column the model must not look at, as MachineLearningCVE spells it, may be given several times",
    )
    train.add_argument(
        "--compare-port", action=argparse.BooleanOptionalAction, default=True,
        help="also judge the other choice of --use-port (two more fits; on by default)",
    )
    train.add_argument(
        "--fit-all", action="store_true",
        help="export a model of all rows; what is reported stays measured on models that had not seen the rows",
    )
    train.add_argument(
        "--repeats", type=_count, default=DEFAULT_REPEATS, metavar="N",
        help="judge each split with N further seeds, only to show the spread; default: %(default)s",
    )
    tracking_options.add_to(train)
    train.add_argument("--register", metavar="NAME", help="register the model under this name")
    train.add_argument(
        "--track", action=argparse.BooleanOptionalAction,
        help="log the run to MLflow; default: when a server is named or --register is given",
    )

    check = commands.add_parser(
        "check", help="compare a model file with stored answers", epilog=EPILOG, formatter_class=raw,
        description="Runs the model in onnxruntime on rows written by train --test-rows and compares the answers.",
    )
    check.add_argument("model", type=Path, metavar="MODEL", help="model file (.onnx)")
    check.add_argument("rows", type=Path, metavar="ROWS", help="CSV written by train --test-rows")

    register = commands.add_parser(
        "register", help="log a model file to MLflow and register it", epilog=EPILOG, formatter_class=raw,
        description="Logs an existing model file as a run of its own, registers it as a new version under a name "
        "and moves aliases to it. Sensors started with --model mlflow:NAME@ALIAS then load it.",
    )
    register.add_argument("model", type=Path, metavar="MODEL", help="model file (.onnx)")
    register.add_argument("--name", required=True, metavar="NAME", help="name to register the model under")
    register.add_argument("--card", type=Path, metavar="FILE", help="model card to log beside it")
    register.add_argument("--report", type=Path, metavar="DIR", help="report folder of the training run, to log as well")
    tracking_options.add_to(register)

    alias = commands.add_parser(
        "alias", help="point an alias at a registered version", epilog=EPILOG, formatter_class=raw,
        description="Moves an alias to a version that is registered already, such as back to the last good one.",
    )
    alias.add_argument("name", metavar="NAME", help="name of the registered model")
    alias.add_argument("version", type=_positive, metavar="VERSION", help="number of the version")
    alias.add_argument("alias", metavar="ALIAS", help="alias to move, such as champion")
    tracking_options.add_store(alias)
    return main_parser


def _train(arguments: argparse.Namespace) -> int:
    # MLflow is given files: those that were not asked for are written aside.
    with tempfile.TemporaryDirectory() as spare:
        return _train_and_log(arguments, Path(spare))


def _train_and_log(arguments: argparse.Namespace, spare: Path) -> int:
    from .budget import Budget
    from .report import summary
    from .settings import Settings
    from .train import Request, train

    registration = tracking_options.registration(arguments.register, arguments)
    track = tracking_options.wanted(arguments, registration)
    if arguments.alerts_per_day > arguments.flows_per_day:
        raise WrongUsage("--alerts-per-day is more than --flows-per-day: every flow may raise an alert, so no threshold is needed")
    kinds = KINDS if arguments.model == BEST else (arguments.model,)
    date = arguments.date or datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    request = Request(
        data=tuple(arguments.data),
        profile=arguments.profile,
        out=arguments.out,
        card=arguments.card or (spare / "card.md" if track else None),
        report=arguments.report or (spare / "report" if track else None),
        test_rows=arguments.test_rows,
        name=arguments.name,
        version=arguments.model_version or date,
        date=date,
        data_note=arguments.data_note or DATA_NOTES[arguments.profile],
        settings=Settings(
            kind=kinds[0],
            trees=arguments.trees,
            max_depth=arguments.max_depth,
            min_leaf=arguments.min_leaf,
            max_features=arguments.max_features,
            leaves=arguments.leaves,
            learning_rate=arguments.learning_rate,
            balance=arguments.balance,
            copies=arguments.copies,
            class_weights=dict(arguments.class_weight),
            seed=arguments.seed,
            jobs=arguments.jobs,
        ),
        kinds=kinds,
        budget=Budget(arguments.flows_per_day, arguments.alerts_per_day),
        least_threshold=arguments.least_threshold,
        use_port=arguments.use_port,
        left_out=tuple(arguments.leave_out),
        compare_port=arguments.compare_port,
        repeats=arguments.repeats,
        fit_all=arguments.fit_all,
        limit_per_class=arguments.limit_per_class,
        labels=arguments.labels,
        unmatched=arguments.unmatched,
        figures=arguments.figures,
    )
    print(summary(train(request)), flush=True)
    if track:
        from . import tracking

        print(tracking.log(tracking_options.destination(arguments), request.out, request.card, request.report, registration))
    return EXIT_OK


def _check(arguments: argparse.Namespace) -> int:
    from .check import check_file

    agreement = check_file(arguments.model, arguments.rows)
    print(f"{'agrees' if agreement.holds else 'DISAGREES'}: {agreement}")
    return EXIT_OK if agreement.holds else EXIT_FAILED


def _register(arguments: argparse.Namespace) -> int:
    from . import tracking

    registration = tracking_options.registration(arguments.name, arguments)
    destination = tracking_options.destination(arguments)
    print(tracking.log(destination, arguments.model, arguments.card, arguments.report, registration))
    return EXIT_OK


def _alias(arguments: argparse.Namespace) -> int:
    from . import tracking

    destination = tracking_options.destination(arguments)
    print(tracking.move_alias(destination, arguments.name, str(arguments.version), arguments.alias))
    return EXIT_OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parsed = parser().parse_args(arguments)
    try:
        return {"train": _train, "check": _check, "register": _register, "alias": _alias}[parsed.command](parsed)
    except (TrainingFailed, WrongUsage, UnreadableInput) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
