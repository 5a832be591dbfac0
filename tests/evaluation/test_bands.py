"""Intervals of shares of trials and of correlations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from qamo.evaluation.bands import miss_band, rate_interval, spearman_interval, weighted_interval
from qamo.evaluation.breakdown import System
from qamo.evaluation.intervals import BY_TRIAL, Units


def speakers(rng: np.random.Generator, n: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of bona fide trials, half of whose variance lies between speakers, and the speaker of each."""
    codes = np.repeat(np.arange(n), each)
    return rng.normal(size=n * each) + rng.normal(size=n)[codes], codes


def test_by_trial_the_bounds_of_a_share_are_scipys():
    for k, n in ((0, 20), (3, 20), (20, 20), (7, 300)):
        exact = stats.binomtest(k, n).proportion_ci(method="exact")
        assert rate_interval(np.array([k]), np.array([n]), "trial")[:2] == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize("n", [5, 10, 40])
def test_by_speaker_the_band_of_the_miss_rate_holds_the_truth_and_is_not_narrower_than_by_trial(n):
    truth = np.array([0.02, 0.1, 0.5])
    thresholds = stats.norm.ppf(truth) * np.sqrt(2)
    held = np.zeros(3)
    for seed in range(200):
        scores, codes = speakers(np.random.default_rng(seed), n, 20)
        values, is_bonafide = np.append(scores, -9.0), np.append(np.ones(len(scores), bool), False)
        units = Units("speaker", np.append(codes, 0))
        band = miss_band(System("s", Path("s"), values, is_bonafide, units=units), thresholds)
        assert {interval.basis for interval in band} == {f"by speaker, {n} speakers"}
        alone = miss_band(System("s", Path("s"), values, is_bonafide), thresholds)
        for k, (wide, narrow) in enumerate(zip(band, alone)):
            assert wide.low <= narrow.low + 1e-12
            assert wide.high >= narrow.high - 1e-12
            held[k] += wide.low <= truth[k] <= wide.high
    assert (held / 200 >= 0.93).all()


def test_few_speakers_or_trials_have_no_interval_but_a_reason():
    found = rate_interval(np.array([1, 2, 0, 1]), np.array([9, 9, 9, 9]), "speaker")
    assert (found.low, found.basis) == (None, "too few speakers (4) for an interval")
    assert rate_interval(np.array([1]), np.array([4]), "trial").basis == "too few trials (4) for an interval"
    few = spearman_interval(np.arange(4.0), np.arange(4.0), BY_TRIAL, np.ones(4, bool))
    assert few.basis == "too few trials (4) for an interval"
    same = spearman_interval(np.ones(9), np.arange(9.0), BY_TRIAL, np.ones(9, bool))
    assert same.basis == "all values are equal"


def test_equal_weights_count_as_trials_do_and_unequal_ones_as_fewer():
    hits, here = np.arange(40) < 10, np.ones(40, bool)
    plain = rate_interval(np.array([10]), np.array([40]), "trial")
    assert weighted_interval(hits, np.full(40, 0.3), BY_TRIAL, here)[:2] == pytest.approx(plain[:2])
    uneven = weighted_interval(hits, np.where(hits, 3.0, 1.0), BY_TRIAL, here)
    assert uneven.n_units < 40


@pytest.mark.parametrize("n_speakers", [0, 10, 40, 130])
def test_the_interval_of_spearmans_correlation_holds_the_truth(n_speakers):
    """Of normal x and y whose correlation is .6; by speaker, half of the variance of both lies between speakers."""
    rng = np.random.default_rng(0)
    rho, held, wider = 0.6, 0, 0
    truth = 6 / np.pi * np.arcsin(rho / 2)
    n = 5 * n_speakers or 120
    codes = np.arange(n) % n_speakers if n_speakers else np.zeros(n, int)
    units = Units("speaker", codes) if n_speakers else BY_TRIAL
    for _ in range(200):
        x, z = rng.normal(size=(2, n))
        if n_speakers:
            x, z = (part + rng.normal(size=n_speakers)[codes] for part in (x, z))
        y = rho * x + np.sqrt(1 - rho**2) * z
        found = spearman_interval(x, y, units, np.ones(n, bool))
        held += found.low <= truth <= found.high
        alone = spearman_interval(x, y, BY_TRIAL, np.ones(n, bool))
        wider += found.low <= alone.low and found.high >= alone.high
    assert held / 200 >= 0.92
    assert wider == 200
