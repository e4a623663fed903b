"""Owns labels files: which flows of somebody's own captures were which attack.

A labels file is a CSV of rules. Each names addresses, ports, a protocol and a
window of time, any of them left empty for "any", and the label of the flows that
fit. The first rule that fits a flow labels it.
"""

from __future__ import annotations

import csv
import hashlib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .errors import UnreadableInput

COLUMNS = ("src_ip", "src_port", "dst_ip", "dst_port", "protocol", "start", "end", "label")
#: What becomes of flows that no rule fits.
UNMATCHED = ("benign", "drop")
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_HIGHEST_PORT = 65535

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Endpoint:
    """One side of a rule; None is any."""

    network: Network | None
    ports: tuple[int, int] | None


@dataclass(frozen=True)
class Rule:
    """One line of a labels file."""

    line: int
    source: Endpoint
    destination: Endpoint
    protocol: int | None
    #: Nanoseconds since 1970, both included; None is any time.
    start: int | None
    end: int | None
    label: str


@dataclass(frozen=True)
class Conversations:
    """What rules look at: one entry a flow in each array."""

    source_ip: np.ndarray
    source_port: np.ndarray
    destination_ip: np.ndarray
    destination_port: np.ndarray
    protocol: np.ndarray
    #: Nanoseconds since 1970 of the first packet.
    start: np.ndarray


class Labelling:
    """The rules of one file, and how many flows each has labelled so far."""

    def __init__(self, path: Path, unmatched: str) -> None:
        data, self.rules = _read(path)
        self.name = path.name
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.unmatched = unmatched
        self._labelled = [0] * len(self.rules)
        self._fitted = [0] * len(self.rules)
        self._left = 0

    def apply(self, flows: Conversations) -> np.ndarray:
        """The label of each flow, None where no rule fits."""
        labels = np.full(len(flows.start), None, dtype=object)
        free = np.ones(len(labels), dtype=bool)
        for number, rule in enumerate(self.rules):
            fits = _fits(rule, flows)
            self._fitted[number] += int(fits.sum())
            self._labelled[number] += int((fits & free).sum())
            labels[fits & free] = rule.label
            free &= ~fits
        self._left += int(free.sum())
        return labels

    def facts(self) -> dict:
        """What each rule did, for the report."""
        return {
            "file": self.name,
            "rules": [
                {"line": rule.line, "label": rule.label, "rows": labelled}
                for rule, labelled in zip(self.rules, self._labelled)
            ],
            "rows_unmatched": self._left,
            "unmatched": self.unmatched,
        }

    def idle_rules(self) -> list[str]:
        """A sentence for each rule that labelled nothing: a typing error, or a clock that is off."""
        told = []
        for rule, fitted, labelled in zip(self.rules, self._fitted, self._labelled):
            if not labelled:
                why = f"all {fitted} flows that it fits are taken by rules above it" if fitted else "fits no flow"
                told.append(f"{self.name}: line {rule.line} ({rule.label}) {why}")
        return told


def _fits(rule: Rule, flows: Conversations) -> np.ndarray:
    """Whichever side spoke first: a rule counts in both directions."""
    ahead = _side(rule.source, flows.source_ip, flows.source_port)
    ahead &= _side(rule.destination, flows.destination_ip, flows.destination_port)
    back = _side(rule.source, flows.destination_ip, flows.destination_port)
    back &= _side(rule.destination, flows.source_ip, flows.source_port)
    fits = ahead | back
    if rule.protocol is not None:
        fits &= flows.protocol == rule.protocol
    if rule.start is not None:
        fits &= flows.start >= rule.start
    if rule.end is not None:
        fits &= flows.start <= rule.end
    return fits


def _side(endpoint: Endpoint, addresses: np.ndarray, ports: np.ndarray) -> np.ndarray:
    fits = np.ones(len(ports), dtype=bool)
    if endpoint.network is not None:
        network = endpoint.network
        codes, unique = pd.factorize(addresses)
        inside = np.array([address in network for address in map(ipaddress.ip_address, unique)], dtype=bool)
        fits &= inside[codes]
    if endpoint.ports is not None:
        fits &= (ports >= endpoint.ports[0]) & (ports <= endpoint.ports[1])
    return fits


def _read(path: Path) -> tuple[bytes, list[Rule]]:
    try:
        data = path.read_bytes()
        rows = csv.reader(data.decode("utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableInput(f"{path}: the labels file cannot be read: {error}") from error
    header = [cell.strip().lower() for cell in next(rows, [])]
    if sorted(header) != sorted(COLUMNS):
        raise UnreadableInput(f"{path.name}: a labels file begins with the columns {','.join(COLUMNS)}")
    rules = list(_rules(rows, header, path.name))
    if not rules:
        raise UnreadableInput(f"{path.name}: there is no rule after the header")
    return data, rules


def _rules(rows: Iterable[list[str]], header: list[str], name: str) -> Iterable[Rule]:
    for line, row in enumerate(rows, start=2):
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        try:
            if len(cells) != len(header):
                raise ValueError(f"{len(cells)} fields where the header has {len(header)}")
            yield _rule(line, dict(zip(header, cells)))
        except ValueError as error:
            raise UnreadableInput(f"{name}: line {line}: {error}") from error


def _rule(line: int, cells: dict[str, str]) -> Rule:
    start, end = (_time(cells[name]) for name in ("start", "end"))
    if start is not None and end is not None and end < start:
        raise ValueError(f"the window ends ({cells['end']}) before it starts ({cells['start']})")
    if not cells["label"]:
        raise ValueError("the rule has no label")
    return Rule(
        line=line,
        source=Endpoint(_network(cells["src_ip"]), _ports(cells["src_port"])),
        destination=Endpoint(_network(cells["dst_ip"]), _ports(cells["dst_port"])),
        protocol=_protocol(cells["protocol"]),
        start=start,
        end=end,
        label=cells["label"],
    )


def _network(text: str) -> Network | None:
    """Host bits may be set: 192.0.2.7/24 is the network it is in."""
    return ipaddress.ip_network(text, strict=False) if text else None


def _ports(text: str) -> tuple[int, int] | None:
    """`80` or `8000-8080`."""
    if not text:
        return None
    found = _PORTS.fullmatch(text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if not first <= last <= _HIGHEST_PORT:
        raise ValueError(f"{text!r} is no port and no range of ports")
    return first, last


def _protocol(text: str) -> int | None:
    if not text:
        return None
    number = PROTOCOLS.get(text.lower(), text)
    try:
        return int(number)
    except ValueError:
        raise ValueError(f"{text!r} is no protocol: use {', '.join(PROTOCOLS)} or a number") from None


def _time(text: str) -> int | None:
    """RFC 3339. Without an offset it is a time of the flows' own clock."""
    if not text:
        return None
    try:
        time = pd.to_datetime(text, format="ISO8601", utc=True)
    except ValueError:
        raise ValueError(f"{text!r} is no time such as 2024-05-01T10:30:00Z") from None
    return int(time.as_unit("ns").value)
