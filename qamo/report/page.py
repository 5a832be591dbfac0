"""One HTML file from sections of text, tables and charts; it needs no network and runs no code but its own.

The charts are uPlot's (MIT, bundled in qamo/assets): 51 kB where the smallest plotly bundle takes 1 MB, drawn on
canvases that stay quick with thousands of points, and the hover and zoom of a chart library; what canvases lack, the
page adds: a text alternative, the arrow keys, buttons to zoom, and colours that follow the scheme of the reader.

A chart is a dict that `qamo/assets/report.js` understands:

    kind    "lines" | "scatter"
    x       {"label": str, "name": str (short, for the legend), "values": [float], "text": [str] or None,
             "scale": "linear" | "probit" | "epoch", "range": [float, float] or None}
    y       {"label": str, "scale": ..., "min": float or None, "range": ...}
    series  [{"label": str, "color": name of a colour in report.css, "dash": [px] or None, "values": [float or None],
              "text": [str] or None, "fill": bool, "stepped": bool, "points": bool,
              "hidden": bool (only its value is shown), "quiet": bool (drawn thin, without its value),
              "hollow": bool (points are rings)}]
    bands   [[i, j]]: fill between series i and j
    marks   [{"x": float or None, "y": float or None, "color": str, "label": str, "below": bool}]
            a point; without y a line upright, without x a line across
    diagonal, square  bool: draw x = y; as high as wide
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from qamo.report.tables import Table, to_html

COLORS = [f"s{k}" for k in range(8)]  # of systems and lines, in report.css
DASHES = [None, [8, 4], [2, 3], [10, 3, 2, 3]]  # lines are told apart without colour too
ASSETS = Path(__file__).parent / "assets"
# Where a browser may fetch from: nowhere; recordings are inside the page or beside it on the disk.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "media-src data: file: 'self'; base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True)
class Chart:
    id: str
    title: str
    caption: str
    alternative: str  # what a person sees in it, in words
    spec: dict[str, Any]
    wide: bool = False


@dataclass(frozen=True)
class Markup:
    """HTML that was made safe by its maker."""

    html: str


@dataclass
class Section:
    id: str
    title: str
    lead: str = ""
    parts: list[Table | Chart | Markup] = field(default_factory=list)

    @property
    def tables(self) -> list[Table]:
        return [part for part in self.parts if isinstance(part, Table)]


def page(title: str, subtitle: str, summary: Markup, sections: Sequence[Section], clips: dict[str, str]) -> str:
    """The whole page.

    Args:
        clips: recordings as data URIs by the ids that the players name.
    """
    charts = {part.id: part.spec for section in sections for part in section.parts if isinstance(part, Chart)}
    links = "".join(f'<li><a href="#{s.id}">{html.escape(s.title)}</a></li>' for s in sections)
    body = "".join(section_html(section) for section in sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="QAMO report.py">
<title>{html.escape(title)}</title>
<style>{_asset("uPlot.min.css")}{_asset("report.css")}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the results</a>
<header><h1>{html.escape(title)}</h1><p>{html.escape(subtitle)}</p></header>
<div class="frame">
<nav aria-label="Sections"><ol>{links}</ol></nav>
<main id="main">
{summary.html}
<noscript><p class="note">The charts need JavaScript; every number stands in the tables as well.</p></noscript>
{body}
</main>
</div>
<footer><p>Made by QAMO's report.py. Charts: uPlot 1.6.32, © 2022 Leon Sorokin, MIT licence.</p></footer>
<script type="application/json" id="charts">{as_json(charts)}</script>
<script type="application/json" id="clips">{as_json(clips)}</script>
<script>{_asset("uPlot.iife.min.js")}</script>
<script>{_asset("report.js")}</script>
</body>
</html>
"""


def section_html(section: Section) -> str:
    parts = []
    for part in section.parts:
        if isinstance(part, Table):
            parts.append(to_html(part))
        elif isinstance(part, Chart):
            parts.append(chart_html(part))
        else:
            parts.append(part.html)
    lead = f'<p class="lead">{html.escape(section.lead)}</p>' if section.lead else ""
    heading = f'<h2 id="{section.id}-title">{html.escape(section.title)}</h2>'
    body = _in_grids(section.parts, parts)
    return f'<section id="{section.id}" aria-labelledby="{section.id}-title">{heading}{lead}{body}</section>'


def _in_grids(parts: Sequence[Table | Chart | Markup], made: Sequence[str]) -> str:
    """Neighbouring charts share rows of a grid: of two columns where three would leave one alone."""
    out = []
    for is_grid, group in groupby(zip(parts, made), key=lambda pair: isinstance(pair[0], Chart)):
        texts = [text for _, text in group]
        paired = " paired" if len(texts) in (2, 4) else ""
        out += [f'<div class="grid{paired}">', *texts, "</div>"] if is_grid else texts
    return "".join(out)


def chart_html(chart: Chart) -> str:
    kind = " wide" if chart.wide else " scatter" if chart.spec["kind"] == "scatter" else ""
    return (
        f'<figure class="chart{kind}" id="{chart.id}" aria-labelledby="{chart.id}-title">'
        f'<div class="bar"><h3 id="{chart.id}-title">{html.escape(chart.title)}</h3><div class="tools">'
        '<button type="button" data-do="in" aria-label="Zoom in">+</button>'
        '<button type="button" data-do="out" aria-label="Zoom out">−</button>'
        '<button type="button" data-do="reset" aria-label="Show all">⤢</button></div></div>'
        f'<div class="plot" tabindex="0" role="img" aria-label="{html.escape(chart.alternative)} '
        'Arrow keys read the values, plus and minus zoom, 0 shows all."></div>'
        '<div class="legend"></div><p class="said" aria-live="polite"></p>'
        f"<figcaption>{html.escape(chart.caption)}</figcaption></figure>"
    )


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def as_json(value: Any) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")


def rounded(values: Iterable[float] | np.ndarray, digits: int = 5) -> list[float | None]:
    """Numbers with so many significant digits, for a page of moderate size; NaN and infinity become None."""
    return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in np.asarray(values, dtype=float).tolist()]


def slug(text: str) -> str:
    """Text as an id or a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


# ---- the planes of the centroids

MOST_PLANES = 6  # all pairs of four centroids
STEP_DEG = 0.25  # between the directions that are tried for the spoofed region


def centroid_figure(cosines: np.ndarray, radii: tuple[float, float] | None, when: str) -> Markup:
    """Unit centroids in the planes through two of them, with the cones of the one-class loss, as inline SVG.

    Angles in such a plane are the true ones, which no picture of three centroids or more in one plane could have.

    Args:
        cosines: (K, K) between the centroids, K of at least one.
        radii: least cosine of bona fide speech to its centroid, greatest of spoofed speech to any; None without cones.
        when: what the centroids are of, for the heading.
    """
    degrees = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    n = len(cosines)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    pairs.sort(key=lambda pair: -cosines[pair])
    planes = [plane_of(cosines, pair, radii) for pair in pairs[:MOST_PLANES] or [(0, 0)]]
    if n == 1:
        words, which, of_any = "There is one centroid.", "the centroid", "it"
    elif n == 2:
        words = f"The two centroids stand {degrees[0, 1]:.1f} degrees apart (cosine {cosines[0, 1]:.3f})."
        which, of_any = "its own centroid", "both"
    else:
        (a, b), (c, d) = pairs[0], pairs[-1]
        words = (
            f"{n} centroids: c{a} and c{b} are the closest, {degrees[a, b]:.1f} degrees apart, c{c} and c{d} the "
            f"farthest, {degrees[c, d]:.1f} degrees. Each circle is the plane through two of them"
            + (f" (the {MOST_PLANES} closest of {len(pairs)} pairs)." if len(pairs) > MOST_PLANES else ".")
        )
        which, of_any = "its own centroid", "every one"
    if radii:
        inner, outer = (math.degrees(math.acos(radius)) for radius in radii)
        words += (
            f" Bona fide speech is drawn to within {inner:.1f} degrees of {which} (blue), spoofed speech is pushed "
            f"beyond {outer:.1f} degrees of {of_any} (red)."
        )
    if n < 3:
        body = planes[0].replace("<svg ", f'<svg role="img" aria-label="{html.escape(words)}" ', 1)
    else:
        body = ""
        for (i, j), plane in zip(pairs, planes):
            said = f"c{i} and c{j}: {degrees[i, j]:.1f}°"
            body += f'<div>{plane.replace("<svg ", f"""<svg role="img" aria-label="{said}" """, 1)}<p>{said}</p></div>'
        body = f'<div class="planes">{body}</div>'
    words = words.replace("(cosine -", "(cosine −")
    return Markup(
        f'<figure class="chart geometry" id="centroid-planes" '
        f'aria-labelledby="centroid-planes-title"><div class="bar"><h3 id="centroid-planes-title">'
        f"{html.escape(when)}</h3></div>{body}<figcaption>{html.escape(words)}</figcaption></figure>"
    )


def plane_of(cosines: np.ndarray, pair: tuple[int, int], radii: tuple[float, float] | None) -> str:
    """The plane through two of K unit centroids, or through one and any other direction, as SVG."""
    i, j = pair
    angle = math.acos(max(-1.0, min(1.0, float(cosines[i, j])))) if i != j else 0.0
    directions = [math.pi / 2 + angle / 2, math.pi / 2 - angle / 2][: 1 + (i != j)]

    def at(direction: float, length: float) -> str:
        return f"{length * math.cos(direction):.2f},{-length * math.sin(direction):.2f}"

    def wedge(first: float, last: float, name: str) -> str:
        """From one direction to another, against the clock; less than a whole turn."""
        large = int(last - first > math.pi)
        return f'<path class="{name}" d="M0,0 L{at(last, 100)} A100,100 0 {large} 1 {at(first, 100)} Z"/>'

    shapes = ""
    if radii:
        shapes += "".join(wedge(*ends, "far") for ends in spoofed_directions(cosines, pair, directions, radii[1]))
        half = math.acos(radii[0])
        shapes += "".join(wedge(d - half, d + half, "near") for d in directions)
    for side, (k, direction) in enumerate(zip(pair, directions)):
        shapes += f'<path class="arrow" d="M0,0 L{at(direction, 100)}"/><circle class="tip" r="3.5" '
        shapes += 'cx="{}" cy="{}"/>'.format(*at(direction, 100).split(","))
        spread = (0.12 - 0.24 * side) * (angle < 0.5) if i != j else 0.0  # apart where the arrows nearly meet
        x, y = at(direction + spread, 112).split(",")
        shapes += f'<text x="{x}" y="{y}" text-anchor="{("end", "start")[side] if i != j else "middle"}">c{k}</text>'
    return f'<svg viewBox="-145 -138 290 243"><circle class="unit" r="100"/>{shapes}</svg>'


def spoofed_directions(
    cosines: np.ndarray, pair: tuple[int, int], directions: Sequence[float], radius_spoof: float
) -> list[tuple[float, float]]:
    """Arcs (from, to) in radians of a plane whose directions have at most `radius_spoof` as cosine to all centroids.

    Args:
        cosines: (K, K) between the centroids; others than the pair reach into the plane as well.
        directions: of the pair's centroids in the plane.
    """
    own = np.array([[math.cos(d), math.sin(d)] for d in directions])
    # Where each centroid falls upon the plane: the point with its cosines to the two that span it.
    fallen = np.linalg.pinv(own) @ cosines[list(pair[: len(own)])]  # (2, K)
    n_steps = round(360 / STEP_DEG)
    steps = np.radians(np.arange(n_steps) * STEP_DEG)
    greatest = (np.stack([np.cos(steps), np.sin(steps)], axis=1) @ fallen).max(axis=1)
    free = greatest <= radius_spoof
    if free.all() or not free.any():
        return []
    first = int(np.flatnonzero(~free)[0])  # start where no arc is cut in two
    changes = np.flatnonzero(np.diff(np.roll(free, -first).astype(int), append=0))
    step = math.radians(STEP_DEG)
    return [((first + a + 1) * step, (first + b) * step) for a, b in zip(changes[::2], changes[1::2]) if b > a + 1]
