"""Calibration: against scikit-learn, against the ratio that is known, and what must not change it."""

from __future__ import annotations

import json
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval_metrics import cllr_bits
from qamo import InputError
from qamo.evaluation import calibration, detection
from qamo.evaluation.calibration import Calibration, fit
from qamo.evaluation.regression import fit_llr
from qamo.trials.scores import read_scores


def gaussian_scores(n_bonafide=400, n_spoof=900, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(1, 1, n_bonafide), rng.normal(-1, 1, n_spoof)


def made(slope=3.0, offset=-0.6, n=9):
    return Calibration(slope, offset, eer=0.1, eer_threshold=0.2, n_bonafide=n, n_spoof=n, weights="w")


@pytest.mark.parametrize(("n_bonafide", "n_spoof"), [(400, 900), (30, 4000), (3, 5)])
def test_the_fit_is_that_of_scikit_learn(n_bonafide, n_spoof):
    from sklearn.linear_model import LogisticRegression

    bonafide, spoof = gaussian_scores(n_bonafide, n_spoof)
    scores = np.concatenate([bonafide, spoof])
    target = np.arange(len(scores)) < n_bonafide
    weight = np.where(target, 0.5 / n_bonafide, 0.5 / n_spoof)
    spread = np.sqrt(weight @ (scores - weight @ scores) ** 2)
    theirs = LogisticRegression(C=min(n_bonafide, n_spoof) / 0.01, tol=1e-12, max_iter=10_000)
    theirs.fit(scores[:, None] / spread, target, sample_weight=weight)
    slope, offset = fit(bonafide, spoof)
    assert slope == pytest.approx(theirs.coef_[0, 0] / spread, rel=1e-3)
    assert offset == pytest.approx(theirs.intercept_[0], abs=1e-3 * (1 + abs(offset)))


@pytest.mark.parametrize("n_spoof", [10, 100, 10_000])
def test_the_numbers_of_the_classes_do_not_move_the_offset(n_spoof):
    """Scores of d' = 10, without an error: smoothed targets of Platt's kind move the offset with the counts."""
    quantiles = (np.arange(200) + 0.5) / 200
    shape = np.array([NormalDist().inv_cdf(q) for q in quantiles])
    spoof = -5 + np.resize(shape, n_spoof) if n_spoof >= 200 else -5 + shape[:: 200 // n_spoof]
    slope, offset = fit(5 + shape, spoof)
    assert abs(offset) < 0.2 * slope  # even odds are where the middle between the classes is, to 0.2 of 10


def test_a_calibrated_score_costs_little_more_than_the_best_monotonous_calibration():
    dev, evaluation = gaussian_scores(500, 900, seed=1), gaussian_scores(2000, 3000, seed=2)
    slope, offset = fit(*dev)
    actual = cllr_bits(slope * evaluation[0] + offset, slope * evaluation[1] + offset)
    least = detection.min_cllr(detection.pool(*evaluation))
    assert least < actual < 1.05 * least + 0.005


def test_two_systems_are_fused_as_scikit_learn_does():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(5)
    labels = np.arange(600) < 200
    scores = rng.normal(size=(600, 2)) + np.where(labels, 1.0, -1.0)[:, None] * [1.0, 0.5]
    weights, offset = fit_llr(scores, labels)
    weight = np.where(labels, 0.5 / 200, 0.5 / 400)
    spread = np.sqrt(weight @ (scores - weight @ scores) ** 2)
    theirs = LogisticRegression(C=200 / 0.01, tol=1e-12, max_iter=10_000)
    theirs.fit(scores / spread, labels, sample_weight=weight)
    np.testing.assert_allclose(weights, theirs.coef_[0] / spread, rtol=1e-3)
    assert offset == pytest.approx(theirs.intercept_[0], abs=2e-3)


def test_of_two_unit_gaussians_the_known_ratio_comes_out():
    slope, offset = fit(*gaussian_scores(20_000, 50_000))
    assert slope == pytest.approx(2, abs=0.05)  # log N(s; 1, 1) / N(s; -1, 1) = 2 s
    assert offset == pytest.approx(0, abs=0.05)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 1e3), st.floats(-100, 100))
def test_the_ratio_does_not_depend_on_the_scale_of_the_scores(scale, shift):
    bonafide, spoof = gaussian_scores(60, 80)
    slope, offset = fit(bonafide, spoof)
    scaled_slope, scaled_offset = fit(scale * bonafide + shift, scale * spoof + shift)
    assert scaled_slope * (scale * 0.7 + shift) + scaled_offset == pytest.approx(slope * 0.7 + offset, abs=1e-4)


def test_scores_without_an_error_get_a_finite_slope():
    slope, offset = fit(np.full(50, 0.9), np.full(50, -0.9))
    assert 0 < slope < 10
    assert offset == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("bonafide", "spoof", "said"),
    [
        ([-1.0, -2.0], [1.0, 2.0], "inverted"),
        ([1.0, 1.0], [1.0, 1.0], "do not tell them apart"),
        ([], [1.0], "one kind only"),
        ([np.nan], [1.0], "finite"),
    ],
)
def test_scores_that_cannot_be_calibrated_are_refused(bonafide, spoof, said):
    with pytest.raises(InputError, match=said):
        fit(np.array(bonafide), np.array(spoof))


@given(st.floats(0.01, 0.99), st.floats(0.5, 0.999))
def test_threshold_band_and_probability_agree(prior, confidence):
    known = made(n=10**7)
    assert known.probability(known.threshold(prior), prior) == pytest.approx(0.5)
    low, high = known.band(confidence, prior)
    assert known.probability(high, prior) == pytest.approx(confidence)
    assert known.probability(low, prior) == pytest.approx(1 - confidence)


@given(st.floats(0.01, 0.99), st.floats(0.5, 0.999), st.floats(-3, 3), st.integers(1, 200))
def test_a_verdict_never_contradicts_its_probability_however_few_the_scores(prior, confidence, score, n):
    known = made(n=n)
    said = calibration.verdict(score, *known.band(confidence, prior))
    probability = known.probability(score, prior)
    if said == "bona fide":
        assert probability >= confidence - 1e-9
    elif said == "spoof":
        assert 1 - probability >= confidence - 1e-9
    else:
        assert max(probability, 1 - probability) <= confidence + 1e-9


def test_few_scores_support_a_small_ratio():
    assert made(n=20).llr(100.0) == pytest.approx(3.04, abs=0.01)
    assert made(n=20).llr(-100.0) == pytest.approx(-3.04, abs=0.01)
    lopsided = Calibration(3.0, -0.6, eer=0.1, eer_threshold=0.2, n_bonafide=9, n_spoof=999, weights="w")
    assert lopsided.llr(100.0) == pytest.approx(np.log(1000))  # that no spoofed one of 999 reaches it
    assert lopsided.llr(-100.0) == pytest.approx(-np.log(10))
    assert made(n=20).llr(0.5) == pytest.approx(3 * 0.5 - 0.6)  # within the bounds it is the regression's
    assert made(n=20).band(0.99) == (-np.inf, np.inf)  # 20 scores of a class give 95 % at most


def test_a_score_far_out_has_a_probability_and_no_overflow():
    assert made(slope=1e4, n=10**300).probability(1.0) == 1.0
    assert made(slope=1e4, n=9).probability(1.0) == pytest.approx(10 / 11)
    assert made(slope=1e4, n=9).probability(-1.0) == pytest.approx(1 / 11)


def test_verdicts_at_the_edges():
    said = [calibration.verdict(score, 0.1, 0.2) for score in (0.05, 0.1, 0.15, 0.2, 0.3)]
    assert said == ["spoof", "uncertain", "uncertain", "bona fide", "bona fide"]
    assert calibration.verdict(0.1, 0.1, 0.1) == "bona fide"  # without a band


def test_a_calibration_reads_back_equal(tmp_path):
    calibration.write(tmp_path / "c.json", made())
    assert calibration.read(tmp_path / "c.json") == made()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other"}, "expected a calibration"),
        ({"slope": -1.0}, "slope above 0"),
        ({"offset": None}, "must be finite"),
        ({"n_spoof": 0}, "n_bonafide and n_spoof, above 0"),
        ({"n_bonafide": "many"}, "n_bonafide and n_spoof, above 0"),
        ({"new": 1}, "not a calibration of this version"),
    ],
)
def test_a_damaged_calibration_is_refused(tmp_path, change, said):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(calibration.to_dict(made()) | change))
    with pytest.raises(InputError, match=said):
        calibration.read(path)


def test_a_run_calibrates_its_own_model_on_its_dev_scores(trained_run):
    from model import load_detector
    from qamo.inference.scorer_torch import digest_of

    known = calibration.read(trained_run / "calibration.json")
    assert known.weights == digest_of(load_detector(trained_run))
    assert (known.n_bonafide, known.n_spoof) == (4, 8)
    assert len(read_scores(trained_run / "scores" / "dev.txt")) == 12
    assert known.domain["bandwidth_hz_low"] == 8000
    assert known.domain["n_measured"] == 12
    assert known.domain["mos_low"] == pytest.approx(2.0, abs=0.05)


def test_what_travels_names_no_folder_of_this_machine(trained_run):
    assert str(trained_run.parent) not in json.dumps(
        calibration.to_dict(calibration.read(trained_run / "calibration.json").portable())
    )
