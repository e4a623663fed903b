"""Owns telling one kind of flow CSV from another by its header alone.

Column names repeat across releases while their meaning changes, so a file is
accepted only when its header is one that the asked profile was published with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import UnreadableInput, WrongUsage
from .features import FEATURES, NAMES, PORT, REPEATED, REPEATED_SOURCE

#: What each flavour is called in messages and which profiles it can hold.
#: The sensor's own export carries no profile, so the user's word is taken.
FLAVOURS: dict[str, tuple[str, tuple[str, ...]]] = {
    "machine-learning-cve": ("the CSVs of 2017 (MachineLearningCVE)", ("cic2017",)),
    "generated-labelled-flows": ("the CSVs of 2017 (GeneratedLabelledFlows)", ("cic2017",)),
    "cns2022": ("the improved CSVs of 2022 (CNS2022)", ("cns2022",)),
    "fork-2024": ("the corrected CICFlowMeter fork of 2024", ("fixed",)),
    "cicflowmeter4": ("the original CICFlowMeter 4", ()),
    "cicflowmeter2018": ("CSE-CIC-IDS2018 as first published", ()),
    "python": ("the Python cicflowmeter", ()),
    "ml-ids-extract": ("ml-ids extract", ("cns2022", "cic2017", "fixed")),
    "ml-ids-score": ("ml-ids score", ("cns2022", "cic2017", "fixed")),
}
#: Flavours of the sensor itself.
OWN = ("ml-ids-extract", "ml-ids-score")
#: Spellings of what tells conversations apart, in the order of `Layout.conversation`.
_CONVERSATION = (
    ("Src IP", "Source IP"), ("Src Port", "Source Port"), ("Dst IP", "Destination IP"),
    ("Dst Port", "Destination Port"), ("Protocol",),
)


@dataclass(frozen=True)
class Layout:
    """Where one file keeps what training needs; positions count from 0."""

    flavour: str
    width: int
    #: For each of the 78 model columns the position in the file.
    feature_positions: tuple[int, ...]
    #: None only where a labels file stands in for it.
    label: int | None
    #: None in MachineLearningCVE files, which hold no times.
    timestamp: int | None
    #: Source address and port, destination address and port, protocol; None where one is missing.
    conversation: tuple[int, ...] | None


def read_header(header: Sequence[str], profile: str, path: str, by_rules: bool = False) -> Layout:
    """Recognises the flavour, refuses what does not hold `profile`, finds the columns.

    With `by_rules` a labels file says what each flow is, so the flows must say
    when they were and between whom, and a Label column is of no account.
    """
    names = [" ".join(cell.replace("\ufeff", "").split()) for cell in header]
    flavour = _recognise(set(names), path)
    title, profiles = FLAVOURS[flavour]
    if profile not in profiles:
        fits = f"use --profile {profiles[0]}" if profiles else "no profile of the sensor computes these"
        raise WrongUsage(f"{path}: the header is that of {title}, which is not profile {profile}; {fits}")

    if flavour in ("cns2022", "fork-2024"):
        spellings = [feature.cicflowmeter4 for feature in FEATURES]
    else:
        spellings = list(NAMES)
    positions = _positions(names, spellings)
    missing = [NAMES[i] for i, position in enumerate(positions) if position is None]
    if missing:
        shown = ", ".join(missing[:4]) + (" ..." if len(missing) > 4 else "")
        raise UnreadableInput(f"{path}: {len(missing)} feature columns are missing: {shown}")
    timestamp = names.index("Timestamp") if "Timestamp" in names else None
    conversation = _conversation(names)
    if by_rules and (timestamp is None or conversation is None):
        raise WrongUsage(f"{path}: without addresses, ports, protocol and times a labels file fits no flow")
    if not by_rules and flavour == "ml-ids-score":
        raise WrongUsage(
            f"{path}: the labels that ml-ids score writes are a model's verdicts; say what the flows were with --labels"
        )
    if not by_rules and "Label" not in names:
        raise UnreadableInput(f"{path}: there is no Label column, so nothing can be learned from it")
    return Layout(
        flavour=flavour,
        width=len(names),
        feature_positions=tuple(position for position in positions if position is not None),
        label=names.index("Label") if "Label" in names else None,
        timestamp=timestamp,
        conversation=conversation,
    )


def _recognise(names: set[str], path: str) -> str:
    """Names the flavour by columns that only it has."""
    if PORT in names and "Total Backward Packets" in names:
        if "Src IP" in names and REPEATED in names:
            return "ml-ids-score" if {"Class", "Probability", "Alert"} <= names else "ml-ids-extract"
        return "generated-labelled-flows" if "Source IP" in names else "machine-learning-cve"
    if "Total Fwd Packet" in names:
        if "Total TCP Flow Time" in names:
            return "cns2022"
        return "fork-2024" if "Total Connection Flow Time" in names else "cicflowmeter4"
    if "Tot Fwd Pkts" in names:
        return "cicflowmeter2018"
    if "tot_fwd_pkts" in names:
        return "python"
    raise UnreadableInput(f"{path}: the header is of no known flow CSV")


def _conversation(names: Sequence[str]) -> tuple[int, ...] | None:
    found = [next((names.index(name) for name in spellings if name in names), None) for spellings in _CONVERSATION]
    return None if None in found else tuple(found)  # type: ignore[return-value]


def _positions(names: Sequence[str], spellings: Sequence[str | None]) -> list[int | None]:
    """Finds every model column; the repeated one falls back to the column it repeats.

    Files of 2017 write the repeated column a second time under the same name,
    files that went through pandas write `Fwd Header Length.1`, all others leave
    it out.
    """
    first: dict[str, int] = {}
    second: dict[str, int] = {}
    for position, name in enumerate(names):
        (second if name in first else first).setdefault(name, position)
    positions = [first.get(name) if name is not None else None for name in spellings]
    source = first.get(REPEATED_SOURCE)
    repeated = first.get(REPEATED, second.get(REPEATED_SOURCE, source))
    positions[NAMES.index(REPEATED)] = repeated
    return positions
