"""Score files: one `NAME SCORE` a line, a higher score means more likely bona fide.

NAME is what the keys of the set call the trial: the file stem for ASVspoof 2021 LA and DF, the file name for
In-the-Wild (`0.wav`), the path from `fake/` or `real/` for FoR. N is the number of trials.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from qamo import InputError
from qamo.trials import tables
from qamo.trials.names import check_name, shown


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of one system on one set, in the order of the file."""

    path: Path
    name_bytes: np.ndarray  # (N,) of dtype S: the names in UTF-8, all different
    values: np.ndarray  # (N,) float64
    lines: np.ndarray  # (N,) line numbers, from 1

    @cached_property
    def names(self) -> list[str]:
        return tables.texts_of(self.name_bytes)

    def __len__(self) -> int:
        return len(self.values)


def read_scores(path: Path | str, *, finite: bool = True, tabs: bool = True) -> Scores:
    """Read a score file.

    Args:
        finite: refuse `nan` and `inf`. If not, the caller must look at them.
        tabs: take tabs for blanks.

    Raises:
        InputError: no trials, a line that is not `name score`, a name scored twice, a score that is not finite.
    """
    path = Path(path)
    table = tables.read_table(path, [0, 1], n_columns=2, expected="'name score'", tabs=tabs)
    names = table.columns[0]
    if not len(names):
        raise InputError(f"{path}: expected 'name score' lines, but the file is empty")
    values = tables.to_float(table, 1, path=path, what="the score")
    tables.refuse_repeats(names, table.lines, path=path, what="was scored before")
    if finite:
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            more = f" ({len(bad)} scores are not finite: {tables.some_of(names[bad])})" if len(bad) > 1 else ""
            name = tables.some_of(names[bad[:1]])
            raise InputError(f"{path}:{table.lines[bad[0]]}: the score of {name} is {values[bad[0]]}{more}")
    return Scores(path, names, values, table.lines)


def format_score(name: str, value: float) -> str:
    """One line of a score file, without its newline; the score is written so that it reads back to the same float32.

    Raises:
        InputError: the score is not finite, or the name could not be read back.
    """
    if not math.isfinite(value):
        raise InputError(f"the score of {shown(name)} is {float(value)}: the model or the recording is broken")
    check_name(name, "score file")
    return f"{name} {np.float32(value)!s}"
