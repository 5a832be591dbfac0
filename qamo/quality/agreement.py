"""How far two sets of MOS agree, by class and by attack; and correlation, of these and of anything else.

N is the number of recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qamo import InputError, files
from qamo.trials.ratings import Ratings


class Correlation(NamedTuple):
    n: int
    pearson: float | None
    spearman: float | None


def correlation(x: np.ndarray, y: np.ndarray) -> Correlation:
    """Pearson's and Spearman's correlation of (N,) and (N,), ties sharing their mean rank; None where undefined."""
    if len(x) < 4 or x.min() == x.max() or y.min() == y.max():
        return Correlation(len(x), None, None)
    pearson = float(np.corrcoef(x, y)[0, 1])
    return Correlation(len(x), pearson, float(np.corrcoef(mean_ranks(x), mean_ranks(y))[0, 1]))


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values sharing the mean of theirs: (N,) -> (N,)."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[codes]


def compare(a: Ratings, b: Ratings, thresholds: Sequence[float]) -> list[str]:
    """A table: correlation, means, and how often both are on the same side of each threshold.

    Raises:
        InputError: the two share fewer than two names.
    """
    x, y, names = paired(a, b)
    known = {**b.groups, **a.groups}
    members: dict[str, list[int]] = {"all": list(range(len(names)))}
    for index, name in enumerate(names):
        for group in known.get(name, []):
            members.setdefault(group, []).append(index)
    rows = [["", "n", "Spearman", "Pearson", "mean A", "mean B", *(f"agree at {t:g}" for t in thresholds)]]
    for group in sorted(members, key=lambda key: (key != "all", key)):
        u, v = x[members[group]], y[members[group]]
        r = correlation(u, v)
        row = [group, str(len(u)), *("-" if value is None else f"{value:.3f}" for value in (r.spearman, r.pearson))]
        row += [f"{u.mean():.2f}", f"{v.mean():.2f}"]
        rows.append(row + [f"{100 * np.mean((u >= t) == (v >= t)):.1f} %" for t in thresholds])
    left_out = len(a.mos) + len(b.mos) - 2 * len(names)
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [f"A: {a.path}", f"B: {b.path}", *([f"{left_out} names stand in one file only"] if left_out else []), ""]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells[1:]]))
    return lines


def paired(a: Ratings, b: Ratings) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """MOS of the names that both have: (N,), (N,), N names.

    Raises:
        InputError: they are fewer than two.
    """
    names = [name for name in a.mos if name in b.mos]
    if len(names) < 2:
        raise InputError(f"{a.path} and {b.path}: expected at least two names in common, found {len(names)}")
    return np.array([a.mos[name] for name in names]), np.array([b.mos[name] for name in names]), names


def scatter(a: Ratings, b: Ratings, thresholds: Sequence[float], path: Path) -> None:
    """Write a scatter plot of both to a .png, .svg or .pdf file.

    Raises:
        InputError: another ending.
    """
    from matplotlib.figure import Figure  # heavy; without pyplot: no window, no global state

    kind = path.suffix.lower().lstrip(".")
    if kind not in ("png", "svg", "pdf"):
        raise InputError(f"{path}: expected a .png, .svg or .pdf file")
    x, y, _ = paired(a, b)
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(x, y, s=6, alpha=max(0.05, min(0.6, 300 / len(x))), linewidths=0, rasterized=True)
    for threshold in thresholds:
        axes.axvline(threshold, color="0.6", linewidth=0.8)
        axes.axhline(threshold, color="0.6", linewidth=0.8)
    axes.plot((1, 5), (1, 5), color="0.4", linewidth=0.8, linestyle="--")
    axes.set(xlim=(1, 5), ylim=(1, 5), xlabel=f"MOS, {a.path.name}", ylabel=f"MOS, {b.path.name}", aspect="equal")
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=150)
