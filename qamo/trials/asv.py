"""The speaker verification side of the t-DCF of ASVspoof 2021: its keys, its scores, and the weights made from them.

The organisers give, beside the keys of the countermeasures, the keys and scores of a speaker verification (ASV) system
and, for each subset, a file of the t-DCF weights C0, C1, C2 of every cell of the result tables (`LA-C012-eval.npy`):

    keys/LA/CM/trial_metadata.txt                    which trials are bona fide
    keys/LA/ASV/trial_metadata.txt                   which ASV trials are target, nontarget or spoof
    keys/LA/ASV/ASVTorch_Kaldi/score.txt             SPEAKER TRIAL SCORE
    keys/LA/LA-C012-{eval,prog,hidden}.npy           the weights, a pickled dictionary in spite of its name

Of ASVspoof 2019 only the file of ASV scores is read, for the one pooled figure of its t-DCF.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval_metrics import (
    ASVErrors,
    Weights,
    asv_errors,
    asv_weights,
    det_of_sorted,
    eer_of_det,
    equal_error_rate,
    legacy_weights,
    min_tdcf,
)
from qamo import InputError, files
from qamo.trials import tables
from qamo.trials.keys import LAYOUTS, in_subset

C012 = dict[str, dict[str, Weights]]  # row level -> column level -> weights
POOLED = "Pooled"
C012_TAGS = {
    "LA": {"eval": "eval", "progress": "prog", "hidden": "hidden"},
    "PA": {"eval": "eval", "progress": "prog", "hidden1_PA": "hidden1", "hidden2_PA": "hidden2"},
}  # the name of each subset in the names of the organisers' files
N_COLUMNS = {"LA": 8, "PA": 12}


def c012_path(folder: Path, track: str, subset: str) -> Path | None:
    """The organisers' weights of a subset, or None if they publish none; `folder` is keys/LA or keys/PA."""
    tag = C012_TAGS.get(track, {}).get(subset)
    return None if tag is None else folder / f"{track}-C012-{tag}.npy"


def pooled_min_tdcf(
    bonafide: np.ndarray, spoof: np.ndarray, cm_key: Path | str, *, track: str = "LA", subset: str = "eval"
) -> float | None:
    """The pooled min t-DCF of ASVspoof 2021 LA or PA, as the evaluation package prints it.

    Args:
        cm_key: the trial_metadata.txt of the countermeasures. The organisers' weights are looked for two folders up
            (`keys/LA` for `keys/LA/CM/trial_metadata.txt`); without them the ASV keys and scores are.

    Returns:
        None where neither is there, or the track has no ASV system (DF).

    Raises:
        InputError: one of these files is damaged, or as `min_tdcf`.
    """
    folder = Path(cm_key).parent.parent
    saved = c012_path(folder, track, subset)
    if saved is None:
        return None
    if saved.is_file():
        weights = read_c012(saved).get(POOLED, {}).get(POOLED)
        if weights is None:
            raise InputError(f"{saved}: holds no weights for the pooled cell; get the organisers' file again")
    elif asv_score_path(folder).is_file() and asv_key_path(folder).is_file():
        trials = read_asv_trials(folder, track, subset)
        everyone = np.ones(len(trials.scores), bool)
        weights = trials.weights(everyone, trials.threshold(everyone))
    else:
        return None
    return min_tdcf(bonafide, spoof, weights)


def read_legacy_weights(path: Path) -> Weights:
    """The t-DCF weights of ASVspoof 2019 from its ASV scores (`ASVspoof2019.LA.asv.eval.gi.trl.scores.txt`).

    Args:
        path: lines of source, key and score, the key one of target, nontarget and spoof. The threshold of the ASV
            system is that of the EER of targets against nontargets.

    Raises:
        InputError: a line is none of these, a score is not finite, or a kind of trial is missing.
    """
    expected = "'source key score' with target, nontarget or spoof as the key"
    table = tables.read_table(path, [1, 2], n_columns=3, expected=expected)
    scores = tables.to_float(table, 1, path=path, what="the ASV score")
    known = np.isin(table.columns[0], list(KINDS))
    for bad in np.flatnonzero(~known | ~np.isfinite(scores))[:1]:
        key, score = tables.text_of(table.columns[0][bad]), tables.text_of(table.columns[1][bad])
        raise InputError(f"{path}:{table.lines[bad]}: expected {expected}, and a finite score, got '{key} {score}'")
    target, nontarget, spoof = (scores[table.columns[0] == kind] for kind in KINDS)
    for name, some in (("target", target), ("nontarget", nontarget), ("spoof", spoof)):
        if not len(some):
            raise InputError(f"{path}: expected ASV trials of all three kinds, found no {name}")
    threshold = equal_error_rate(target, nontarget).threshold
    return legacy_weights(asv_errors(target, nontarget, spoof, threshold))


# ASV keys and scores


class ASVTrials(NamedTuple):
    """The ASV trials of a subset: targets and nontargets in the order of `det_curve`, then the spoofs."""

    scores: np.ndarray  # (N,) float64
    kinds: np.ndarray  # (N,) uint8: TARGET, NONTARGET or SPOOF
    columns: dict[str, np.ndarray]  # (N,) of dtype S: the columns of the key that were asked for

    def threshold(self, chosen: np.ndarray) -> float:
        """Threshold of the EER of targets against nontargets among the chosen trials, (N,) bool; NaN without any."""
        places = np.flatnonzero(chosen & (self.kinds != SPOOF))
        is_target = self.kinds[places] == TARGET
        if is_target.all() or not is_target.any():
            return float("nan")
        return eer_of_det(det_of_sorted(is_target, self.scores[places])).threshold

    def weights(self, chosen: np.ndarray, threshold: float) -> Weights:
        """The t-DCF weights among the chosen trials, (N,) bool; NaN where a kind of trial is missing."""
        places = np.flatnonzero(chosen)
        accepted = self.scores[places] >= threshold
        counts = np.bincount(2 * self.kinds[places] + accepted, minlength=6).reshape(3, 2)
        totals = counts.sum(axis=1)
        if not totals.all():
            return Weights(float("nan"), float("nan"), float("nan"))
        rejected_share, accepted_share = (counts / totals[:, None]).T.tolist()
        return asv_weights(
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
    layout = LAYOUTS[N_COLUMNS[track]]
    wanted = list(dict.fromkeys(["label", "subset", "trim", *columns]))
    table = tables.read_table(
        key,
        [0, 1, *map(layout.index, wanted)],
        n_columns=len(layout),
        expected=f"{len(layout)} columns ({' '.join(layout)})",
        convert=_hash_pairs,
    )
    hashes, lines = table.columns[0], table.lines
    values = dict(zip(wanted, table.columns[1:]))
    del table
    kinds = np.full(len(lines), 255, np.uint8)
    for label, kind in KINDS.items():
        kinds[values["label"] == label] = kind
    unknown = np.flatnonzero(kinds == 255)
    if len(unknown):
        text = tables.text_of(values["label"][unknown[0]])
        raise InputError(f"{key}:{lines[unknown[0]]}: expected target, nontarget or spoof, got {text!r}")
    keep = in_subset(values, subset, key)
    scores = _join(hashes, key, len(layout), score_path)[keep]
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
    place = tables.match(wanted, given)
    missing = np.flatnonzero(place < 0)
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
    return scores[place]


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


# Files of weights

# All that a dictionary of NumPy numbers needs; a pickle may otherwise run any code.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no file of weights needs")
        if module.startswith("numpy.core"):  # NumPy 1; NumPy 2 warns about the old name
            module = module.replace("numpy.core", "numpy._core") if int(np.__version__.split(".")[0]) > 1 else module
        elif module.startswith("numpy._core") and int(np.__version__.split(".")[0]) < 2:
            module = module.replace("numpy._core", "numpy.core")
        return super().find_class(module, name)


def read_c012(path: Path | str) -> C012:
    """Read a file of weights, written by the official package under NumPy 1 or 2, by `write_c012`, or by np.save.

    Raises:
        InputError: it is something else; nothing in it is run.
    """
    data = Path(path).read_bytes()
    try:
        if data.startswith(np.lib.format.MAGIC_PREFIX):
            stream = io.BytesIO(data)
            version = np.lib.format.read_magic(stream)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            reader(stream)
            data = stream.read()
        loaded = _Unpickler(io.BytesIO(data)).load()
        nested = loaded.item() if isinstance(loaded, np.ndarray) else loaded
        return {
            str(row): {
                str(column): Weights(*(float(cell[c]) for c in ("C0", "C1", "C2"))) for column, cell in of.items()
            }
            for row, of in nested.items()
        }
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(
            f"{path}: expected a file of t-DCF weights (C0, C1, C2), but {error or type(error).__name__}; "
            f"get the organisers' file again, or make one with --recompute-c012"
        ) from None


def same_c012(one: C012, other: C012) -> bool:
    """Whether two sets of weights are alike, NaN where both have NaN."""
    if {row: list(of) for row, of in one.items()} != {row: list(of) for row, of in other.items()}:
        return False
    pairs = ((one[row][column], other[row][column]) for row in one for column in one[row])
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def write_c012(path: Path, c012: C012) -> None:
    """Write weights in one step, as the official package writes and reads them."""
    nested = {
        row: {column: dict(zip(("C0", "C1", "C2"), map(np.float64, cell))) for column, cell in of.items()}
        for row, of in c012.items()
    }
    with files.replacing(path) as temporary:
        np.array(nested).dump(temporary)
