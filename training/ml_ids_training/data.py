"""Owns reading flow CSVs: finding files, parsing rows, cleaning labels and times.

What comes out is a `Flows`: 78 measured columns, a label and, if every file has
one, a time for each row. Addresses are looked at by the rules of a labels file
and never kept.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from tqdm import tqdm

from .errors import UnreadableInput, WrongUsage
from .evidence import contradicting_rows
from .features import MEASURED, NAMES, PROFILES
from .flavour import OWN, Layout, read_header
from .labels import Conversations, Labelling
from .values import model_input

BENIGN = "BENIGN"
#: Rows parsed at a time: bounds memory beside the result to about 100 MB.
CHUNK_ROWS = 100_000
#: The files of 2017 print a 12-hour clock without AM or PM. Capturing ran from
#: 9 to 17 o'clock, so an hour below this one is in the afternoon.
FIRST_MORNING_HOUR = 8
#: Besides ISO 8601: what CICFlowMeter prints, then GeneratedLabelledFlows, where
#: only Monday's file has seconds. The day comes first.
TIME_FORMS = ("%d/%m/%Y %I:%M:%S %p", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M")
#: Ending of labels of attack traffic that did nothing (no payload, refused, ...)
#: in CNS2022; its authors advise against learning it as the attack or as benign.
ATTEMPTED = " - Attempted"
#: Stands for the label of a flow that no rule fits and that is to be dropped.
UNMATCHED = "\0unmatched"

_READ_ERRORS = (OSError, EOFError, zlib.error)


@dataclass
class Flows:
    """Rows in time order where times exist, else in file order."""

    #: float64 [rows, 78], as measured: NaN and Infinity still in.
    values: np.ndarray
    #: str [rows]
    labels: np.ndarray
    #: int64 nanoseconds [rows], or None if any file has no times.
    times: np.ndarray | None
    #: Base name of each file to the SHA-256 of its bytes.
    inputs_sha256: dict[str, str] = field(default_factory=dict)
    flavours: tuple[str, ...] = ()
    rows_read: int = 0
    rows_empty: int = 0
    rows_attempted: int = 0
    rows_unmatched: int = 0

    def take(self, rows: np.ndarray) -> Flows:
        """The same data set with only these rows, in this order."""
        times = None if self.times is None else self.times[rows]
        return Flows(
            self.values[rows], self.labels[rows], times, self.inputs_sha256, self.flavours,
            self.rows_read, self.rows_empty, self.rows_attempted, self.rows_unmatched,
        )


def find_files(paths: Sequence[str]) -> list[Path]:
    """Files as given, folders searched for *.csv and *.csv.gz, in a stable order."""
    found: list[Path] = []
    for name in paths:
        path = Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.name.lower().endswith((".csv", ".csv.gz")))
            if not inside:
                raise UnreadableInput(f"{name}: the folder holds no .csv or .csv.gz file")
            found.extend(inside)
        elif path.is_file():
            found.append(path)
        else:
            raise UnreadableInput(f"{name}: no such file or folder")
    return list(dict.fromkeys(found))


def read_flows(paths: Sequence[str], profile: str, labelling: Labelling | None = None) -> Flows:
    """Reads everything, or raises; a file that is only half right is not used.

    With a labels file its rules label the flows, whatever their Label column says.
    """
    files = find_files(paths)
    headers = [(path, _read_layout(path, profile, labelling is not None)) for path in files]
    values, labels, times, hashes = [], [], [], {}
    with tqdm(total=None, unit=" rows", desc="reading", disable=None) as bar:
        for path, layout in headers:
            hashes[_unique_name(path.name, hashes)] = _sha256(path)
            for chunk in _read_chunks(path, layout, profile, labelling):
                values.append(chunk[0])
                labels.append(chunk[1])
                times.append(chunk[2])
                bar.update(len(chunk[0]))
    if not sum(map(len, labels)):
        raise UnreadableInput(f"{', '.join(path.name for path in files)}: there is no row after the header")
    if labelling is not None:
        hashes[_unique_name(labelling.name, hashes)] = labelling.sha256
    flows = Flows(
        values=np.concatenate(values),
        labels=np.concatenate(labels),
        times=None if any(t is None for t in times) else np.concatenate(times),
        inputs_sha256=hashes,
        flavours=tuple(sorted({layout.flavour for _, layout in headers})),
    )
    return _clean(flows)


def _clean(flows: Flows) -> Flows:
    """Drops empty and attempted rows, then puts the rest in time order."""
    flows.rows_read = len(flows.labels)
    empty = flows.labels == ""
    unmatched = flows.labels == UNMATCHED
    attempted = np.char.endswith(flows.labels.astype(str), ATTEMPTED)
    flows.rows_empty = int(empty.sum())
    flows.rows_attempted = int(attempted.sum())
    flows.rows_unmatched = int(unmatched.sum())
    flows.rows_read -= flows.rows_empty
    kept = np.flatnonzero(~empty & ~attempted & ~unmatched)
    if not len(kept):
        raise UnreadableInput(f"of {len(flows.labels)} rows none has a label that can be learned")
    if flows.times is not None:
        kept = kept[np.argsort(flows.times[kept], kind="stable")]
    return flows.take(kept)


def drop_duplicates(flows: Flows) -> Flows:
    """Keeps the first of all rows that agree in the measured columns.

    Rows are compared as the forest sees them. Must come before any split, or
    copies of a training row sit among the rows that judge the model.
    """
    seen = np.ascontiguousarray(model_input(flows.values[:, MEASURED]))
    seen += np.float32(0)  # -0.0 and 0.0 are the same number
    keys = seen.view(np.dtype((np.void, seen.dtype.itemsize * seen.shape[1]))).ravel()
    _, first = np.unique(keys, return_index=True)
    return flows.take(np.sort(first))


def limit_per_class(flows: Flows, limit: int, seed: int) -> Flows:
    """At most `limit` rows of each label, drawn at random with a fixed seed."""
    random = np.random.default_rng(seed)
    kept = []
    for label in sorted(set(flows.labels)):
        rows = np.flatnonzero(flows.labels == label)
        kept.append(random.permutation(rows)[:limit])
    return flows.take(np.sort(np.concatenate(kept)))


def clean_label(raw: str) -> str:
    """One spelling for each label: plain hyphens, single blanks, BENIGN in capitals.

    `raw` was read as latin-1. The web attacks of 2017 hold the Windows dash
    0x96; copies in circulation hold UTF-8 dashes or U+FFFD in its place.
    """
    data = raw.encode("latin-1", errors="replace")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    for dash in "\u2013\u2014\u2012\u2010\ufffd\x96":
        text = text.replace(dash, "-")
    text = " ".join(text.split())
    return BENIGN if text.casefold() == "benign" else text


def parse_times(raw: pd.Series, path: str) -> np.ndarray | None:
    """Nanoseconds since 1970 in the file's own clock; only their order is used.

    None if not one cell is a time: some copies hold code numbers in the column.
    """
    text = raw.str.strip()
    times = _parse_form(text, "ISO8601")
    clock_24h = times.notna()
    for form in TIME_FORMS:
        rest = times.isna()
        if not rest.any():
            break
        times[rest] = _parse_form(text[rest], form)
        if "%p" in form:
            clock_24h |= times.notna()
    if times.isna().all():
        return None
    if times.isna().any():
        raise UnreadableInput(f"{path}: cannot read the time {text[times.isna()].iloc[0]!r}")
    afternoon = ~clock_24h & (times.dt.hour < FIRST_MORNING_HOUR)
    times[afternoon] += pd.Timedelta(hours=12)
    return times.astype("int64").to_numpy()


def _parse_form(text: pd.Series, form: str) -> pd.Series:
    """Times that have this form, NaT for the others."""
    parsed = pd.to_datetime(text, format=form, errors="coerce", utc=True)
    return parsed.dt.tz_localize(None).dt.as_unit("ns")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Opens plain or gzip; any failure while it is open names the file."""
    try:
        with (gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")) as stream:
            yield stream  # type: ignore[misc]
    except _READ_ERRORS as error:
        raise UnreadableInput(f"{path.name}: cannot be read: {error}") from error


def _read_layout(path: Path, profile: str, by_rules: bool) -> Layout:
    with _opened(path) as stream:
        line, row = (stream.readline().decode("utf-8", errors="replace") for _ in range(2))
    if not line.strip():
        raise UnreadableInput(f"{path.name}: the file is empty")
    layout = read_header(next(csv.reader([line])), profile, path.name, by_rules)
    # The fast parser takes surplus fields of its first row for granted.
    fields = len(next(csv.reader([row]))) if row.strip() else layout.width
    if fields > layout.width:
        raise UnreadableInput(f"{path.name}: line 2: {fields} fields where the header has {layout.width}")
    return layout


Chunk = tuple[np.ndarray, np.ndarray, np.ndarray | None]


def _read_chunks(path: Path, layout: Layout, profile: str, labelling: Labelling | None) -> Iterator[Chunk]:
    """Parses one file. Numbers are read exactly: to the nearest float64."""
    columns = [str(position) for position in range(layout.width)]
    features = [columns[position] for position in layout.feature_positions]
    types = dict.fromkeys(columns, "str") | dict.fromkeys(features, "float64")
    with _opened(path) as stream:
        try:
            reader = pd.read_csv(
                stream, header=None, names=columns, skiprows=1, dtype=types, encoding="latin-1",
                chunksize=CHUNK_ROWS, skip_blank_lines=True, index_col=False,
            )
            for frame in reader:
                chunk = _parse(frame, features, columns, layout, path, labelling)
                if layout.flavour in OWN:
                    _refuse_other_profile(chunk[0], frame.index, profile, path)
                yield chunk
        except pd.errors.EmptyDataError:
            return
        except (pd.errors.ParserError, ValueError) as error:
            raise UnreadableInput(f"{path.name}: {_explain(path, layout) or error}") from error


def _parse(
    frame: pd.DataFrame, features: list[str], columns: list[str], layout: Layout, path: Path,
    labelling: Labelling | None,
) -> Chunk:
    values = frame[features].to_numpy(dtype=np.float64)
    if labelling is not None:
        return _label_by_rules(values, frame, columns, layout, path, labelling)
    assert layout.label is not None
    raw = frame[columns[layout.label]].fillna("")
    labels = raw.map({text: clean_label(text) for text in raw.unique()}).to_numpy(dtype=object)
    # Whole lines of commas stand between the flows of one file of 2017.
    unlabelled = labels == ""
    if unlabelled.any() and not np.isnan(values[unlabelled]).all():
        row = int(np.flatnonzero(unlabelled & ~np.isnan(values).all(axis=1))[0])
        line = int(frame.index[row]) + 2
        own = "; label the flows of your own captures with --labels" if layout.flavour in OWN else ""
        raise UnreadableInput(f"{path.name}: about line {line}: the row has no label or is cut short{own}")
    if layout.timestamp is None:
        return values, labels, None
    times = np.zeros(len(labels), dtype=np.int64)
    if not unlabelled.all():
        parsed = parse_times(frame.loc[~unlabelled, columns[layout.timestamp]].fillna(""), path.name)
        if parsed is None:
            return values, labels, None
        times[~unlabelled] = parsed
    return values, labels, times


def _label_by_rules(
    values: np.ndarray, frame: pd.DataFrame, columns: list[str], layout: Layout, path: Path, labelling: Labelling
) -> Chunk:
    assert layout.timestamp is not None and layout.conversation is not None
    # The last feature is a number in every flow: only a row cut short has none.
    short = np.isnan(values[:, -1])
    if short.any():
        line = int(frame.index[int(np.flatnonzero(short)[0])]) + 2
        raise UnreadableInput(f"{path.name}: about line {line}: the row is cut short")
    times = parse_times(frame[columns[layout.timestamp]].fillna(""), path.name)
    if times is None:
        raise UnreadableInput(f"{path.name}: the Timestamp column holds no times")
    try:
        source, source_port, destination, destination_port, protocol = (
            frame[columns[position]].str.strip() for position in layout.conversation
        )
        found = labelling.apply(Conversations(
            source.to_numpy(dtype=object), source_port.astype("int64").to_numpy(), destination.to_numpy(dtype=object),
            destination_port.astype("int64").to_numpy(), protocol.astype("int64").to_numpy(), times,
        ))
    except (TypeError, ValueError) as error:
        raise UnreadableInput(f"{path.name}: an address, a port or a protocol cannot be read: {error}") from error
    names = {name: clean_label(name.encode().decode("latin-1")) for name in set(found) - {None}}
    names[None] = BENIGN if labelling.unmatched == "benign" else UNMATCHED
    return values, np.array([names[name] for name in found], dtype=object), times


def _refuse_other_profile(values: np.ndarray, lines: pd.Index, profile: str, path: Path) -> None:
    wrong = contradicting_rows(values, profile)
    if len(wrong):
        others = [name for name in PROFILES if not len(contradicting_rows(values, name))]
        hint = f"; the file fits {' and '.join(others)}" if others else "; is it a mix of several?"
        raise WrongUsage(
            f"{path.name}: {len(wrong)} rows, the first about line {int(lines[wrong[0]]) + 2}, cannot have been made "
            f"with profile {profile}{hint}"
        )


def _explain(path: Path, layout: Layout) -> str | None:
    """Finds the first row that broke the fast parser, for the message only."""
    with _opened(path) as stream:
        rows = csv.reader(io.TextIOWrapper(stream, encoding="latin-1", newline=""))
        next(rows, None)
        for row in rows:
            if row and len(row) != layout.width:
                return f"line {rows.line_num}: {len(row)} fields where the header has {layout.width}"
            for name, position in zip(NAMES, layout.feature_positions) if row else ():
                try:
                    float(row[position] or "nan")
                except ValueError:
                    return f"line {rows.line_num}: {name} is {row[position]!r}, not a number"
    return None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _unique_name(name: str, taken: dict[str, str]) -> str:
    """Base names only: a path would tell the world about somebody's disk."""
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}#{count}"
    return candidate
