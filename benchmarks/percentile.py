"""The percentile bootstrap, by trial or by speaker: too narrow for few speakers and few errors.

What `benchmarks/coverage.py` measures beside the intervals that replaced it, `qamo/evaluation/intervals.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qamo.evaluation.resampling import Sorted, resampled_differences, resampled_eers


class Interval(NamedTuple):
    low: float
    high: float


class Difference(NamedTuple):
    """EER of system a minus EER of system b."""

    value: float
    low: float
    high: float
    p: float  # two-sided bootstrap p-value of "no difference", at least 2 / (resamples + 1)


def bootstrap_eer(
    bonafide: np.ndarray,
    spoof: np.ndarray,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    groups: tuple[np.ndarray, np.ndarray] | None = None,
) -> Interval:
    """Percentile bootstrap interval of the EER.

    Args:
        groups: the speaker of each bona fide and of each spoofed trial, (Nb,) and (Ns,). With it whole speakers are
            drawn, since the trials of a speaker are not independent; without it trials are drawn, within each class.

    Raises:
        InputError: one class is empty, a score is NaN, or fewer than two speakers have trials of a class.
    """
    eers = resampled_eers(Sorted.of(bonafide, spoof), n_resamples=n_resamples, seed=seed, groups=groups)
    return _percentiles(eers, level)


def bootstrap_difference(
    bonafide_a: np.ndarray,
    spoof_a: np.ndarray,
    bonafide_b: np.ndarray,
    spoof_b: np.ndarray,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    groups: tuple[np.ndarray, np.ndarray] | None = None,
) -> Difference:
    """Paired bootstrap of the difference between two systems scored on the same trials, in the same order.

    Each resample draws the same trials (or speakers) for both systems, so what is hard or easy for both cancels.

    Raises:
        InputError: the systems have different numbers of trials, or as `bootstrap_eer`.
    """
    a, b = Sorted.of(bonafide_a, spoof_a), Sorted.of(bonafide_b, spoof_b)
    differences = resampled_differences(a, b, n_resamples=n_resamples, seed=seed, groups=groups)
    tail = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    p = min(1.0, 2 * (tail + 1) / (n_resamples + 1))
    return Difference(a.eer - b.eer, *_percentiles(differences, level), p)


def _percentiles(values: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
