"""Score files: one `NAME SCORE` a line, a higher score means more likely bona fide.

Other layouts of the field are read too, see `score_columns.py`; `NAME SCORE` lines are the ones that are written.

NAME is what the keys of the set call the trial: the file stem for ASVspoof 2021 LA and DF, the file name for
In-the-Wild (`0.wav`), the path from `fake/` or `real/` for FoR. N is the number of trials.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from qamo import InputError
from qamo.files import shown
from qamo.trials import tables, text
from qamo.trials.names import check_name
from qamo.trials.score_columns import columns_of_scores
from qamo.trials.sniff import Form, sniff


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of one system on one set, in the order of the file."""

    path: Path
    name_bytes: np.ndarray  # (N,) of dtype S: the names in UTF-8, all different
    values: np.ndarray  # (N,) float64
    lines: np.ndarray  # (N,) line numbers, from 1
    bonafide: np.ndarray | None = None  # (N,) bool, where the file has a column of labels too

    @cached_property
    def names(self) -> list[str]:
        return tables.texts_of(self.name_bytes)

    def __len__(self) -> int:
        return len(self.values)


def read_scores(path: Path | str, *, finite: bool = True, tabs: bool = True, column: str | None = None) -> Scores:
    """Read a score file of any of the field's layouts (`sniff.py`): lines of several columns, CSV, TSV, `.gz`, `.npz`.

    Args:
        finite: refuse `nan` and `inf`. If not, the caller must look at them.
        tabs: take tabs for blanks; if not, only `name score` lines separated by spaces are read.
        column: the column of the scores, by its header, where there are several.

    Raises:
        InputError: no trials, no column that must be the score, a name scored twice, a score that is not finite.
    """
    path = Path(path)
    form = sniff(path, numbers=True) if tabs else Form(path, None, None, ["name", "score"])
    bonafide = None
    if column is None and form.plain and len(form.cells) in (0, 2):
        table = tables.read_table(path, [0, 1], n_columns=2, expected="'name score'", tabs=tabs)
    else:
        table, bonafide = columns_of_scores(form, column)
    names = table.columns[0]
    if not len(names):
        raise InputError(f"{path}: expected 'name score' lines, but the file is empty")
    try:
        values = tables.to_float(table, 1, path=path, what="the score")
    except InputError as error:
        raise InputError(f"{error}{_cure(tables.text_of(table.columns[1][0]), path)}") from None
    try:
        tables.refuse_repeats(names, table.lines, path=path, what="was scored before")
    except InputError as error:
        once = "; to keep the first score of each name, " + text.converted("awk '!seen[$1]++'", path, ".once.txt")
        raise InputError(f"{error}{once if form.plain else ''}") from None
    if finite:
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            more = f" ({len(bad)} scores are not finite: {tables.some_of(names[bad])})" if len(bad) > 1 else ""
            name = tables.some_of(names[bad[:1]])
            raise InputError(f"{path}:{table.lines[bad[0]]}: the score of {name} is {values[bad[0]]}{more}")
    return Scores(path, names, values, table.lines, bonafide)


def _cure(score: str, path: Path) -> str:
    """How to convert scores that are written like the first one, as the end of a sentence."""
    if re.fullmatch(r"[-+]?\d+,\d+", score):
        return "; a decimal comma? " + text.converted(r"sed -E 's/,([0-9]+)[[:space:]]*$/.\1/'", path, ".point.txt")
    if re.fullmatch(r"(tensor\()?\[*[-+.\deE]+\]*(, ?device=.*)?\)?", score) and score[:1] in "[t":
        return "; a printed list or tensor? " + text.converted(r"sed -E 's/tensor\(|[][)]//g'", path, ".plain.txt")
    return ""


def format_score(name: str, value: float) -> str:
    """One line of a score file, without its newline; the score is written so that it reads back to the same float32.

    Raises:
        InputError: the score is not finite, or the name could not be read back.
    """
    if not math.isfinite(value):
        raise InputError(f"the score of {shown(name)} is {float(value)}: the model or the recording is broken")
    check_name(name, "score file")
    return f"{name} {np.float32(value)!s}"


def sidecar_of(score_file: Path) -> Path:
    """Where main.py says which weights and settings made a score file."""
    return score_file.with_name(score_file.name + ".json")
