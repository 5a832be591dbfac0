"""The rows and columns of the result tables of ASVspoof 2021: which trials count in each cell."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Condition(NamedTuple):
    """A row or a column of the result tables: the trials that have `level` in a column of the key."""

    column: str
    level: str
    shown: str
    bonafide: bool  # whether bona fide trials must have the level
    spoof: bool  # whether spoofed trials must; an attack, for one, says nothing of bona fide trials

    def passes(self, texts: np.ndarray, is_bonafide: np.ndarray) -> np.ndarray:
        """Which trials count: the column and the class of each, (N,) and (N,) -> (N,) bool."""
        has_level = texts == self.level.encode()
        return has_level | np.where(is_bonafide, not self.bonafide, not self.spoof)


POOLED = Condition("", "Pooled", "Pooled", False, False)
BOTH, ONLY_SPOOF, ONLY_BONAFIDE = (True, True), (False, True), (True, False)


def _conditions(column: str, classes: tuple[bool, bool], levels: dict[str, str]) -> list[Condition]:
    return [Condition(column, level, shown, *classes) for level, shown in levels.items()]


def _same(letter: str, first: int, last: int, digits: int = 1) -> dict[str, str]:
    """Levels that are shown as they are: a letter and a number."""
    return {level: level for level in (f"{letter}{i:0{digits}d}" for i in range(first, last + 1))}


def _numbered(levels: str) -> dict[str, str]:
    """Levels that are shown as C1, C2, ..."""
    return {level: f"C{i}" for i, level in enumerate(levels.split(), start=1)}


VOCODERS = {
    "traditional_vocoder": "Traditional",
    "waveform_concatenation": "Wav.Concat.",
    "neural_vocoder_autoregressive": "Neural AR",
    "neural_vocoder_nonautoregressive": "Neural non-AR",
    "unknown": "Unknown",
}
ROWS = {
    "LA": [*_conditions("attack", ONLY_SPOOF, _same("A", 7, 19, digits=2)), POOLED],
    "DF": [*_conditions("vocoder", ONLY_SPOOF, VOCODERS), POOLED],
    "PA": [
        *_conditions("asv_room", BOTH, _same("R", 1, 9)),
        *_conditions("asv_mic", BOTH, _same("M", 1, 3)),
        *_conditions("dis_to_asv", ONLY_BONAFIDE, _same("D", 1, 6)),
        POOLED,
    ],
}
CODECS = "none alaw pstn g722 ulaw gsm opus"
COMPRESSIONS = "nocodec low_mp3 high_mp3 low_m4a high_m4a low_ogg high_ogg mp3m4a oggm4a"
COLUMNS = {
    "LA": [*_conditions("codec", BOTH, _numbered(CODECS)), POOLED],
    "DF": [*_conditions("compr", BOTH, _numbered(COMPRESSIONS)), POOLED],
    "PA": [
        *_conditions("att_room", ONLY_SPOOF, _same("r", 1, 9)),
        *_conditions("att_mic", ONLY_SPOOF, _same("m", 1, 3)),
        *_conditions("att_to_spk", ONLY_SPOOF, _same("c", 2, 4)),
        *_conditions("att_d", ONLY_SPOOF, _same("s", 2, 4)),
        *_conditions("dis_to_asv", ONLY_SPOOF, _same("d", 1, 6)),
        POOLED,
    ],
}


def key_columns(track: str) -> list[str]:
    """The columns of the key that the tables of a track need."""
    return list(dict.fromkeys(c.column for c in (*ROWS[track], *COLUMNS[track]) if c.column))


def passing(axis: list[Condition], columns: dict[str, np.ndarray], is_bonafide: np.ndarray) -> list[np.ndarray]:
    """For each condition of an axis the trials that count, (N,) bool each; `columns` are those of the key, (N,)."""
    everyone = np.ones(len(is_bonafide), bool)
    return [c.passes(columns[c.column], is_bonafide) if c.column else everyone for c in axis]
