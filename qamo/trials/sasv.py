"""Files of ASVspoof 5, track 2: trials of a speaker and a recording, with up to three scores each.

    keys     spk, filename, cm-label, asv-label [, attack, codec]
    scores   spk, filename, cm-score, asv-score, sasv-score; `-` where a system has no such score

The same recording may stand under several speakers, so both name a trial. N is the number of trials.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from qamo import InputError
from qamo.trials import tables
from qamo.trials.sniff import Form, plain_word, read_columns, sniff

TARGET, NONTARGET, SPOOF = "target", "nontarget", "spoof"


class SASVTrials(NamedTuple):
    """Trials of track 2 in the order of the key."""

    kinds: np.ndarray  # (N,) of dtype U: target, nontarget or spoof
    cm: np.ndarray | None  # (N,) score of the countermeasure; None where the file has none
    asv: np.ndarray | None  # (N,) score of the speaker verification
    sasv: np.ndarray | None  # (N,) the one score that decides on both
    conditions: dict[str, np.ndarray]  # (N,) of dtype S: attack and codec, where the key has them


def is_track_2(keys: Path) -> bool:
    """Whether a key says target and nontarget."""
    form = sniff(keys, numbers=True)
    return "asv_label" in (form.header or []) or any(cell in (TARGET, NONTARGET) for cell in form.cells)


def read_sasv(scores: Path, keys: Path) -> SASVTrials:
    """Read a score file and its key, joined by speaker and recording.

    Raises:
        InputError: a column or a score is missing, or the two do not hold the same trials.
    """
    key, key_lines = _columns(keys, ("speaker", "name", "asv_label"))
    kinds = np.array(tables.texts_of(key["asv_label"]))
    for bad in np.flatnonzero(~np.isin(kinds, [TARGET, NONTARGET, SPOOF]))[:1]:
        raise InputError(f"{keys}:{key_lines[bad]}: expected target, nontarget or spoof, got {str(kinds[bad])!r}")
    given, lines = _columns(scores, ("speaker", "name"))
    wanted_names, given_names = _pairs(key), _pairs(given)
    tables.refuse_repeats(wanted_names, key_lines, path=keys, what="stands in the key before")
    tables.refuse_repeats(given_names, lines, path=scores, what="was scored before")
    index = tables.match(wanted_names, given_names)
    missing = np.flatnonzero(index < 0)
    if len(missing) or len(given_names) != len(wanted_names):
        raise InputError(
            f"{scores}: expected a score for each of the {len(wanted_names)} trials of {keys}, got {len(given_names)}"
            + (f", none for {len(missing)} ({tables.some_of(wanted_names[missing])})" if len(missing) else "")
        )
    read = [_scores(given, name, lines, scores) for name in ("score", "asv_score", "sasv_score")]
    if all(values is None for values in read):
        raise InputError(f"{scores}: expected a column cm-score, asv-score or sasv-score, found {', '.join(given)}")
    cm, asv, sasv = (None if values is None else values[index] for values in read)
    return SASVTrials(kinds, cm, asv, sasv, {c: key[c] for c in ("attack", "codec") if c in key})


def _columns(path: Path, needed: tuple[str, ...]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The columns of a table with a header, by role, and the line of each row."""
    form: Form = sniff(path, numbers=True)
    header = [plain_word(cell) for cell in form.header or []]
    if absent := [name for name in needed if name not in header]:
        words = {"speaker": "spk", "name": "filename", "asv_label": "asv-label"}
        raise InputError(
            f"{path}:1: expected the header of ASVspoof 5, track 2, with {', '.join(words[name] for name in needed)}; "
            f"{', '.join(words[name] for name in absent)} not found"
        )
    columns, lines = read_columns(form)
    return dict(zip(header, columns)), lines


def _pairs(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Speaker and recording as one name each: (N,) of dtype S."""
    return np.char.add(np.char.add(columns["speaker"], b"/"), columns["name"])


def _scores(columns: dict[str, np.ndarray], name: str, lines: np.ndarray, path: Path) -> np.ndarray | None:
    """A column of scores (N,) float64; None where it is absent or all `-`."""
    if name not in columns or (columns[name] == b"-").all():
        return None
    values = tables.to_float(tables.Table([columns[name]], lines), 0, path=path, what=f"the {name}")
    for bad in np.flatnonzero(~np.isfinite(values))[:1]:
        raise InputError(f"{path}:{lines[bad]}: expected a finite {name}, got {values[bad]}")
    return values
