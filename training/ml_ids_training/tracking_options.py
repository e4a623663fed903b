"""Owns the options of the command line that say where a model is logged and under which name."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import store, tracking
from .errors import WrongUsage


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `train` and `register` share, but for the name."""
    group = add_store(parser)
    group.add_argument(
        "--experiment", default=store.EXPERIMENT, metavar="NAME", help="experiment of the run; default: %(default)s"
    )
    group.add_argument(
        "--alias", action="append", default=[], metavar="ALIAS",
        help="alias that moves to the new version, such as champion; may be repeated",
    )


def add_store(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Adds the options that say where, and returns their group."""
    group = parser.add_argument_group(
        "MLflow", f"Without --mlflow-uri and {store.URI_VARIABLE} a local folder stands in for the server. "
        "User, password and token are read from MLFLOW_TRACKING_USERNAME, _PASSWORD and _TOKEN.",
    )
    group.add_argument("--mlflow-uri", metavar="URI", help=f"server to log to; default: {store.URI_VARIABLE}")
    group.add_argument(
        "--out-dir", type=Path, default=Path(store.LOCAL_FOLDER), metavar="DIR",
        help="local folder used when no server is named; default: %(default)s",
    )
    return group


def destination(arguments: argparse.Namespace) -> store.Store:
    """Where to log."""
    return store.choose(arguments.mlflow_uri, arguments.out_dir, getattr(arguments, "experiment", store.EXPERIMENT))


def registration(name: str | None, arguments: argparse.Namespace) -> tracking.Registration | None:
    """The name to register under, if there is one."""
    if name is None:
        if arguments.alias:
            raise WrongUsage("--alias needs the name of a registered model: add --register NAME")
        return None
    return tracking.Registration(name, tuple(arguments.alias))


def wanted(arguments: argparse.Namespace, registration: tracking.Registration | None) -> bool:
    """Whether `train` logs its run: as it was told, else when there is a server or a name to register."""
    if arguments.track is None:
        return registration is not None or destination(arguments).folder is None
    if registration is not None and not arguments.track:
        raise WrongUsage("--register and --no-track exclude each other")
    return arguments.track
