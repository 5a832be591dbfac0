"""One recording in, one judgement out: scores of its windows, their aggregate, what that is worth, and what to doubt.

Windows: `qamo.audio.windows`; worth: `qamo.evaluation.calibration`; doubts: `qamo.audio.diagnostics`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qamo import InputError
from qamo.audio import SAMPLE_RATE, diagnostics, load, windows
from qamo.evaluation import calibration
from qamo.inference.scorer import Scorer

MIXED_SHARE = 0.1  # of the windows; with more below the threshold, a bona fide verdict comes with a warning
FEW = 100  # recordings of a class; with less a calibration is a rough guess
Aggregate = Literal["mean", "min", "first"]
AGGREGATES: dict[Aggregate, Callable[[np.ndarray], float]] = {
    "mean": lambda scores: float(scores.mean()),
    "min": lambda scores: float(scores.min()),
    "first": lambda scores: float(scores[0]),  # the published protocol: the first window stands for the recording
}


@dataclass(frozen=True)
class Rule:
    """How windows become one score, and a score a verdict."""

    aggregate: Aggregate = "mean"
    overlap: float = 0.5
    skip_pauses: bool = False
    threshold: float | None = None  # None: where the calibration puts it for `prior`
    prior: float = calibration.PRIOR
    confidence: float = calibration.CONFIDENCE
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.aggregate not in AGGREGATES:
            raise InputError(f"--aggregate: expected {' or '.join(AGGREGATES)}, found {self.aggregate!r}")
        if not 0 <= self.overlap < 1:
            raise InputError(f"--overlap: expected a share from 0 up to but not 1, found {self.overlap:g}")
        if not 0 < self.prior < 1:
            raise InputError(f"--prior: expected a share between 0 and 1, found {self.prior:g}")
        if not 0.5 <= self.confidence < 1:
            raise InputError(
                f"--confidence: expected a probability from 0.5 up to but not 1, found {self.confidence:g}"
            )
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise InputError(f"--threshold: expected a number, found {self.threshold}")
        if self.batch_size < 1:
            raise InputError(f"--batch-size: expected at least 1, found {self.batch_size}")

    def centre(self, known: calibration.Calibration | None) -> float | None:
        """The score that divides spoof from bona fide, if anything says where it is."""
        if self.threshold is not None:
            return self.threshold
        return None if known is None else known.threshold(self.prior)

    def band(self, known: calibration.Calibration | None) -> tuple[float, float] | None:
        """The scores between which a verdict is uncertain; one point where there is no calibration."""
        if known is not None:
            return known.band(self.confidence, prior=self.prior, threshold=self.threshold)
        return None if self.threshold is None else (self.threshold, self.threshold)


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
    share_below_threshold: float | None = None  # of the windows
    mos: float | None = None
    facts: diagnostics.Facts | None = None
    windows: list[Window] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it: flat, with null for what is not known."""
        facts = self.facts._asdict() if self.facts else dict.fromkeys(diagnostics.Facts._fields)
        level = facts["level_dbfs"]
        facts["level_dbfs"] = level if level is None or math.isfinite(level) else None  # JSON has no infinity
        return {
            "path": self.path,
            "score": self.score,
            "verdict": self.verdict,
            "llr": self.llr,
            "probability_bonafide": self.probability_bonafide,
            "score_min": self.score_min,
            "share_below_threshold": self.share_below_threshold,
            "mos": self.mos,
            **facts,
            "windows": [vars(window) for window in self.windows],
            "warnings": self.cautions,
            "error": self.error,
        }


def judge_file(
    path: Path, scorer: Scorer, rule: Rule, *, predict_mos: Callable[[Sequence[np.ndarray]], np.ndarray] | None = None
) -> tuple[Judgement, np.ndarray | None]:
    """Judge a recording on disk; an unreadable one gives a judgement with an error, and no wave."""
    try:
        found = load.read(path)
        return judge(found, scorer, rule, path=str(path), predict_mos=predict_mos), found.wave
    except (InputError, OSError) as error:
        return Judgement(path=str(path), error=str(error)), None


def judge(
    recording: load.Recording | np.ndarray,
    scorer: Scorer,
    rule: Rule,
    *,
    path: str = "",
    predict_mos: Callable[[Sequence[np.ndarray]], np.ndarray] | None = None,
) -> Judgement:
    """Judge what `qamo.audio.load.read` gave, or a wave (T,) at 16 kHz.

    Raises:
        InputError: the detector gives no finite score.
    """
    wave, said = (recording, []) if isinstance(recording, np.ndarray) else (recording.wave, recording.warnings)
    known, length = scorer.calibration, scorer.window_samples
    facts = diagnostics.measure(wave)
    starts = windows.window_starts(len(wave), length, rule.overlap)
    if rule.aggregate == "first":
        starts = starts[:1]
    spoken = windows.spoken(wave, starts, length)
    if not spoken.any():  # nothing but pauses: better an opinion with a warning than none
        spoken[:] = True
    heard = spoken if rule.skip_pauses else np.ones_like(spoken)
    scored = np.concatenate([scorer(batch) for batch in windows.batches(wave, starts[heard], length, rule.batch_size)])
    if not np.isfinite(scored).all():
        raise InputError(f"{path}: its score is not finite; the weights are damaged")
    score = AGGREGATES[rule.aggregate](scored)

    mos = None if predict_mos is None else float(predict_mos([wave])[0])
    cautions = [*said, *diagnostics.cautions(facts, known.domain if known else None, mos=mos)]
    centre, band = rule.centre(known), rule.band(known)
    verdict = None if band is None else calibration.verdict(score, *band)
    if verdict and any(caution.code == "silence" for caution in cautions):
        verdict = calibration.UNCERTAIN
    share_below = None if centre is None else float(np.mean(scored < centre))
    doubtful = 0.0 if centre is None else float(np.mean(scored[spoken[heard]] < centre))  # a pause proves nothing
    if verdict == calibration.BONAFIDE and doubtful > MIXED_SHARE:
        cautions.append(
            diagnostics.Caution(
                "mixed",
                f"{100 * doubtful:.0f} % of the windows score below the threshold: a part may be synthetic, "
                "look at the score over time",
            )
        )
    values = iter(scored.tolist())
    return Judgement(
        path=path,
        score=score,
        verdict=verdict,
        llr=known.llr(score) if known else None,
        probability_bonafide=known.probability(score, rule.prior) if known else None,
        score_min=float(scored.min()),
        share_below_threshold=share_below,
        mos=mos,
        facts=facts,
        windows=[
            Window(start / SAMPLE_RATE, min(start + length, len(wave)) / SAMPLE_RATE, next(values) if on else None)
            for start, on in zip(starts.tolist(), heard.tolist())
        ],
        cautions=[caution.text for caution in cautions],
    )


def meaning(scorer: Scorer, rule: Rule) -> list[str]:
    """What a score of this detector means under `rule`, in sentences for a person."""
    known, band, centre = scorer.calibration, rule.band(scorer.calibration), rule.centre(scorer.calibration)
    kind = "a logit" if scorer.head == "wce" else "a cosine between -1 and 1"
    said = []
    if known is None:
        said.append(
            f"A score is {kind}, higher for bona fide speech, and not a probability: no calibration ({scorer.remark})."
        )
    else:
        n = known.n_bonafide + known.n_spoof
        said.append(
            f"Calibrated on {n:,} dev recordings ({known.n_bonafide:,} bona fide), "
            f"whose EER is {100 * known.eer:.2f} % at the score {known.eer_threshold:.4f}."
        )
        if min(known.n_bonafide, known.n_spoof) < FEW:
            said.append("So few that threshold and probabilities are rough guesses.")
    if band is None or centre is None:
        said.append("No verdicts: give --threshold T, or calibrate.")
    elif known is None or band[0] == band[1]:
        said.append(f"Bona fide from the score {centre:.4f} on, spoof below.")
    else:
        where = "given threshold" if rule.threshold is not None else f"prior of {rule.prior:g} for bona fide"
        said.append(
            f"Threshold {centre:.4f} ({where}); uncertain between {band[0]:.4f} and {band[1]:.4f}, "
            f"where neither has a probability of {rule.confidence:g}."
        )
    if known is not None:
        said.append("All this holds for speech like the dev set's; other speech, attacks and channels can fool it.")
    return said
