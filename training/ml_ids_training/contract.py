"""Owns the contract: what a model file says about itself in `metadata_props`.

The sensor refuses a model whose contract it cannot keep, so a key is added or
changed here and there together, under a new `ml_ids.contract` number.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import onnx

from .budget import Budget
from .errors import UnreadableInput
from .features import NAMES, PROFILES
from .values import NON_FINITE

VERSION = "1"

CITATION = (
    "I. Sharafaldin, A. H. Lashkari, A. A. Ghorbani: Toward Generating a New Intrusion Detection "
    "Dataset and Intrusion Traffic Characterization. ICISSP 2018; "
    "L. Liu, G. Engelen, T. Lynar, D. Essam, W. Joosen: Error Prevalence in NIDS datasets: A Case "
    "Study on CIC-IDS-2017 and CSE-CIC-IDS-2018. IEEE CNS 2022"
)

#: What every model file of this contract has.
REQUIRED = (
    "ml_ids.contract",
    "ml_ids.name",
    "ml_ids.version",
    "ml_ids.profile",
    "ml_ids.features",
    "ml_ids.classes",
    "ml_ids.thresholds",
    "ml_ids.non_finite",
    "ml_ids.unused_features",
    "ml_ids.training_data",
    "ml_ids.citation",
    "ml_ids.date",
    "ml_ids.inputs_sha256",
    "ml_ids.metrics",
)
#: What this package writes besides; the agent does without the key but not with a wrong value.
KEYS = (*REQUIRED, "ml_ids.kind", "ml_ids.budget", "ml_ids.distribution", "ml_ids.probes")


@dataclass(frozen=True)
class Contract:
    """The contract as typed values; `to_metadata` makes the strings."""

    name: str
    version: str
    profile: str
    classes: tuple[str, ...]
    thresholds: dict[str, float]
    unused_features: tuple[str, ...]
    training_data: str
    date: str
    inputs_sha256: dict[str, str]
    metrics: dict
    kind: str
    budget: Budget
    distribution: dict
    probes: dict

    def to_metadata(self) -> dict[str, str]:
        """All keys in the order of `KEYS`; lists and objects as JSON."""
        values = (
            VERSION,
            self.name,
            self.version,
            self.profile,
            _json(NAMES),
            _json(self.classes),
            _json(self.thresholds),
            _json(NON_FINITE),
            _json(self.unused_features),
            self.training_data,
            CITATION,
            self.date,
            _json(self.inputs_sha256),
            _json(self.metrics),
            self.kind,
            _json({**asdict(self.budget), "benign_alert_share": self.budget.share}),
            _json(self.distribution),
            _json(self.probes),
        )
        return dict(zip(KEYS, values, strict=True))


def read_contract(model: onnx.ModelProto, path: str) -> dict[str, str]:
    """The contract's strings of a model file; raises if it keeps another contract."""
    found = {entry.key: entry.value for entry in model.metadata_props}
    missing = [key for key in REQUIRED if key not in found]
    if missing:
        raise UnreadableInput(f"{path}: the model's contract lacks {', '.join(missing)}")
    if found["ml_ids.contract"] != VERSION:
        raise UnreadableInput(f"{path}: contract {found['ml_ids.contract']}, this program knows {VERSION}")
    try:
        features = json.loads(found["ml_ids.features"])
        policy = json.loads(found["ml_ids.non_finite"])
        json.loads(found["ml_ids.classes"])
    except json.JSONDecodeError as error:
        raise UnreadableInput(f"{path}: the model's contract is not valid JSON: {error}") from error
    if features != list(NAMES) or found["ml_ids.profile"] not in PROFILES:
        raise UnreadableInput(f"{path}: the model expects other features than the 78 known here")
    if policy != NON_FINITE:
        raise UnreadableInput(f"{path}: the model replaces NaN and Infinity by other values than {NON_FINITE}")
    return found


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
