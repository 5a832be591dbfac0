"""One HTML file from sections of tables, charts and text; it needs no network and runs no code but its own.

`page.html.j2` is the file, `parts.html.j2` a table, a chart and a card in it. Text is escaped unless it is `Markup`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from eval_metrics import score_warnings
from qamo.report.charts import Chart, style
from qamo.report.tables import INTERVALS, Table, shown

FOLDER = Path(__file__).parent


@dataclass
class Section:
    """A title, a sentence or two, and tables, charts and HTML."""

    id: str
    title: str
    lead: str = ""
    parts: list[Table | Chart | Markup] = field(default_factory=list)

    @property
    def tables(self) -> list[Table]:
        return [part for part in self.parts if isinstance(part, Table)]

    @property
    def charts(self) -> list[Chart]:
        return [part for part in self.parts if isinstance(part, Chart)]

    @property
    def rows(self) -> list[tuple[bool, list[Any]]]:
        """Whether they are charts, and parts: neighbouring charts share a grid, whatever else has a row of its own."""
        parts = [to_html(part) if isinstance(part, Table) else part for part in self.parts]
        return [(are_charts, list(row)) for are_charts, row in groupby(parts, lambda part: isinstance(part, Chart))]


def page(title: str, subtitle: str, sections: Sequence[Section], clips: dict[str, str], **top: Any) -> str:
    """The whole page.

    Args:
        clips: recordings as data URIs by the ids that the players name.
        top: what stands above the sections: `subject`, and `verdict` where it has several systems.
    """
    charts = {chart.id: chart.to_json() for section in sections for chart in section.charts}
    options = {"title": title, "subtitle": subtitle, "sections": sections, "charts": charts, "clips": clips}
    return _templates().get_template("page.html.j2").render(**options, **top)


def to_html(table: Table) -> Markup:
    """The table with caption and header scopes, in a region that scrolls by itself where the screen is narrow."""
    rates = [v for row in table.rows for v, c in zip(row, table.columns) if c.kind == "rate" and v is not None]
    groups = [(name, len(list(columns))) for name, columns in groupby(column.group for column in table.columns)]
    macros: Any = _templates().get_template("parts.html.j2").module
    return macros.table(table, [] if groups == [("", len(table.columns))] else groups, max(rates, default=0.0))


def cell(value: Any, kind: str) -> str | Markup:
    """What a cell holds; an interval is told apart from the number before it."""
    if kind == "raw_html":
        return value
    text = shown(value, kind)
    if kind in INTERVALS and " [" in text:
        return Markup('{} <span class="ci">{}</span>').format(*text.split(" ", 1))
    return text


def breakable(text: str | Markup) -> Markup:
    """A long name, which may go on in the next line after a dot, a slash or an underscore."""
    return Markup(re.sub(r"([._/])(?=\w)", r"\1<wbr>", str(escape(text))))


def sort_key(value: Any) -> float | int | None:
    """The number that a cell is sorted by."""
    first = value[0] if isinstance(value, tuple) else value
    return first if isinstance(first, int | float) else None


def _asset(name: str) -> Markup:
    return Markup((FOLDER / "assets" / name).read_text(encoding="utf-8"))


@functools.cache
def _templates() -> Any:
    from jinja2 import Environment, FileSystemLoader

    made = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, keep_trailing_newline=True)
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    made.filters["breakable"] = breakable
    made.globals |= {
        "asset": _asset, "cell": cell, "sort_key": sort_key, "shown": shown, "zip": zip,
        "score_warnings": score_warnings, "style": style,
    }  # fmt: skip
    return made
