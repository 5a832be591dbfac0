"""Lists and protocols of trials, read and written; what is written here can be read here.

A list has one name a line; protocols, keys and meta.csv files of every layout of `keys.py` serve as lists too. N is the
number of trials.
"""

from __future__ import annotations

import csv
import functools
import io
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qamo import InputError
from qamo.trials import tables
from qamo.trials.keys import Keys, read_keys
from qamo.trials.names import check_name, check_names
from qamo.trials.ratings import format_mos, mos_column
from qamo.trials.sniff import Form, read_columns, sniff

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trials:
    """The utterances of a protocol, column by column, in its order."""

    path: Path
    names: list[str]
    bonafide: np.ndarray  # (N,) bool
    mos: np.ndarray  # (N,) float64, from 0 to 6
    has_mos: bool = True

    def __len__(self) -> int:
        return len(self.names)


class Row(NamedTuple):
    """A trial as it stands in a protocol or meta.csv."""

    speaker: str
    name: str
    attack: str
    bonafide: bool


@dataclass(frozen=True)
class Listing:
    """Named trials, and how a file says them together with their MOS."""

    names: list[str]
    write: Callable[[Sequence[str]], str]  # N MOS as texts -> the whole file

    def with_mos(self, mos: np.ndarray) -> str:
        """The whole file, for MOS (N,).

        Raises:
            InputError: a MOS that could not be read back.
        """
        return self.write([format_mos(name, value) for name, value in zip(self.names, mos.tolist())])


# Reading


def read_trial_list(path: Path) -> list[str]:
    """Names of a list, or of a protocol, key or meta.csv.

    Raises:
        InputError: naming file and line: a repeated or unsafe name, lines of several kinds, or no names at all.
    """
    form = sniff(path)
    if not form.cells:
        raise InputError(f"{path}: expected a list of recordings, found no names")
    if len(form.cells) > 1:
        keys = read_keys(path, columns=())
        log.info("%s: names and labels; the labels are not read from a list", path)
        names, lines = keys.names, keys.lines
    else:
        expected = "one name a line (a name that holds a blank cannot be read: rename the file)"
        table = tables.read_table(path, [0], n_columns=1, expected=expected)
        tables.refuse_repeats(table.columns[0], table.lines, path=path, what="stands in the list before")
        names, lines = tables.texts_of(table.columns[0]), table.lines
    check_names(names, lines, path)
    return names


def read_protocol(path: Path, *, needs_mos: bool = True) -> Trials:
    """Read `SPEAKER NAME - ATTACK LABEL MOS` lines, or a table with a header, such as `path,label,mos`.

    Args:
        needs_mos: refuse a file without MOS; else all are 0 there.

    Raises:
        InputError: naming file and line: a wrong column count, label or MOS, a repeated or unsafe name.
    """
    keys = read_keys(path)
    if needs_mos and "mos" not in keys.columns:
        raise InputError(
            f"{path}: expected SPEAKER NAME - ATTACK LABEL MOS, or a table such as path,label,mos, found no MOS; "
            "add it with: python predict_mos.py PROTOCOL AUDIO_FOLDER -o OUT"
        )
    check_names(keys.names, keys.lines, path)
    mos = mos_column(keys) if "mos" in keys.columns else np.zeros(len(keys))
    return Trials(path, keys.names, keys.bonafide, mos, "mos" in keys.columns)


def read_listing(path: Path) -> Listing:
    """Read a list, protocol, key or meta.csv, to be written again with MOS.

    Raises:
        InputError: as `read_trial_list`.
    """
    form = sniff(path)
    if len(form.cells) < 2:
        names = read_trial_list(path)
        return Listing(names, functools.partial(as_ratings, names))
    keys = read_keys(path)
    check_names(keys.names, keys.lines, path)
    if form.heading and not set(form.header or ()) <= {"name", "speaker", "label", "mos"}:
        return Listing(keys.names, functools.partial(_with_mos, form))
    write = functools.partial(as_meta, speakers="speaker" in keys.columns) if form.delimiter else as_protocol
    return Listing(keys.names, functools.partial(write, rows_of(keys)))


def list_folder(folder: Path, recordings: Iterable[Path]) -> Listing:
    """Recordings that were found below a folder, by their path in it; hidden ones are passed over.

    Raises:
        InputError: there are none, or one has a name that no list can hold.
    """
    inner = (path.relative_to(folder) for path in recordings)
    names = sorted(path.as_posix() for path in inner if not any(part.startswith(".") for part in path.parts))
    if not names:
        raise InputError(f"{folder}: expected recordings, found none")
    for name in names:
        check_name(name, folder)
    return Listing(names, functools.partial(as_ratings, names))


def rows_of(keys: Keys) -> list[Row]:
    """The trials of keys; "-" where they tell no speaker or attack."""
    blank = ["-"] * len(keys)
    speakers, attacks = (keys.columns.get(column, blank) for column in ("speaker", "attack"))
    return list(map(Row, speakers, keys.names, attacks, keys.bonafide.tolist()))


# Writing


def as_list(names: Iterable[str]) -> str:
    """A list: one name a line."""
    return _lines(([name] for name in names), name_at=0)


def as_ratings(names: Iterable[str], mos: Iterable[str]) -> str:
    """`NAME MOS` lines."""
    return _lines(zip(names, mos), name_at=0)


def as_protocol(rows: Iterable[Row], mos: Iterable[str] | None = None) -> str:
    """`SPEAKER NAME - ATTACK LABEL` lines, with a column of MOS where they are given."""
    five = ([row.speaker, row.name, "-", row.attack, "bonafide" if row.bonafide else "spoof"] for row in rows)
    return _lines(five if mos is None else ([*columns, text] for columns, text in zip(five, mos)), name_at=1)


def as_meta(rows: Iterable[Row], mos: Iterable[str] | None = None, *, speakers: bool) -> str:
    """A meta.csv; with speakers and MOS it has no header, as the published MOS file of In-the-Wild."""
    wild = ([row.name, *[row.speaker] * speakers, "bona-fide" if row.bonafide else "spoof"] for row in rows)
    header = ["file", *["speaker"] * speakers, "label", *["mos"] * (mos is not None)]
    table = wild if mos is None else ([*columns, text] for columns, text in zip(wild, mos))
    return as_csv(table if speakers and mos is not None else [header, *table])


def as_csv(rows: Iterable[Sequence[str]]) -> str:
    """Comma-separated rows, whose first column holds names."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for row in rows:
        check_name(row[0], "meta.csv")
        writer.writerow(row)
    return file.getvalue()


def _with_mos(form: Form, mos: Sequence[str]) -> str:
    """A table with a header, as it stands, with its column of MOS or one more."""
    heading, roles = list(form.heading or ()), list(form.header or ())
    columns = [tables.texts_of(column) for column in read_columns(form)[0]]
    if "mos" in roles:
        columns[roles.index("mos")] = list(mos)
    else:
        heading, columns = [*heading, "mos"], [*columns, list(mos)]
    file = io.StringIO()
    csv.writer(file, delimiter=form.delimiter or "\t", lineterminator="\n").writerows([heading, *zip(*columns)])
    return file.getvalue()


def _lines(rows: Iterable[Sequence[str]], *, name_at: int) -> str:
    texts = []
    for row in rows:
        check_name(row[name_at], "protocol or list")
        texts.append(" ".join(row) + "\n")
    return "".join(texts)
