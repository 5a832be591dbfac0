"""The MOS of named trials, by one rule: a number from 0 to 6 for each.

Two forms are read: `NAME MOS` lines, and keys of any layout with a `mos` column (see `keys.py`). N is the number of
trials.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from qamo import InputError
from qamo.trials import tables
from qamo.trials.keys import Keys, read_keys
from qamo.trials.sniff import sniff
from qamo.trials.tables import Table

MOS_RANGE = (0.0, 6.0)  # predictors leave the scale from 1 to 5 a little: SCOREQ gives 0.95 to 5.07 on ASVspoof 2019
EXPECTED = "the MOS to be a number from 0 to 6"


@dataclass(frozen=True, eq=False)
class Ratings:
    """The MOS of named trials, in the order of the file."""

    path: Path
    name_bytes: np.ndarray  # (N,) of dtype S: the names in UTF-8, all different
    values: np.ndarray  # (N,) float64, from 0 to 6
    text_bytes: np.ndarray  # (N,) of dtype S: the same as they were written
    keys: Keys | None  # what else the file says of each trial; None of `NAME MOS` lines

    @cached_property
    def names(self) -> list[str]:
        return tables.texts_of(self.name_bytes)

    @cached_property
    def texts(self) -> list[str]:
        return tables.texts_of(self.text_bytes)

    @cached_property
    def mos(self) -> dict[str, float]:
        return dict(zip(self.names, self.values.tolist()))

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """What each name belongs to where the file says it: `bona fide`; or `spoof`, and `spoof A07` too."""
        if self.keys is None:
            return {}
        attacks = self.keys.columns.get("attack", ["-"] * len(self))
        spoofs = (["spoof", *([f"spoof {attack}"] if attack != "-" else [])] for attack in attacks)
        return {n: ["bona fide"] if label else spoof for n, label, spoof in zip(self.names, self.keys.bonafide, spoofs)}

    def __len__(self) -> int:
        return len(self.values)

    def of(self, keys: Keys) -> np.ndarray:
        """The MOS of each trial of `keys`, in their order: (N,) float64.

        Raises:
            InputError: trials have no MOS here, or other labels.
        """
        index, _ = keys.find(self.name_bytes)
        missing = np.flatnonzero(index < 0)
        if len(missing):
            raise InputError(
                f"{self.path}: no MOS for {len(missing)} of the {len(keys)} trials of {keys.path} "
                f"({tables.some_of(keys.name_bytes[missing])}); is it of another set?"
            )
        differ = np.flatnonzero(self.keys.bonafide[index] != keys.bonafide) if self.keys else missing
        if len(differ):
            raise InputError(
                f"{self.path}: its labels differ from those of {keys.path} for {len(differ)} trials "
                f"({tables.some_of(keys.name_bytes[differ])}); one of the two is of another set"
            )
        return self.values[index]


def read_ratings(path: Path | str) -> Ratings:
    """Read a file of MOS in either form.

    Raises:
        InputError: no MOS in the file, one that is not a number from 0 to 6, or what `read_keys` refuses.
    """
    path = Path(path)
    form = sniff(path)
    if not form.cells:
        raise InputError(f"{path}: expected MOS lines, but the file is empty")
    if len(form.cells) != 2 or not form.plain:
        keys = read_keys(path)
        return Ratings(path, keys.name_bytes, mos_column(keys), keys.columns.raw["mos"], keys)
    table = tables.read_table(path, [0, 1], n_columns=2, expected="'name MOS'")
    tables.refuse_repeats(table.columns[0], table.lines, path=path, what="has a MOS already")
    return Ratings(path, table.columns[0], _checked(table, path), table.columns[1], None)


def mos_column(keys: Keys) -> np.ndarray:
    """The MOS of each trial of keys that have them, in their order: (N,) float64.

    Raises:
        InputError: the keys have no MOS, or one is not a number from 0 to 6.
    """
    if "mos" not in keys.columns:
        raise InputError(f"{keys.path}: expected a MOS column, found none; add it with predict_mos.py")
    return _checked(Table([keys.name_bytes, keys.columns.raw["mos"]], keys.lines), keys.path)


def format_mos(name: str, value: float) -> str:
    """A MOS as it is written into files.

    Raises:
        InputError: it could not be read back: it is not a number from 0 to 6.
    """
    text = f"{value:.4f}"
    if not MOS_RANGE[0] <= float(text) <= MOS_RANGE[1]:
        raise InputError(f"the MOS of {name} is {text}: expected {EXPECTED}; use a predictor of that scale")
    return text


def _checked(table: Table, path: Path) -> np.ndarray:
    """The second column of a table as MOS: (N,) float64."""
    values = tables.to_float(table, 1, path=path, what=EXPECTED.partition(" to be ")[0])
    bad = np.flatnonzero(~((values >= MOS_RANGE[0]) & (values <= MOS_RANGE[1])))  # NaN among them
    if len(bad):
        names, texts = table.columns
        more = f" ({len(bad)} such lines)" if len(bad) > 1 else ""
        raise InputError(
            f"{path}:{table.lines[bad[0]]}: expected {EXPECTED}, got {tables.text_of(texts[bad[0]])!r} "
            f"for {tables.some_of(names[bad[:1]])}{more}"
        )
    return values
