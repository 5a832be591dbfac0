"""Keys: which trials of a set are bona fide, and what else is known of each.

Four layouts are told apart by their first line:

    file,speaker,label[,mos]                                    meta.csv of In-the-Wild; FoR has file,label
    SPEAKER NAME - ATTACK LABEL [MOS]                           protocols of ASVspoof 2015 to 2019
    8, 12 or 13 columns, one of them the subset                 trial_metadata.txt of ASVspoof 2021 LA, PA, DF
    0.wav,Alec Guinness,spoof,1.9514                            a meta.csv without its header

Labels are `bonafide`, `bona-fide` or `spoof`. N is the number of trials of the subset asked for.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from qamo import InputError
from qamo.trials import tables
from qamo.trials.scores import Scores, read_scores

# Columns of a blank-separated key by their number. `name` and `label` are read by everything; the rest is kept as text.
_PROTOCOL = ["speaker", "name", "environment", "attack", "label"]
LAYOUTS: dict[int, list[str]] = {
    5: _PROTOCOL,
    6: [*_PROTOCOL, "mos"],
    8: ["speaker", "name", "codec", "trans", "attack", "label", "trim", "subset"],
    12: [
        "speaker", "name", "asv_room", "asv_mic", "dis_to_asv", "att_room", "att_mic", "att_d", "att_to_spk",
        "label", "trim", "subset",
    ],
    13: [
        "speaker", "name", "compr", "source", "attack", "label", "trim", "subset", "vocoder", "task", "team",
        "gender-pair", "language",
    ],
}  # fmt: skip
_ALWAYS = {"name", "label", "subset", "trim"}  # needed to tell trials, classes and subsets
TRACKS = {8: "LA", 12: "PA", 13: "DF"}  # ASVspoof 2021, by its number of columns
HEADERLESS = {2: ["name", "label"], 3: ["name", "speaker", "label"], 4: ["name", "speaker", "label", "mos"]}
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


class Columns(Mapping[str, list[str]]):
    """The columns of a key by name; the texts of a column are made when it is asked for."""

    def __init__(self, raw: dict[str, np.ndarray]):
        self.raw = raw  # (N,) of dtype S each
        self._texts: dict[str, list[str]] = {}

    def __getitem__(self, column: str) -> list[str]:
        if column not in self._texts:
            distinct, codes = self.levels(column)
            self._texts[column] = [distinct[code] for code in codes.tolist()]
        return self._texts[column]

    def levels(self, column: str) -> tuple[list[str], np.ndarray]:
        """The distinct texts of a column, sorted, and the index of each trial's: L str, (N,) int64."""
        distinct, codes = tables.levels(self.raw[column])
        return tables.texts_of(distinct), codes

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)


@dataclass(frozen=True, eq=False)
class Keys:
    """The trials of a set or of one subset of it, in the order of the file."""

    path: Path
    name_bytes: np.ndarray  # (N,) of dtype S, all different
    bonafide: np.ndarray  # (N,) bool
    columns: Columns  # what else the key says of each trial
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
        wanted, given, outside = self.name_bytes, scores.name_bytes, self.outside
        place = tables.match(wanted, given)
        if self.wav_optional and (place < 0).any():
            wanted, given, outside = without_wav(wanted), without_wav(given), without_wav(outside)
            tables.refuse_repeats(given, scores.lines, path=scores.path, what="was scored before")
            place = tables.match(wanted, given)
        missing = np.flatnonzero(place < 0)
        used = np.zeros(len(given), bool)
        used[place[place >= 0]] = True
        rest = np.flatnonzero(~used)
        unknown = rest[tables.match(given[rest], outside) < 0] if len(rest) else rest
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
        return scores.values[place]


def read_keys(path: Path | str, subset: str | None = None, *, columns: Collection[str] | None = None) -> Keys:
    """Read a key of any of the four layouts; `subset` keeps the trials of one subset of an ASVspoof 2021 key.

    Args:
        columns: which columns to keep besides names and labels, to save time on a large key; None keeps all.

    Raises:
        InputError: an unknown layout, label or subset, a wrong number of columns, or a name that stands twice.
    """
    path = Path(path)
    first = tables.first_fields(path)
    if not first:
        raise InputError(f"{path}: expected a key, but the file is empty")
    if "," in " ".join(first):
        by_name, lines = _read_csv(path)
        track = None
    else:
        layout = LAYOUTS.get(len(first))
        if layout is None:
            raise InputError(
                f"{path}:1: expected a key with {', '.join(map(str, LAYOUTS))} columns or a meta.csv, got {len(first)} "
                f"columns: {' '.join(first)[:80]!r}"
            )
        wanted = [c for c in layout if columns is None or c in columns or c in _ALWAYS]
        table = tables.read_table(
            path,
            [layout.index(c) for c in wanted],
            n_columns=len(layout),
            expected=f"{len(layout)} columns ({' '.join(layout)})",
        )
        by_name, lines = dict(zip(wanted, table.columns)), table.lines
        track = TRACKS.get(len(first))
    names = by_name.pop("name")
    bonafide = labels_to_bool(by_name.pop("label"), lines, path)
    tables.refuse_repeats(names, lines, path=path, what="stands in the key before")
    keep = None if subset is None else in_subset(by_name, subset, path)
    outside = names[:0]
    if keep is not None:
        outside, names, bonafide = names[~keep], names[keep], bonafide[keep]
        by_name = {column: texts[keep] for column, texts in by_name.items()}
    return Keys(path, names, bonafide, Columns(by_name), outside, track, wav_optional=track is None)


def read_mos(path: Path, keys: Keys) -> np.ndarray:
    """The MOS of each trial, in the order of the keys: (N,).

    Raises:
        InputError: the file has no MOS, lacks trials, or contradicts the labels of the keys.
    """
    first = tables.first_fields(path)
    if len(first) == 2 and "," not in "".join(first):
        given = read_scores(path)
        names, values, labels = given.name_bytes, given.values, None
    else:
        rated = read_keys(path)
        if "mos" not in rated.columns:
            raise InputError(f"{path}: expected a MOS column, found none; add it with predict_mos.py")
        names, values, labels = rated.name_bytes, as_mos(list(rated.columns["mos"]), path), rated.bonafide
    place = tables.match(keys.name_bytes, names)
    if keys.wav_optional and (place < 0).any():
        place = tables.match(without_wav(keys.name_bytes), without_wav(names))
    missing = np.flatnonzero(place < 0)
    if len(missing):
        raise InputError(
            f"{path}: no MOS for {len(missing)} of the {len(keys)} trials of {keys.path} "
            f"({tables.some_of(keys.name_bytes[missing])}); is it of another set?"
        )
    contradicting = np.flatnonzero(labels[place] != keys.bonafide) if labels is not None else np.zeros(0, int)
    if len(contradicting):
        raise InputError(
            f"{path}: its labels differ from those of {keys.path} for {len(contradicting)} trials "
            f"({tables.some_of(keys.name_bytes[contradicting])}); one of the two is of another set"
        )
    return values[place]


def as_mos(texts: list[str], path: Path) -> np.ndarray:
    """MOS as numbers: N str -> (N,) float64."""
    try:
        values = np.array(texts, dtype=np.float64)
        bad = next((text for text, fits in zip(texts, np.isfinite(values)) if not fits), None)
    except ValueError as error:
        bad = str(error).rpartition(": ")[2].strip("'")
    if bad is not None:
        raise InputError(f"{path}: expected numbers in the MOS column, found {bad!r}; expected a number in every row")
    return values


def labels_to_bool(labels: np.ndarray, lines: np.ndarray, path: Path) -> np.ndarray:
    """Label texts as bona fide or not: (N,) of dtype S -> (N,) bool.

    Raises:
        InputError: a label is neither bona fide nor spoof.
    """
    bonafide = np.zeros(len(labels), bool)
    known = np.zeros(len(labels), bool)
    for label, value in BONAFIDE.items():
        here = labels == label.encode()
        known |= here
        if value:
            bonafide |= here
    if not known.all():
        bad = np.flatnonzero(~known)
        more = f" ({len(bad)} such lines)" if len(bad) > 1 else ""
        raise InputError(
            f"{path}:{lines[bad[0]]}: expected the label {', '.join(BONAFIDE)}, "
            f"got {tables.text_of(labels[bad[0]])!r}{more}"
        )
    return bonafide


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


def without_wav(names: np.ndarray) -> np.ndarray:
    """Names without a `.wav` at their end: (N,) of dtype S -> (N,) of dtype S."""
    width = names.dtype.itemsize
    shorter = names.copy()
    for start in range(0, len(names), 1 << 16):  # some at a time: ten million names would take gigabytes at once
        letters = shorter[start : start + (1 << 16)].view(np.uint8).reshape(-1, width)
        length = width - (letters[:, ::-1] != 0).argmax(axis=1)
        last = np.maximum(length[:, None] - [4, 3, 2, 1], 0)
        hit = (np.take_along_axis(letters, last, axis=1) == list(b".wav")).all(axis=1) & (length > 4)
        letters[np.flatnonzero(hit)[:, None], last[hit]] = 0
    return shorter


def _read_csv(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The columns of a meta.csv, `file` under the name `name`, and the line of each row."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file in UTF-8; give a meta.csv") from None
    rows: list[list[str]] = []
    lines: list[int] = []
    reader = csv.reader(io.StringIO(text))
    for row in reader:
        if row and (len(row) > 1 or row[0].strip()):
            rows.append(row)
            lines.append(reader.line_num)
    header = [column.strip().lower() for column in rows[0]]
    if "label" in header:
        if "file" not in header:
            raise InputError(f"{path}:{lines[0]}: expected a column 'file' beside 'label', got {','.join(rows[0])!r}")
        header[header.index("file")] = "name"
        del rows[0], lines[0]
    elif len(header) in HEADERLESS and header[HEADERLESS[len(header)].index("label")] in BONAFIDE:
        header = HEADERLESS[len(header)]
    else:
        raise InputError(f"{path}:{lines[0]}: expected the header file,label or file,speaker,label, got {rows[0]}")
    for row, line in zip(rows, lines):
        if len(row) != len(header):
            n_bad = sum(len(other) != len(header) for other in rows)
            more = f" ({n_bad} such lines)" if n_bad > 1 else ""
            raise InputError(f"{path}:{line}: expected {len(header)} columns, got {len(row)}: {','.join(row)!r}{more}")
    if not rows:
        raise InputError(f"{path}: expected trials below the header, found none")
    by_column = zip(header, zip(*rows))
    columns = {name: np.array([text.strip().encode() for text in texts]) for name, texts in by_column}
    return columns, np.array(lines)
