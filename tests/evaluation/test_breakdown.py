"""Breakdowns against plain counting, and against scipy where it has the same number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eval_metrics import equal_error_rate
from qamo import InputError
from qamo.evaluation import breakdown
from qamo.evaluation.breakdown import Factor, System
from qamo.evaluation.intervals import Units, difference_interval, eer_interval
from qamo.quality import agreement


def system(seed: int = 0, n: int = 400, gap: float = 1.5) -> System:
    rng = np.random.default_rng(seed)
    is_bonafide = rng.random(n) < 0.4
    return System("s", Path("s.txt"), rng.normal(size=n) + gap * is_bonafide, is_bonafide)


def test_an_attack_is_held_against_all_bona_fide_speech_and_a_codec_against_its_own():
    s = system()
    rng = np.random.default_rng(1)
    attack = np.where(s.is_bonafide, 0, rng.integers(1, 4, len(s.values)))
    codec = rng.integers(0, 2, len(s.values))
    by_attack = breakdown.by_factor(s, Factor("attack", ["-", "A1", "A2", "A3"], attack), n_resamples=50, seed=3)
    assert [level for level, _ in by_attack] == ["A1", "A2", "A3"]
    for code, (_, measured) in enumerate(by_attack, start=1):
        spoof = s.values[attack == code]
        assert measured.eer == equal_error_rate(s.bonafide, spoof).eer
        assert measured.interval[:2] == eer_interval(s.bonafide, spoof, n_resamples=50, seed=3)[:2]
        assert measured.false_alarm == (spoof > s.eer.threshold).mean()
        assert (measured.n_bonafide, measured.n_spoof) == (s.is_bonafide.sum(), len(spoof))
    for code, (_, measured) in enumerate(breakdown.by_factor(s, Factor("codec", ["a", "b"], codec))):
        bonafide = s.values[s.is_bonafide & (codec == code)]
        assert measured.eer == equal_error_rate(bonafide, s.values[~s.is_bonafide & (codec == code)]).eer
        assert measured.miss == (bonafide <= s.eer.threshold).mean()
        assert measured.interval.low is None
    rows, columns, cells = breakdown.by_two_factors(
        s, Factor("attack", ["-", "A1", "A2", "A3"], attack), Factor("codec", ["a", "b"], codec)
    )
    assert (rows, columns) == (["A1", "A2", "A3"], ["a", "b"])
    here = s.values[s.is_bonafide & (codec == 1)], s.values[(attack == 2) & (codec == 1)]
    assert cells[1][1].eer == equal_error_rate(*here).eer


def test_intervals_of_conditions_resample_the_units_of_the_system_and_abstain_where_they_are_few():
    s = system()
    codes = np.arange(len(s.values)) // 2 % 12
    by_speaker = System(s.label, s.path, s.values, s.is_bonafide, units=Units("speaker", codes))
    channel = Factor("channel", ["a", "b"], (codes < 3).astype(int))
    (_, many), (_, few) = breakdown.by_factor(by_speaker, channel, n_resamples=50)
    masks = s.is_bonafide & (codes >= 3), ~s.is_bonafide & (codes >= 3)
    groups = codes[masks[0]], codes[masks[1]]
    wanted = eer_interval(*(s.values[m] for m in masks), unit="speaker", groups=groups, n_resamples=50)
    assert many.interval[:2] == wanted[:2]
    assert few.interval[:2] == (None, None)  # three speakers
    assert few.interval.basis == "too few speakers (3) for an interval"
    assert few.eer is not None


def test_interval_and_difference_of_systems_go_by_their_units():
    s, codes = system(), np.arange(400) // 2 % 12
    a = System("a", s.path, s.values, s.is_bonafide, units=Units("speaker", codes[: len(s.values)]))
    worse = s.values + np.random.default_rng(1).normal(0, 2, len(s.values))
    b = System("b", s.path, worse, s.is_bonafide, units=a.units)
    groups = a.units.groups(s.is_bonafide, ~s.is_bonafide)
    assert breakdown.interval(a) == eer_interval(s.bonafide, s.spoof, unit="speaker", groups=groups)
    found = breakdown.difference(a, b)
    assert found == difference_interval(s.bonafide, s.spoof, b.bonafide, b.spoof, unit="speaker", groups=groups)
    assert found.value < 0
    assert (found.unit, found.n_units) == ("speaker", 12)


def test_a_level_without_one_class_has_no_eer_but_counts_and_the_rate_of_the_other():
    s = system()
    speaker = np.where(s.is_bonafide, 0, 1)
    speaker[:5] = 1
    level, measured = breakdown.by_factor(s, Factor("speaker", ["a", "b"], speaker))[0]
    assert level == "a"
    assert measured.n_spoof == 0
    assert measured.eer is None
    assert measured.false_alarm is None
    assert measured.miss is not None


def test_rates_at_the_pooled_threshold_are_those_of_a_given_one_where_it_is_given():
    s = system()
    other = System(s.label, s.path, s.values, s.is_bonafide, given_threshold=0.25)
    measured = breakdown.measure(other, s.is_bonafide, ~s.is_bonafide)
    assert measured.miss == (s.bonafide <= 0.25).mean()
    assert measured.false_alarm == (s.spoof > 0.25).mean()
    assert measured.eer == s.eer.eer


@settings(max_examples=60, deadline=None)
@given(
    bonafide=st.lists(st.integers(0, 60), min_size=1, max_size=25, unique=True),
    spoof=st.lists(st.integers(0, 60), min_size=1, max_size=25, unique=True),
)
def test_det_points_are_the_least_miss_rate_whose_false_alarm_rate_is_not_above_the_one_asked_for(bonafide, spoof):
    """Scores are distinct between the classes, so that counting needs no rule for ties."""
    positive, negative = np.array(bonafide) * 1.0, np.array(spoof) + 0.5
    values = np.concatenate([positive, negative])
    s = System("s", Path("s"), values, np.arange(len(values)) < len(positive))
    wanted = np.linspace(0, 1, 17)
    points = breakdown.det_points(s, wanted)
    for far, frr, threshold in zip(wanted, points.miss, points.thresholds):
        thresholds = [-1.0, *values]
        best = min((positive <= t).mean() for t in thresholds if (negative > t).mean() <= far)
        assert frr == best
        assert (positive <= threshold).mean() == best
        assert (negative > threshold).mean() <= far


@pytest.mark.parametrize("decimals", [0, 3])
def test_correlations_are_scipys_also_with_ties(decimals):
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=300), decimals)
    y = np.round(0.5 * x + rng.normal(size=300), decimals)
    found = agreement.correlation(x, y)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert np.array_equal(agreement.mean_ranks(x), stats.rankdata(x))


def test_a_correlation_with_a_constant_is_undefined():
    assert agreement.correlation(np.ones(9), np.arange(9.0)).spearman is None
    assert agreement.correlation(np.arange(3.0), np.arange(3.0)).pearson is None


def test_mos_bands_put_a_mos_at_an_edge_above_it():
    bands = breakdown.mos_bands(np.array([1.0, 2.5, 2.49, 4.0, 5.1]), [2.5, 4.0])
    assert bands.levels == ["below 2.5", "2.5 to 4", "4 and above"]
    assert bands.codes.tolist() == [0, 1, 0, 2, 2]
    with pytest.raises(InputError, match="increasing"):
        breakdown.mos_bands(np.ones(2), [3.0, 3.0])


def test_a_band_is_measured_by_its_own_trials_even_if_no_band_has_both_classes():
    s = system()
    bands = breakdown.mos_bands(np.where(s.is_bonafide, 4.0, 2.0), [3.0])
    low, high = (measured for _, measured in breakdown.mos_results(s, bands, n_resamples=10, seed=0))
    assert (low.n_bonafide, low.n_spoof) == (0, len(s.spoof))
    assert (high.n_bonafide, high.n_spoof) == (len(s.bonafide), 0)
    assert low.eer is None
    assert high.eer is None


def test_the_worst_errors_are_the_extremes_of_those_that_are_wrong():
    s = system()
    missed, accepted = breakdown.worst(s, 5)
    assert [m.score for m in missed] == sorted(s.bonafide)[:5]
    assert [m.score for m in accepted] == sorted(s.spoof)[:-6:-1]
    assert all(s.values[m.place] == m.score for m in [*missed, *accepted])
    assert all(m.score <= s.threshold for m in missed)
    perfect = System("p", Path("p"), s.is_bonafide * 2.0 + s.values * 1e-3, s.is_bonafide)
    assert len(breakdown.worst(perfect, 5)[1]) == 0


def test_histograms_count_every_trial_and_their_rates_are_those_of_a_threshold_at_the_edge():
    s = system()
    found = breakdown.histogram(s)
    assert found.bonafide.sum() == pytest.approx(1)
    assert found.spoof.sum() == pytest.approx(1)
    assert found.n_outside == 0
    for edge, frr, far in list(zip(found.edges, found.miss, found.false_alarm))[::7]:
        assert frr == pytest.approx((s.bonafide <= edge).mean())
        assert far == pytest.approx((s.spoof > edge).mean())


def test_an_outlier_does_not_squeeze_the_histogram_and_is_told():
    s = system(n=4000)
    values = s.values.copy()
    values[0] = 1e6
    found = breakdown.histogram(System("o", Path("o"), values, s.is_bonafide))
    assert found.edges[-1] < 20
    assert found.n_outside > 0
    assert found.bonafide.sum() + found.spoof.sum() == pytest.approx(2)


def test_equal_scores_still_have_a_histogram():
    s = System("c", Path("c"), np.zeros(10), np.arange(10) < 5)
    assert breakdown.histogram(s).bonafide.sum() == 1


def test_the_trials_of_one_speaker_have_an_interval_by_trial_and_conditions_one_by_speaker():
    codes = np.random.default_rng(0).integers(0, 12, 400)
    s = replace(system(), units=Units("speaker", codes))
    by_speaker = Factor("speaker", [f"s{i}" for i in range(12)], codes)
    for level, measured in breakdown.by_factor(s, by_speaker, n_resamples=50):
        own = codes == by_speaker.levels.index(level)
        alone = eer_interval(s.values[own & s.is_bonafide], s.values[own & ~s.is_bonafide], n_resamples=50)
        assert measured.interval[:2] == alone[:2]
    halves = Factor("half", ["a", "b"], (codes < 4).astype(int))  # b holds four speakers
    measured = [each for _, each in breakdown.by_factor(s, halves, n_resamples=50)]
    assert measured[0].interval.low is not None
    assert measured[1].interval[:2] == (None, None)


def test_the_trend_is_of_bins_that_hold_enough():
    mos = np.repeat([1.1, 2.1, 3.1], [20, 5, 30])
    scores = np.arange(55.0)
    found = breakdown.trend(mos, scores, np.array([1.0, 2.0, 3.0, 4.0]))
    assert found.counts.tolist() == [20, 5, 30]
    assert found.percentiles[1, 0] == np.median(scores[:20])
    assert np.isnan(found.percentiles[:, 1]).all()
