"""Error rates of detectors: NumPy in, floats out.

Scores are higher for bona fide speech. Every function takes the scores of the bona fide and of the spoofed trials as
two arrays, (Nb,) and (Ns,). Curves have M = Nb + Ns + 1 points: one below all scores, then one at each score.

    det_curve, equal_error_rate                       ASVspoof's detection error trade-off and its equal error rate
    asv_errors, asv_weights, legacy_weights, min_tdcf tandem detection cost, in the form of 2021 and that of 2019
    min_dcf, actual_dcf, cllr_bits                    ASVspoof 5, track 1
    min_adcf, tandem_eer, ASVSPOOF5_ASV               ASVspoof 5, track 2
    bootstrap_eer, bootstrap_difference               intervals, by trial or by speaker
    remarks                                           what is odd about some scores, in sentences
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from qamo import InputError


class DET(NamedTuple):
    """Detection error trade-off, from accepting all trials to rejecting all."""

    frr: np.ndarray  # (M,) share of bona fide trials rejected (misses)
    far: np.ndarray  # (M,) share of spoofed trials accepted (false alarms)
    thresholds: np.ndarray  # (M,) trials at or below the threshold are rejected


class EER(NamedTuple):
    eer: float  # in [0, 1]
    threshold: float


class Interval(NamedTuple):
    low: float
    high: float


class Difference(NamedTuple):
    """EER of system a minus EER of system b."""

    value: float
    low: float
    high: float
    p: float  # two-sided bootstrap p-value of "no difference", at least 2 / (resamples + 1)


def det_curve(bonafide: np.ndarray, spoof: np.ndarray) -> DET:
    """Error rates at every threshold, as ASVspoof counts them.

    The sort is stable with the bona fide trials first, so among equal scores bona fide trials are rejected before
    spoofed ones, and points inside a tie count: ties never flatter a system. NaN sorts last; an empty class has NaN
    rates.

    Source: Kinnunen et al. 2020 (arXiv:2007.05979); equal to the evaluation packages of ASVspoof 2019, 2021 and 5.
    """
    bonafide, spoof = np.asarray(bonafide), np.asarray(spoof)
    scores = np.concatenate([bonafide, spoof])
    order = np.argsort(scores, kind="stable")
    return det_of_sorted(order < len(bonafide), scores[order])


def det_of_sorted(is_bonafide: np.ndarray, scores: np.ndarray) -> DET:
    """The curve of trials in the order of `det_curve`: (N,) bool, (N,) -> DET of N + 1 points."""
    rejected = np.cumsum(is_bonafide)  # bona fide trials among the first 1, 2, ... N
    n_bonafide = int(rejected[-1]) if len(rejected) else 0
    n_spoof = len(is_bonafide) - n_bonafide
    accepted = n_spoof - (np.arange(1, len(is_bonafide) + 1) - rejected)
    with np.errstate(divide="ignore", invalid="ignore"):
        frr = np.concatenate([[0.0], rejected / n_bonafide])
        far = np.concatenate([[1.0], accepted / n_spoof])
    return DET(frr, far, np.concatenate([scores[:1] - 0.001, scores]))


def eer_of_det(det: DET) -> EER:
    """The mean of the two error rates at the first threshold where they are closest."""
    at = int(np.argmin(np.abs(det.frr - det.far)))
    return EER(float(np.mean((det.frr[at], det.far[at]))), float(det.thresholds[at]))


def equal_error_rate(bonafide: np.ndarray, spoof: np.ndarray) -> EER:
    """Equal error rate; 1.0 where all scores are equal, since ties count against the system (see `remarks`).

    Raises:
        InputError: one class is empty, or a score is NaN.
    """
    return eer_of_det(det_curve(*checked(bonafide, spoof)))


def remarks(bonafide: np.ndarray, spoof: np.ndarray) -> list[str]:
    """What is odd about some scores, a sentence each; empty if nothing is."""
    bonafide, spoof = checked(bonafide, spoof)
    n_distinct = len(np.unique(np.concatenate([bonafide, spoof])))
    if n_distinct == 1:
        return [
            "all scores are equal, so they carry no information; the official definition calls that an EER of 100 %"
        ]
    found = []
    if n_distinct < 3:
        found.append(
            f"only {n_distinct} distinct scores: these are decisions, and the EER of decisions is not meaningful"
        )
    eer = equal_error_rate(bonafide, spoof).eer
    if eer > 0.5:
        negated = equal_error_rate(-bonafide, -spoof).eer
        found.append(
            f"an EER above 50 % looks like inverted scores (higher must mean bona fide); "
            f"that of the negated scores is {100 * negated:.2f} %"
        )
    return found


def checked(bonafide: np.ndarray, spoof: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both score arrays, if there is a rate to compute.

    Raises:
        InputError: one class is empty, or a score is NaN.
    """
    for name, scores in (("bona fide", np.asarray(bonafide)), ("spoofed", np.asarray(spoof))):
        if scores.size == 0:
            raise InputError(f"no {name} trials: an error rate needs both classes")
        n_nan = int(np.isnan(scores).sum())
        if n_nan:
            raise InputError(f"{n_nan} of the {scores.size} scores of {name} trials are NaN")
    return np.asarray(bonafide), np.asarray(spoof)


# Tandem detection cost: a countermeasure in front of a speaker verification system (ASV)


class Costs(NamedTuple):
    """Priors and costs of the tandem detection cost; the values are those of ASVspoof 2019 to 5."""

    p_target: float = 0.95 * 0.99
    p_nontarget: float = 0.95 * 0.01
    p_spoof: float = 0.05
    c_miss: float = 1
    c_false_alarm: float = 10  # for accepting a nontarget
    c_spoof: float = 10  # for accepting a spoof


COSTS = Costs()


class ASVErrors(NamedTuple):
    """Error rates of an ASV system at its own threshold."""

    false_alarm: float  # share of nontargets accepted
    miss: float  # share of targets rejected
    miss_spoof: float  # share of spoofs rejected
    false_alarm_spoof: float  # share of spoofs accepted


class Weights(NamedTuple):
    """t-DCF = (c0 + c1 * FRR + c2 * FAR) / (c0 + min(c1, c2))."""

    c0: float  # cost of the ASV system behind an error-free countermeasure
    c1: float
    c2: float


def asv_errors(target: np.ndarray, nontarget: np.ndarray, spoof: np.ndarray, threshold: float) -> ASVErrors:
    """Error rates of ASV scores; a score at the threshold is accepted.

    Raises:
        InputError: one of the three is empty.
    """
    for name, scores in (("target", target), ("nontarget", nontarget), ("spoofed", spoof)):
        if not len(scores):
            raise InputError(f"no {name} ASV trials: the error rates of an ASV system need all three kinds")
    return ASVErrors(
        false_alarm=int((nontarget >= threshold).sum()) / len(nontarget),
        miss=int((target < threshold).sum()) / len(target),
        miss_spoof=int((spoof < threshold).sum()) / len(spoof),
        false_alarm_spoof=int((spoof >= threshold).sum()) / len(spoof),
    )


def asv_weights(errors: ASVErrors, costs: Costs = COSTS) -> Weights:
    """Weights of the t-DCF of ASVspoof 2021, in which an ASV system without errors would make c0 zero.

    Raises:
        InputError: a negative cost, or priors that do not sum to one.

    Source: Kinnunen et al. 2020 (arXiv:2007.05979), Eqs. 10 and 11.
    """
    _check_costs(costs)
    c0 = costs.p_target * costs.c_miss * errors.miss + costs.p_nontarget * costs.c_false_alarm * errors.false_alarm
    c1 = costs.p_target * costs.c_miss - c0
    return Weights(c0, c1, costs.p_spoof * costs.c_spoof * errors.false_alarm_spoof)


def legacy_weights(
    errors: ASVErrors, costs: Costs = COSTS, *, c_miss_cm: float = 1, c_false_alarm_cm: float = 10
) -> Weights:
    """Weights of the t-DCF of ASVspoof 2019, which has no c0: an error-free countermeasure costs nothing.

    Raises:
        InputError: a negative cost, or priors that do not sum to one.

    Source: Kinnunen et al. 2018 (arXiv:1804.09618).
    """
    _check_costs(costs._replace(c_spoof=min(c_miss_cm, c_false_alarm_cm)))
    c1 = (
        costs.p_target * (c_miss_cm - costs.c_miss * errors.miss)
        - costs.p_nontarget * costs.c_false_alarm * errors.false_alarm
    )
    return Weights(0.0, c1, c_false_alarm_cm * costs.p_spoof * (1 - errors.miss_spoof))


def tdcf_of_det(det: DET, weights: Weights) -> np.ndarray:
    """Normalised t-DCF at each point of a curve: (M,); NaN where the weights leave nothing to normalise by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = weights.c0 + weights.c1 * det.frr + weights.c2 * det.far
        return cost / (np.float64(weights.c0) + min(weights.c1, weights.c2))


def min_tdcf(bonafide: np.ndarray, spoof: np.ndarray, weights: Weights) -> float:
    """The least normalised t-DCF over all thresholds, at most 1; NaN where c0 + min(c1, c2) is 0.

    Raises:
        InputError: one class is empty, a score is not finite, fewer than three distinct scores, or a negative weight.
    """
    bonafide, spoof = checked(bonafide, spoof)
    scores = np.concatenate([bonafide, spoof])
    if not np.isfinite(scores).all():
        raise InputError(f"{int((~np.isfinite(scores)).sum())} scores are infinite: t-DCF needs finite scores")
    if len(np.unique(scores)) < 3:
        raise InputError("fewer than 3 distinct scores: t-DCF needs scores, not decisions")
    if min(weights.c1, weights.c2) < 0:
        raise InputError(f"negative t-DCF weights {tuple(weights)}: the ASV system is worse than chance")
    return float(np.min(tdcf_of_det(det_curve(bonafide, spoof), weights)))


def _check_costs(costs: Costs) -> None:
    priors = (costs.p_target, costs.p_nontarget, costs.p_spoof)
    if min(priors) < 0 or abs(sum(priors) - 1) > 1e-10:
        raise InputError(f"the priors of target, nontarget and spoof must be at least 0 and sum to 1, got {priors}")
    if min(costs.c_miss, costs.c_false_alarm, costs.c_spoof) < 0:
        raise InputError(f"costs must be at least 0, got {tuple(costs[3:])}")


# ASVspoof 5


ASVSPOOF5_ASV = ASVErrors(  # of the organisers' ASV system, for the min t-DCF of track 2
    false_alarm=0.01881016557566423,
    miss=0.01880141010575793,
    miss_spoof=1 - 0.4607082907604729,
    false_alarm_spoof=0.4607082907604729,
)


def min_dcf(
    bonafide: np.ndarray, spoof: np.ndarray, *, p_spoof: float = 0.05, c_miss: float = 1, c_false_alarm: float = 10
) -> EER:
    """The least normalised detection cost over all thresholds, in [0, 1], and the first threshold that has it.

    Raises:
        InputError: one class is empty, or a score is NaN.

    Source: ASVspoof 5 evaluation plan, track 1.
    """
    det = det_curve(*checked(bonafide, spoof))
    p_bonafide = 1 - p_spoof
    miss, false_alarm = c_miss * p_bonafide, c_false_alarm * (1 - p_bonafide)  # rounded as the official package does
    cost = miss * det.frr + false_alarm * det.far
    at = int(np.argmin(cost))
    return EER(float(cost[at] / min(miss, false_alarm)), float(det.thresholds[at]))


def actual_dcf(
    bonafide: np.ndarray, spoof: np.ndarray, *, p_spoof: float = 0.05, c_miss: float = 1, c_false_alarm: float = 10
) -> float:
    """The normalised detection cost at the Bayes threshold of these costs, for scores that are log-likelihood ratios.

    Raises:
        InputError: one class is empty, or a score is NaN.

    Source: ASVspoof 5 evaluation plan, track 1.
    """
    bonafide, spoof = checked(bonafide, spoof)
    miss, false_alarm = c_miss * (1 - p_spoof), c_false_alarm * p_spoof
    threshold = -np.log(miss / false_alarm)
    cost = miss * np.mean(bonafide < threshold) + false_alarm * np.mean(spoof >= threshold)
    return float(cost / min(miss, false_alarm))


def cllr_bits(bonafide: np.ndarray, spoof: np.ndarray) -> float:
    """Cost of log-likelihood ratios in bits: 0 is perfect, 1 is worth as much as no score, more misleads.

    Raises:
        InputError: one class is empty, or a score is NaN.

    Source: Bruemmer and du Preez 2006, as used by ASVspoof 5, track 1.
    """
    bonafide, spoof = checked(bonafide, spoof)
    nats = np.mean(np.logaddexp(0, -bonafide)) + np.mean(np.logaddexp(0, spoof))  # log(1 + e^x) that never overflows
    return float(nats / 2 / np.log(2))


def min_adcf(target: np.ndarray, nontarget: np.ndarray, spoof: np.ndarray, costs: Costs = COSTS) -> EER:
    """The least normalised cost of a system that verifies speakers and rejects spoofs by one score, and its threshold.

    Scores at the threshold are rejected.

    Raises:
        InputError: one of the three is empty, or a score is NaN.

    Source: Shim et al. 2024 (arXiv:2403.01355), a-DCF; ASVspoof 5, track 2.
    """
    target, nontarget = checked(target, nontarget)
    _, spoof = checked(target, spoof)
    thresholds = np.unique(np.concatenate([target, nontarget, spoof]))
    thresholds = np.concatenate([thresholds[:1] - 1e-8, thresholds])
    miss = _share_up_to(target, thresholds)
    false_alarm, false_alarm_spoof = _share_above(nontarget, thresholds), _share_above(spoof, thresholds)
    cost = costs.p_target * costs.c_miss * miss + costs.p_nontarget * costs.c_false_alarm * false_alarm
    cost = cost + costs.p_spoof * costs.c_spoof * false_alarm_spoof
    accept_all = costs.p_nontarget * costs.c_false_alarm + costs.p_spoof * costs.c_spoof
    at = int(np.argmin(cost))
    return EER(float(cost[at] / min(accept_all, costs.p_target * costs.c_miss)), float(thresholds[at]))


def tandem_eer(
    cm_bonafide: np.ndarray,
    cm_spoof: np.ndarray,
    asv_target: np.ndarray,
    asv_nontarget: np.ndarray,
    asv_spoof: np.ndarray,
) -> float:
    """Concurrent tandem EER of a countermeasure (CM) in front of an ASV system, in [0, 1].

    The two thresholds at which targets missed, nontargets accepted and spoofs accepted are equally many, so that the
    rate does not depend on how common spoofs are. For each ASV threshold the CM threshold is taken at which misses
    equal false alarms, half of them spoofs; of these pairs, the one whose three rates are closest.

    Returns:
        The share of spoofs accepted there.

    Raises:
        InputError: one of the five is empty, or a score is NaN.

    Source: Kinnunen et al. 2023 (arXiv:2309.12237). ASVspoof 5 thins out curves of 3,000 points or more; this does not.
    """
    cm = det_curve(*checked(cm_bonafide, cm_spoof))
    asv_target, asv_nontarget = checked(asv_target, asv_nontarget)
    _, asv_spoof = checked(asv_target, asv_spoof)
    thresholds = np.unique(np.concatenate([asv_target, asv_nontarget, asv_spoof]))
    thresholds = np.concatenate([thresholds[:1] - 1e-3, thresholds])
    asv_miss = _share_up_to(asv_target, thresholds)
    asv_false_alarm = _share_above(asv_nontarget, thresholds)
    asv_false_alarm_spoof = _share_above(asv_spoof, thresholds)

    def rates(at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Misses, nontargets accepted, spoofs accepted, for one point of the CM curve at each ASV threshold."""
        passed = 1 - cm.frr[at]
        return 1 - passed * (1 - asv_miss), passed * asv_false_alarm, cm.far[at] * asv_false_alarm_spoof

    def excess(at: np.ndarray) -> np.ndarray:
        """Misses less false alarms; it rises along the CM curve."""
        miss, false_alarm, false_alarm_spoof = rates(at)
        return miss - (false_alarm + false_alarm_spoof) / 2

    low = np.zeros(len(thresholds), np.int64)
    high = np.full(len(thresholds), len(cm.frr) - 1)  # the CM rejects all: misses are 1, false alarms 0
    while (low < high).any():
        middle = (low + high) // 2
        reached = excess(middle) >= 0
        low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
    before = np.maximum(high - 1, 0)
    at = np.where(np.abs(excess(before)) <= np.abs(excess(high)), before, high)
    miss, false_alarm, false_alarm_spoof = rates(at)
    spread = np.maximum(np.maximum(miss, false_alarm), false_alarm_spoof)
    spread = spread - np.minimum(np.minimum(miss, false_alarm), false_alarm_spoof)
    return float(false_alarm_spoof[np.argmin(spread)])


def _share_up_to(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The share of scores at or below each threshold: (N,), (T,) -> (T,)."""
    return np.searchsorted(np.sort(scores), thresholds, side="right") / len(scores)


def _share_above(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The share of scores above each threshold: (N,), (T,) -> (T,)."""
    return (len(scores) - np.searchsorted(np.sort(scores), thresholds, side="right")) / len(scores)


# Intervals


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
    eers = resampled_eers(bonafide, spoof, n_resamples=n_resamples, seed=seed, groups=groups)
    return _percentiles(eers, level)


def resampled_eers(
    bonafide: np.ndarray,
    spoof: np.ndarray,
    *,
    n_resamples: int,
    seed: int,
    groups: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """The EER of each resample, as drawn by `bootstrap_eer`: (n_resamples,)."""
    bonafide, spoof = checked(bonafide, spoof)
    rng = np.random.default_rng(seed)
    if groups is None:
        return _resample_trials(_is_bonafide_sorted(bonafide, spoof), n_resamples, rng)
    codes, n_groups = _group_codes(groups, len(bonafide), len(spoof))
    path = _GroupPath(bonafide, spoof, codes, n_groups)
    return np.concatenate(
        [path.eers(counts) for counts in _draw_groups(codes, len(bonafide), n_groups, n_resamples, rng)]
    )


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
    systems = bonafide_a, spoof_a, bonafide_b, spoof_b
    differences = resampled_differences(*systems, n_resamples=n_resamples, seed=seed, groups=groups)
    value = equal_error_rate(bonafide_a, spoof_a).eer - equal_error_rate(bonafide_b, spoof_b).eer
    tail = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    p = min(1.0, 2 * (tail + 1) / (n_resamples + 1))
    return Difference(value, *_percentiles(differences, level), p)


def resampled_differences(
    bonafide_a: np.ndarray,
    spoof_a: np.ndarray,
    bonafide_b: np.ndarray,
    spoof_b: np.ndarray,
    *,
    n_resamples: int,
    seed: int,
    groups: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """The difference of the EERs on each resample, as drawn by `bootstrap_difference`: (n_resamples,)."""
    bonafide_a, spoof_a = checked(bonafide_a, spoof_a)
    bonafide_b, spoof_b = checked(bonafide_b, spoof_b)
    if len(bonafide_a) != len(bonafide_b) or len(spoof_a) != len(spoof_b):
        raise InputError(
            f"a paired comparison needs the same trials: got {len(bonafide_a)} + {len(spoof_a)} for one system "
            f"and {len(bonafide_b)} + {len(spoof_b)} for the other"
        )
    rng = np.random.default_rng(seed)
    if groups is None:
        pair = np.concatenate([bonafide_a, spoof_a]), np.concatenate([bonafide_b, spoof_b])
        return _resample_pairs(pair, len(bonafide_a), n_resamples, rng)
    codes, n_groups = _group_codes(groups, len(bonafide_a), len(spoof_a))
    a = _GroupPath(bonafide_a, spoof_a, codes, n_groups)
    b = _GroupPath(bonafide_b, spoof_b, codes, n_groups)
    batches = _draw_groups(codes, len(bonafide_a), n_groups, n_resamples, rng)
    return np.concatenate([a.eers(counts) - b.eers(counts) for counts in batches])


def _percentiles(values: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _is_bonafide_sorted(bonafide: np.ndarray, spoof: np.ndarray) -> np.ndarray:
    """Which of the trials, in the order of `det_curve`, are bona fide: (N,) bool."""
    return np.argsort(np.concatenate([bonafide, spoof]), kind="stable") < len(bonafide)


# The path of a resample through the sorted trials starts at FRR - FAR = -1 and rises with every trial to 1. Times
# Nb * Ns the excess is an integer: it rises by Ns at a bona fide trial and by Nb at a spoofed one, once for every time
# that the trial was drawn. The EER lies where the excess reaches 0, or one step before.


def _eer_at_crossing(
    excess: np.ndarray,
    step: np.ndarray,
    n_bonafide: np.ndarray | int,
    n_spoof: np.ndarray | int,
    rejected_bonafide: np.ndarray | int,
    is_bonafide: np.ndarray,
) -> np.ndarray:
    """EER of paths that reach 0 within one trial; all arguments (R,) and as they are before that trial."""
    steps = -(excess // step)  # of the copies of that trial, the one that reaches 0
    after = excess + steps * step
    steps = steps - (step - after <= after)  # the first of two equally close points
    excess = excess + steps * step
    frr = (rejected_bonafide + steps * is_bonafide) / n_bonafide
    return frr - excess / (2.0 * n_bonafide * n_spoof)  # the mean of FRR and FAR, since FRR - FAR = excess / (Nb Ns)


def _resample_trials(is_bonafide: np.ndarray, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """EERs of resamples of trials, drawn within each class: (N,) bool -> (R,)."""
    n_bonafide = int(is_bonafide.sum())
    n_spoof = len(is_bonafide) - n_bonafide
    place, excess, rejected_bonafide = _draw_crossings(is_bonafide, n_resamples, rng)
    here = is_bonafide[place]
    step = np.where(here, n_spoof, n_bonafide)
    return _eer_at_crossing(excess, step, n_bonafide, n_spoof, rejected_bonafide, here)


def _draw_crossings(
    is_bonafide: np.ndarray, n_resamples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The trial at which the path of each resample reaches 0, and before it the excess and the bona fide trials drawn.

    Only the place of the crossing matters, so nothing else is drawn: the trials are halved again and again, the number
    of draws that fall on the lower half is binomial, and the half that holds the crossing is halved next. That gives
    exactly the distribution of drawing all N trials, for log2(N) draws.
    """
    before = np.concatenate([[0], np.cumsum(is_bonafide)])  # bona fide trials before each place
    n_bonafide = int(before[-1])
    n_spoof = len(is_bonafide) - n_bonafide
    low = np.zeros(n_resamples, np.int64)
    high = np.full(n_resamples, len(is_bonafide))
    drawn_bonafide = np.full(n_resamples, n_bonafide)  # draws that fall between low and high
    drawn_spoof = np.full(n_resamples, n_spoof)
    rejected_bonafide = np.zeros(n_resamples, np.int64)  # draws that fall below low
    excess = np.full(n_resamples, -n_bonafide * n_spoof)
    while (high - low > 1).any():
        middle = (low + high) // 2
        bonafide_here, bonafide_low = before[high] - before[low], before[middle] - before[low]
        spoof_here, spoof_low = high - low - bonafide_here, middle - low - bonafide_low
        lower_bonafide = rng.binomial(drawn_bonafide, bonafide_low / np.maximum(bonafide_here, 1))
        lower_spoof = rng.binomial(drawn_spoof, spoof_low / np.maximum(spoof_here, 1))
        at_middle = excess + n_spoof * lower_bonafide + n_bonafide * lower_spoof
        below = at_middle >= 0  # the crossing lies in the lower half
        high = np.where(below, middle, high)
        drawn_bonafide = np.where(below, lower_bonafide, drawn_bonafide - lower_bonafide)
        drawn_spoof = np.where(below, lower_spoof, drawn_spoof - lower_spoof)
        low = np.where(below, low, middle)
        rejected_bonafide = np.where(below, rejected_bonafide, rejected_bonafide + lower_bonafide)
        excess = np.where(below, excess, at_middle)
    return low, excess, rejected_bonafide


class _Window:
    """The sorted trials of one system among which its crossings lie."""

    def __init__(self, scores: np.ndarray, n_bonafide: int, rng: np.random.Generator, widening: int):
        order = np.argsort(scores, kind="stable")  # bona fide trials come first in `scores`
        is_bonafide = order < n_bonafide
        places, _, _ = _draw_crossings(is_bonafide, 256, rng)
        margin = widening * (int(places.max() - places.min()) + 64)
        start, end = max(0, int(places.min()) - margin), min(len(order), int(places.max()) + margin + 1)
        self.zone = np.empty(len(order), np.int8)  # of each trial: 0 before the window, 1 in it, 2 after it
        self.zone[order[:start]], self.zone[order[start:end]], self.zone[order[end:]] = 0, 1, 2
        self.trials = order[start:end]
        self.is_bonafide = is_bonafide[start:end]
        n_spoof = len(order) - n_bonafide
        self.step = np.where(self.is_bonafide, n_spoof, n_bonafide)
        self.n_bonafide, self.n_spoof = n_bonafide, n_spoof

    def eer(self, bonafide_before: int, spoof_before: int, drawn: np.ndarray) -> float | None:
        """EER of a resample: draws before the window, and of each trial in it; None if it crosses elsewhere."""
        start = self.n_spoof * bonafide_before + self.n_bonafide * spoof_before - self.n_bonafide * self.n_spoof
        path = start + np.cumsum(drawn * self.step)
        if start >= 0 or path[-1] < 0:
            return None
        at = int(np.searchsorted(path, 0))
        excess = path[at] - drawn[at] * self.step[at]
        rejected = bonafide_before + int(drawn[:at][self.is_bonafide[:at]].sum())
        step, here = self.step[at], self.is_bonafide[at]
        return float(_eer_at_crossing(excess, step, self.n_bonafide, self.n_spoof, rejected, here))


def _resample_pairs(
    pair: tuple[np.ndarray, np.ndarray], n_bonafide: int, n_resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Differences of the EERs of two systems on resamples of the same trials: two (N,), bona fide first -> (R,).

    The trials near the crossing of either system are drawn one by one. Of the others only how many are drawn before and
    after either crossing matters, which is one multinomial draw. Should a resample cross outside the trials taken for
    near, all is done again with more of them.
    """
    widening = 1
    while True:
        windows = [_Window(scores, n_bonafide, rng, widening) for scores in pair]
        differences = _resample_windows(windows, n_bonafide, n_resamples, rng)
        if differences is not None:
            return differences
        widening *= 4


def _resample_windows(
    windows: list[_Window], n_bonafide: int, n_resamples: int, rng: np.random.Generator
) -> np.ndarray | None:
    a, b = windows
    near = (a.zone == 1) | (b.zone == 1)
    kinds = np.where(near, 4, a.zone // 2 * 2 + b.zone // 2)  # 0 to 3: before or after a, before or after b
    near_trials = np.flatnonzero(near)  # bona fide first
    near_bonafide = int((near_trials < n_bonafide).sum())
    position = np.zeros(len(near), np.int64)
    position[near_trials] = np.arange(len(near_trials))
    totals = []  # (R, 5): how many trials of each kind are drawn, of either class
    for part in (kinds[:n_bonafide], kinds[n_bonafide:]):
        totals.append(rng.multinomial(len(part), np.bincount(part, minlength=5) / len(part), size=n_resamples))
    # For each system, its kinds and its near trials that lie before its window.
    before_kinds = ([0, 1], [0, 2])
    before = [position[near_trials[window.zone[near_trials] == 0]] for window in windows]
    inside = [position[window.trials] for window in windows]
    differences = np.empty(n_resamples)
    for i, (bonafide, spoof) in enumerate(zip(*totals)):
        drawn = np.concatenate(
            [_draw(near_bonafide, int(bonafide[4]), rng), _draw(len(near_trials) - near_bonafide, int(spoof[4]), rng)]
        )
        eers = []
        for window, kinds_before, near_before, in_window in zip(windows, before_kinds, before, inside):
            counts = drawn[near_before]
            is_bonafide = near_before < near_bonafide
            bonafide_before = int(bonafide[kinds_before].sum() + counts[is_bonafide].sum())
            spoof_before = int(spoof[kinds_before].sum() + counts[~is_bonafide].sum())
            eers.append(window.eer(bonafide_before, spoof_before, drawn[in_window]))
        if eers[0] is None or eers[1] is None:
            return None
        differences[i] = eers[0] - eers[1]
    return differences


def _draw(n_trials: int, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of some trials is drawn: (n_trials,) int64."""
    if not n_trials:
        return np.zeros(0, np.int64)
    return np.bincount(rng.integers(n_trials, size=n_draws), minlength=n_trials)


MAX_SCRATCH = 1 << 22  # numbers in a scratch array of the bootstrap by speaker: 32 MB


def _group_codes(groups: tuple[np.ndarray, np.ndarray], n_bonafide: int, n_spoof: int) -> tuple[np.ndarray, int]:
    """The groups of all trials, bona fide first, as numbers below G: (Nb + Ns,), G."""
    if (len(groups[0]), len(groups[1])) != (n_bonafide, n_spoof):
        raise InputError(
            f"expected a group for each of {n_bonafide} + {n_spoof} trials, got {len(groups[0])} + {len(groups[1])}"
        )
    distinct, codes = np.unique(np.concatenate([np.asarray(groups[0]), np.asarray(groups[1])]), return_inverse=True)
    for name, part in (("bona fide", codes[:n_bonafide]), ("spoofed", codes[n_bonafide:])):
        if len(np.unique(part)) < 2:
            raise InputError(f"all {name} trials are of one speaker: a bootstrap by speaker needs two or more")
    return codes, len(distinct)


def _draw_groups(
    codes: np.ndarray, n_bonafide: int, n_groups: int, n_resamples: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """How often each group is drawn, some resamples at a time: (R, G). A resample that lacks a class is drawn again."""
    has_bonafide = np.bincount(codes[:n_bonafide], minlength=n_groups) > 0
    has_spoof = np.bincount(codes[n_bonafide:], minlength=n_groups) > 0
    batch = max(1, min(n_resamples, MAX_SCRATCH // max(n_groups, 1024)))
    for start in range(0, n_resamples, batch):
        counts = np.zeros((min(batch, n_resamples - start), n_groups))
        empty = np.ones(len(counts), bool)
        while empty.any():
            counts[empty] = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=int(empty.sum()))
            empty = (counts @ has_bonafide == 0) | (counts @ has_spoof == 0)
        yield counts


class _GroupPath:
    """EERs of one system under given numbers of draws of each group.

    The sorted trials are cut into blocks; how many trials of each group lie before each block finds the block of the
    crossing by a matrix product, and only that block is walked trial by trial.
    """

    def __init__(self, bonafide: np.ndarray, spoof: np.ndarray, codes: np.ndarray, n_groups: int):
        order = np.argsort(np.concatenate([bonafide, spoof]), kind="stable")
        n_trials = len(order)
        self.block = max(256, -(-n_trials * n_groups // MAX_SCRATCH))
        n_blocks = -(-n_trials // self.block)
        self.codes = np.zeros(n_blocks * self.block, np.int64)
        self.codes[:n_trials] = codes[order]
        self.is_bonafide = np.zeros(n_blocks * self.block, bool)
        self.is_bonafide[:n_trials] = order < len(bonafide)
        place = np.arange(n_trials) // self.block * n_groups + self.codes[:n_trials]
        here = self.is_bonafide[:n_trials]
        # Trials of each group up to the end of each block: (blocks, G).
        self.bonafide = np.bincount(place[here], minlength=n_blocks * n_groups).reshape(n_blocks, n_groups)
        self.spoof = np.bincount(place[~here], minlength=n_blocks * n_groups).reshape(n_blocks, n_groups)
        self.bonafide = np.cumsum(self.bonafide, axis=0).astype(np.float64)
        self.spoof = np.cumsum(self.spoof, axis=0).astype(np.float64)

    def eers(self, counts: np.ndarray) -> np.ndarray:
        """(R, G) draws -> (R,) EERs; the work is cut so that no scratch array is large."""
        batch = max(1, MAX_SCRATCH // max(self.block, len(self.bonafide)))
        return np.concatenate([self._eers(counts[i : i + batch]) for i in range(0, len(counts), batch)])

    def _eers(self, counts: np.ndarray) -> np.ndarray:
        bonafide = (counts @ self.bonafide.T).astype(np.int64)  # (R, blocks), whole numbers below 2^53
        spoof = (counts @ self.spoof.T).astype(np.int64)
        n_bonafide, n_spoof = bonafide[:, -1], spoof[:, -1]
        path = bonafide * n_spoof[:, None] + spoof * n_bonafide[:, None] - (n_bonafide * n_spoof)[:, None]
        block = (path < 0).sum(axis=1)  # the first whose end is at or above 0
        rows = np.arange(len(counts))
        before = np.maximum(block - 1, 0)
        rejected = np.where(block > 0, bonafide[rows, before], 0)
        excess = np.where(block > 0, path[rows, before], -n_bonafide * n_spoof)
        trials = block[:, None] * self.block + np.arange(self.block)  # (R, block)
        drawn = counts[rows[:, None], self.codes[trials]].astype(np.int64)
        drawn_bonafide = np.where(self.is_bonafide[trials], drawn, 0)
        step = np.where(self.is_bonafide[trials], n_spoof[:, None], n_bonafide[:, None])
        path = excess[:, None] + np.cumsum(drawn * step, axis=1)
        at = (path >= 0).argmax(axis=1)
        rejected = rejected + np.cumsum(drawn_bonafide, axis=1)[rows, at] - drawn_bonafide[rows, at]
        step = step[rows, at]
        excess = path[rows, at] - drawn[rows, at] * step
        return _eer_at_crossing(excess, step, n_bonafide, n_spoof, rejected, self.is_bonafide[trials[rows, at]])
