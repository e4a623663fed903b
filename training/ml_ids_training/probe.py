"""Owns asking a model about flows that its training data cannot hold.

The makers of the public files dropped rows with NaN or Infinity, and with them
every flow of one packet and every flow of zero duration. A sensor meets both all
day. Here a few dozen harmless ones are made up from the definitions of the
columns, and the card tells what the model says of them. It is a probe, not an
evaluation: there is no truth to compare with but that they are ordinary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from .features import NAMES
from .fitted import Fitted

#: L4 payload bytes of the made-up packets.
PAYLOADS = (0, 1, 16, 32, 48, 64, 100, 128, 256, 512, 1024, 1200, 1400)
#: (L4 header bytes, raw TCP window, flag columns).
UDP = (8, 0, ())
#: Data with time stamps, as most hosts send it.
DATA = (32, 501, ("ACK Flag Count",))
#: Packets without payload: opening, keeping alive, closing, refusing.
BARE = tuple(
    (header, window, flags)
    for windows, header, flags in (
        ((8192, 29200, 64240, 65535), 40, ("SYN Flag Count",)),
        ((0, 229, 501, 1024, 65535), 20, ("ACK Flag Count",)),
        ((0, 229, 501, 1024, 65535), 32, ("ACK Flag Count",)),
        ((229, 501, 1024), 32, ("FIN Flag Count", "ACK Flag Count")),
        ((0, 501), 20, ("RST Flag Count",)),
        ((0, 501), 20, ("RST Flag Count", "ACK Flag Count")),
    )
    for window in windows
)

_SERVER_PORT = 443


def probe(fitted: Fitted, profile: str, limits: Mapping[str, float]) -> dict[str, dict]:
    """For each kind of made-up flow: how many, how many alerts, and as what."""
    kinds = {
        "one UDP packet": [_flow(profile, UDP, [size], []) for size in PAYLOADS],
        "one TCP packet with payload": [_flow(profile, DATA, [size], []) for size in PAYLOADS if size],
        "one TCP packet without payload (SYN, ACK, FIN, RST)": [_flow(profile, packet, [0], []) for packet in BARE],
        "UDP question and answer in one microsecond": [
            _flow(profile, UDP, [size], [2 * size]) for size in PAYLOADS
        ],
        "two UDP packets one way in one microsecond": [
            _flow(profile, UDP, [size, size], []) for size in PAYLOADS
        ],
    }
    answers = {}
    for kind, rows in kinds.items():
        probabilities = fitted.probabilities(np.array(rows))
        best = probabilities.argmax(axis=1)
        alerts = Counter(
            fitted.classes[label]
            for label, row in zip(best, probabilities)
            if row[label] >= limits.get(fitted.classes[label], np.inf)
        )
        answers[kind] = {
            "flows": len(rows),
            "called_attack": int((best != 0).sum()),
            "alerts": sum(alerts.values()),
            "alerts_by_class": dict(sorted(alerts.items())),
        }
    return answers


def _flow(profile: str, packet: tuple, forward: list[int], backward: list[int]) -> np.ndarray:
    """78 columns of a flow of zero duration with these payload sizes each way."""
    header, window, flags = packet
    every = forward + backward
    # cic2017 enters the first packet's length twice into the length statistics.
    lengths = [forward[0], *every] if profile == "cic2017" else every
    row = dict.fromkeys(NAMES, 0.0)
    row["Destination Port"] = _SERVER_PORT
    row["Total Fwd Packets"] = len(forward)
    row["Total Backward Packets"] = len(backward)
    row["Total Length of Fwd Packets"] = sum(forward)
    row["Total Length of Bwd Packets"] = sum(backward)
    for side, sizes in (("Fwd", forward), ("Bwd", backward)):
        if sizes:
            row[f"{side} Packet Length Max"] = max(sizes)
            row[f"{side} Packet Length Min"] = min(sizes)
            row[f"{side} Packet Length Mean"] = row[f"Avg {side} Segment Size"] = float(np.mean(sizes))
    row["Min Packet Length"], row["Max Packet Length"] = min(every), max(every)
    row["Packet Length Mean"] = float(np.mean(lengths))
    if len(lengths) > 1:
        row["Packet Length Std"] = float(np.std(lengths, ddof=1))
        row["Packet Length Variance"] = float(np.var(lengths, ddof=1))
    row["Average Packet Size"] = sum(lengths) / len(every)
    row["Down/Up Ratio"] = len(backward) / len(forward)
    row["Fwd Header Length"] = row["Fwd Header Length.1"] = header * len(forward)
    row["Bwd Header Length"] = header * len(backward)
    row["min_seg_size_forward"] = header
    row["Init_Win_bytes_forward"] = window
    row["act_data_pkt_fwd"] = sum(size > 0 for size in (forward if profile == "fixed" else forward[1:]))
    for flag in flags:
        row[flag] = len(every)
    if profile == "fixed":
        row["Flow Bytes/s"] = row["Flow Packets/s"] = -1.0
    else:
        row["Flow Bytes/s"] = np.inf if sum(every) else np.nan
        row["Flow Packets/s"] = np.inf
    if profile == "cns2022" and len(every) == 1:
        for name in ("Mean", "Std", "Max", "Min"):
            row[f"Flow IAT {name}"] = np.nan
    if profile == "cic2017":
        _as_in_2017(row, packet, forward, backward)
    return np.array([row[name] for name in NAMES], dtype=np.float64)


def _as_in_2017(row: dict[str, float], packet: tuple, forward: list[int], backward: list[int]) -> None:
    """The columns whose meaning was another in 2017: flags, windows, UDP headers, subflows."""
    header, _, flags = packet
    for flag in ("FIN Flag Count", "SYN Flag Count", "RST Flag Count", "ACK Flag Count"):
        row[flag] = 0.0
    moved = {
        "SYN Flag Count": "PSH Flag Count", "RST Flag Count": "FIN Flag Count", "FIN Flag Count": "URG Flag Count",
    }
    for flag in flags:
        row[moved.get(flag, flag)] = 1.0
    if header == UDP[0]:
        header = 20
        row["Init_Win_bytes_forward"] = -1.0
        row["Fwd Header Length"] = row["Fwd Header Length.1"] = header * len(forward)
        row["Bwd Header Length"] = header * len(backward)
        row["min_seg_size_forward"] = header
    row["Init_Win_bytes_backward"] = -1.0
    row["Down/Up Ratio"] = len(backward) // len(forward)
    row["Subflow Fwd Packets"], row["Subflow Bwd Packets"] = len(forward), len(backward)
    row["Subflow Fwd Bytes"], row["Subflow Bwd Bytes"] = sum(forward), sum(backward)
