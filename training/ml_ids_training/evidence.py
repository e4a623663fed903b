"""Owns looking for proof that rows were not made with the profile they are said to have.

The sensor's own CSVs do not name their profile, and rows of two profiles must
never be mixed. Some columns are bound to each other in one way in one profile and
in another way in another, so a single row may prove the user's word wrong. Rows
that could be of either prove nothing.
"""

from __future__ import annotations

import numpy as np

from .features import NAMES

_DURATION, _FORWARD, _BACKWARD, _RATE, _GAP_LEAST, _SUB_FORWARD, _SUB_BACKWARD = (
    NAMES.index(name) for name in (
        "Flow Duration", "Total Fwd Packets", "Total Backward Packets", "Flow Packets/s",
        "Flow IAT Min", "Subflow Fwd Packets", "Subflow Bwd Packets",
    )
)
#: A gap between subflows is longer than a second.
_GAP_MICROSECONDS = 1_000_000
#: Slack for counts that went through a division and a text.
_NEARLY = 1e-6


def contradicting_rows(values: np.ndarray, profile: str) -> np.ndarray:
    """Positions of the rows that this profile cannot have made."""
    return np.flatnonzero(~_POSSIBLE[profile](values))


def _cic2017(values: np.ndarray) -> np.ndarray:
    """There is always one subflow, the flow; a flow has two packets or more."""
    forward, backward = values[:, _FORWARD], values[:, _BACKWARD]
    return (values[:, _SUB_FORWARD] == forward) & (values[:, _SUB_BACKWARD] == backward) & (forward + backward >= 2)


def _cns2022(values: np.ndarray) -> np.ndarray:
    """Packets over packets of the flow, rounded down; no rate of a flow without duration is finite."""
    forward, backward = values[:, _FORWARD], values[:, _BACKWARD]
    packets = np.maximum(forward + backward, 1)
    subflows = (values[:, _SUB_FORWARD] == forward // packets) & (values[:, _SUB_BACKWARD] == backward // packets)
    return subflows & ((values[:, _DURATION] != 0) | ~np.isfinite(values[:, _RATE]))


def _fixed(values: np.ndarray) -> np.ndarray:
    """Packets over gaps of more than a second, 0 without a gap; the rate of no duration is -1."""
    forward, backward, duration = values[:, _FORWARD], values[:, _BACKWARD], values[:, _DURATION]
    packets, parts = forward + backward, values[:, _SUB_FORWARD] + values[:, _SUB_BACKWARD]
    with np.errstate(divide="ignore", invalid="ignore"):
        gaps = packets / parts
        whole = np.abs(gaps - np.round(gaps)) <= _NEARLY * gaps
        # Where the capture's clock ran backwards the gaps are longer than the flow.
        fits = (np.round(gaps) * _GAP_MICROSECONDS < duration) | (values[:, _GAP_LEAST] < 0)
    possible = whole & (gaps <= packets) & fits
    return ((parts == 0) | possible) & ((duration != 0) | (values[:, _RATE] == -1))


_POSSIBLE = {"cic2017": _cic2017, "cns2022": _cns2022, "fixed": _fixed}
