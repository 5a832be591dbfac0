"""Judgements as a table, as JSON and as CSV, and a wave as an envelope to draw."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

import numpy as np

from qamo.files import as_cell, shown
from qamo.inference.judge import Judgement, Rule, meaning
from qamo.inference.scorer import Scorer

COLUMNS = [
    "path", "score", "verdict", "llr", "probability_bonafide", "score_min", "ratio_below_threshold", "n_windows",
    "duration_s", "level_dbfs", "bandwidth_hz", "clipped_ratio", "speech_ratio", "mos", "warnings",
    "detector", "dev_eer", "n_dev_bonafide", "n_dev_spoof", "error",
]  # fmt: skip
HEADING = (
    f"{'score':>8}  {'min':>8}  {'LLR':>7}  {'bona fide':>9}  {'verdict':9}  {'dev EER':>7}  {'seconds':>8}  recording"
)


def row(judgement: Judgement) -> str:
    """One line of the table, and one more for each warning."""
    if judgement.error is not None:
        return f"{'-':>8}  {judgement.error}"

    def number(value: float | None, text: str) -> str:
        return "-" if value is None else format(value, text)

    def percent(ratio: float | None) -> str:
        return "-" if ratio is None else f"{100 * ratio:.1f} %"

    line = (
        f"{number(judgement.score, '.4f'):>8}  {number(judgement.score_min, '.4f'):>8}  "
        f"{number(judgement.llr, '.2f'):>7}  {percent(judgement.probability_bonafide):>9}  "
        f"{judgement.verdict or '-':9}  {percent(judgement.dev_eer):>7}  "
        f"{number(judgement.duration_s, '.2f'):>8}  {judgement.path}"
    )
    below = [] if judgement.mos is None else [f"predicted quality {judgement.mos:.2f} MOS"]
    below += [f"! {text}" for text in judgement.warnings]
    return "\n".join([line, *(f"{'':10}{text}" for text in below)])


def head(scorer: Scorer, rule: Rule) -> str:
    """What stands above a table: whose scores they are, and what they mean."""
    return "\n".join([f"Detector: {scorer.name}.", *meaning(scorer, rule), "", HEADING])


def to_table(head: str, judgements: Sequence[Judgement]) -> str:
    return printable("\n".join([head, *map(row, judgements)])) + "\n"


def to_json(judgements: Sequence[Judgement]) -> str:
    return _utf8(json.dumps([judgement.as_dict() for judgement in judgements], indent=1, ensure_ascii=False) + "\n")


def to_csv(judgements: Sequence[Judgement]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for judgement in judgements:
        content = judgement.as_dict()
        n_scored = sum(window.score is not None for window in judgement.windows)
        row = {**content, "n_windows": n_scored, "warnings": "; ".join(judgement.warnings)}
        writer.writerow({key: as_cell(value) for key, value in row.items()})
    return _utf8(text.getvalue())


def printable(text: str) -> str:
    """A text whose names can neither steer a terminal nor fail to be encoded: such characters as escapes."""
    return "\n".join(map(shown, text.split("\n")))


def _utf8(text: str) -> str:
    """Bytes of names that are no UTF-8 as \\udcXX, which JSON reads back as the same name."""
    return text.encode("utf-8", "backslashreplace").decode()


def envelope(wave: np.ndarray, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest sample of each column: (T,) -> (C,), (C,) with C = min(T, n_columns)."""
    edges = np.linspace(0, len(wave), min(len(wave), n_columns) + 1).astype(int)[:-1]
    return np.minimum.reduceat(wave, edges), np.maximum.reduceat(wave, edges)
