"""Intervals, tests and their units: against independent references, invariants, and a small simulation of coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eval_metrics import equal_error_rate
from qamo import InputError
from qamo.evaluation import intervals, quantiles
from qamo.evaluation.intervals import clopper_pearson, difference_interval, eer_interval, holm, units_of
from qamo.evaluation.resampling import MAX_LEFT_OUT, Sorted, left_out_eers
from qamo.trials.tables import Columns


def speakers(rng, n_speakers, n_each, deviation=1.0, gap=2.0):
    """Scores with an offset of each speaker, shared by both classes: bona fide, spoof, speaker of each."""
    codes = np.repeat(np.arange(n_speakers), n_each)
    offset = rng.normal(0, deviation, n_speakers)[codes]
    n = len(codes)
    return gap / 2 + offset + rng.normal(size=n), -gap / 2 + offset + rng.normal(size=n), (codes, codes)


@settings(max_examples=200, deadline=None)
@given(a=st.floats(0.05, 5e4), b=st.floats(0.05, 5e4), p=st.floats(1e-4, 1 - 1e-4))
def test_beta_quantiles_are_scipys(a, b, p):
    x = quantiles.beta_quantile(p, a, b)
    assert x == pytest.approx(stats.beta.ppf(p, a, b), rel=1e-7, abs=1e-12)
    assert quantiles.beta_cdf(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), abs=1e-9)


@pytest.mark.parametrize("df", [0.5, 1, 2.3, 10, 1e3, 1e5])
def test_quantiles_and_tails_of_t_are_scipys(df):
    for level in (0.5, 0.95, 0.999):
        assert quantiles.t_quantile(level, df) == pytest.approx(stats.t.ppf((1 + level) / 2, df), rel=1e-7)
    assert quantiles.t_tails(2.2, df) == pytest.approx(2 * stats.t.sf(2.2, df), rel=1e-7)


@pytest.mark.parametrize(("errors", "n"), [(0, 20), (3, 20), (20, 20), (7, 1000)])
def test_bounds_of_whole_numbers_are_those_of_clopper_and_pearson(errors, n):
    wanted = stats.binomtest(errors, n).proportion_ci(0.95, "exact")
    assert clopper_pearson(errors / n, n, n) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def test_twenty_and_twenty_trials_without_an_error_have_the_exact_bound_of_twenty():
    interval = eer_interval(np.arange(20) + 100.0, np.arange(20.0))
    assert interval.low == 0.0
    assert interval.high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert (interval.unit, interval.n_units, interval.reason) == ("trial", 40, "")
    assert interval.basis == "by trial, 40 trials"


def test_the_jackknife_is_that_of_the_plain_loop():
    rng = np.random.default_rng(0)
    bonafide, spoof, (codes, _) = speakers(rng, 9, 13)
    bonafide, spoof = bonafide.round(1), spoof.round(1)  # with ties
    left_out = left_out_eers(Sorted.of(bonafide, spoof), np.concatenate([codes, codes]), 9)
    plain = [equal_error_rate(bonafide[codes != k], spoof[codes != k]).eer for k in range(9)]
    np.testing.assert_allclose(left_out, plain, rtol=0, atol=1e-12)


def test_of_many_groups_several_are_left_out_at_a_time_and_trials_in_no_group_stay():
    rng = np.random.default_rng(0)
    bonafide, spoof, (codes, _) = speakers(rng, 250, 3)
    left_out = left_out_eers(Sorted.of(bonafide, spoof), np.concatenate([np.full(len(codes), 250), codes]), 250)
    assert len(left_out) == MAX_LEFT_OUT
    assert left_out[7] == pytest.approx(equal_error_rate(bonafide, spoof[codes % 100 != 7]).eer, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n_speakers=st.integers(5, 12), n_each=st.integers(1, 9), gap=st.floats(0.5, 8))
def test_no_interval_by_speaker_or_attack_is_narrower_than_by_trial(seed, n_speakers, n_each, gap):
    bonafide, spoof, groups = speakers(np.random.default_rng(seed), n_speakers, n_each, gap=gap)
    by_trial = eer_interval(bonafide, spoof, n_resamples=100)
    eer = equal_error_rate(bonafide, spoof).eer
    assert by_trial.low <= eer <= by_trial.high
    for unit in ("speaker", "attack"):
        interval = eer_interval(bonafide, spoof, unit=unit, groups=groups, n_resamples=100)
        assert interval.low <= by_trial.low + 1e-12
        assert interval.high >= by_trial.high - 1e-12
        assert interval.n_units == n_speakers


def test_a_difference_by_speaker_is_never_narrower_than_by_trial_and_p_agrees_with_the_interval():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        bonafide, spoof, groups = speakers(rng, 8, 12)
        other = bonafide + rng.normal(0, 1.5, len(bonafide)), spoof + rng.normal(0, 1.5, len(spoof))
        by_trial = difference_interval(bonafide, spoof, *other, n_resamples=200)
        for unit in ("speaker", "attack"):
            found = difference_interval(bonafide, spoof, *other, unit=unit, groups=groups, n_resamples=200)
            assert found.value == equal_error_rate(bonafide, spoof).eer - equal_error_rate(*other).eer
            assert found.high - found.low >= by_trial.high - by_trial.low - 1e-12
            assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_systems_without_an_error_differ_by_nothing_but_not_certainly():
    rng = np.random.default_rng(0)
    a, b = (rng.permutation(20) + 100.0, rng.permutation(20) * 1.0), (np.arange(20) + 100.0, np.arange(20.0))
    found = difference_interval(*a, *b)
    assert (found.value, found.p) == (0.0, 1.0)
    assert 0.05 < found.high < 0.2
    assert found.low == -found.high


def test_too_few_groups_give_a_word_in_place_of_an_interval():
    bonafide, spoof, groups = speakers(np.random.default_rng(0), 3, 20)
    interval = eer_interval(bonafide, spoof, unit="speaker", groups=groups)
    assert (interval.low, interval.high, interval.percent()) == (None, None, "-")
    assert interval.basis == "too few speakers (3) for an interval"
    found = difference_interval(bonafide, spoof, bonafide, spoof, unit="attack", groups=groups)
    assert (found.value, found.low, found.p) == (0.0, None, None)
    assert found.reason == "too few attacks (3) for an interval"


def test_groups_that_are_not_one_a_trial_are_refused():
    bonafide, spoof, groups = speakers(np.random.default_rng(0), 6, 2)
    for wrong in (None, (groups[0][1:], groups[1])):
        with pytest.raises(InputError, match=r"a group for each of 12 \+ 12 trials"):
            eer_interval(bonafide, spoof, unit="speaker", groups=wrong)
    with pytest.raises(InputError, match="no bona fide trials"):
        eer_interval(bonafide[:0], spoof)
    with pytest.raises(InputError, match="needs the same trials"):
        difference_interval(bonafide, spoof, bonafide[:9], spoof)


def test_speakers_are_the_unit_where_each_class_has_five_and_else_trials():
    is_bonafide = np.arange(60) % 2 == 0

    def columns(n):
        names = np.array([f"S{i // 2 % n}".encode() for i in range(60)])
        return Columns({"speaker": names, "attack": np.array([f"A{i % 3}".encode() for i in range(60)])})

    units = units_of(columns(5), is_bonafide)
    assert (units.unit, units.note) == ("speaker", "")
    bonafide, spoof = units.groups(is_bonafide, ~is_bonafide)
    assert len(bonafide) == len(spoof) == 30
    few = units_of(columns(4), is_bonafide)
    assert (few.unit, few.codes, few.note) == ("trial", None, "too few speakers (4) for an interval by speaker")
    assert units_of(columns(1), is_bonafide) == units_of(Columns({}), is_bonafide) == intervals.BY_TRIAL
    assert units_of(columns(2), is_bonafide, "speaker").unit == "speaker"  # as asked for; the interval then abstains
    assert units_of(columns(5), is_bonafide, "trial") == intervals.BY_TRIAL
    assert units_of(columns(5), is_bonafide, "attack").unit == "attack"
    with pytest.raises(InputError, match=r"--unit attack: k\.csv has no column 'attack'; it has none"):
        units_of(Columns({}), is_bonafide, "attack", path="k.csv")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_step_down_bonferroni(p):
    adjusted = holm(p)
    for i, mine in enumerate(p):  # the least level at which all hypotheses up to this one are rejected
        before = [other for j, other in enumerate(p) if (other, j) <= (mine, i)]
        steps = [(len(p) - rank) * value for rank, value in enumerate(sorted(before))]
        assert adjusted[i] == pytest.approx(min(1.0, max(steps)))
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_intervals_hold_the_true_eer_of_few_trials_and_of_few_speakers():
    def rate(eer, draw, repeats=150):
        hits = 0
        for seed in range(repeats):
            interval = draw(np.random.default_rng(seed), -stats.norm.ppf(eer))
            hits += interval.low <= eer <= interval.high
        return hits / repeats

    def by_trial(rng, shift):
        return eer_interval(rng.normal(shift, 1, 20), rng.normal(-shift, 1, 20), n_resamples=200)

    def by_speaker(rng, shift):
        bonafide, spoof, groups = speakers(rng, 6, 20, gap=2 * shift * math.sqrt(2))
        return eer_interval(bonafide, spoof, unit="speaker", groups=groups, n_resamples=200)

    assert min(rate(eer, by_trial) for eer in (0.01, 0.1, 0.3)) >= 0.93
    assert min(rate(eer, by_speaker) for eer in (0.05, 0.2)) >= 0.93
