"""Charts as values, and the JSON from which `assets/report.js` draws them with uPlot (MIT, beside it).

uPlot's file has 51 kB where the smallest plotly bundle takes 1 MB. It draws on canvases, which stay quick with
thousands of points; what canvases lack the page adds: a text alternative, the arrow keys, buttons to zoom, and colours
that follow the scheme of the reader.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

COLORS = [f"s{k}" for k in range(8)]  # of systems and lines, in report.css
DASHES = [None, [8, 4], [2, 3], [10, 3, 2, 3]]  # px; lines are told apart without colour too
CLASSES = [("bonafide", "bona fide"), ("spoof", "spoof")]  # colour, label

Numbers = Sequence[float | None]


class Axis(NamedTuple):
    """An axis; `values` and `text` are of the points, which all lines share, and so of the x axis alone."""

    label: str
    values: Numbers | None = None
    text: Sequence[str] | None = None  # in place of the values where they are read
    name: str | None = None  # short, for the legend
    scale: str = "linear"  # "linear", "probit" or "epoch"
    min: float | None = None
    range: Numbers | None = None


class Line(NamedTuple):
    """A line, or in a scatter chart the points of one kind."""

    label: str
    values: Numbers
    color: str | None = None  # its name in report.css
    text: Sequence[str] | None = None
    dash: list[int] | None = None
    fill: bool = False
    stepped: bool = False
    points: bool = False
    hidden: bool = False  # only its value is shown
    quiet: bool = False  # drawn thin, without its value
    hollow: bool = False  # points are rings


class Mark(NamedTuple):
    """A labelled point; without y an upright line, without x a line across."""

    x: float | None
    y: float | None
    color: str
    label: str = ""
    below: bool = False


@dataclass(frozen=True)
class Chart:
    """A figure of the page; `bands` are pairs of lines to fill between, `diagonal` draws x = y."""

    id: str
    title: str
    caption: str
    alternative: str  # what a person sees in it, in words
    x: Axis
    y: Axis
    lines: Sequence[Line]
    marks: Sequence[Mark] = ()
    bands: Sequence[tuple[int, int]] = ()
    kind: str = "lines"  # or "scatter"
    diagonal: bool = False
    square: bool = False  # as high as wide
    wide: bool = False

    def to_json(self) -> dict[str, Any]:
        """What report.js reads."""
        return {
            **{name: getattr(self, name) for name in ("kind", "bands", "diagonal", "square")},
            "x": self.x._asdict(),
            "y": self.y._asdict(),
            "series": [line._asdict() for line in self.lines],
            "marks": [mark._asdict() for mark in self.marks],
        }


def style(k: int) -> dict[str, Any]:
    """Colour and dash of the k-th line."""
    return {"color": COLORS[k % len(COLORS)], "dash": DASHES[k % len(DASHES)]}


SHARE_AXIS = Axis("share of the class in a bin, %", min=0)


def histogram_lines(
    first: np.ndarray, second: np.ndarray, *, kinds: Sequence[tuple[str, str]] = tuple(CLASSES)
) -> list[Line]:
    """The shares of both classes, or of two other kinds, in B bins, (B,) each, as steps over the B + 1 edges."""
    lines = []
    for (color, label), share in zip(kinds, (first, second)):
        percent = 100 * np.append(share, share[-1])
        dash = [5, 3] if share is second else None
        text = [f"{p:.2f} %" for p in percent]
        lines.append(Line(label, rounded(percent, 4), color, text, dash, fill=True, stepped=True))
    return lines


def rounded(values: Iterable[float] | np.ndarray, digits: int = 5) -> list[float | None]:
    """Numbers with so many significant digits, for a page of moderate size; NaN and infinity become None."""
    return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in np.asarray(values, dtype=float).tolist()]
