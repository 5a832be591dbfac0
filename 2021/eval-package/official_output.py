"""What the organisers' package prints: its banners and its tables, as LaTeX and as text."""

from __future__ import annotations

import itertools
import math

import numpy as np
from conditions import COLUMNS, ROWS


def shades(values: np.ndarray) -> np.ndarray:
    """Grey of each cell between white at the least and mid-grey at the greatest value: (R, C) -> (R, C)."""
    cells = values[~np.isnan(values)]
    low, high = (cells.min(), cells.max()) if len(cells) else (0.0, 0.0)
    if low == high:
        return np.zeros(values.shape)  # 0 / 0 is black in the official package
    shade = 0.5 * (values - low) / (high - low)
    steps = np.where(np.isnan(shade), 0, shade * 256).astype(int)  # of matplotlib's map `Greys`, which has 256 steps
    return np.interp(steps / 255, np.linspace(0, 1, len(GREYS)), GREYS)


GREYS = np.array([255, 240, 217, 189, 150, 115, 82, 37, 0]) / 255  # ColorBrewer, 9-class Greys


def render(values: np.ndarray, track: str, number: str) -> str:
    """A table as LaTeX and as text; `number` formats a cell, NaN is blank."""
    texts = [["" if math.isnan(v) else format(v, number) for v in row] for row in values.tolist()]
    tags, heads = [row.shown for row in ROWS[track]], [column.shown for column in COLUMNS[track]]
    tag_width = max(map(len, tags))
    width = max(len(text) for text in itertools.chain(heads, *texts))

    def line(first: str, cells: list[str], between: str) -> str:
        return between.join([f"{first:^{tag_width}}", *cells])

    latex = [rf"\begin{{tabular}}{{{'c' * (len(heads) + 1)}}}", r"\toprule"]
    latex += [line("", [f"{head:^{width}}" for head in heads], " & ") + r"\\ ", r"\midrule"]
    plain = [line("", [f"{head:^{width}}" for head in heads], " ")]
    for tag, row, greys in zip(tags, texts, shades(values).tolist()):
        colored = [
            rf"\cellcolor[rgb]{{{grey:.2f}, {grey:.2f}, {grey:.2f}}} {text}" if text else " " * width
            for text, grey in zip(row, greys)
        ]
        latex.append(line(tag, colored, " & ") + r"\\ ")
        plain.append(line(tag, [f"{text:^{width}}" for text in row], " "))
    latex += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*latex, "", *plain, "", ""])


def banner(title: str, *, blank: str = "") -> str:
    rule = "=" * (10 if title == "Compute EERs" else 15)
    return f"{rule}{blank}\n{title}\n{rule}\n"


def progress(track: str, what: str) -> str:
    n_rows = len(ROWS[track])
    return f"\n{'-' * (n_rows - 1)}>| computing {what}\n{'.' * n_rows}\n"


def report(track: str, eer: np.ndarray, min_tdcf: np.ndarray | None, c012_path: str | None, *, recomputed: bool) -> str:
    """Standard output of the official package, as it is on success; both tables (R, C), the EER in [0, 1]."""
    out = []
    if min_tdcf is None:
        out += [banner("Compute EERs", blank=" "), "Track without considering ASV\n", progress(track, "EERs")]
    else:
        if recomputed:
            out += [banner("Compute C012 coef"), progress(track, "C012 for tDCF"), f"Save C012 coef to {c012_path}\n"]
        out += [banner("Compute EERs, min tDCFs", blank=" "), f"Load C012 coeffs from {c012_path}\n"]
        out += [progress(track, "EERs and min tDCF")]
    out.append("\n\n\n\n")
    if min_tdcf is not None:
        out += [banner("Table for min tDCFs"), "\n", render(min_tdcf, track, "1.4f"), "\n"]
    out += [banner("Table for EERs"), "\n", render(100 * eer, track, "1.2f")]
    return "".join(out) + "Please scroll up and check the results.\n"
