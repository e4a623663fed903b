"""Owns looking at labelled flows before anything is learned: statistics of classes and columns, never a row.

The notebooks are thin over this; each function gives a table that a person reads.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from .data import BENIGN, Flows, drop_duplicates
from .features import MEASURED, NAMES
from .values import model_input

#: Rows drawn for what is slow on all of them.
DRAWN = 5000
_SEED = 20170703
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def classes(flows: Flows) -> pd.DataFrame:
    """A line a label: rows, how many repeat another row, and what no published file should be without."""
    unique = drop_duplicates(flows)
    table = pd.DataFrame({"rows": _count(flows.labels), "unique": _count(unique.labels)}).fillna(0).astype(int)
    table["repeated share"] = 1 - table["unique"] / table["rows"]
    packets = flows.values[:, 2] + flows.values[:, 3]
    for name, odd in {
        "one packet": packets == 1,
        "zero duration": flows.values[:, 1] == 0,
        "not finite": ~np.isfinite(flows.values).all(axis=1),
    }.items():
        table[name] = _count(flows.labels[odd]).reindex(table.index, fill_value=0)
    return table.sort_values("rows", ascending=False)


def hours(flows: Flows) -> pd.DataFrame:
    """Rows a label and hour of the files' clock; which attack ran when."""
    if flows.times is None:
        return pd.DataFrame()
    hour = pd.to_datetime(flows.times).floor("h")
    return pd.crosstab(pd.Series(flows.labels, name="label"), pd.Series(hour, name="hour"))


def spread(flows: Flows, column: str) -> pd.DataFrame:
    """Quantiles of one column a label."""
    values = pd.Series(flows.values[:, NAMES.index(column)])
    return values.groupby(flows.labels).quantile(list(_QUANTILES)).unstack()


def constant_columns(flows: Flows) -> list[str]:
    """Columns that hold one value in every row."""
    inputs = model_input(flows.values)
    return [name for name, column in zip(NAMES, inputs.T) if (column == column[0]).all()]


def equal_columns(flows: Flows) -> list[tuple[str, ...]]:
    """Groups of columns that hold the same numbers in every row, constant ones aside."""
    groups: dict[bytes, list[str]] = {}
    for name, column in zip(NAMES, model_input(flows.values).T):
        if (column != column[0]).any():
            groups.setdefault(np.ascontiguousarray(column).tobytes(), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def rank_correlation(flows: Flows) -> pd.DataFrame:
    """Spearman's correlation of the columns that vary, on a draw of rows."""
    inputs = model_input(flows.values[_draw(len(flows.labels))])
    varying = [position for position in MEASURED if np.ptp(inputs[:, position]) > 0]
    names = [NAMES[position] for position in varying]
    return pd.DataFrame(np.atleast_2d(spearmanr(inputs[:, varying]).statistic), index=names, columns=names)


def single_column_power(flows: Flows) -> pd.Series:
    """How well each column alone ranks attacks above benign rows or below them: 0.5 not at all, 1 wholly."""
    rows = _draw(len(flows.labels))
    inputs, attack = model_input(flows.values[rows]), flows.labels[rows] != BENIGN
    power = {}
    for position in MEASURED:
        area = roc_auc_score(attack, inputs[:, position])
        power[NAMES[position]] = max(area, 1 - area)
    return pd.Series(power).sort_values(ascending=False)


def main_port(flows: Flows) -> pd.DataFrame:
    """A line a label: its most frequent destination port and its share. A shortcut wherever the share is near 1."""
    ports = pd.Series(flows.values[:, 0].astype(int)).groupby(flows.labels)
    return pd.DataFrame({
        "most frequent port": ports.agg(lambda column: column.mode().iloc[0]),
        "share": ports.agg(lambda column: column.value_counts(normalize=True).iloc[0]),
        "ports": ports.nunique(),
    })


def float32_losses(flows: Flows) -> pd.Series:
    """Columns whose values change by rounding to float32, with the share of rows in which they do."""
    finite = np.nan_to_num(flows.values, nan=0.0, posinf=0.0, neginf=0.0)
    whole = finite == np.round(finite)
    changed = whole & (np.abs(finite) > 2**24) & (finite.astype(np.float32).astype(np.float64) != finite)
    shares = pd.Series(changed.mean(axis=0), index=list(NAMES))
    return shares[shares > 0].sort_values(ascending=False)


def _count(labels: np.ndarray) -> pd.Series:
    return pd.Series(labels).value_counts()


def _draw(rows: int) -> np.ndarray:
    return np.sort(np.random.default_rng(_SEED).permutation(rows)[:DRAWN])
