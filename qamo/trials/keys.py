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

import csv
import io
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from qamo import InputError
from qamo.files import read_text
from qamo.trials import tables
from qamo.trials.names import check_names
from qamo.trials.scores import Scores

# Columns of a blank-separated key, told apart by their number.
_LAYOUTS = (
    "name label",
    "speaker name environment attack label",
    "speaker name environment attack label mos",
    "speaker name codec trans attack label trim subset",
    "speaker name gender codec codec_q codec_seed attack_group attack label tmp",
    "speaker name asv_room asv_mic dis_to_asv att_room att_mic att_d att_to_spk label trim subset",
    "speaker name compr source attack label trim subset vocoder task team gender-pair language",
)
LAYOUTS = {len(columns): columns for columns in map(str.split, _LAYOUTS)}
_ALWAYS = {"name", "label", "subset", "trim"}  # needed to tell trials, classes and subsets
TRACKS = {8: "LA", 12: "PA", 13: "DF"}  # ASVspoof 2021, by its number of columns
HEADERLESS = {2: ["name", "label"], 3: ["name", "speaker", "label"], 4: ["name", "speaker", "label", "mos"]}
_CONTROL = [chr(code) for code in range(32) if chr(code) not in "\t\r\n"]
BONAFIDE = {"bonafide": True, "bona-fide": True, "spoof": False}
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
    wav_optional: bool = False  # whether `x` and `x.wav` are one name, as the keys and lists of FoR have it

    @cached_property
    def names(self) -> list[str]:
        return tables.texts_of(self.name_bytes)

    def __len__(self) -> int:
        return len(self.bonafide)

    def align(self, scores: Scores) -> np.ndarray:
        """The score of each trial, in the order of the key: (N,) float64.

        Scores of trials outside the subset are passed over.

        Raises:
            InputError: trials without a score, or scores of trials that the key does not know; with their counts.
        """
        index, spelt = self.find(scores.name_bytes)
        given = spelt(scores.name_bytes)
        if given is not scores.name_bytes:
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
            raise InputError(f"{scores.path}: {', and '.join(problems)}{hint}")
        return scores.values[index]

    def find(self, given: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Index in `given`, (M,) of dtype S, of each trial's name, or -1: (N,) int64; and how names were compared."""
        index = tables.match(self.name_bytes, given)
        if not self.wav_optional or (index >= 0).all():
            return index, lambda names: names
        return tables.match(tables.without_wav(self.name_bytes), tables.without_wav(given)), tables.without_wav


def read_keys(path: Path | str, subset: str | None = None, *, columns: Collection[str] | None = None) -> Keys:
    """Read a key of any layout; `subset` keeps the trials of one subset of an ASVspoof 2021 key.

    Args:
        columns: which columns to keep besides names and labels, to save time on a large key; None keeps all.

    Raises:
        InputError: an unknown layout, label or subset, a wrong number of columns, or a name that stands twice.
    """
    path = Path(path)
    first = tables.first_fields(path)
    if not first:
        raise InputError(f"{path}: expected a key, but the file is empty")
    in_csv = is_csv(first) or (len(first) not in LAYOUTS and "," in " ".join(first))
    by_name, lines = _read_csv(path) if in_csv else _read_columns(path, first, columns)
    names = by_name.pop("name")
    bonafide = labels_to_bool(by_name.pop("label"), lines, path)
    tables.refuse_repeats(names, lines, path=path, what="stands in the key before")
    outside = names[:0]
    if subset is not None:
        keep = in_subset(by_name, subset, path)
        outside, names, bonafide, lines = names[~keep], names[keep], bonafide[keep], lines[keep]
        by_name = {column: texts[keep] for column, texts in by_name.items()}
    track = None if in_csv else TRACKS.get(len(first))
    return Keys(path, names, bonafide, lines, tables.Columns(by_name), outside, track, wav_optional=track is None)


def is_csv(first: list[str]) -> bool:
    """Whether the first line of a file, as its blank-separated fields, is that of a meta.csv."""
    cells = [cell.strip(' "').lower() for cell in " ".join(first).split(",")]
    return len(cells) > 1 and any(cell in ("label", *BONAFIDE) for cell in cells)


def labels_to_bool(labels: np.ndarray, lines: np.ndarray, path: Path) -> np.ndarray:
    """Label texts as bona fide or not: (N,) of dtype S -> (N,) bool.

    Raises:
        InputError: a label is neither bona fide nor spoof.
    """
    found = {label: labels == label.encode() for label in BONAFIDE}
    bad = np.flatnonzero(~np.logical_or.reduce(list(found.values())))
    if len(bad):
        more = f" ({len(bad)} such lines)" if len(bad) > 1 else ""
        raise InputError(
            f"{path}:{lines[bad[0]]}: expected the label {', '.join(BONAFIDE)}, "
            f"got {tables.text_of(labels[bad[0]])!r}{more}"
        )
    return np.logical_or.reduce([here for label, here in found.items() if BONAFIDE[label]])


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


def _read_columns(
    path: Path, first: list[str], columns: Collection[str] | None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The wanted columns of a blank-separated key that begins with these fields, and the line of each row."""
    layout = LAYOUTS.get(len(first))
    if layout is None:
        raise InputError(
            f"{path}:1: expected a key with {', '.join(map(str, LAYOUTS))} columns or a meta.csv, got {len(first)} "
            f"columns: {' '.join(first)[:80]!r}; a name that holds a blank counts as several columns"
        )
    wanted = [c for c in layout if columns is None or c in columns or c in _ALWAYS]
    expected = f"{len(layout)} columns ({' '.join(layout)})"
    table = tables.read_table(path, list(map(layout.index, wanted)), n_columns=len(layout), expected=expected)
    return dict(zip(wanted, table.columns)), table.lines


def _read_csv(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The columns of a meta.csv, `file` under the name `name`, and the line of each row."""
    text = read_text(path).removeprefix("\ufeff")
    if any(character in text for character in _CONTROL):
        raise InputError(f"{path}: holds control characters, so it is not a text table; give a text file")
    rows: list[list[str]] = []
    lines: list[int] = []
    reader = csv.reader(io.StringIO(text))
    try:
        for row in reader:
            if row and (len(row) > 1 or row[0].strip()):
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not a line of a meta.csv ({error})") from None
    header = [column.strip().lower() for column in rows[0]]
    if "label" in header:
        if "file" not in header or len(set(header)) != len(header):
            raise InputError(
                f"{path}:{lines[0]}: expected a column 'file' beside 'label', each once, got {','.join(rows[0])!r}"
            )
        header[header.index("file")] = "name"
        del rows[0], lines[0]
    elif len(header) in HEADERLESS and header[HEADERLESS[len(header)].index("label")] in BONAFIDE:
        header = HEADERLESS[len(header)]
    else:
        raise InputError(f"{path}:{lines[0]}: expected the header file,label or file,speaker,label, got {rows[0]}")
    if bad := [(line, row) for line, row in zip(lines, rows) if len(row) != len(header)]:
        line, row = bad[0]
        more = f" ({len(bad)} such lines)" if len(bad) > 1 else ""
        raise InputError(f"{path}:{line}: expected {len(header)} columns, got {len(row)}: {','.join(row)!r}{more}")
    if not rows:
        raise InputError(f"{path}: expected trials below the header, found none")
    columns = {name: np.array([text.strip().encode() for text in texts]) for name, texts in zip(header, zip(*rows))}
    check_names(tables.texts_of(columns["name"]), lines, path)
    return columns, np.array(lines)
