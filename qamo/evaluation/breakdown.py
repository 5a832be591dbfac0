"""Results by condition, speaker and MOS band, and the worst errors.

Everything here takes a `System`, the scores of one detector in the order of the keys, and gives numbers; rates are
shares in [0, 1]. N is the number of trials.

Which bona fide trials a condition is held against follows the evaluation packages of ASVspoof: where a column says
something of bona fide speech too (a codec, a speaker), only that of the same level; where it does not (an attack),
all of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval_metrics import EER, det_curve, equal_error_rate
from qamo import InputError
from qamo.evaluation.intervals import (
    BY_TRIAL,
    N_RESAMPLES,
    SEED,
    Difference,
    Interval,
    Units,
    difference_interval,
    eer_interval,
)

MISSING = "-"  # what keys write where they have no value


@dataclass(frozen=True, eq=False)
class System:
    """The scores of one detector on one set."""

    label: str
    path: Path
    values: np.ndarray  # (N,) float64, in the order of the keys
    is_bonafide: np.ndarray  # (N,) bool
    given_threshold: float | None = None  # chosen elsewhere, such as on a dev set
    units: Units = BY_TRIAL  # what intervals resample

    @cached_property
    def bonafide(self) -> np.ndarray:
        return self.values[self.is_bonafide]

    @cached_property
    def spoof(self) -> np.ndarray:
        return self.values[~self.is_bonafide]

    @cached_property
    def eer(self) -> EER:
        return equal_error_rate(self.bonafide, self.spoof)

    @property
    def threshold(self) -> float:
        """Where decisions are counted: the given threshold, or that of the EER. Scores above it are accepted."""
        return self.eer.threshold if self.given_threshold is None else self.given_threshold


ONE_CLASS = Interval(None, None, reason="one class only")
NOT_ASKED = Interval(None, None, reason="not asked for")


class Measured(NamedTuple):
    """Error rates on some trials; None where a class is missing."""

    n_bonafide: int
    n_spoof: int
    eer: float | None
    interval: Interval  # without ends where it was not asked for or cannot be had
    miss: float | None  # share of bona fide trials at or below the threshold of the whole set
    false_alarm: float | None  # share of spoofed trials above it


def measure(
    system: System, bonafide: np.ndarray, spoof: np.ndarray, *, n_resamples: int = 0, seed: int = SEED
) -> Measured:
    """Error rates of a system on the bona fide and spoofed trials that two masks select: (N,) bool each."""
    positive, negative = system.values[bonafide], system.values[spoof]
    eer, interval = None, ONE_CLASS
    if len(positive) and len(negative):
        eer = equal_error_rate(positive, negative).eer
        interval = NOT_ASKED
        if n_resamples:
            unit, groups = system.units.unit, system.units.groups(bonafide, spoof)
            interval = eer_interval(positive, negative, unit=unit, groups=groups, n_resamples=n_resamples, seed=seed)
    miss = float((positive <= system.threshold).mean()) if len(positive) else None
    false_alarm = float((negative > system.threshold).mean()) if len(negative) else None
    return Measured(len(positive), len(negative), eer, interval, miss, false_alarm)


class Factor(NamedTuple):
    """A column of the keys, as levels to break results down by."""

    name: str
    levels: list[str]
    codes: np.ndarray  # (N,) int64: the level of each trial

    def masks(self, is_bonafide: np.ndarray) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """(level, its bona fide trials, its spoofed trials); levels of bona fide speech alone are left out."""
        n = len(self.levels)
        n_bonafide = np.bincount(self.codes[is_bonafide], minlength=n)
        n_spoof = np.bincount(self.codes[~is_bonafide], minlength=n)
        is_level = np.array([level != MISSING for level in self.levels])
        says_nothing_of_bonafide = not (n_bonafide.astype(bool) & n_spoof.astype(bool) & is_level).any()
        masks = []
        for code, level in enumerate(self.levels):
            if level == MISSING:
                continue
            has_level = self.codes == code
            if says_nothing_of_bonafide:
                if n_spoof[code]:
                    masks.append((level, is_bonafide, has_level & ~is_bonafide))
            else:
                masks.append((level, has_level & is_bonafide, has_level & ~is_bonafide))
        return masks


def by_factor(system: System, factor: Factor, *, n_resamples: int = 0, seed: int = 0) -> list[tuple[str, Measured]]:
    """Results of each level of a factor; intervals of one speaker's trials, or one attack's, are by trial."""
    if factor.name == system.units.unit:
        system = replace(system, units=BY_TRIAL)
    return [
        (level, measure(system, bonafide, spoof, n_resamples=n_resamples, seed=seed))
        for level, bonafide, spoof in factor.masks(system.is_bonafide)
    ]


def by_two_factors(system: System, rows: Factor, columns: Factor) -> tuple[list[str], list[str], list[list[Measured]]]:
    """Results of each pair of levels: row levels, column levels, and their cells, without intervals."""
    row_masks, column_masks = rows.masks(system.is_bonafide), columns.masks(system.is_bonafide)
    cells = [[measure(system, bonafide & b, spoof & s) for _, b, s in column_masks] for _, bonafide, spoof in row_masks]
    return [level for level, *_ in row_masks], [level for level, *_ in column_masks], cells


# Intervals and comparison


def interval(system: System, *, n_resamples: int = N_RESAMPLES, seed: int = SEED) -> Interval:
    """Interval of the EER of all trials, by the units of the system."""
    groups = system.units.groups(system.is_bonafide, ~system.is_bonafide)
    options = {"n_resamples": n_resamples, "seed": seed}
    return eer_interval(system.bonafide, system.spoof, unit=system.units.unit, groups=groups, **options)


def difference(a: System, b: System, *, n_resamples: int = N_RESAMPLES, seed: int = SEED) -> Difference:
    """EER of a less that of b on the same trials, with interval and p, by the units of a."""
    return difference_interval(
        *(a.bonafide, a.spoof, b.bonafide, b.spoof),
        unit=a.units.unit,
        groups=a.units.groups(a.is_bonafide, ~a.is_bonafide),
        n_resamples=n_resamples,
        seed=seed,
    )


# Quality


def mos_bands(mos: np.ndarray, edges: Sequence[float]) -> Factor:
    """MOS as a factor: (N,) float and E increasing edges -> E + 1 levels; a MOS at an edge is in the band above.

    Raises:
        InputError: the edges do not increase.
    """
    if not edges or any(low >= high for low, high in pairwise(edges)):
        raise InputError(f"--mos-edges: expected increasing values, got {' '.join(map(str, edges))}")
    texts = [f"{edge:g}" for edge in edges]
    levels = [f"below {texts[0]}", *(f"{a} to {b}" for a, b in pairwise(texts)), f"{texts[-1]} and above"]
    return Factor("mos band", levels, np.searchsorted(edges, mos, side="right"))


def mos_results(system: System, bands: Factor, *, n_resamples: int, seed: int) -> list[tuple[str, Measured]]:
    """Results of each MOS band: bona fide and spoofed trials of that band only, even where no band has both."""
    results = []
    for code, level in enumerate(bands.levels):
        in_band = bands.codes == code
        masks = in_band & system.is_bonafide, in_band & ~system.is_bonafide
        results.append((level, measure(system, *masks, n_resamples=n_resamples, seed=seed)))
    return results


# Errors


class Mistake(NamedTuple):
    place: int  # in the keys
    score: float
    excess: float  # distance from the threshold, in standard deviations of all scores


def worst(system: System, n: int) -> tuple[list[Mistake], list[Mistake]]:
    """At most `n` bona fide trials rejected with the lowest scores, and `n` spoofed ones accepted with the highest."""
    scale = float(system.values.std()) or 1.0
    mistakes: list[list[Mistake]] = []
    for wanted, sign in ((system.is_bonafide, -1.0), (~system.is_bonafide, 1.0)):
        wrong = system.values <= system.threshold if sign < 0 else system.values > system.threshold
        indices = np.flatnonzero(wanted & wrong)
        order = np.argsort(-sign * system.values[indices], kind="stable")[:n]
        mistakes.append(
            [
                Mistake(int(i), float(system.values[i]), abs(float(system.values[i]) - system.threshold) / scale)
                for i in indices[order]
            ]
        )
    return mistakes[0], mistakes[1]


# Curves, thinned to what a screen shows


class DETPoints(NamedTuple):
    """A DET curve at given false alarm rates: the threshold that rejects fewest bona fide trials at that rate."""

    miss: np.ndarray  # (P,)
    thresholds: np.ndarray  # (P,)


def det_points(system: System, false_alarm: np.ndarray) -> DETPoints:
    """At increasing false alarm rates (P,): the least miss rate whose false alarm rate is not above it; exact there."""
    det = det_curve(system.bonafide, system.spoof)
    n_points = len(det.miss)
    first = n_points - np.searchsorted(det.false_alarm[::-1], false_alarm, side="right")  # the rate falls along a curve
    first = np.minimum(first, n_points - 1)
    return DETPoints(det.miss[first], det.thresholds[first])


class Histogram(NamedTuple):
    """Shares of each class in B bins of equal width, and both error rates with the threshold at each edge."""

    edges: np.ndarray  # (B + 1,)
    bonafide: np.ndarray  # (B,), sums to 1
    spoof: np.ndarray  # (B,)
    miss: np.ndarray  # (B + 1,)
    false_alarm: np.ndarray  # (B + 1,)
    n_outside: int  # trials beyond the edges, counted in the outermost bins


def histogram(system: System) -> Histogram:
    """Histogram over all scores, or over the middle 99.8 % where a few outliers would squeeze the rest together."""
    n_bins = int(np.clip(2 * math.sqrt(len(system.values)), 20, 160))
    low, high = float(system.values.min()), float(system.values.max())
    inner_low, inner_high = np.quantile(system.values, [0.001, 0.999]).tolist()
    if inner_high > inner_low and high - low > 3 * (inner_high - inner_low):
        low, high = inner_low, inner_high
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, n_bins + 1)
    outside = int(((system.values < low) | (system.values > high)).sum())
    shares, cumulative = [], []
    for scores in (system.bonafide, system.spoof):
        shares.append(np.histogram(np.clip(scores, low, high), edges)[0] / len(scores))
        cumulative.append(np.searchsorted(np.sort(scores), edges, side="right") / len(scores))
    return Histogram(edges, shares[0], shares[1], cumulative[0], 1 - cumulative[1], outside)


class Trend(NamedTuple):
    """Scores of one class by MOS: the 10th, 50th and 90th percentile in bins that hold enough trials."""

    centers: np.ndarray  # (B,) MOS
    counts: np.ndarray  # (B,)
    percentiles: np.ndarray  # (3, B), NaN where a bin holds fewer than `least` trials


def trend(mos: np.ndarray, scores: np.ndarray, edges: np.ndarray, least: int = 10) -> Trend:
    """Percentiles of the scores in bins of MOS: (n,), (n,), (B + 1,)."""
    codes = np.clip(np.searchsorted(edges, mos, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(codes, minlength=len(edges) - 1)
    percentiles = np.full((3, len(counts)), np.nan)
    for code in np.flatnonzero(counts >= least):
        percentiles[:, code] = np.quantile(scores[codes == code], [0.1, 0.5, 0.9])
    return Trend((edges[:-1] + edges[1:]) / 2, counts, percentiles)
