"""Resampling: the shortcuts must have the distribution of a plain bootstrap."""

import math
import time
import tracemalloc

import numpy as np
import pytest
from scipy.stats import ks_2samp

from benchmarks.percentile import bootstrap_difference, bootstrap_eer
from eval_metrics import equal_error_rate
from qamo import InputError
from qamo.evaluation import resampling
from qamo.evaluation.intervals import difference_interval, eer_interval
from qamo.evaluation.resampling import Sorted, resampled_differences, resampled_eers


def plain_bootstrap(bonafide, spoof, n_resamples, seed):
    rng = np.random.default_rng(seed)
    return [
        equal_error_rate(rng.choice(bonafide, len(bonafide)), rng.choice(spoof, len(spoof))).eer
        for _ in range(n_resamples)
    ]


def plain_speaker_bootstrap(bonafide, spoof, speakers, n_resamples, seed):
    rng = np.random.default_rng(seed)
    everyone = np.unique(np.concatenate(speakers))
    eers = []
    while len(eers) < n_resamples:
        drawn = rng.choice(everyone, len(everyone))
        here_bonafide = np.concatenate([bonafide[speakers[0] == speaker] for speaker in drawn])
        here_spoof = np.concatenate([spoof[speakers[1] == speaker] for speaker in drawn])
        if len(here_bonafide) and len(here_spoof):
            eers.append(equal_error_rate(here_bonafide, here_spoof).eer)
    return eers


def assert_same_distribution(a, b):
    # Rounded, since equal rates may come out one bit apart.
    assert ks_2samp(np.round(a, 9), np.round(b, 9)).pvalue > 0.001


def simulated(n_bonafide, n_spoof, seed, digits=None):
    rng = np.random.default_rng(seed)
    bonafide, spoof = rng.normal(1, 1, n_bonafide), rng.normal(-1, 1, n_spoof)
    return (bonafide, spoof) if digits is None else (bonafide.round(digits), spoof.round(digits))


@pytest.mark.parametrize(
    ("n_bonafide", "n_spoof", "digits"),
    [(37, 90, None), (90, 37, 1), (5, 4, None), (120, 80, 0), (1, 7, None), (1, 1, 0)],
)
def test_halving_the_trials_gives_the_distribution_of_drawing_them_all(n_bonafide, n_spoof, digits):
    bonafide, spoof = simulated(n_bonafide, n_spoof, seed=n_bonafide, digits=digits)
    plain = plain_bootstrap(bonafide, spoof, 2000, seed=1)
    assert_same_distribution(plain, resampled_eers(Sorted.of(bonafide, spoof), n_resamples=2000, seed=2))


@pytest.mark.parametrize("digits", [None, 0])
def test_the_bootstrap_by_speaker_is_that_of_the_plain_loop(digits):
    bonafide, spoof = simulated(700, 400, seed=5, digits=digits)  # several blocks of trials
    rng = np.random.default_rng(6)
    speakers = rng.integers(0, 9, 700), rng.integers(3, 12, 400)  # some have trials of one class only
    plain = plain_speaker_bootstrap(bonafide, spoof, speakers, 800, seed=1)
    assert_same_distribution(
        plain, resampled_eers(Sorted.of(bonafide, spoof), n_resamples=800, seed=2, groups=speakers)
    )


def plain_paired_bootstrap(bonafide, spoof, other_bonafide, other_spoof, n_resamples, seed):
    rng = np.random.default_rng(seed)
    differences = []
    for _ in range(n_resamples):
        b, s = rng.integers(len(bonafide), size=len(bonafide)), rng.integers(len(spoof), size=len(spoof))
        mine, others = equal_error_rate(bonafide[b], spoof[s]), equal_error_rate(other_bonafide[b], other_spoof[s])
        differences.append(mine.eer - others.eer)
    return np.array(differences)


@pytest.mark.parametrize("digits", [None, 1, 0])
@pytest.mark.parametrize("sizes", [(60, 50), (2000, 3000)])  # all trials are near a crossing, or few are
@pytest.mark.parametrize("narrow", [False, True])
def test_the_paired_bootstrap_is_that_of_the_plain_loop(sizes, digits, narrow, monkeypatch):
    bonafide, spoof = simulated(*sizes, seed=7)
    rng = np.random.default_rng(8)
    other_bonafide, other_spoof = bonafide + rng.normal(0, 0.7, sizes[0]), spoof + rng.normal(0, 0.7, sizes[1])
    systems = bonafide, spoof, other_bonafide, other_spoof
    if digits is not None:
        systems = tuple(scores.round(digits) for scores in systems)
    if narrow:  # a window so small that resamples cross outside it: it must be widened, not believed
        crossings = resampling._draw_crossings
        monkeypatch.setattr(resampling, "_draw_crossings", lambda trials, n, rng: crossings(trials, 1, rng))
    two = Sorted.of(*systems[:2]), Sorted.of(*systems[2:])
    plain = plain_paired_bootstrap(*systems, n_resamples=1000, seed=1)
    assert_same_distribution(plain, resampled_differences(*two, n_resamples=1000, seed=2))


def test_the_paired_bootstrap_by_speaker_draws_the_same_speakers_for_both():
    bonafide, spoof = simulated(300, 400, seed=1)
    speakers = np.arange(300) % 11, np.arange(400) % 11
    other = bonafide + np.random.default_rng(2).normal(0, 1, 300), spoof
    differences = resampled_differences(
        Sorted.of(bonafide, spoof), Sorted.of(*other), n_resamples=300, seed=3, groups=speakers
    )
    mine = resampled_eers(Sorted.of(bonafide, spoof), n_resamples=300, seed=3, groups=speakers)
    others = resampled_eers(
        Sorted.of(*other), n_resamples=300, seed=3, groups=speakers
    )  # the seed draws the same speakers
    np.testing.assert_array_equal(differences, mine - others)


def test_a_system_does_not_differ_from_itself_by_trial_or_by_speaker():
    bonafide, spoof = simulated(50, 50, seed=0)
    speakers = np.arange(50) % 5, np.arange(50) % 5
    for groups in (None, speakers):
        got = bootstrap_difference(bonafide, spoof, 3 * bonafide + 1, 3 * spoof + 1, n_resamples=200, groups=groups)
        assert got == (0.0, 0.0, 0.0, 1.0)


def test_a_clearly_better_system_has_a_small_p_and_an_interval_below_zero():
    rng = np.random.default_rng(1)
    bonafide, spoof = rng.normal(2, 1, 400), rng.normal(-2, 1, 400)
    worse = bonafide + rng.normal(0, 3, 400), spoof + rng.normal(0, 3, 400)
    for groups in (None, (np.arange(400) % 20, np.arange(400) % 20)):
        got = bootstrap_difference(bonafide, spoof, *worse, n_resamples=999, groups=groups)
        assert got.high < 0
        assert got.p == pytest.approx(2 / 1000)


def test_intervals_cover_the_true_rate_as_often_as_they_say():
    true_eer = 0.5 * math.erfc(1 / math.sqrt(2))  # of N(1, 1) against N(-1, 1)
    hits = 0
    for seed in range(300):
        interval = bootstrap_eer(*simulated(300, 300, seed), n_resamples=300, seed=seed)
        hits += interval.low <= true_eer <= interval.high
    assert 0.90 <= hits / 300 <= 0.985


def test_only_intervals_by_speaker_cover_when_the_trials_of_a_speaker_are_alike():
    true_eer = 0.5 * math.erfc(1 / math.sqrt(5) / math.sqrt(2))  # the offset of a speaker makes the variance 5
    hits = {"speaker": 0, "trial": 0}
    speakers = np.repeat(np.arange(60), 20)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        offset = rng.normal(0, 2, 60)[speakers]
        bonafide, spoof = rng.normal(1, 1, 1200) + offset, rng.normal(-1, 1, 1200) + offset
        for unit, groups in (("speaker", (speakers, speakers)), ("trial", None)):
            interval = bootstrap_eer(bonafide, spoof, n_resamples=200, seed=seed, groups=groups)
            hits[unit] += interval.low <= true_eer <= interval.high
    assert hits["speaker"] >= 88
    assert hits["trial"] <= 84


def test_a_seed_gives_the_same_interval_and_a_level_a_wider_one():
    bonafide, spoof = simulated(200, 200, seed=0)
    assert bootstrap_eer(bonafide, spoof, seed=4) == bootstrap_eer(bonafide, spoof, seed=4)
    assert bootstrap_eer(bonafide, spoof, seed=4) != bootstrap_eer(bonafide, spoof, seed=5)
    narrow, wide = bootstrap_eer(bonafide, spoof, level=0.5), bootstrap_eer(bonafide, spoof, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_the_df_evaluation_set_takes_seconds_and_little_memory():
    rng = np.random.default_rng(0)
    bonafide, spoof = rng.normal(2, 1, 14_869), rng.normal(-2, 1, 519_059)
    speakers = rng.integers(0, 93, len(bonafide)), rng.integers(0, 93, len(spoof))
    tracemalloc.start()
    start = time.process_time()  # not the clock: other processes may keep this one waiting
    by_trial = eer_interval(bonafide, spoof)
    by_speaker = eer_interval(bonafide, spoof, unit="speaker", groups=speakers)
    other = bonafide + rng.normal(0, 1, len(bonafide)), spoof + rng.normal(0, 1, len(spoof))
    difference = difference_interval(bonafide, spoof, *other)
    seconds = time.process_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 20
    assert peak < 400e6
    for interval in (by_trial, by_speaker):
        assert interval.low < equal_error_rate(bonafide, spoof).eer < interval.high
    assert difference.low < difference.value < difference.high < 0


def test_what_cannot_be_resampled_is_refused():
    bonafide, spoof = simulated(10, 10, seed=0)
    with pytest.raises(InputError, match="all spoofed trials are of one speaker"):
        bootstrap_eer(bonafide, spoof, groups=(np.arange(10), np.zeros(10)))
    with pytest.raises(InputError, match=r"a group for each of 10 \+ 10 trials"):
        bootstrap_eer(bonafide, spoof, groups=(np.arange(9), np.arange(10)))
    with pytest.raises(InputError, match="needs the same trials"):
        bootstrap_difference(bonafide, spoof, bonafide[:9], spoof)
    with pytest.raises(InputError, match="no bona fide trials"):
        bootstrap_eer(bonafide[:0], spoof)
