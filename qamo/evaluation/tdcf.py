"""The pooled min t-DCF of ASVspoof 2021, and the files of its coefficients C0, C1, C2.

The organisers give a file of the coefficients of every cell of the result tables (`keys/LA/LA-C012-eval.npy`, a pickled
dictionary in spite of its name). Without it they are computed from the ASV keys and scores, see `qamo.trials.asv`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eval_metrics import TDCFCoefficients, min_tdcf
from qamo import InputError, files
from qamo.evaluation.c012 import MAX_BYTES, read_coefficients
from qamo.trials.asv import asv_key_path, asv_score_path, read_asv_trials

C012 = dict[str, dict[str, TDCFCoefficients]]  # row level -> column level -> coefficients
POOLED = "Pooled"
NAMES = ("C0", "C1", "C2")
C012_TAGS = {
    "LA": {"eval": "eval", "progress": "prog", "hidden": "hidden"},
    "PA": {"eval": "eval", "progress": "prog", "hidden1_PA": "hidden1", "hidden2_PA": "hidden2"},
}  # the name of each subset in the names of the organisers' files


def c012_path(folder: Path, track: str, subset: str) -> Path | None:
    """The organisers' coefficients of a subset, or None if they publish none; `folder` is keys/LA or keys/PA."""
    tag = C012_TAGS.get(track, {}).get(subset)
    return None if tag is None else folder / f"{track}-C012-{tag}.npy"


def pooled_min_tdcf(
    bonafide: np.ndarray, spoof: np.ndarray, cm_key: Path | str, *, track: str = "LA", subset: str = "eval"
) -> float | None:
    """The pooled min t-DCF of ASVspoof 2021 LA or PA, as the evaluation package prints it.

    Args:
        cm_key: the trial_metadata.txt of the countermeasures. The organisers' coefficients are looked for two
            folders up (`keys/LA` for `keys/LA/CM/trial_metadata.txt`); without them the ASV keys and scores are.

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
        coefficients = read_c012(saved).get(POOLED, {}).get(POOLED)
        if coefficients is None:
            raise InputError(f"{saved}: holds no coefficients for the pooled cell; get the organisers' file again")
    elif asv_score_path(folder).is_file() and asv_key_path(folder).is_file():
        trials = read_asv_trials(folder, track, subset)
        everyone = np.ones(len(trials.scores), bool)
        coefficients = trials.coefficients(everyone, trials.threshold(everyone))
    else:
        return None
    return min_tdcf(bonafide, spoof, coefficients)


def read_c012(path: Path | str) -> C012:
    """Read a file of coefficients, written by the official package under NumPy 1 or 2, by `write_c012`, or by np.save.

    Raises:
        InputError: it is something else; nothing in it is run.
    """
    try:
        return {
            row: {column: TDCFCoefficients(*(cell[name] for name in NAMES)) for column, cell in of.items()}
            for row, of in read_coefficients(files.read_bytes(path, MAX_BYTES)).items()
        }
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{path}: expected a file of t-DCF coefficients (C0, C1, C2), but {error or type(error).__name__}; "
            f"get the organisers' file again, or make one with --recompute-c012"
        ) from None


def holds_c012(path: Path) -> bool:
    try:
        return bool(read_c012(path))
    except InputError:
        return False


def same_c012(one: C012, other: C012) -> bool:
    """Whether two sets of coefficients are alike, NaN where both have NaN."""
    if {row: list(of) for row, of in one.items()} != {row: list(of) for row, of in other.items()}:
        return False
    pairs = ((one[row][column], other[row][column]) for row in one for column in one[row])
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def write_c012(path: Path, c012: C012) -> None:
    """Write coefficients in one step, as the official package writes and reads them.

    Raises:
        InputError: a file of something else is there.
    """
    if path.exists() and not holds_c012(path):
        raise InputError(f"{path}: holds no t-DCF coefficients, and would be lost; choose another file to write")
    nested = {
        row: {column: dict(zip(NAMES, map(np.float64, cell))) for column, cell in of.items()}
        for row, of in c012.items()
    }
    with files.replacing(path) as temporary:
        np.array(nested).dump(temporary)
