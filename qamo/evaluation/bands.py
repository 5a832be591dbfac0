"""Intervals of what is no EER: the miss rate along a DET curve, a share of trials, a rank correlation.

At a threshold that stands, a miss rate is a plain proportion: by trial its bounds are exact. By speaker they are made
as those of an EER, `intervals.eer_interval`. By attack they are by trial, as bona fide speech has none.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from qamo.evaluation.breakdown import System
from qamo.evaluation.intervals import (
    LEVEL,
    MIN_UNITS,
    Interval,
    Part,
    Units,
    clopper_pearson,
    effective_groups,
    jackknife_variance,
)
from qamo.evaluation.quantiles import t_quantile
from qamo.evaluation.resampling import MAX_LEFT_OUT
from qamo.quality.agreement import correlation


def miss_band(system: System, thresholds: np.ndarray) -> list[Interval]:
    """The interval of the miss rate at each of T thresholds."""
    unit, codes = _groups(system.units, system.is_bonafide)
    parts = [np.sort(system.bonafide[codes == group]) for group in range(int(codes.max()) + 1)]
    missed = np.array([np.searchsorted(part, thresholds, side="right") for part in parts])  # (G, T)
    sizes = np.array([len(part) for part in parts])
    return [rate_interval(column, sizes, unit) for column in missed.T]


def weighted_interval(hits: np.ndarray, weight: np.ndarray, units: Units, here: np.ndarray) -> Interval:
    """The interval of a weighted share.

    Args:
        hits: (n,) bool, of the trials that the mask `here` (N,) selects; weight: (n,) of these.

    Source: Kish 1965 for the number of trials of equal weight that would vary as much.
    """
    unit, codes = _groups(units, here)
    weight = weight * (weight.sum() / (weight**2).sum())
    return rate_interval(np.bincount(codes, weight * hits), np.bincount(codes, weight), unit)


def rate_interval(hits: np.ndarray, sizes: np.ndarray, unit: str, level: float = LEVEL) -> Interval:
    """The interval of a share of trials; without ends where there are too few speakers or trials for any.

    Args:
        hits, sizes: (G,) of each group the trials that count, and all its trials; one group by trial.
    """
    n = float(sizes.sum())
    rate, n_units = min(float(hits.sum()) / n, 1.0), round(n) if unit == "trial" else len(sizes)
    if n_units < MIN_UNITS:
        return Interval(None, None, unit, n_units, reason=f"too few {unit}s ({n_units}) for an interval")
    if unit == "trial":
        return Interval(*clopper_pearson(rate, n, n, level), unit, n_units)
    left_out = (hits.sum() - hits) / (n - sizes)
    part = Part(unit, np.zeros(0), n_units, n_units, n**2 / float((sizes.astype(float) ** 2).sum()))
    n_low, n_high = effective_groups(rate, left_out, n, n, part, level)
    return Interval(*clopper_pearson(rate, n_low, n_high, level), unit, n_units)


def spearman_interval(x: np.ndarray, y: np.ndarray, units: Units, here: np.ndarray) -> Interval:
    """The interval of Spearman's correlation of (n,) and (n,), of the trials that the mask `here` (N,) selects.

    Student's t of Fisher's z with the variance of trials or, where larger, of the jackknife over speakers.

    Source: Bonett and Wright 2000 (Psychometrika 65) for the variance of trials, (1 + r^2 / 2) / (n - 3).
    """
    r, (unit, codes) = correlation(x, y).spearman, _groups(units, here)
    sizes = np.bincount(codes)
    n_units = len(x) if unit == "trial" else len(sizes)
    if r is None or n_units < MIN_UNITS:
        reason = "all values are equal" if r is None else f"too few {unit}s ({n_units}) for an interval"
        return Interval(None, None, unit, n_units, reason=reason)
    error, t = math.sqrt((1 + r * r / 2) / (len(x) - 3)), NormalDist().inv_cdf((1 + LEVEL) / 2)
    if unit == "speaker":
        ranked = [np.unique(values, return_inverse=True)[1] for values in (x, y)]
        kept = [codes % MAX_LEFT_OUT != group for group in range(min(n_units, MAX_LEFT_OUT))]
        pairs = [[_ranks(values[keep]) for values in ranked] for keep in kept]
        left_out = np.array([np.corrcoef(pair)[0, 1] for pair in pairs])
        error = max(error, math.sqrt(jackknife_variance(_z(left_out), float(_z(r)))))
        effective = float(sizes.sum()) ** 2 / float((sizes.astype(float) ** 2).sum())
        t = t_quantile(LEVEL, max(0.75 * (effective - 1), 1.0))
    low, high = (math.tanh(float(_z(r)) + side * t * error) for side in (-1, 1))
    return Interval(low, high, unit, n_units, method="Student's t of Fisher's z")


def _z(r: np.ndarray | float) -> np.ndarray:
    return np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))


def _ranks(codes: np.ndarray) -> np.ndarray:
    """Ranks of whole numbers, equal ones sharing the mean of theirs: (n,) -> (n,)."""
    counts = np.bincount(codes)
    return (np.cumsum(counts) - (counts - 1) / 2)[codes]


def _groups(units: Units, here: np.ndarray) -> tuple[str, np.ndarray]:
    """What is resampled, and the speaker of each trial that a mask selects, as numbers from 0; 0 by trial."""
    if units.unit != "speaker" or units.codes is None:
        return "trial", np.zeros(int(here.sum()), np.int64)
    return "speaker", np.unique(units.codes[here], return_inverse=True)[1]
