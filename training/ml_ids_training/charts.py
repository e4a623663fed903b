"""Owns the charts of the exploring notebooks: of tables of statistics, never of rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .figures import plt


def bars(table: pd.Series, title: str, label: str, log: bool = False) -> Figure:
    """One horizontal bar an entry, the first on top."""
    figure, axes = plt.subplots(figsize=(6.4, 0.9 + 0.24 * len(table)))
    axes.barh(list(table.index[::-1]), table.to_numpy()[::-1], color="steelblue")
    axes.tick_params(axis="y", labelsize=8)
    axes.set(xlabel=label, title=title, xscale="log" if log else "linear")
    return figure


def timeline(hours: pd.DataFrame, title: str) -> Figure:
    """A line a label, a field an hour that has rows at all; darker is more."""
    figure, axes = plt.subplots(figsize=(7.5, 1.2 + 0.26 * len(hours)))
    axes.imshow(np.log10(hours.to_numpy() + 1), cmap="Blues", aspect="auto")
    axes.set_yticks(range(len(hours)), list(hours.index), fontsize=8)
    axes.set_xticks(range(hours.shape[1]), [f"{hour:%a %H h}" for hour in hours.columns], rotation=90, fontsize=7)
    axes.set_title(title)
    return figure


def spreads(tables: dict[str, pd.DataFrame], title: str) -> Figure:
    """A field a column: from the 5th to the 95th percentile a label, thick in the middle half, a point at the median."""
    figure, fields = plt.subplots(1, len(tables), figsize=(3.1 * len(tables), 4.6), sharey=True)
    for axes, (name, table) in zip(np.atleast_1d(fields), tables.items()):
        places = np.arange(len(table))[::-1]
        least, low, middle, high, most = (table[quantile] for quantile in sorted(table.columns))
        axes.hlines(places, least, most, color="lightsteelblue", linewidth=2)
        axes.hlines(places, low, high, color="steelblue", linewidth=5)
        axes.plot(middle, places, "o", color="black", markersize=3)
        axes.set_yticks(places, list(table.index), fontsize=8)
        axes.tick_params(axis="x", labelsize=7)
        axes.set_xscale("symlog")
        axes.set_xlim(left=min(0, float(least.min())))
        axes.set_title(name, fontsize=9)
    figure.suptitle(title)
    figure.tight_layout()
    return figure


def heat_map(matrix: pd.DataFrame, title: str) -> Figure:
    """A square matrix between -1 and 1."""
    figure, axes = plt.subplots(figsize=(9, 8.4))
    image = axes.imshow(matrix.to_numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_xticks(range(len(matrix)), list(matrix.columns), rotation=90, fontsize=5)
    axes.set_yticks(range(len(matrix)), list(matrix.index), fontsize=5)
    axes.set_title(title)
    figure.colorbar(image, shrink=0.6)
    return figure


def contest(table: pd.DataFrame, title: str) -> Figure:
    """Contenders side by side, a field a score."""
    figure, fields = plt.subplots(1, table.shape[1], figsize=(2.7 * table.shape[1], 3.2))
    for axes, name in zip(np.atleast_1d(fields), table.columns):
        drawn = axes.bar(list(table.index), table[name], color="steelblue")
        axes.bar_label(drawn, fmt="%.4f", fontsize=7)
        axes.set_title(name, fontsize=9)
        axes.tick_params(axis="x", labelsize=7, rotation=30)
        axes.margins(y=0.15)
    figure.suptitle(title)
    figure.tight_layout()
    return figure
