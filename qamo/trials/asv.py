"""Keys and scores of speaker verification (ASV), and the t-DCF coefficients made from them.

The organisers of ASVspoof 2021 give, beside the keys of the countermeasures, those of an ASV system and its scores:

    keys/LA/CM/trial_metadata.txt                    which trials are bona fide
    keys/LA/ASV/trial_metadata.txt                   which ASV trials are target, nontarget or spoof
    keys/LA/ASV/ASVTorch_Kaldi/score.txt             SPEAKER TRIAL SCORE

Of ASVspoof 2019 only the file of ASV scores is read, for the one pooled figure of its t-DCF.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval_metrics import (
    ASVErrors,
    TDCFCoefficients,
    asv_errors,
    det_of_sorted,
    eer_of_det,
    equal_error_rate,
    legacy_tdcf_coefficients,
    tdcf_coefficients,
)
from qamo import InputError
from qamo.trials import tables
from qamo.trials.key_columns import LAYOUTS
from qamo.trials.keys import in_subset

N_COLUMNS = {"LA": 8, "PA": 12}


def read_legacy_coefficients(path: Path) -> TDCFCoefficients:
    """The t-DCF coefficients of ASVspoof 2019 from its ASV scores (`ASVspoof2019.LA.asv.eval.gi.trl.scores.txt`).

    Args:
        path: lines of source, key and score, the key one of target, nontarget and spoof. The threshold of the ASV
            system is that of the EER of targets against nontargets.

    Raises:
        InputError: a line is none of these, a score is not finite, or a kind of trial is missing.
    """
    expected = "'source key score' with target, nontarget or spoof as the key"
    table = tables.read_table(path, [1, 2], n_columns=3, expected=expected)
    scores = tables.to_float(table, 1, path=path, what="the ASV score")
    is_kind = np.isin(table.columns[0], list(KINDS))
    for bad in np.flatnonzero(~is_kind | ~np.isfinite(scores))[:1]:
        key, score = tables.text_of(table.columns[0][bad]), tables.text_of(table.columns[1][bad])
        raise InputError(f"{path}:{table.lines[bad]}: expected {expected}, and a finite score, got '{key} {score}'")
    target, nontarget, spoof = (scores[table.columns[0] == kind] for kind in KINDS)
    for name, some in (("target", target), ("nontarget", nontarget), ("spoof", spoof)):
        if not len(some):
            raise InputError(f"{path}: expected ASV trials of all three kinds, found no {name}")
    threshold = equal_error_rate(target, nontarget).threshold
    return legacy_tdcf_coefficients(asv_errors(target, nontarget, spoof, threshold))


class ASVTrials(NamedTuple):
    """The ASV trials of a subset: targets and nontargets in the order of `det_curve`, then the spoofs."""

    scores: np.ndarray  # (N,) float64
    kinds: np.ndarray  # (N,) uint8: TARGET, NONTARGET or SPOOF
    columns: dict[str, np.ndarray]  # (N,) of dtype S: the columns of the key that were asked for

    def threshold(self, chosen: np.ndarray) -> float:
        """Threshold of the EER of targets against nontargets among the chosen trials, (N,) bool; NaN without any."""
        indices = np.flatnonzero(chosen & (self.kinds != SPOOF))
        is_target = self.kinds[indices] == TARGET
        if is_target.all() or not is_target.any():
            return float("nan")
        return eer_of_det(det_of_sorted(is_target, self.scores[indices])).threshold

    def coefficients(self, chosen: np.ndarray, threshold: float) -> TDCFCoefficients:
        """The t-DCF coefficients among the chosen trials, (N,) bool; NaN where a kind of trial is missing."""
        indices = np.flatnonzero(chosen)
        accepted = self.scores[indices] >= threshold
        counts = np.bincount(2 * self.kinds[indices] + accepted, minlength=6).reshape(3, 2)
        totals = counts.sum(axis=1)
        if not totals.all():
            return TDCFCoefficients(float("nan"), float("nan"), float("nan"))
        rejected_share, accepted_share = (counts / totals[:, None]).T.tolist()
        return tdcf_coefficients(
            ASVErrors(
                false_alarm=accepted_share[NONTARGET],
                miss=rejected_share[TARGET],
                miss_spoof=rejected_share[SPOOF],
                false_alarm_spoof=accepted_share[SPOOF],
            )
        )


TARGET, NONTARGET, SPOOF = 0, 1, 2
KINDS = {b"target": TARGET, b"nontarget": NONTARGET, b"spoof": SPOOF}


def asv_key_path(folder: Path) -> Path:
    return folder / "ASV" / "trial_metadata.txt"


def asv_score_path(folder: Path) -> Path:
    return folder / "ASV" / "ASVTorch_Kaldi" / "score.txt"


def read_asv_trials(
    folder: Path, track: str, subset: str, *, score_path: Path | None = None, columns: tuple[str, ...] = ()
) -> ASVTrials:
    """Read the ASV trials of a subset and join their scores by speaker and trial.

    Args:
        folder: keys/LA or keys/PA.
        score_path: another score file than the organisers'.
        columns: columns of the key to keep.

    Raises:
        InputError: the score file does not score exactly the trials of the key, or as the readers of both files.
    """
    key = asv_key_path(folder)
    score_path = score_path or asv_score_path(folder)
    hashes, kinds, values = _read_key(key, LAYOUTS[N_COLUMNS[track]], columns)
    keep = in_subset(values, subset, key)
    scores = _join(hashes, key, N_COLUMNS[track], score_path)[keep]
    kinds = kinds[keep]
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise InputError(
            f"{score_path}: {bad} ASV scores of the subset {subset} are not finite; score those trials again"
        )
    order = np.lexsort((kinds, scores))  # by score, targets first; a stable sort of targets, then nontargets
    order = order[np.argsort(kinds[order] == SPOOF, kind="stable")]
    kept = {column: values[column][keep][order] for column in columns}
    return ASVTrials(scores[order], kinds[order], kept)


def _read_key(
    key: Path, layout: list[str], columns: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The hash of speaker and trial (N,) uint64, the kind (N,) uint8 and the wanted columns of each ASV trial."""
    wanted = list(dict.fromkeys(["label", "subset", "trim", *columns]))
    table = tables.read_table(
        key,
        [0, 1, *map(layout.index, wanted)],
        n_columns=len(layout),
        expected=f"{len(layout)} columns ({' '.join(layout)})",
        convert=_hash_pairs,
    )
    values = dict(zip(wanted, table.columns[1:]))
    kinds = np.full(len(table.lines), 255, np.uint8)
    for label, kind in KINDS.items():
        kinds[values["label"] == label] = kind
    for bad in np.flatnonzero(kinds == 255)[:1]:
        text = tables.text_of(values["label"][bad])
        raise InputError(f"{key}:{table.lines[bad]}: expected target, nontarget or spoof, got {text!r}")
    return table.columns[0], kinds, values


def _join(hashes: np.ndarray, key: Path, n_columns: int, score_path: Path) -> np.ndarray:
    """The score of each ASV trial of the key, by speaker and trial: (N,) uint64 hashes of both -> (N,) float64."""
    expected = "'speaker trial score'"
    table = tables.read_table(score_path, [0, 1, 2], n_columns=3, expected=expected, convert=_hash_pairs)
    scores = tables.to_float(table, 1, path=score_path, what="the ASV score")
    if np.array_equal(table.columns[0], hashes):
        return scores
    # Another order, or other trials: compare the names themselves.
    own = tables.read_table(key, [0, 1], n_columns=n_columns, expected=f"{n_columns} columns")
    table = tables.read_table(score_path, [0, 1], n_columns=3, expected=expected)
    wanted, given = _pairs(own.columns, table.columns)
    index = tables.match(wanted, given)
    missing = np.flatnonzero(index < 0)
    extra = np.flatnonzero(tables.match(given, wanted) < 0)
    if len(missing) or len(extra) or len(wanted) != len(given):
        problems = [f"got {len(given)} scores"]
        if len(missing):
            problems.append(f"{len(missing)} trials have none ({tables.some_of(own.columns[1][missing])})")
        if len(extra):
            problems.append(f"{len(extra)} are of unknown trials ({tables.some_of(table.columns[1][extra])})")
        raise InputError(
            f"{score_path}: expected a score for each of the {len(wanted)} trials of {key}; {', '.join(problems)}"
        )
    ordered = np.sort(hashes)
    if (ordered[1:] == ordered[:-1]).any():
        raise InputError(
            f"{score_path}: some speaker and trial stand twice in {key}, so scores in another order cannot be told "
            f"apart; write them in the order of the key"
        )
    return scores[index]


def _hash_pairs(columns: list[np.ndarray]) -> list[np.ndarray]:
    """One hash of speaker and trial in place of both: the names of millions of trials would be most of the memory."""
    speakers, names, *rest = columns
    # Names of up to 64 bytes have the same hash in every file; longer ones only cost the comparison of all names.
    return [tables.hash_names(speakers, 64) * np.uint64(3) + tables.hash_names(names, 64), *rest]


def _pairs(columns: list[np.ndarray], others: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Speaker and trial as one text each, for the key and for the scores."""
    widths = [max(a.dtype.itemsize, b.dtype.itemsize) for a, b in zip(columns, others)]

    def glue(pair: list[np.ndarray]) -> np.ndarray:
        parts = [c.astype(f"S{w}").view(np.uint8).reshape(len(c), w) for c, w in zip(pair, widths)]
        return np.ascontiguousarray(np.concatenate(parts, axis=1)).view(f"S{sum(widths)}").reshape(-1)

    return glue(columns), glue(others)
