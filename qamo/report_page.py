"""One HTML file from sections of text, tables and charts; it needs no network and runs no code but its own.

The charts are uPlot's (MIT, bundled in qamo/assets): 51 kB where the smallest plotly bundle takes 1 MB, drawn on
canvases that stay quick with thousands of points, and the hover and zoom of a chart library; what canvases lack, the
page adds: a text alternative, the arrow keys, buttons to zoom, and colours that follow the scheme of the reader.

A chart is a dict that `qamo/assets/report.js` understands:

    kind    "lines" | "scatter"
    x       {"label": str, "values": [float], "text": [str] or None, "scale": "linear" | "probit" | "epoch"}
    y       {"label": str, "scale": ..., "min": float or None}
    series  [{"label": str, "color": name of a colour in report.css, "dash": [px] or None, "values": [float or None],
              "text": [str] or None, "fill": bool, "stepped": bool, "points": bool,
              "hidden": bool (only its value is shown), "quiet": bool (drawn thin, without its value)}]
    bands   [[i, j]]: fill between series i and j
    marks   [{"x": float, "y": float or None, "color": str, "label": str, "below": bool}]   a point, or a line upright
    diagonal, square  bool: draw x = y; as high as wide
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qamo.report_tables import Table, to_html

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
    """Neighbouring charts share rows of a grid."""
    out, open_grid = [], False
    for part, text in zip(parts, made):
        is_chart = isinstance(part, Chart)
        if is_chart != open_grid:
            out.append('<div class="grid">' if is_chart else "</div>")
            open_grid = is_chart
        out.append(text)
    return "".join(out) + ("</div>" if open_grid else "")


def chart_html(chart: Chart) -> str:
    wide = " wide" if chart.wide else ""
    return (
        f'<figure class="chart{wide}" id="{chart.id}" aria-labelledby="{chart.id}-title">'
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


# ---- the plane of two centroids


def centroid_figure(cosine: float, radius_bonafide: float, radius_spoof: float) -> Markup:
    """The plane through two unit centroids, with the cones of the one-class loss around each, as inline SVG."""
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    directions = [math.pi / 2 + angle / 2, math.pi / 2 - angle / 2]
    inner, outer = math.acos(radius_bonafide), math.acos(radius_spoof)

    def at(direction: float, length: float) -> str:
        return f"{length * math.cos(direction):.2f},{-length * math.sin(direction):.2f}"

    def wedge(direction: float, half: float, length: float, name: str) -> str:
        large = int(half > math.pi / 2)
        return (
            f'<path class="{name}" d="M0,0 L{at(direction + half, length)} '
            f'A{length},{length} 0 {large} 1 {at(direction - half, length)} Z"/>'
        )

    beyond_both = math.pi - angle / 2 - outer
    shapes = wedge(-math.pi / 2, beyond_both, 100, "far") if beyond_both > 0 else ""
    shapes += "".join(wedge(d, inner, 100, "near") for d in directions)
    arrows = ""
    for k, direction in enumerate(directions):
        arrows += f'<path class="arrow" d="M0,0 L{at(direction, 100)}"/><circle class="tip" r="3.5" '
        arrows += 'cx="{}" cy="{}"/>'.format(*at(direction, 100).split(","))
        x, y = at(direction + (0.12 if k == 0 else -0.12) * (angle < 0.5), 112).split(",")
        anchor = "end" if k == 0 else "start"
        arrows += f'<text x="{x}" y="{y}" text-anchor="{anchor}">c{k}</text>'
    words = (
        f"The two centroids stand {math.degrees(angle):.1f} degrees apart (cosine {cosine:.3f}). Bona fide speech is "
        f"drawn to within {math.degrees(inner):.1f} degrees of its own centroid (blue), spoofed speech is pushed "
        f"beyond {math.degrees(outer):.1f} degrees of both (red)."
    )
    return Markup(
        '<figure class="chart geometry"><div class="bar"><h3>Centroids after the last epoch</h3></div>'
        f'<svg viewBox="-130 -125 260 230" role="img" aria-label="{html.escape(words)}"><circle class="unit" r="100"/>'
        f"{shapes}{arrows}</svg><figcaption>{html.escape(words)}</figcaption></figure>"
    )
