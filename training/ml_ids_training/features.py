"""Owns the names and the order of the 78 model inputs.

The table itself is `features.json`, one object a column in the order of the
MachineLearningCVE files of CIC-IDS2017. Every vector in this package has that
order; columns a forest must not look at stay in the vector and are named in
the model's contract.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources

from .errors import WrongUsage

#: Semantics a vector can follow. The same column name means different things
#: in different releases of the extractor, so a model serves exactly one.
PROFILES = ("cns2022", "cic2017", "fixed")


@dataclass(frozen=True)
class Feature:
    """One of the 78 columns.

    `index` counts from 1 as in the published table; `name` is the spelling of
    MachineLearningCVE without leading blanks; `published` is the header as it
    was published; the last names are `None` where that tool has no such column.
    """

    index: int
    name: str
    published: str
    cicflowmeter4: str | None
    cicflowmeter2018: str | None
    python: str | None
    unit: str


def _load() -> tuple[Feature, ...]:
    text = resources.files(__package__).joinpath("features.json").read_text(encoding="utf-8")
    return tuple(Feature(**row) for row in json.loads(text))


FEATURES: tuple[Feature, ...] = _load()
NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
WIDTH = len(FEATURES)

PORT = "Destination Port"
REPEATED = "Fwd Header Length.1"
#: The column that `REPEATED` repeats, present in every flavour.
REPEATED_SOURCE = "Fwd Header Length"

#: Columns that measure the traffic: all but the port and the repeated column.
#: Two rows that agree in these are one observation.
MEASURED: tuple[int, ...] = tuple(
    position for position, name in enumerate(NAMES) if name not in (PORT, REPEATED)
)

#: Header lengths of UDP packets in the files of 2017 are those of whichever TCP
#: packet came before (20, 32, at times garbage down to -1e10), so no live sensor
#: can reproduce them and a forest must not learn from them.
UNRELIABLE: dict[str, tuple[str, ...]] = {
    "cns2022": (),
    "fixed": (),
    "cic2017": ("Fwd Header Length", "Bwd Header Length", "min_seg_size_forward"),
}


def unused_features(profile: str, use_port: bool, left_out: Collection[str] = ()) -> tuple[str, ...]:
    """Names the model never looks at by design, in column order."""
    unknown = sorted(set(left_out) - set(NAMES))
    if unknown:
        raise WrongUsage(f"--leave-out {unknown[0]}: no such column; the names are those of features.json")
    skipped = {REPEATED, *UNRELIABLE[profile], *left_out}
    if not use_port:
        skipped.add(PORT)
    if len(skipped) == WIDTH:
        raise WrongUsage("--leave-out leaves no column to learn from")
    return tuple(name for name in NAMES if name in skipped)


def used_columns(profile: str, use_port: bool, left_out: Collection[str] = ()) -> tuple[int, ...]:
    """Positions (from 0) of the columns the model may look at."""
    skipped = unused_features(profile, use_port, left_out)
    return tuple(position for position, name in enumerate(NAMES) if name not in skipped)
