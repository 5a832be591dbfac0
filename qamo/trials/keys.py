"""Keys: which trials of a set are bona fide, and what else is known of each.

The layouts are told apart by their first line:

    file,speaker,label[,mos]                                    meta.csv of In-the-Wild; FoR has file,label
    0.wav,Alec Guinness,spoof,1.9514                            a meta.csv without its header
    SPEAKER NAME - ATTACK LABEL [MOS]                           protocols of ASVspoof 2015 to 2019
    8, 12 or 13 columns, one of them the subset                 trial_metadata.txt of ASVspoof 2021 LA, PA, DF
    10 columns                                                  protocols of ASVspoof 5
    NAME LABEL                                                  lists with labels

Labels are `bonafide`, `bona-fide` or `spoof`. N is the number of trials of the subset asked for.
"""

from __future__ import annotations

import logging
import shlex
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from qamo import InputError
from qamo.trials import tables
from qamo.trials.authors import how_to_get
from qamo.trials.key_columns import columns_of_key, labels_to_bool
from qamo.trials.names import check_names
from qamo.trials.scores import Scores
from qamo.trials.sniff import sniff
from qamo.trials.text import converted

log = logging.getLogger(__name__)

KEY_FILES = ["meta.csv", "trial_metadata.txt", "CM/trial_metadata.txt"]  # of a folder of keys
TRACKS = {8: "LA", 12: "PA", 13: "DF"}  # ASVspoof 2021, by its number of columns
# Subsets of the physical access track that are not in its subset column alone: (subset, trim).
PA_HIDDEN = {"hidden1_PA": (b"hidden", b"notrim"), "hidden2_PA": (b"hidden", b"trim")}
# The organisers' archives of the ASVspoof 2021 keys: name and md5.
ARCHIVES_URL = "https://www.asvspoof.org/asvspoof2021/"
ARCHIVES = {
    "LA": ("LA-keys-full.tar.gz", "f052cc2ed276745afa3b5198665d3b26"),
    "PA": ("PA-keys-full.tar.gz", "a639ea472cf4fb564a62fbc7383c24cf"),
    "DF": ("DF-keys-full.tar.gz", "dabbc5628de4fcef53036c99ac7ab93a"),
}


@dataclass(frozen=True, eq=False)
class Keys:
    """The trials of a set or of one subset of it, in the order of the file."""

    path: Path
    name_bytes: np.ndarray  # (N,) of dtype S, all different
    bonafide: np.ndarray  # (N,) bool
    lines: np.ndarray  # (N,) line numbers, from 1
    columns: tables.Columns  # what else the key says of each trial
    outside: np.ndarray  # names of the trials that the subset leaves out, dtype S
    track: str | None = None  # LA, PA or DF where the layout is that of ASVspoof 2021

    @cached_property
    def names(self) -> list[str]:
        return tables.texts_of(self.name_bytes)

    def __len__(self) -> int:
        return len(self.bonafide)

    def align(self, scores: Scores, *, exact: bool = False) -> np.ndarray:
        """The score of each trial, in the order of the key: (N,) float64.

        Scores of trials outside the subset are passed over.

        Args:
            exact: names match as they are written only, as in the official packages.

        Raises:
            InputError: trials without a score, or scores of trials that the key does not know; with their counts.
        """
        index, spelt = self.find(scores.name_bytes, exact=exact)
        given = spelt(scores.name_bytes)
        if spelt is not as_written:
            tables.refuse_repeats(given, scores.lines, path=scores.path, what="was scored before")
        missing = np.flatnonzero(index < 0)
        used = np.zeros(len(given), bool)
        used[index[index >= 0]] = True
        rest = np.flatnonzero(~used)
        unknown = rest[tables.match(given[rest], spelt(self.outside)) < 0] if len(rest) else rest
        if len(missing) or len(unknown):
            problems = []
            if len(missing):
                problems.append(
                    f"no score for {len(missing)} of the {len(self)} trials of {self.path} "
                    f"({tables.some_of(self.name_bytes[missing])})"
                )
            if len(unknown):
                problems.append(
                    f"{len(unknown)} of its {len(scores)} names are not in "
                    f"{self.path if not len(missing) else 'that key'} ({tables.some_of(scores.name_bytes[unknown])})"
                )
            hint = "; is this the score file of that set?" if len(unknown) == len(scores) else ""
            if not len(missing) and len(unknown) <= 3:
                names = " && ".join(f'$1 != "{n}"' for n in tables.texts_of(scores.name_bytes[unknown]))
                hint += "; to leave them out, " + converted(f"awk {shlex.quote(names)}", scores.path, ".kept.txt")
            raise InputError(f"{scores.path}: {', and '.join(problems)}{hint}")
        if scores.bonafide is not None and (differ := int((scores.bonafide[index] != self.bonafide).sum())):
            log.warning("%s: its labels differ from those of %s for %d trials; the key's are used, but is the file of "
                        "this set?", scores.path, self.path, differ)  # fmt: skip
        return scores.values[index]

    def find(self, given: np.ndarray, *, exact: bool = False) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Index in `given`, (M,) of dtype S, of each trial's name, or -1: (N,) int64; and how names were compared.

        They are compared as written; where some are not found, without the extension of an audio file, then without
        folders, then without regard to capitals and to how accents are written: whichever first finds the most, if the
        names stay different.
        """
        best, compared = tables.match(self.name_bytes, given), as_written
        for spelt in () if exact or not len(self) else SPELLINGS:
            if (best >= 0).all():
                break
            own = spelt(self.name_bytes)
            if len(np.unique(own)) == len(own):
                index = tables.match(own, spelt(given))
                if (index >= 0).sum() > (best >= 0).sum():
                    best, compared = index, spelt
        return best, compared


def refuse_one_class(keys: Keys) -> None:
    """Raise InputError where all trials of a key are bona fide, or all spoofed: no error rate can be computed."""
    n_bonafide = int(keys.bonafide.sum())
    if n_bonafide in (0, len(keys)):
        absent = "spoofed" if n_bonafide else "bona fide"
        raise InputError(f"{keys.path}: no {absent} trials among its {len(keys)}: an error rate needs both classes")


def as_written(names: np.ndarray) -> np.ndarray:
    """Names as they are."""
    return names


def without_folders(names: np.ndarray) -> np.ndarray:
    """The stem of each path: (N,) of dtype S -> (N,) of dtype S."""
    plain = tables.without_extension(names).tolist()
    return np.array([name.replace(b"\\", b"/").rsplit(b"/", 1)[-1] for name in plain], names.dtype)


def without_capitals(names: np.ndarray) -> np.ndarray:
    """The stem of each path in lower case, with accents as one character each: macOS writes them apart."""
    texts = tables.texts_of(without_folders(names))
    return np.array([unicodedata.normalize("NFC", text.lower()).encode() for text in texts], "S" if texts else "S1")


SPELLINGS = (tables.without_extension, without_folders, without_capitals)


def read_keys(path: Path | str, subset: str | None = None, *, columns: Collection[str] | None = None) -> Keys:
    """Read a key of any layout; `subset` keeps the trials of one subset of an ASVspoof 2021 key.

    Args:
        columns: which columns to keep besides names and labels, to save time on a large key; None keeps all.

    Raises:
        InputError: an unknown layout, label or subset, a wrong number of columns, or a name that stands twice.
    """
    if not Path(path).exists():
        raise InputError(f"{path}: no such file or folder{how_to_get(Path(path))}")
    form = sniff(path, numbers=True)
    if not form.cells:
        raise InputError(f"{path}: expected a key, but the file is empty")
    by_name, lines = columns_of_key(form, columns)
    path = form.path
    names = by_name.pop("name")
    if not len(names):
        raise InputError(f"{path}: expected trials below the header, found none")
    if not form.plain:
        check_names(tables.texts_of(names), lines.tolist(), path)
    bonafide = labels_to_bool(by_name.pop("label"), lines, form)
    tables.refuse_repeats(names, lines, path=path, what="stands in the key before")
    outside = names[:0]
    if subset is not None:
        keep = in_subset(by_name, subset, path)
        outside, names, bonafide, lines = names[~keep], names[keep], bonafide[keep], lines[keep]
        by_name = {column: texts[keep] for column, texts in by_name.items()}
    if "codec" in by_name and "trans" not in by_name:  # ASVspoof 5 writes `-` for speech that no codec touched
        by_name["codec"] = np.where(by_name["codec"] == b"-", b"none", by_name["codec"])
    track = TRACKS.get(len(form.cells)) if form.plain else None
    return Keys(path, names, bonafide, lines, tables.Columns(by_name), outside, track)


def in_subset(columns: dict[str, np.ndarray], subset: str, path: Path) -> np.ndarray:
    """Which trials of an ASVspoof 2021 key are in a subset: (N,) bool.

    Raises:
        InputError: the key has no subsets, or no trial in this one.
    """
    if "subset" not in columns:
        raise InputError(f"{path}: has no subset column, so the subset {subset} cannot be chosen; leave it out")
    value, trim = PA_HIDDEN.get(subset, (subset.encode(), None))
    keep = columns["subset"] == value
    if trim is not None:
        keep &= columns["trim"] == trim
    if not keep.any():
        there = ", ".join(tables.texts_of(tables.levels(columns["subset"])[0]))
        raise InputError(f"{path}: no trial is in the subset {subset}; it has {there}")
    return keep
