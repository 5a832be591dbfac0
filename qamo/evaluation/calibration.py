"""Calibration: turn a score into a log-likelihood ratio, a probability and a verdict.

A score is a cosine (or a logit): higher means bona fide, and that is all it says. A logistic regression on scores of
recordings whose class is known makes a log-likelihood ratio of it, `slope * score + offset` in natural units: how
many times (e to the power of it) more likely this score is from bona fide speech than from spoofed speech. With a
prior, the share of bona fide speech to expect, it becomes a probability.

It holds for speech like the dev set's, and is bounded by what the number of dev recordings supports (`llr_bounds`). It
is fitted on single windows, so that the mean over the windows of a long recording is worth somewhat more than the ratio
says. NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from eval_metrics import equal_error_rate
from qamo import InputError
from qamo.evaluation.regression import fit_llr
from qamo.files import read_json, sha256, typed, write_json
from qamo.trials.keys import read_keys, refuse_one_class
from qamo.trials.scores import read_scores, sidecar_of

FORMAT = "qamo calibration 1"
FILE = "calibration.json"  # in a run or an exported folder
PRIOR = 0.5  # share of bona fide speech that a probability assumes unless a person says otherwise
CONFIDENCE = 0.8  # least probability of a verdict; below it the verdict is `uncertain`


class _Identity(TypedDict):
    weights: str
    config: str


class _Sidecar(TypedDict):
    identity: _Identity


BONAFIDE, SPOOF, UNCERTAIN = "bona fide", "spoof", "uncertain"


@dataclass(frozen=True)
class Calibration:
    """A fitted regression and where it comes from."""

    slope: float
    offset: float
    eer: float  # of the dev scores, in [0, 1]
    eer_threshold: float
    n_bonafide: int
    n_spoof: int
    weights: str  # `joined_digest` of the detector that made the scores
    fitted_on: dict[str, Any] = field(default_factory=dict)  # protocol, scores: paths and digests
    domain: dict[str, float] = field(default_factory=dict)  # `qamo.audio.diagnostics.domain_of` the dev recordings

    def portable(self) -> Calibration:
        """The same with the names of files in place of paths that mean something on one machine only."""
        named = {k: Path(v).name if k in ("keys", "scores") else v for k, v in self.fitted_on.items()}
        return replace(self, fitted_on=named)

    def llr(self, score: float) -> float:
        """Natural log-likelihood ratio of a score, within `llr_bounds`; above 0 speaks for bona fide."""
        low, high = llr_bounds(self.n_bonafide, self.n_spoof)
        return min(max(self.slope * score + self.offset, low), high)

    def llrs(self, scores: np.ndarray) -> np.ndarray:
        """`llr` of many scores: (N,) -> (N,)."""
        return np.clip(self.slope * scores + self.offset, *llr_bounds(self.n_bonafide, self.n_spoof))

    def probability(self, score: float, prior: float = PRIOR) -> float:
        """Probability that the speech is bona fide, given the share of bona fide speech to expect, in (0, 1)."""
        return _logistic(self.llr(score) + logit(prior))

    def score_at(self, llr: float) -> float:
        """The score at which the ratio is `llr`; infinite where the bounds keep it from there."""
        low, high = llr_bounds(self.n_bonafide, self.n_spoof)
        if not low <= llr <= high:
            return math.copysign(math.inf, llr)
        return (llr - self.offset) / self.slope

    def threshold(self, prior: float = PRIOR) -> float:
        """The score at which bona fide and spoof are equally probable."""
        return self.score_at(-logit(prior))

    def band(self, confidence: float, prior: float = PRIOR) -> tuple[float, float]:
        """Scores between which neither class is as probable as `confidence`, in [0.5, 1); the ends may be infinite."""
        return self.score_at(-logit(confidence) - logit(prior)), self.score_at(logit(confidence) - logit(prior))


def llr_bounds(n_bonafide: int, n_spoof: int) -> tuple[float, float]:
    """The log-likelihood ratios that a calibration on so many scores can support: least and greatest.

    A score that all bona fide and none of `n_spoof` spoofed recordings reach is the best evidence that such scores can
    give. If the next spoofed recording reached it, 1 of n_spoof + 1 would: the ratio is at most that number. Likewise
    below, with the bona fide recordings. What the regression says beyond is extrapolation.

    Source: the idea of Vergeer et al. 2016 (Science & Justice 56, 482-491), who add one misleading ratio to each class
    to find the empirical lower and upper bound (ELUB); this is what one such ratio allows at the most.
    """
    return -math.log(n_bonafide + 1), math.log(n_spoof + 1)


def verdict(score: float, low: float, high: float) -> str:
    """`bona fide` from `high` on, `spoof` below `low`, `uncertain` between; the edges may be one threshold."""
    if score >= high:
        return BONAFIDE
    return SPOOF if score < low else UNCERTAIN


def joined_digest(weights: str, config: str) -> str:
    """One name for a detector: the digest of its weights, and that of the settings that its scores depend on."""
    return f"{weights}-{config}"


def logit(probability: float) -> float:
    """Log-odds of a probability in (0, 1)."""
    return math.log(probability) - math.log1p(-probability)


def fit(bonafide: np.ndarray, spoof: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the log-likelihood ratio: scores (Nb,), (Ns,) -> two floats.

    Both classes weigh the same whatever their numbers; targets and regulariser are those of `regression.fit_llr`.

    Raises:
        InputError: a class is empty, a score is not finite, or bona fide speech does not score higher.
    """
    bonafide, spoof = np.asarray(bonafide, dtype=np.float64), np.asarray(spoof, dtype=np.float64)
    if not len(bonafide) or not len(spoof):
        raise InputError("calibration: expected scores of bona fide and of spoofed speech, found one kind only")
    scores = np.concatenate([bonafide, spoof])
    if not np.isfinite(scores).all():
        raise InputError("calibration: expected finite scores")
    if not bonafide.mean() > spoof.mean():
        raise InputError(
            f"calibration: bona fide speech scores {bonafide.mean():.4f} on average and spoofed speech "
            f"{spoof.mean():.4f}: the scores do not tell them apart, or are inverted"
        )
    weights, offset = fit_llr(scores[:, None], np.arange(len(scores)) < len(bonafide))
    if not weights[0] > 0:
        raise InputError("calibration: the scores do not rise from spoofed to bona fide speech")
    return float(weights[0]), offset


def identity_of(score_file: Path) -> dict[str, Any]:
    """Which weights and settings made a score file, as main.py wrote beside it; empty for another program's.

    Raises:
        InputError: what is beside it cannot be read.
    """
    sidecar = sidecar_of(score_file)
    if not sidecar.is_file():
        return {}
    try:
        return dict(read_json(sidecar, _Sidecar)["identity"])
    except (OSError, InputError):
        raise InputError(f"{sidecar}: expected to find there which weights made {score_file.name}") from None


def _digest_of(score_file: Path) -> str:
    return f"scores {sha256(score_file)[:16]}"


def fit_files(
    score_file: Path, keys_file: Path, *, subset: str | None = None, domain: Mapping[str, float] | None = None
) -> Calibration:
    """Calibrate on a score file and its keys.

    A score file that this program wrote says which weights made it; only then can `inference.py` see that a calibration
    is of its detector. Another's is known by its own digest.

    Raises:
        InputError: the files do not belong together, or the scores do not tell the classes apart.
    """
    identity = identity_of(score_file)
    weights = joined_digest(identity["weights"], identity["config"]) if identity else _digest_of(score_file)
    keys = read_keys(keys_file, subset=subset)
    if keys.track and subset is None:
        raise InputError(f"{keys_file}: a key of ASVspoof 2021 holds several subsets; name one: --subset progress")
    refuse_one_class(keys)
    values = keys.align(read_scores(score_file))
    bonafide, spoof = values[keys.bonafide], values[~keys.bonafide]
    slope, offset = fit(bonafide, spoof)
    eer = equal_error_rate(bonafide, spoof)
    return Calibration(
        slope=slope,
        offset=offset,
        eer=float(eer.eer),
        eer_threshold=float(eer.threshold),
        n_bonafide=len(bonafide),
        n_spoof=len(spoof),
        weights=weights,
        fitted_on={
            "keys": str(keys_file),
            "keys_sha256": sha256(keys_file),
            "scores": str(score_file),
            "scores_sha256": sha256(score_file),
            "window_samples": dict(identity).get("window_samples"),
        },
        domain=dict(domain or {}),
    )


def to_dict(calibration: Calibration) -> dict[str, Any]:
    """As it is kept in JSON."""
    return {"format": FORMAT, **asdict(calibration)}


def write(path: Path, calibration: Calibration) -> None:
    """Write a calibration in one step."""
    write_json(path, to_dict(calibration))


def read(path: Path) -> Calibration:
    """Read what `write` wrote.

    Raises:
        InputError: the file is missing or is not a calibration.
    """
    try:
        return from_dict(read_json(path, dict), path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such calibration") from None


def from_dict(content: Any, where: object) -> Calibration:
    """`content` of `where` if it is a calibration; InputError otherwise."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{where}: expected a calibration ({FORMAT!r}), found something else")
    try:
        calibration = Calibration(**{key: value for key, value in content.items() if key != "format"})
    except TypeError as error:
        raise InputError(f"{where}: not a calibration of this version ({error})") from None
    for key, kind in (("weights", str), ("fitted_on", dict), ("domain", dict[str, float])):
        typed(getattr(calibration, key), kind, f"{where}: {key}")
    counts = (calibration.n_bonafide, calibration.n_spoof)
    if not all(isinstance(n, int) and n > 0 for n in counts) or not isinstance(calibration.eer, (int, float)):
        raise InputError(f"{where}: expected an eer and the counts n_bonafide and n_spoof, above 0")
    numbers = (calibration.slope, calibration.offset, calibration.eer_threshold)
    if not all(isinstance(x, (int, float)) and math.isfinite(x) for x in numbers) or calibration.slope <= 0:
        raise InputError(f"{where}: slope, offset and eer_threshold must be finite, and slope above 0")
    return calibration


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
