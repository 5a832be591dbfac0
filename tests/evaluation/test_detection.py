"""Decisions, AUC, PAV and the convex hull against plain loops and scikit-learn, with ties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qamo import InputError
from qamo.evaluation import detection

scores = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=20).map(np.array)


@pytest.fixture(scope="module")
def isotonic():
    return pytest.importorskip("sklearn.isotonic")


@given(bonafide=scores, spoof=scores)
def test_the_area_is_the_share_of_pairs_in_order(bonafide, spoof):
    pairs = [(b > s) + (b == s) / 2 for b, s in itertools.product(bonafide, spoof)]
    assert detection.area_under_curve(bonafide, spoof) == pytest.approx(np.mean(pairs))


@given(bonafide=scores, spoof=scores)
def test_pav_is_scikit_learns_isotonic_regression(isotonic, bonafide, spoof):
    blocks = detection.pool(bonafide, spoof)
    labels = np.concatenate([np.ones(len(bonafide)), np.zeros(len(spoof))])
    values = np.concatenate([bonafide, spoof])
    wanted = isotonic.IsotonicRegression().fit(values, labels).predict(values)
    share = blocks.n_bonafide / (blocks.n_bonafide + blocks.n_spoof)
    got = share[np.searchsorted(blocks.lowest, values, side="right") - 1]
    np.testing.assert_allclose(got, wanted, atol=1e-12)
    assert (np.diff(share) > 0).all()


@given(bonafide=scores, spoof=scores)
def test_the_eer_on_the_hull_is_the_least_maximum_over_mixed_thresholds(bonafide, spoof):
    """Any two thresholds, drawn from by chance: the best that both rates can be at once."""
    thresholds = np.unique(np.concatenate([[-99.0], bonafide, spoof]))
    points = [(float((bonafide <= t).mean()), float((spoof > t).mean())) for t in thresholds]
    best = 1.0
    for (m1, f1), (m2, f2) in itertools.product(points, points):
        slope = (m2 - m1) - (f2 - f1)
        parts = [0.0, 1.0] + ([float(np.clip((f1 - m1) / slope, 0, 1))] if slope else [])
        best = min(best, *(max(m1 + w * (m2 - m1), f1 + w * (f2 - f1)) for w in parts))
    assert detection.rocch_eer(detection.pool(bonafide, spoof)) == pytest.approx(best, abs=1e-12)


@given(bonafide=scores, spoof=scores)
def test_no_monotonous_calibration_has_a_lower_cllr(bonafide, spoof):
    from eval_metrics import cllr_bits

    least = detection.min_cllr(detection.pool(bonafide, spoof))
    assert 0 <= least <= 1 + 1e-12
    for slope, offset in itertools.product((0.0, 0.1, 1.0, 5.0), (-2.0, 0.0, 1.0)):
        assert least <= cllr_bits(slope * bonafide + offset, slope * spoof + offset) + 1e-12


@given(bonafide=scores, spoof=scores, apcer=st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.5]))
def test_bpcer_is_the_least_with_no_attack_accepted_more_often(bonafide, spoof, apcer):
    attacks = np.array(["A1", "A2"])[np.arange(len(spoof)) % 2]
    thresholds = np.concatenate([[-99.0], spoof])
    allowed = [
        t for t in thresholds if all((spoof[attacks == a] > t).mean() <= apcer for a in np.unique(attacks).tolist())
    ]
    wanted = (bonafide <= min(allowed)).mean()
    assert detection.bpcer_at(bonafide, spoof, apcer, attacks) == pytest.approx(wanted)


def test_decisions_are_scikit_learns_and_the_worst_attack_is_named():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    bonafide, spoof = rng.normal(1, 1, 40), rng.normal(-1, 1, 100)
    attacks = np.where(np.arange(100) < 30, "A07", "A08")
    spoof[:30] += 1
    made = detection.decisions(bonafide, spoof, 0.2, attacks)
    labels = np.r_[np.ones(40, bool), np.zeros(100, bool)]
    said = np.r_[bonafide, spoof] > 0.2
    assert made.accuracy == metrics.accuracy_score(labels, said)
    assert made.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, said))
    assert made.f1_bonafide == pytest.approx(metrics.f1_score(labels, said))
    assert made.f1_spoof == pytest.approx(metrics.f1_score(~labels, ~said))
    assert (made.apcer, made.worst_attack) == ((spoof[:30] > 0.2).mean(), "A07")
    assert made.bpcer == (bonafide <= 0.2).mean()


def test_the_average_over_attacks_is_not_the_pooled_rate():
    bonafide = np.array([1.0, 2, 3, 4])
    spoof, attacks = np.array([0.0, 0, 0, 0, 0, 0, 5, 5]), np.array(["a"] * 6 + ["b"] * 2)
    assert detection.attack_average(bonafide, spoof, attacks) == 0.5
    assert detection.attack_average(bonafide, spoof, None) is None


def test_one_class_is_refused():
    for function in (detection.pool, detection.area_under_curve):
        with pytest.raises(InputError, match="no spoofed trials"):
            function(np.ones(3), np.zeros(0))
