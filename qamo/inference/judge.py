"""Score one recording: window scores, their aggregate, the calibrated verdict, and warnings.

Windows: `qamo.audio.windows`; calibration: `qamo.evaluation.calibration`; warnings: `qamo.audio.diagnostics`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from qamo import InputError
from qamo.audio import SAMPLE_RATE, diagnostics, load, windows
from qamo.audio.not_speech import not_speech
from qamo.evaluation.calibration import BONAFIDE, CONFIDENCE, PRIOR, UNCERTAIN, Calibration, llr_bounds, verdict
from qamo.inference.scorer import Scorer

T = TypeVar("T")

MIXED_SHARE = 0.1  # of the windows; with more below the threshold, a bona fide verdict comes with a warning
FEW = 100  # recordings of a class; with less a calibration is a rough guess
Aggregate = Literal["mean", "min", "first"]
AGGREGATES: dict[Aggregate, Callable[[np.ndarray], float]] = {
    "mean": lambda scores: float(scores.mean()),
    "min": lambda scores: float(scores.min()),
    "first": lambda scores: float(scores[0]),  # the published protocol: the first window stands for the recording
}
MOS_WHOLE_S = 30.0  # up to here quality is predicted as the predictor does it, every second
MOS_SEGMENT_SAMPLES = 122_880  # 7.68 s, which DistillMOS hears at a time
MOS_HOP_S = 12.0  # at most, between segments of what is longer
PredictMOS = Callable[[Sequence[np.ndarray]], np.ndarray]
Heard = load.Recording | np.ndarray
Watch = Callable[[Iterable[T], int, str], Iterable[T]]  # (steps, their number, which work) -> the steps


@dataclass(frozen=True)
class Rule:
    """How windows become one score, and a score a verdict."""

    aggregate: Aggregate = "mean"
    overlap: float = windows.OVERLAP
    skip_pauses: bool = False
    threshold: float | None = None  # decides alone, where given; None: the calibration does, with prior and confidence
    prior: float = PRIOR
    confidence: float = CONFIDENCE
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.aggregate not in list(AGGREGATES):
            raise InputError(f"--aggregate: expected {' or '.join(AGGREGATES)}, found {self.aggregate!r}")
        if not (isinstance(self.overlap, Real) and 0 <= self.overlap < 1):
            raise InputError(f"--overlap: expected a share from 0 up to but not 1, found {self.overlap!r}")
        if not (isinstance(self.prior, Real) and 0 < self.prior < 1):
            raise InputError(f"--prior: expected a share between 0 and 1, found {self.prior!r}")
        if not (isinstance(self.confidence, Real) and 0.5 <= self.confidence < 1):
            raise InputError(
                f"--confidence: expected a probability from 0.5 up to but not 1, found {self.confidence!r}"
            )
        if self.threshold is not None and not (isinstance(self.threshold, Real) and math.isfinite(self.threshold)):
            raise InputError(f"--threshold: expected a number, found {self.threshold!r}")
        if not (isinstance(self.batch_size, Integral) and self.batch_size >= 1):
            raise InputError(f"--batch-size: expected a whole number from 1 on, found {self.batch_size!r}")

    def threshold_with(self, calibration: Calibration | None) -> float | None:
        """The score of a window that divides spoof from bona fide, where a person or the calibration says it."""
        if self.threshold is not None:
            return self.threshold
        return None if calibration is None else calibration.threshold(self.prior)

    def band(self, calibration: Calibration | None) -> tuple[float, float] | None:
        """The scores between which a verdict is uncertain: a point for a given threshold; None: no verdict is given."""
        if self.threshold is not None:
            return self.threshold, self.threshold
        if calibration is None or self.aggregate == "min":
            return None
        return (-math.inf, math.inf) if self.distrusts(calibration) else calibration.band(self.confidence, self.prior)

    def llr(self, calibration: Calibration | None, score: float) -> float | None:
        """Log-likelihood ratio; None for the least of several windows: calibrations are fitted on single ones."""
        return None if calibration is None or self.aggregate == "min" else calibration.llr(score)

    def probability(self, calibration: Calibration | None, score: float) -> float | None:
        """Probability of bona fide speech, where the verdict follows from it: not beside a given threshold."""
        if self.band(calibration) is None or calibration is None or self.threshold is not None:
            return None
        return None if self.distrusts(calibration) else calibration.probability(score, self.prior)

    def distrusts(self, calibration: Calibration) -> bool:
        """Whether a detector errs on its dev set more often than a verdict may."""
        return calibration.eer > 1 - self.confidence


@dataclass(frozen=True)
class Window:
    start_s: float
    end_s: float
    score: float | None  # None for a pause that was skipped


@dataclass(frozen=True)
class Judgement:
    """What is known of one recording. Where it could not be read, `error` says why and the rest is None or empty."""

    path: str
    score: float | None = None  # higher means bona fide
    verdict: str | None = None  # bona fide, spoof or uncertain; None: nothing says where to draw the line
    llr: float | None = None  # natural log-likelihood ratio
    probability_bonafide: float | None = None
    score_min: float | None = None
    ratio_below_threshold: float | None = None  # of the windows
    mos: float | None = None
    duration_s: float | None = None
    level_dbfs: float | None = None  # root mean square of the loud frames; -inf for digital silence
    bandwidth_hz: float | None = None
    clipped_ratio: float | None = None  # of the samples
    speech_ratio: float | None = None  # of the time
    windows: list[Window] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    detector: str | None = None
    dev_eer: float | None = None  # of the detector, on the recordings that calibrated it, in [0, 1]
    n_dev_bonafide: int | None = None
    n_dev_spoof: int | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it: null for what is not known, and for the level of digital silence."""
        content = dataclasses.asdict(self)
        if self.level_dbfs is not None and not math.isfinite(self.level_dbfs):
            content["level_dbfs"] = None  # JSON has no infinity
        return content


def judge(
    heard: Heard,
    scorer: Scorer,
    rule: Rule,
    *,
    path: str = "",
    predict_mos: PredictMOS | None = None,
    watch: Watch[Any] | None = None,
) -> Judgement:
    """Judge what `qamo.audio.load.read` gave, or a wave (T,) at 16 kHz.

    Args:
        watch: is shown each batch, to tell of progress or to stop the work by an exception.

    Raises:
        InputError: the detector gives no finite score.
    """
    (judgement,) = judge_all([(path, heard)], scorer, rule, predict_mos=predict_mos, watch=watch)
    if judgement.error is not None:
        raise InputError(judgement.error)
    return judgement


def judge_all(
    named: Sequence[tuple[str, Heard]],
    scorer: Scorer,
    rule: Rule,
    *,
    predict_mos: PredictMOS | None = None,
    watch: Watch[Any] | None = None,
) -> list[Judgement]:
    """Judge recordings or waves (T,) at 16 kHz, each with its name; windows of several share a batch.

    A wave whose score is not finite has a judgement with an error.
    """
    cuts = [_cut(heard, scorer.window_samples, rule) for _, heard in named]
    starting = ((cut.wave, start) for cut in cuts for start in cut.starts[cut.scored])
    batches: Iterable[np.ndarray] = windows.batches(starting, scorer.window_samples, rule.batch_size)
    if watch:
        batches = watch(batches, -(-sum(int(cut.scored.sum()) for cut in cuts) // rule.batch_size), "scoring")
    scores = np.concatenate([scorer(batch) for batch in batches])
    by_wave = np.split(scores, np.cumsum([cut.scored.sum() for cut in cuts])[:-1])
    return [
        _judgement(name, cut, scores, scorer, rule, predict_mos and _mos(cut.wave, predict_mos, watch))
        if np.isfinite(scores).all()
        else Judgement(name, error=f"{name}: its score is not finite; the weights are damaged")
        for (name, _), cut, scores in zip(named, cuts, by_wave)
    ]


def _mos(wave: np.ndarray, predict_mos: PredictMOS, watch: Watch[Any] | None) -> float:
    """Mean opinion score of a wave; of a long one the mean over segments, one at a time: an hour in little memory."""
    if len(wave) <= MOS_WHOLE_S * SAMPLE_RATE:
        return float(predict_mos([wave])[0])
    last = len(wave) - MOS_SEGMENT_SAMPLES
    n_least = 24  # as many as 30 s have
    starts = np.linspace(0, last, max(n_least, math.ceil(last / SAMPLE_RATE / MOS_HOP_S) + 1)).astype(int)
    steps = watch(starts, len(starts), "quality") if watch else starts
    return float(np.mean([predict_mos([wave[start : start + MOS_SEGMENT_SAMPLES]])[0] for start in steps]))


class _Cut(NamedTuple):
    """A wave and its n windows."""

    wave: np.ndarray  # (T,)
    starts: np.ndarray  # (n,) int, in samples
    spoken: np.ndarray  # (n,) bool: speech, and not mostly a pause
    scored: np.ndarray  # (n,) bool
    warnings: list[diagnostics.Caution]  # of decoding


def _cut(heard: Heard, length: int, rule: Rule) -> _Cut:
    wave, said = (heard, []) if isinstance(heard, np.ndarray) else (heard.wave, heard.warnings)
    starts = windows.window_starts(len(wave), length, rule.overlap)
    if rule.aggregate == "first":
        starts = starts[:1]
    spoken = windows.spoken(wave, starts, length)
    if not spoken.any():  # nothing but pauses: better an opinion with a warning than none
        spoken[:] = True
    return _Cut(wave, starts, spoken, spoken if rule.skip_pauses else np.ones_like(spoken), said)


def _judgement(name: str, cut: _Cut, scores: np.ndarray, scorer: Scorer, rule: Rule, mos: float | None) -> Judgement:
    """What the scores of the scored windows (m,) say of a recording."""
    calibration = scorer.calibration
    score = AGGREGATES[rule.aggregate](scores)
    facts = diagnostics.measure(cut.wave)
    domain = calibration.domain if calibration else None
    cautions = [*cut.warnings, *diagnostics.cautions(facts, domain, mos=mos)]
    no_speech = any(caution.code == "silence" for caution in cautions)
    if not no_speech and (sign := not_speech(cut.wave)):
        cautions.insert(0, sign)
        no_speech = rule.threshold is None  # a guess, which warns a person who decides by a threshold, and no more
    band = rule.band(calibration)
    opinion = UNCERTAIN if no_speech else None if band is None else verdict(score, *band)
    warnings = [caution.text for caution in cautions]
    threshold = rule.threshold_with(calibration)
    if opinion == BONAFIDE:
        warnings += _mixed_warning(scores[cut.spoken[cut.scored]], threshold)
    if band == (-math.inf, math.inf) and calibration:
        warnings.append(_weak(calibration, rule))
    values = iter(scores.tolist())
    ends = np.minimum(cut.starts + scorer.window_samples, len(cut.wave))
    return Judgement(
        path=name,
        score=score,
        verdict=opinion,
        llr=None if no_speech else rule.llr(calibration, score),
        probability_bonafide=None if no_speech else rule.probability(calibration, score),
        score_min=float(scores.min()),
        ratio_below_threshold=None if threshold is None else float(np.mean(scores < threshold)),
        mos=mos,
        duration_s=facts.duration_s,
        level_dbfs=facts.level_dbfs,
        bandwidth_hz=facts.bandwidth_hz,
        clipped_ratio=facts.clipped_share,
        speech_ratio=facts.speech_share,
        windows=[
            Window(start / SAMPLE_RATE, end / SAMPLE_RATE, next(values) if scored else None)
            for start, end, scored in zip(cut.starts.tolist(), ends.tolist(), cut.scored.tolist())
        ],
        warnings=warnings,
        detector=scorer.name,
        dev_eer=calibration.eer if calibration else None,
        n_dev_bonafide=calibration.n_bonafide if calibration else None,
        n_dev_spoof=calibration.n_spoof if calibration else None,
    )


def _mixed_warning(scores: np.ndarray, threshold: float | None) -> list[str]:
    """What to say of a bona fide recording whose spoken windows score (n,); pauses prove nothing."""
    below = 0.0 if threshold is None else float(np.mean(scores < threshold))
    if below <= MIXED_SHARE:
        return []
    return [
        f"{100 * below:.0f} % of the windows score below the threshold: a part may be synthetic, "
        "look at the score over time"
    ]


def _weak(calibration: Calibration, rule: Rule) -> str:
    return (
        f"a weak detector: its EER of {100 * calibration.eer:.1f} % on the dev set is above "
        f"{100 * (1 - rule.confidence):.0f} %, so it gives no verdict"
    )


def meaning(scorer: Scorer, rule: Rule) -> list[str]:
    """What a score of this detector means under `rule`, in sentences for a person."""
    calibration = scorer.calibration
    if calibration is None:
        kind = "a logit" if scorer.head == "wce" else "a cosine between -1 and 1"
        return [
            f"A score is {kind}, higher for bona fide speech, and not a probability: "
            f"no calibration ({scorer.why_uncalibrated}).",
            _verdict_rule(None, rule),
        ]
    n_bonafide, n_spoof = calibration.n_bonafide, calibration.n_spoof
    lines = [
        f"Calibrated on {n_bonafide + n_spoof:,} dev recordings ({n_bonafide:,} bona fide), "
        f"whose EER is {100 * calibration.eer:.2f} % at the score {calibration.eer_threshold:.4f}."
    ]
    if min(n_bonafide, n_spoof) < FEW:
        low, high = llr_bounds(n_bonafide, n_spoof)
        lines.append(
            "So few that threshold and probabilities are rough guesses, and that ratios (LLR) end at "
            f"{low:.2f} and {high:.2f}."
        )
    return [
        *lines,
        _verdict_rule(calibration, rule),
        "All this holds for speech like the dev set's; other speech, attacks and channels can fool it.",
    ]


def _verdict_rule(calibration: Calibration | None, rule: Rule) -> str:
    if rule.threshold is not None:
        alone = "" if calibration is None else "; the given threshold decides alone, without a probability"
        return f"Bona fide from the score {rule.threshold:.4f} on, spoof below{alone}."
    if calibration is None:
        return "No verdicts: give --threshold T, or calibrate."
    if rule.aggregate == "min":
        return "No verdicts: the calibration is for single windows, not for the least of several; give --threshold T."
    if rule.distrusts(calibration):
        return f"No verdicts: {_weak(calibration, rule)}."
    low, high = calibration.band(rule.confidence, rule.prior)
    return (
        f"Threshold {calibration.threshold(rule.prior):.4f} (prior of {rule.prior:g} for bona fide); uncertain between "
        f"{low:.4f} and {high:.4f}, where neither has a probability of {rule.confidence:g}."
    )
