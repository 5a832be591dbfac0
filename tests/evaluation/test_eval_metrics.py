"""Error rates: against the official packages' goldens, against plain loops, and by their invariants."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval_metrics import (
    ASVErrors,
    Costs,
    TDCFCoefficients,
    actual_dcf,
    asv_errors,
    cllr_bits,
    det_curve,
    eer_of_det,
    equal_error_rate,
    legacy_tdcf_coefficients,
    min_dcf,
    min_tdcf,
    score_warnings,
    tdcf_coefficients,
    tdcf_of_det,
)
from qamo import InputError
from qamo.evaluation.sasv import ASVSPOOF5_ASV, min_adcf, tandem_eer

GOLDENS = Path(__file__).parents[2].parent / "shared" / "goldens" / "eval_package"
needs_goldens = pytest.mark.skipif(not GOLDENS.is_dir(), reason="the goldens of the official packages are not here")


def floats(texts):
    return np.array([float(text) for text in texts])


def eer_by_loop(bonafide, spoof):
    """The definition read literally: walk through the sorted trials, one threshold after another."""
    trials = sorted([(score, 0) for score in bonafide] + [(score, 1) for score in spoof])
    rejected_bonafide, rejected_spoof = 0, 0
    frr, far = [0.0], [1.0]
    for _, is_spoof in trials:
        rejected_spoof += is_spoof
        rejected_bonafide += 1 - is_spoof
        frr.append(rejected_bonafide / len(bonafide))
        far.append((len(spoof) - rejected_spoof) / len(spoof))
    best = min(range(len(frr)), key=lambda i: abs(frr[i] - far[i]))
    return (frr[best] + far[best]) / 2


# Against the official packages


def metric_cases():
    return (
        json.loads((GOLDENS / "metrics" / "cases.json").read_text()) if GOLDENS.is_dir() else {"cases": [], "asv": []}
    )


@needs_goldens
@pytest.mark.parametrize("case", metric_cases()["cases"], ids=lambda case: case["name"])
def test_curves_and_costs_equal_the_official_ones_bit_for_bit(case):
    golden = metric_cases()
    bonafide, spoof = floats(case["bona"]).astype(case["dtype"]), floats(case["spoof"]).astype(case["dtype"])
    det = det_curve(bonafide, spoof)
    for name, got in zip(("frr", "far", "thresholds"), det):
        if name in case["det"]:
            np.testing.assert_array_equal(got, floats(case["det"][name]))
    if isinstance(case["eer"], list):
        np.testing.assert_array_equal(eer_of_det(det), floats(case["eer"]))
    for name, rates in golden["asv_errors"].items():
        errors = ASVErrors(rates["Pfa"], rates["Pmiss"], rates["Pmiss_spoof"], rates["Pfa_spoof"])
        wanted = case["tdcf"][name]
        weights = tdcf_coefficients(errors)
        assert list(weights) == [float(text) for text in wanted["C012"]]
        for form, form_weights in (("2021", weights), ("legacy", legacy_tdcf_coefficients(errors))):
            official = wanted[f"tdcf_{form}_min"]
            if isinstance(official, dict) or not len(bonafide) or not len(spoof):
                with pytest.raises(InputError):
                    min_tdcf(bonafide, spoof, form_weights)
            else:
                np.testing.assert_array_equal(min_tdcf(bonafide, spoof, form_weights), float(official))
            if isinstance(wanted.get(f"curve_{form}"), list):
                np.testing.assert_array_equal(tdcf_of_det(det, form_weights), floats(wanted[f"curve_{form}"]))


@needs_goldens
@pytest.mark.parametrize("case", metric_cases()["asv"], ids=lambda case: case["name"])
def test_asv_error_rates_equal_the_official_ones(case):
    target, nontarget, spoof = floats(case["target"]), floats(case["nontarget"]), floats(case["spoof"])
    if not (len(target) and len(nontarget) and len(spoof)):
        with pytest.raises(InputError, match=r"no (target|nontarget|spoofed) ASV trials"):
            asv_errors(target, nontarget, spoof, 0.0)
        return
    threshold = eer_of_det(det_curve(target, nontarget)).threshold
    errors = asv_errors(target, nontarget, spoof, threshold)
    assert list(errors) == [float(text) for text in case["rates_fa_miss_missspoof_faspoof"]]
    assert list(tdcf_coefficients(errors)) == [float(text) for text in case["C012"]]


def asvspoof5_table(name, n_columns):
    rows = [line.split() for line in (GOLDENS / "asvspoof5" / name).read_text().splitlines()[1:]]
    assert all(len(row) == n_columns for row in rows)
    return rows


@needs_goldens
def test_track_1_of_asvspoof5_equals_the_official_figures():
    label = dict(asvspoof5_table("t1_keys.tsv", 2))
    scores = [(label[name], float(score)) for name, score in asvspoof5_table("t1_scores.tsv", 2)]
    bonafide = np.array([score for kind, score in scores if kind == "bonafide"])
    spoof = np.array([score for kind, score in scores if kind == "spoof"])
    wanted = json.loads((GOLDENS / "asvspoof5" / "goldens.json").read_text())["exact"]["t1"]
    assert min_dcf(bonafide, spoof) == (wanted["minDCF"], wanted["minDCF_threshold"])
    assert equal_error_rate(bonafide, spoof) == (wanted["eer"], wanted["eer_threshold"])
    assert cllr_bits(bonafide, spoof) == wanted["cllr_bits"]
    assert actual_dcf(bonafide, spoof) == wanted["actDCF"]


@needs_goldens
def test_edge_cases_of_asvspoof5_equal_the_official_figures_where_those_are_numbers():
    edges = json.loads((GOLDENS / "asvspoof5" / "goldens.json").read_text())["edge"]
    for name, case in edges.items():
        bonafide, spoof = floats(case["bona"]), floats(case["spoof"])
        if name in ("empty_bona", "empty_spoof", "nan"):
            for metric in (min_dcf, equal_error_rate, cllr_bits, actual_dcf):
                with pytest.raises(InputError):
                    metric(bonafide, spoof)
            continue
        wanted = floats(case["minDCF_eer_cllr_actDCF"])
        if name == "cllr_overflow":  # the official figure is infinite, since e^800 is; the cost of -800 is 800 nats
            wanted[2] = ((800 + np.log1p(np.exp(-1))) / 2 + (np.log(2) + np.log1p(np.e)) / 2) / 2 / np.log(2)
        got = [min_dcf(bonafide, spoof).eer, equal_error_rate(bonafide, spoof).eer, cllr_bits(bonafide, spoof)]
        np.testing.assert_allclose([*got, actual_dcf(bonafide, spoof)], wanted, rtol=1e-15, err_msg=name)


def printed_table(title):
    """A table of the golden output of track 2: its text form, by row."""
    lines = (GOLDENS / "asvspoof5" / "stdout_full_t2_tandem.txt").read_text().splitlines()
    start = lines.index(title) + lines[lines.index(title) :].index("\\end{tabular}") + 3
    return {line.split()[0]: [float(text) for text in line.split()[1:]] for line in lines[start : start + 5]}


@needs_goldens
def test_track_2_of_asvspoof5_equals_the_official_figures_pooled_and_by_condition():
    key = {(row[0], row[1]): row[2:] for row in asvspoof5_table("t2_full_keys.txt", 7)}
    rows = asvspoof5_table("t2_scores.tsv", 5)
    cm, asv, sasv = np.array([[float(text) for text in row[2:]] for row in rows]).T
    kind, attack, codec = np.array([key[row[0], row[1]] for row in rows])[:, [1, 2, 3]].T
    wanted = json.loads((GOLDENS / "asvspoof5" / "goldens.json").read_text())["exact"]
    target, nontarget, spoof = kind == "target", kind == "nontarget", kind == "spoof"
    tables = {title: printed_table(title) for title in ("a-DCF", "min tDCF", "t-EER (%)")}

    for row in tables["a-DCF"]:
        for j, column in enumerate(("pooled", "-", "C01", "C02")):
            here = ((row == "pooled") | ~spoof | (attack == row)) & ((column == "pooled") | (codec == column))
            t, n, s = here & target, here & nontarget, here & spoof
            adcf = min_adcf(sasv[t], sasv[n], sasv[s]).eer
            teer = tandem_eer(cm[t | n], cm[s], asv[t], asv[n], asv[s])
            errors = asv_errors(asv[t], asv[n], asv[s], equal_error_rate(asv[t], asv[n]).threshold)
            # With ASV scores of one's own the official package mistakes the share of spoofs rejected for that accepted.
            mistaken = errors._replace(false_alarm_spoof=errors.miss_spoof)
            tdcf = min_tdcf(cm[t | n], cm[s], tdcf_coefficients(mistaken))
            assert f"{adcf:.5f}" == f"{tables['a-DCF'][row][j]:.5f}"
            assert f"{tdcf:.5f}" == f"{tables['min tDCF'][row][j]:.5f}"
            assert f"{100 * teer:.3f}" == f"{tables['t-EER (%)'][row][j]:.3f}"
            if (row, column) == ("pooled", "pooled"):
                assert adcf == wanted["t2"]["a_dcf"]
                assert 100 * teer == wanted["t2"]["t_eer_percent"]
                assert tdcf == wanted["t2_own_asv"]["min_tdcf"]
                assert min_tdcf(cm[t | n], cm[s], tdcf_coefficients(ASVSPOOF5_ASV)) == wanted["t2"]["min_tdcf"]


# Against plain loops and by invariants, with ties

scores = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=25).map(np.array)


@settings(deadline=None)  # a busy machine is no failure
@given(scores, scores)
def test_the_eer_is_that_of_the_plain_loop(bonafide, spoof):
    eer = equal_error_rate(bonafide, spoof).eer
    assert eer == eer_by_loop(bonafide.tolist(), spoof.tolist())
    assert 0 <= eer <= 1


@settings(deadline=None)
@given(scores, scores, st.lists(st.floats(1e-3, 1e3), min_size=9, max_size=9))
def test_an_increasing_map_of_the_scores_changes_no_rate(bonafide, spoof, steps):
    heights = np.cumsum(steps) - 1000.0
    before, after = (
        det_curve(bonafide, spoof),
        det_curve(heights[bonafide.astype(int) + 4], heights[spoof.astype(int) + 4]),
    )
    np.testing.assert_array_equal(before.miss, after.miss)
    np.testing.assert_array_equal(before.false_alarm, after.false_alarm)


@settings(deadline=None)
@given(scores, scores)
def test_swapping_the_classes_and_the_sign_mirrors_the_curve(bonafide, spoof):
    det, mirrored = det_curve(bonafide, spoof), det_curve(-spoof, -bonafide)
    np.testing.assert_array_equal(mirrored.miss, det.false_alarm[::-1])
    np.testing.assert_array_equal(mirrored.false_alarm, det.miss[::-1])
    gaps = np.abs(det.miss - det.false_alarm)
    if (gaps == gaps.min()).sum() == 1:
        assert equal_error_rate(bonafide, spoof).eer == equal_error_rate(-spoof, -bonafide).eer


rates = st.floats(0, 0.4)


@settings(deadline=None)
@given(scores, scores, rates, rates, st.floats(0.01, 1))
def test_min_tdcf_lies_between_the_asv_floor_and_one(bonafide, spoof, miss, false_alarm, false_alarm_spoof):
    weights = tdcf_coefficients(ASVErrors(false_alarm, miss, 1 - false_alarm_spoof, false_alarm_spoof))
    if len(np.unique(np.concatenate([bonafide, spoof]))) < 3:
        with pytest.raises(InputError, match="3 distinct"):
            min_tdcf(bonafide, spoof, weights)
        return
    floor = weights.c0 / (weights.c0 + min(weights.c1, weights.c2))
    assert floor - 1e-12 <= min_tdcf(bonafide, spoof, weights) <= 1 + 1e-12


@settings(deadline=None)
@given(scores, scores, scores, scores)
def test_the_rates_of_two_merged_subsets_are_their_means_weighted_by_trials(bona_1, spoof_1, bona_2, spoof_2):
    def rates_at(bonafide, spoof, threshold):
        det = det_curve(bonafide, spoof)
        last = np.searchsorted(det.thresholds[1:], threshold, side="right")  # all trials at the threshold are rejected
        return np.array([det.miss[last], det.false_alarm[last]])

    for threshold in np.unique(np.concatenate([bona_1, spoof_1, bona_2, spoof_2])):
        n_1, n_2 = np.array([len(bona_1), len(spoof_1)]), np.array([len(bona_2), len(spoof_2)])
        mean = (n_1 * rates_at(bona_1, spoof_1, threshold) + n_2 * rates_at(bona_2, spoof_2, threshold)) / (n_1 + n_2)
        merged = rates_at(np.concatenate([bona_1, bona_2]), np.concatenate([spoof_1, spoof_2]), threshold)
        np.testing.assert_allclose(merged, mean, atol=1e-12)


@settings(deadline=None)
@given(scores, scores)
def test_merging_a_subset_with_itself_moves_the_eer_by_less_than_one_trial(bonafide, spoof):
    once = equal_error_rate(bonafide, spoof).eer
    twice = equal_error_rate(np.tile(bonafide, 2), np.tile(spoof, 2)).eer
    distinct = len(np.unique(np.concatenate([bonafide, spoof]))) == len(bonafide) + len(spoof)
    if distinct:
        assert abs(once - twice) <= 1 / min(len(bonafide), len(spoof))


@settings(deadline=None)
@given(scores, scores)
def test_min_dcf_is_at_most_the_actual_cost_and_at_most_one(bonafide, spoof):
    least = min_dcf(bonafide, spoof).eer
    assert least <= 1 + 1e-12
    assert least <= actual_dcf(bonafide, spoof) + 1e-9


def test_a_dcf_is_that_of_the_plain_loop():
    rng = np.random.default_rng(3)
    for digits in (0, 1, 6):
        target, nontarget, spoof = (rng.normal(mu, 1, n).round(digits) for mu, n in ((2, 40), (-1, 60), (0, 50)))
        costs = []
        for threshold in [-99.0, *np.concatenate([target, nontarget, spoof])]:
            miss, accepted = np.mean(target <= threshold), np.mean(nontarget > threshold)
            costs.append(0.9405 * miss + 0.0095 * 10 * accepted + 0.05 * 10 * np.mean(spoof > threshold))
        assert min_adcf(target, nontarget, spoof).eer == pytest.approx(min(costs) / 0.595, abs=1e-12)


def test_tandem_eer_is_that_of_the_search_over_all_pairs_of_thresholds():
    rng = np.random.default_rng(4)
    for _ in range(20):
        cm_bonafide, cm_spoof = rng.normal(1, 1, 30), rng.normal(-1, 1, 25)
        target, nontarget, spoof = rng.normal(2, 1, 20), rng.normal(-2, 1, 22), rng.normal(1, 1, 25)
        cm = det_curve(cm_bonafide, cm_spoof)
        best = (9.0, 9.0)
        for threshold in np.sort(np.concatenate([target, nontarget, spoof])):
            passed = 1 - cm.miss
            miss = 1 - passed * (1 - np.mean(target <= threshold))
            accepted = passed * np.mean(nontarget > threshold)
            accepted_spoof = cm.false_alarm * np.mean(spoof > threshold)
            at = int(np.argmin(np.abs(miss - (accepted + accepted_spoof) / 2)))
            three = (miss[at], accepted[at], accepted_spoof[at])
            best = min(best, (max(three) - min(three), three[2]), key=lambda pair: round(pair[0], 12))
        assert tandem_eer(cm_bonafide, cm_spoof, target, nontarget, spoof) == pytest.approx(best[1], abs=1e-12)


def test_a_perfect_tandem_has_no_errors():
    ones = np.ones(5)
    assert tandem_eer(ones + 1, -ones, ones + 1, -ones, ones) == 0.0


# Edge cases: each has a decision

SOME = np.array([0.0, 1.0, 2.0])
EMPTY = np.zeros(0)


@pytest.mark.parametrize("metric", [equal_error_rate, min_dcf, actual_dcf, cllr_bits, score_warnings])
def test_an_empty_class_or_a_nan_is_refused_with_a_reason(metric):
    with pytest.raises(InputError, match="no bona fide trials: an error rate needs both classes"):
        metric(EMPTY, SOME)
    with pytest.raises(InputError, match="no spoofed trials"):
        metric(SOME, EMPTY)
    with pytest.raises(InputError, match="1 of the 3 scores of spoofed trials are NaN"):
        metric(SOME, np.array([0.0, np.nan, 1.0]))


def test_infinite_scores_have_a_rank_but_no_tandem_cost():
    assert equal_error_rate(np.array([1.0, np.inf]), np.array([-np.inf, 0.0])).eer == 0.0
    with pytest.raises(InputError, match="2 scores are infinite"):
        min_tdcf(np.array([1.0, np.inf]), np.array([-np.inf, 0.0]), TDCFCoefficients(0.1, 0.5, 0.5))


def test_equal_scores_give_the_official_hundred_percent_and_a_remark():
    assert equal_error_rate(np.ones(5), np.ones(7)).eer == 1.0
    assert score_warnings(np.ones(5), np.ones(7)) == [
        "all scores are equal, so they carry no information; the official definition calls that an EER of 100 %"
    ]


def test_two_distinct_scores_are_called_decisions():
    found = score_warnings(np.array([1.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    assert len(found) == 1
    assert "only 2 distinct scores: these are decisions" in found[0]


def test_inverted_scores_are_kept_and_the_eer_of_the_negated_ones_is_told():
    rng = np.random.default_rng(0)
    bonafide, spoof = rng.normal(-1, 1, 300), rng.normal(1, 1, 300)
    assert equal_error_rate(bonafide, spoof).eer > 0.8
    [remark] = score_warnings(bonafide, spoof)
    assert "inverted" in remark
    assert f"{100 * equal_error_rate(-bonafide, -spoof).eer:.2f} %" in remark
    assert score_warnings(-bonafide, -spoof) == []


def test_wrong_priors_costs_and_weights_are_refused():
    errors = ASVErrors(0.02, 0.02, 0.5, 0.5)
    with pytest.raises(InputError, match="sum to 1"):
        tdcf_coefficients(errors, Costs(p_target=0.5))
    with pytest.raises(InputError, match="sum to 1"):
        legacy_tdcf_coefficients(errors, Costs(p_target=1.0, p_nontarget=-0.05))
    with pytest.raises(InputError, match="costs must be at least 0"):
        tdcf_coefficients(errors, Costs(c_spoof=-1))
    with pytest.raises(InputError, match="worse than chance"):
        min_tdcf(SOME, SOME - 0.5, tdcf_coefficients(ASVErrors(0.97, 0.97, 0.03, 0.97)))


def test_weights_that_leave_nothing_to_normalise_by_give_nan():
    assert np.isnan(min_tdcf(SOME, SOME - 0.5, tdcf_coefficients(ASVErrors(0.0, 0.0, 1.0, 0.0))))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 2000))
def test_rates_end_at_exactly_zero_and_one(n_bonafide, n_spoof):
    det = det_curve(np.arange(n_bonafide) * 1.5, np.arange(n_spoof) * 1.25)
    assert (det.miss[0], det.false_alarm[0], det.miss[-1], det.false_alarm[-1]) == (0.0, 1.0, 1.0, 0.0)


def test_ties_at_the_crossing_are_remarked_on_and_ties_elsewhere_are_not():
    bonafide, spoof = np.r_[np.zeros(10), np.arange(1, 91.0)], np.r_[np.zeros(10), -np.arange(1, 91.0)]
    (warning,) = score_warnings(bonafide, spoof)
    assert warning.startswith("10.0 % of the bona fide and 10.0 % of the spoofed scores are equal to 0, where the EER")
    assert (
        score_warnings(np.r_[np.full(10, 99.0), np.arange(90.0)], np.r_[np.full(10, -99.0), -np.arange(1, 91.0)]) == []
    )
