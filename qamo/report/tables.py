"""Tables of results, and the ways they are written: Markdown, CSV, LaTeX; page.py has HTML.

A cell holds a value, its column's kind says how it is shown. Rates are shares in [0, 1] and shown in per cent; None is
shown as a dash. CSV keeps every digit; the others round as papers do.

    text      str
    count     int                       19,963
    rate      float                     6.71
    interval  (value, low, high)        6.71 [6.44, 6.99]
    signed    (value, low, high)        -0.75 [-1.02, -0.48], in percentage points
    number    float                     0.1234
    number_interval                     0.1234 [0.1012, 0.1456]
    raw_html  Markup, or str            shown in HTML alone
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from qamo.files import as_cell

DASH = "–"
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

    @classmethod
    def of_columns(
        cls, id: str, caption: str, columns: Sequence[tuple[Column, Sequence[Any]]], note: str = ""
    ) -> Table:
        """A table from its columns, each with a value for every row."""
        return cls(id, caption, [column for column, _ in columns], list(zip(*(values for _, values in columns))), note)


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _signed(value: tuple[float, float | None, float | None]) -> str:
    middle, low, high = value
    ends = "" if low is None or high is None else f" [{100 * low:+.2f}, {100 * high:+.2f}]"
    return f"{100 * middle:+.2f}{ends}"


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e-3 and value else f"{value:.4f}"


FORMATS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "count": lambda value: f"{value:,}",
    "rate": _percent,
    "interval": lambda v: _percent(v[0]) + ("" if v[1] is None else f" [{_percent(v[1])}, {_percent(v[2])}]"),
    "signed": lambda v: _signed(v).replace("-", "−"),
    "number": _number,
    "number_interval": lambda v: f"{v[0]:.3f}" + ("" if v[1] is None else f" [{v[1]:.3f}, {v[2]:.3f}]"),
    "raw_html": lambda value: "",
}


def shown(value: Any, kind: str) -> str:
    """A cell as text."""
    if value is None or (isinstance(value, tuple) and value[0] is None):
        return DASH
    return FORMATS[kind](value)


def in_prose(value: float) -> str:
    """A number within a sentence."""
    return f"{value:.4g}".replace("-", "−")


def _flat(table: Table) -> tuple[list[Column], list[str], list[list[str]]]:
    """Columns, heads and formatted rows, without what only HTML can show."""
    keep = [i for i, column in enumerate(table.columns) if column.kind != "raw_html"]
    columns = [table.columns[i] for i in keep]
    heads = [f"{c.group}: {c.name}" if c.group else c.name for c in columns]
    return columns, heads, [[shown(row[i], table.columns[i].kind) for i in keep] for row in table.rows]


def to_markdown(table: Table) -> str:
    """The table in the pipes that GitHub renders."""
    columns, heads, rows = _flat(table)
    rule = ["---" if column.kind == "text" else "---:" for column in columns]
    lines = [f"**{_pipe_safe(table.caption)}**", ""]
    lines += ["| " + " | ".join(map(_pipe_safe, row)) + " |" for row in [heads, rule, *rows]]
    return "\n".join([*lines, *(["", _pipe_safe(table.note)] if table.note else []), ""])


def _pipe_safe(text: str) -> str:
    return re.sub(r"([\\|*_`])", r"\\\1", text).replace("<", "&lt;").replace("\n", " ")


_UNITS = re.compile(r" \[95 %\]| %|, points")  # shares in a CSV file have none, and its intervals their own columns


def to_csv(table: Table) -> str:
    """The table with all digits; an interval takes three columns, rates stay shares."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    rows: list[list[Any]] = [[] for _ in range(1 + len(table.rows))]
    for i, column in enumerate(table.columns):
        if column.kind == "raw_html":
            continue
        name = f"{column.group} {_UNITS.sub('', column.name)}".strip()
        wide = column.kind in INTERVALS
        rows[0] += [name, f"{name} low", f"{name} high"] if wide else [name]
        for row, values in zip(rows[1:], table.rows):
            row += (values[i] or (None, None, None)) if wide else [values[i]]
    writer.writerows(map(as_cell, row) for row in rows)  # None becomes an empty cell
    return out.getvalue()


_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "×": r"$\times$", "−": "$-$", "±": r"$\pm$",
    "<": r"\textless{}", ">": r"\textgreater{}",
})  # fmt: skip


def latex_safe(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return text.translate(_LATEX)


MAX_ROWS_OF_A_PAGE = 40  # longer tables break over pages


def to_latex(table: Table) -> str:
    """A booktabs table, the best of each column of results in bold; a longtable where it has many rows."""
    columns, heads, rows = _flat(table)
    bold = _best(table)
    cells = [[rf"\textbf{{{latex_safe(c)}}}" if (i, j) in bold else latex_safe(c) for j, c in enumerate(row)]
             for i, row in enumerate(rows)]  # fmt: skip
    layout = "".join("l" if c.kind == "text" else "r" for c in columns)
    head = "    " + " & ".join(map(latex_safe, heads)) + r" \\"
    body = ["    " + " & ".join(row) + r" \\" for row in cells]
    caption, label = rf"\caption{{{latex_safe(table.caption)}}}", rf"\label{{tab:{table.id}}}"
    if len(rows) > MAX_ROWS_OF_A_PAGE:  # \usepackage{longtable}
        top = [r"\toprule", head, r"\midrule"]
        lines = [rf"\begin{{longtable}}{{{layout}}}", rf"  {caption} {label} \\", *top, r"\endfirsthead", *top]
        lines += [r"\endhead", r"\bottomrule", r"\endfoot", *body, r"\end{longtable}"]
        return "\n".join(lines) + "\n"
    lines = [r"\begin{table}", r"  \centering", f"  {caption}", f"  {label}", rf"  \begin{{tabular}}{{{layout}}}"]
    lines += [r"    \toprule", head, r"    \midrule", *body, r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


_LOWER_IS_BETTER = re.compile(r"EER|DCF|Cllr|by speaker", re.IGNORECASE)


def _best(table: Table) -> set[tuple[int, int]]:
    """Row and shown column of the lowest figure of each column of error rates or costs where rows are systems.

    Where each system has columns of its own, the best of each row is marked among the columns of one name.
    """
    columns, _, rows = _flat(table)
    keep = [i for i, column in enumerate(table.columns) if column.kind != "raw_html"]
    found: set[tuple[int, int]] = set()
    rivals: dict[str, list[int]] = {}
    for j, column in enumerate(columns):
        if column.kind in ("rate", "interval", "number") and _LOWER_IS_BETTER.search(column.name):
            rivals.setdefault(column.name, []).append(j)
    for same in rivals.values():
        groups: list[list[tuple[int, int]]] = []
        if columns[0].name == "system":
            groups = [[(i, j) for i in range(len(rows))] for j in same]
        elif len({columns[j].group for j in same}) > 1:
            groups = [[(i, j) for j in same] for i in range(len(rows))]
        for group in groups:
            values = {(i, j): _value(table.rows[i][keep[j]]) for i, j in group}
            known = {cell: value for cell, value in values.items() if value is not None}
            if len(known) > 1:
                least = min(known.values())
                found |= {cell for cell, value in known.items() if value == least}
    return found


def _value(cell: Any) -> float | None:
    value = cell[0] if isinstance(cell, tuple) else cell
    return None if value is None else float(value)
