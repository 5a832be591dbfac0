"""How certain an EER is, and the difference between two: intervals by trial, by speaker or by attack.

    units_of             what to resample: speakers where the keys name enough of them, else trials
    eer_interval         interval of an EER
    difference_interval  interval and p of the difference between two systems scored on the same trials
    holm                 p-values of several comparisons, adjusted

The trials of a speaker are alike, so an interval by trial is right for these very speakers only, and one by speaker for
others. Methods were chosen by simulation: `benchmarks/coverage.py`, `docs/statistics.md`.

Nb bona fide and Ns spoofed trials, N = Nb + Ns, G groups (speakers or attacks).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from qamo import InputError
from qamo.evaluation.quantiles import beta_quantile, t_quantile, t_tails
from qamo.evaluation.resampling import Sorted, left_out_eers, resampled_differences, resampled_eers
from qamo.trials.tables import Columns

LEVEL, N_RESAMPLES, SEED = 0.95, 1000, 0  # the same in every command
UNITS = ("trial", "speaker", "attack")
MIN_UNITS = 5  # trials, speakers or attacks of a class; fewer say too little: no interval
METHOD = "Clopper-Pearson bounds at the effective number of trials"
T_METHOD = "Student's t"

Groups = tuple[np.ndarray, np.ndarray]  # the group of each bona fide and of each spoofed trial: (Nb,), (Ns,)


class Interval(NamedTuple):
    low: float | None  # None: see `reason`
    high: float | None
    unit: str = "trial"
    n_units: int = 0
    method: str = METHOD
    reason: str = ""  # why there is no interval

    @property
    def basis(self) -> str:
        """What stands beside an interval: "by speaker, 54 speakers", or why there is none."""
        return _basis(self.unit, self.n_units, self.reason)

    @property
    def facts(self) -> dict[str, Any]:
        """All but both ends, as JSON has it."""
        return {"unit": self.unit, "n_units": self.n_units, "method": self.method, "reason": self.reason or None}

    def percent(self, between: str = " to ") -> str:
        """Both ends in per cent; a dash where there is no interval."""
        return "-" if self.low is None or self.high is None else f"{100 * self.low:.2f}{between}{100 * self.high:.2f}"


class Difference(NamedTuple):
    """EER of system a minus EER of system b."""

    value: float
    low: float | None
    high: float | None
    p: float | None  # two-sided, of "no difference"
    unit: str = "trial"
    n_units: int = 0
    method: str = T_METHOD
    reason: str = ""
    error: float | None = None  # standard error
    df: float = 1.0  # degrees of freedom of Student's t

    @property
    def basis(self) -> str:
        """As that of an interval."""
        return _basis(self.unit, self.n_units, self.reason)


class Units(NamedTuple):
    """What is resampled on a set."""

    unit: str = "trial"
    codes: np.ndarray | None = None  # (N,) int64: the speaker or the attack of each trial; None by trial
    note: str = ""  # why trials, where the keys name speakers

    def groups(self, bonafide: np.ndarray, spoof: np.ndarray) -> Groups | None:
        """The groups of the trials that two masks select: (N,) bool each."""
        return None if self.codes is None else (self.codes[bonafide], self.codes[spoof])


BY_TRIAL = Units()


def units_of(columns: Columns, is_bonafide: np.ndarray, asked: str | None = None, *, path: Path | str = "") -> Units:
    """What to resample: `asked`, or else speakers where each class has at least five of them, or else trials.

    Args:
        columns: of the keys at `path`.

    Raises:
        InputError: the keys have no such column.
    """
    if asked == "trial":
        return BY_TRIAL
    column = asked or "speaker"
    if column not in columns:
        if asked:
            raise InputError(f"--unit {asked}: {path} has no column '{asked}'; it has {', '.join(columns) or 'none'}")
        return BY_TRIAL
    codes = columns.levels(column)[1]
    fewest = _fewest(column, (codes[is_bonafide], codes[~is_bonafide]))
    if asked or fewest >= MIN_UNITS:
        return Units(column, codes)
    return Units(note=f"{_too_few(column, fewest)} for an interval by {column}") if fewest > 1 else BY_TRIAL


def eer_interval(
    bonafide: np.ndarray,
    spoof: np.ndarray,
    *,
    unit: str = "trial",
    groups: Groups | None = None,
    level: float = LEVEL,
    n_resamples: int = N_RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """Interval of the EER: exact binomial bounds at the number of independent trials that its variance amounts to.

    Args:
        groups: the speaker of each trial; for the unit attack, the attack of each spoofed trial.
        n_resamples, seed: of the bootstrap by trial.

    Raises:
        InputError: one class is empty, a score is NaN, or the groups are not one a trial.

    Source: Clopper and Pearson 1934 (bounds); Korn and Graubard 1998 (effective number of trials).
    """
    trials = Sorted.of(bonafide, spoof)
    if abstains := _abstains(trials.is_bonafide):
        return Interval(None, None, unit, len(trials.order), reason=abstains)
    variance = float(resampled_eers(trials, n_resamples=n_resamples, seed=seed).var())
    n_trials = _effective_trials(trials.eer, variance, len(bonafide), len(spoof))
    if unit == "trial":
        return Interval(*clopper_pearson(trials.eer, n_trials, n_trials, level), unit, len(bonafide) + len(spoof))
    part = Part.of(unit, groups, len(bonafide), len(spoof))
    if part.fewest < MIN_UNITS:
        return Interval(None, None, unit, part.n_groups, reason=f"{_too_few(unit, part.fewest)} for an interval")
    left_out = left_out_eers(trials, part.codes, part.n_groups)
    n_low, n_high = effective_groups(trials.eer, left_out, n_trials, min(len(bonafide), len(spoof)), part, level)
    return Interval(*clopper_pearson(trials.eer, n_low, n_high, level), unit, part.n_groups)


def difference_interval(
    bonafide_a: np.ndarray,
    spoof_a: np.ndarray,
    bonafide_b: np.ndarray,
    spoof_b: np.ndarray,
    *,
    unit: str = "trial",
    groups: Groups | None = None,
    level: float = LEVEL,
    n_resamples: int = N_RESAMPLES,
    seed: int = SEED,
) -> Difference:
    """Interval and test of the difference between two systems scored on the same trials, in the same order.

    Student's t with the variance of the paired bootstrap by trial, or that of the jackknife over groups if larger. What
    is hard or easy for both systems cancels. No variance is below that of one trial more that only a, and one that only
    b gets wrong, so that no interval is a point.

    Raises:
        InputError: the systems have different numbers of trials, or as `eer_interval`.

    Source: Bonett and Price 2012 (least variance); Efron and Stein 1981 (jackknife).
    """
    a, b = Sorted.of(bonafide_a, spoof_a), Sorted.of(bonafide_b, spoof_b)
    if abstains := _abstains(a.is_bonafide):
        return Difference(a.eer - b.eer, None, None, None, unit, len(a.order), reason=abstains)
    drawn = resampled_differences(a, b, n_resamples=n_resamples, seed=seed)
    value = a.eer - b.eer
    smaller = min(len(bonafide_a), len(spoof_a))
    variance = max(float(drawn.var()), 2 / (smaller + 2) ** 2)
    df, n_units = smaller - 1.0, len(a.order)
    if unit != "trial":
        part = Part.of(unit, groups, len(bonafide_a), len(spoof_a))
        if part.fewest < MIN_UNITS:
            reason = f"{_too_few(unit, part.fewest)} for an interval"
            return Difference(value, None, None, None, unit, part.n_groups, reason=reason)
        left_out = [left_out_eers(trials, part.codes, part.n_groups) for trials in (a, b)]
        between = jackknife_variance(left_out[0] - left_out[1], value)
        variance = variance + between if unit == "attack" else max(variance, between)
        df, n_units = part.effective - 1, part.n_groups
    df, error = max(df, 1.0), math.sqrt(variance)
    half = t_quantile(level, df) * error
    low, high = max(value - half, -1.0), min(value + half, 1.0)
    return Difference(value, low, high, t_tails(value / error, df), unit, n_units, error=error, df=df)


def holm(p: Sequence[float]) -> list[float]:
    """The p-values of several comparisons, adjusted so that the chance of any false finding stays at the level.

    Source: Holm 1979.
    """
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = largest
    return adjusted


def clopper_pearson(rate: float, n_low: float, n_high: float, level: float = LEVEL) -> tuple[float, float]:
    """Exact bounds of a rate seen in `n` independent trials, whole or not; `n` may differ for the two bounds."""
    tail = (1 - level) / 2
    low = beta_quantile(tail, rate * n_low, (1 - rate) * n_low + 1) if rate > 0 else 0.0
    high = beta_quantile(1 - tail, rate * n_high + 1, (1 - rate) * n_high) if rate < 1 else 1.0
    return low, high


def _effective_trials(eer: float, variance: float, n_bonafide: int, n_spoof: int) -> float:
    """How many independent trials the variance of the bootstrap amounts to, between the smaller class and all trials.

    With few errors the bootstrap says little; so E errors in the smaller class count E times, and that class once.
    """
    smaller = min(n_bonafide, n_spoof)
    n = min(max(eer * (1 - eer) / variance, smaller), n_bonafide + n_spoof) if variance > 0 else smaller
    n_errors = eer * smaller
    return (n_errors * n + smaller) / (n_errors + 1)


class Part(NamedTuple):
    """How the trials are parted into groups."""

    unit: str
    codes: np.ndarray  # (N,) below G; G for trials that are in no group
    n_groups: int
    fewest: int  # groups, in the class that has fewer
    effective: float  # groups of equal size that would vary as much, in that class (Kish 1965)

    @classmethod
    def of(cls, unit: str, groups: Groups | None, n_bonafide: int, n_spoof: int) -> Part:
        """
        Raises:
            InputError: the groups are not one a trial.
        """
        if groups is None or (len(groups[0]), len(groups[1])) != (n_bonafide, n_spoof):
            given = "none" if groups is None else f"{len(groups[0])} + {len(groups[1])}"
            raise InputError(f"expected a group for each of {n_bonafide} + {n_spoof} trials, got {given}")
        classes = [np.asarray(groups[1])] if unit == "attack" else [np.asarray(part) for part in groups]
        distinct, codes = np.unique(np.concatenate(classes), return_inverse=True)
        if unit == "attack":  # bona fide speech has none
            codes = np.concatenate([np.full(n_bonafide, len(distinct)), codes])
        sizes = [np.unique(part, return_counts=True)[1] for part in classes]
        effective = min(float(n.sum()) ** 2 / float((n.astype(float) ** 2).sum()) for n in sizes)
        return cls(unit, codes, len(distinct), _fewest(unit, groups), effective)


def effective_groups(
    eer: float, left_out: np.ndarray, n_trials: float, smaller: float, part: Part, level: float
) -> tuple[float, float]:
    """How many independent trials the variance between groups amounts to, for the lower and the upper bound.

    The variance is the jackknife's; Student's t allows for its own uncertainty. The geometric mean of the numbers of
    groups and of trials counts as much as one error does. Where few groups have most errors (`skewness`), a bound is
    stretched as that of a BCa bootstrap. Never more than by trial, so never narrower.

    Source: Efron 1987 (BCa). The 3/4 was chosen by simulation.
    """
    spread, variance = eer * (1 - eer), jackknife_variance(left_out, eer)
    if part.unit == "attack":
        variance += spread / n_trials
    n = min(spread / variance, n_trials) if variance > 0 else n_trials
    t = t_quantile(level, max(0.75 * (part.effective - 1), 1.0))
    wider = n * (NormalDist().inv_cdf((1 + level) / 2) / t) ** 2
    n_errors = eer * n
    few = (n_errors * wider + math.sqrt(part.effective * smaller)) / (n_errors + 1)
    n = min(wider, few, n_trials)
    shares = left_out.mean() - left_out  # of each group in the EER
    skewness = float((shares**3).sum()) / 6 / (float((shares**2).sum()) ** 1.5 or 1.0)
    return n / _stretch(-skewness, t) ** 2, n / _stretch(skewness, t) ** 2


def jackknife_variance(left_out: np.ndarray, value: float) -> float:
    return (len(left_out) - 1) / len(left_out) * float(((left_out - value) ** 2).sum())


def _stretch(skewness: float, t: float) -> float:
    """By how much a bound at `t` standard errors moves out under a skewness towards it."""
    if skewness <= 0:
        return 1.0
    return (skewness + (skewness + t) / max(1 - skewness * (skewness + t), 0.2)) / t


def _abstains(is_bonafide: np.ndarray) -> str:
    """Why there is no interval; empty where there are trials enough."""
    fewest = min(int(is_bonafide.sum()), int((~is_bonafide).sum()))
    return f"{_too_few('trial', fewest)} for an interval" if fewest < MIN_UNITS else ""


def _fewest(unit: str, groups: Groups) -> int:
    return min(len(np.unique(part)) for part in (groups[1:] if unit == "attack" else groups))


def _basis(unit: str, n_units: int, reason: str) -> str:
    return reason or f"by {unit}, {n_units:,} {unit}s"


def _too_few(unit: str, n_groups: int) -> str:
    return f"too few {unit}s ({n_groups})"
