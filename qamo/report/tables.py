"""Tables of results, and the four ways they are written: HTML, Markdown, CSV, LaTeX.

A cell holds a value, its column's kind says how it is shown. Rates are shares in [0, 1] and shown in per cent; None is
shown as a dash. CSV keeps every digit; the others round as papers do.

    text      str
    count     int                       19,963
    rate      float                     6.71
    interval  (value, low, high)        6.71 [6.44, 6.99]
    signed    (value, low, high)        -0.75 [-1.02, -0.48], in percentage points
    number    float                     0.1234
    number_interval                     0.1234 [0.1012, 0.1456]
    raw_html  str                       shown in HTML alone
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

DASH = "–"
SHORT = 14  # characters of a row's name that is kept on one line
BRIEF = 24  # rows of a table that is kept on one sheet of paper
INTERVALS = ("interval", "signed", "number_interval")


class Column(NamedTuple):
    name: str
    kind: str = "text"
    group: str = ""  # a heading over neighbouring columns, such as the system


@dataclass(frozen=True)
class Table:
    """A caption, columns, rows, and a note on how to read them.

    Attributes:
        shade: colour rates by their size.
        folded: closed on the screen until a reader opens it.
    """

    id: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    shade: bool = False
    sortable: bool = False
    folded: bool = False


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e-3 and value else f"{value:.4f}"


FORMATS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "count": lambda value: f"{value:,}",
    "rate": _percent,
    "interval": lambda v: _percent(v[0]) + ("" if v[1] is None else f" [{_percent(v[1])}, {_percent(v[2])}]"),
    "signed": lambda v: f"{100 * v[0]:+.2f} [{100 * v[1]:+.2f}, {100 * v[2]:+.2f}]".replace("-", "−"),
    "number": _number,
    "number_interval": lambda v: f"{v[0]:.3f} [{v[1]:.3f}, {v[2]:.3f}]",
    "raw_html": lambda value: "",
}


def shown(value: Any, kind: str) -> str:
    """A cell as text."""
    if value is None or (isinstance(value, tuple) and value[0] is None):
        return DASH
    return FORMATS[kind](value)


# ---- HTML


def to_html(table: Table) -> str:
    """The table with caption and header scopes, in a region that scrolls by itself where the screen is narrow."""
    groups = _groups(table.columns)
    head = ""
    if any(name for name, _ in groups):
        cells = "".join(
            f'<th scope="colgroup" colspan="{span}" class="group">{html.escape(name)}</th>'
            if name
            else f'<td colspan="{span}"></td>'
            for name, span in groups
        )
        head += f"<tr>{cells}</tr>"
    names = "".join(
        f'<th scope="col" class="{column.kind}">{_head(column.name, table.sortable)}</th>' for column in table.columns
    )
    head += f"<tr>{names}</tr>"
    greatest = max(
        (value for row in table.rows for value, c in zip(row, table.columns) if c.kind == "rate" and value is not None),
        default=0.0,
    )
    body = []
    for row in table.rows:
        made = []
        for i, (value, column) in enumerate(zip(row, table.columns)):
            content = value if column.kind == "raw_html" else _cell(value, column.kind)
            if i == 0:
                short = ' class="short"' if len(shown(value, column.kind)) <= SHORT else ""
                content = content if short else _BREAKS.sub(r"\1<wbr>", content)
                made.append(f'<th scope="row"{short}>{content}</th>')
                continue
            style = ""
            if table.shade and column.kind == "rate" and value is not None and greatest:
                style = f' style="--heat:{100 * value / greatest:.0f}%"'
            sort = _sort_key(value, column.kind) if table.sortable else ""
            made.append(f'<td class="{column.kind}"{sort}{style}>{content}</td>')
        body.append(f"<tr>{''.join(made)}</tr>")
    classes = " ".join(["sortable"] * table.sortable + ["shaded"] * table.shade)
    note = f'<p class="note">{html.escape(table.note)}</p>' if table.note else ""
    brief = " brief" if len(table.rows) <= BRIEF else ""
    made_html = (
        f'<div class="scroll{brief}" role="region" tabindex="0" aria-labelledby="{table.id}-caption">'
        f'<table id="{table.id}" class="{classes}"><caption id="{table.id}-caption">'
        f"<span>{html.escape(table.caption)}</span></caption><thead>{head}</thead><tbody>{''.join(body)}</tbody></table></div>{note}"
    )
    if not table.folded:
        return made_html
    return f"<details><summary>{html.escape(table.caption)} ({len(table.rows)} rows)</summary>{made_html}</details>"


_BREAKS = re.compile(r"([._/])(?=\w)")  # where a long name may go on in the next line


def _head(name: str, sortable: bool) -> str:
    return f'<button type="button">{html.escape(name)}</button>' if sortable and name else html.escape(name)


def _cell(value: Any, kind: str) -> str:
    text = shown(value, kind)
    if kind in INTERVALS and " [" in text:
        number, interval = text.split(" ", 1)
        return f'{number} <span class="ci">{interval}</span>'
    return html.escape(text)


def _sort_key(value: Any, kind: str) -> str:
    first = value[0] if isinstance(value, tuple) else value
    return f' data-sort="{first!r}"' if isinstance(first, int | float) else ""


def _groups(columns: Sequence[Column]) -> list[tuple[str, int]]:
    groups: list[tuple[str, int]] = []
    for column in columns:
        if groups and groups[-1][0] == column.group:
            groups[-1] = (column.group, groups[-1][1] + 1)
        else:
            groups.append((column.group, 1))
    return groups


# ---- text


def _flat(table: Table) -> tuple[list[str], list[list[str]], list[Column]]:
    """Heads, formatted rows and columns, without what only HTML can show."""
    keep = [i for i, column in enumerate(table.columns) if column.kind != "raw_html"]
    columns = [table.columns[i] for i in keep]
    heads = [f"{c.group}: {c.name}" if c.group else c.name for c in columns]
    rows = [[shown(row[i], table.columns[i].kind) for i in keep] for row in table.rows]
    return heads, rows, columns


def to_markdown(table: Table) -> str:
    """The table in the pipes that GitHub renders."""
    heads, rows, columns = _flat(table)
    rule = ["---" if column.kind == "text" else "---:" for column in columns]
    lines = [f"**{_pipe_safe(table.caption)}**", ""]
    lines += ["| " + " | ".join(map(_pipe_safe, row)) + " |" for row in [heads, rule, *rows]]
    return "\n".join([*lines, *(["", _pipe_safe(table.note)] if table.note else []), ""])


def _pipe_safe(text: str) -> str:
    for mark in ("\\", "|", "<", "*", "_", "`"):
        text = text.replace(mark, "\\" + mark) if mark != "<" else text.replace("<", "&lt;")
    return text.replace("\n", " ")


_UNITS = re.compile(r" \[95 %\]| %|, points")  # shares in a CSV file have none, and its intervals their own columns


def to_csv(table: Table) -> str:
    """The table with all digits; an interval takes three columns, rates stay shares."""
    _, _, columns = _flat(table)
    heads: list[str] = []
    for column in columns:
        name = f"{column.group} {_UNITS.sub('', column.name)}".strip()
        heads += [name, f"{name} low", f"{name} high"] if column.kind in INTERVALS else [name]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    for row in table.rows:
        cells: list[Any] = []
        for value, column in zip(row, table.columns):
            if column.kind == "raw_html":
                continue
            if column.kind in INTERVALS:
                cells += ["" if v is None else v for v in (value or (None, None, None))]
            else:
                cells.append("" if value is None else value)
        writer.writerow(cells)
    return out.getvalue()


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "×": r"$\times$", "−": "$-$",
    "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def latex_safe(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(_LATEX.get(mark, mark) for mark in text)


def to_latex(table: Table) -> str:
    """A booktabs table."""
    heads, rows, columns = _flat(table)
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{latex_safe(table.caption)}}}",
        rf"  \label{{tab:{table.id}}}",
        rf"  \begin{{tabular}}{{{''.join('l' if c.kind == 'text' else 'r' for c in columns)}}}",
        r"    \toprule",
        "    " + " & ".join(map(latex_safe, heads)) + r" \\",
        r"    \midrule",
        *("    " + " & ".join(map(latex_safe, row)) + r" \\" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"
