"""Error rates of detectors: NumPy in, floats out.

Scores are higher for bona fide speech. Every function takes the scores of the bona fide and of the spoofed trials as
two arrays, (Nb,) and (Ns,). Curves have M = Nb + Ns + 1 points: one below all scores, then one at each score.

    det_curve, equal_error_rate     ASVspoof's detection error trade-off and its equal error rate
    score_warnings                  constant, binary, inverted or tied scores
    tdcf_coefficients, min_tdcf     tandem detection cost of ASVspoof 2021; legacy_tdcf_coefficients for that of 2019
    min_dcf, actual_dcf, cllr_bits  ASVspoof 5, track 1

Intervals: `qamo.evaluation.intervals`; ASVspoof 5, track 2: `qamo.evaluation.sasv`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qamo import InputError

TIED = 0.01  # share of a class with one score from which a tie at the EER is worth a warning


class DET(NamedTuple):
    """Detection error trade-off, from accepting all trials to rejecting all."""

    miss: np.ndarray  # (M,) miss rate: share of bona fide trials rejected
    false_alarm: np.ndarray  # (M,) false alarm rate: share of spoofed trials accepted
    thresholds: np.ndarray  # (M,) trials at or below the threshold are rejected


class EER(NamedTuple):
    eer: float  # in [0, 1]
    threshold: float


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
        miss = np.concatenate([[0.0], rejected / n_bonafide])
        false_alarm = np.concatenate([[1.0], accepted / n_spoof])
    return DET(miss, false_alarm, np.concatenate([scores[:1] - 0.001, scores]))


def eer_of_det(det: DET) -> EER:
    """The mean of the two error rates at the first threshold where they are closest."""
    index = int(np.argmin(np.abs(det.miss - det.false_alarm)))
    return EER(float(np.mean((det.miss[index], det.false_alarm[index]))), float(det.thresholds[index]))


def equal_error_rate(bonafide: np.ndarray, spoof: np.ndarray) -> EER:
    """Equal error rate; 1.0 where all scores are equal, since ties count against the system (see `score_warnings`).

    Raises:
        InputError: one class is empty, or a score is NaN.
    """
    return eer_of_det(det_curve(*checked(bonafide, spoof)))


def score_warnings(bonafide: np.ndarray, spoof: np.ndarray) -> list[str]:
    """Warnings about constant, binary, inverted or tied scores, one sentence each."""
    bonafide, spoof = checked(bonafide, spoof)
    n_distinct = len(np.unique(np.concatenate([bonafide, spoof])))
    if n_distinct == 1:
        return [
            "all scores are equal, so they carry no information; the official definition calls that an EER of 100 %"
        ]
    warnings = []
    if n_distinct < 3:
        warnings.append(
            f"only {n_distinct} distinct scores: these are decisions, and the EER of decisions is not meaningful"
        )
    eer, threshold = equal_error_rate(bonafide, spoof)
    if n_distinct >= 3 and (tied := _tied_at(bonafide, spoof, threshold)):
        warnings.append(tied)
    if eer > 0.5:
        negated = equal_error_rate(-bonafide, -spoof).eer
        warnings.append(
            f"an EER above 50 % looks like inverted scores (higher must mean bona fide); "
            f"that of the negated scores is {100 * negated:.2f} %"
        )
    return warnings


def _tied_at(bonafide: np.ndarray, spoof: np.ndarray, threshold: float) -> str | None:
    """A warning if the EER lies inside a tie of both classes, where its value hangs on how ties are counted."""
    flat = [float((scores == threshold).mean()) for scores in (bonafide, spoof)]
    if min(flat) == 0 or max(flat) < TIED:
        return None
    return (
        f"{100 * flat[0]:.1f} % of the bona fide and {100 * flat[1]:.1f} % of the spoofed scores are equal to "
        f"{threshold:.6g}, where the EER lies: its value depends on how ties are counted (here against the system); "
        "scores with more digits tell more"
    )


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


class TDCFCoefficients(NamedTuple):
    """t-DCF = (c0 + c1 * miss + c2 * false alarm) / (c0 + min(c1, c2)), with the rates of the countermeasure."""

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


def tdcf_coefficients(errors: ASVErrors, costs: Costs = COSTS) -> TDCFCoefficients:
    """TDCFCoefficients of the t-DCF of ASVspoof 2021, in which an ASV system without errors would make c0 zero.

    Raises:
        InputError: a negative cost, or priors that do not sum to one.

    Source: Kinnunen et al. 2020 (arXiv:2007.05979), Eqs. 10 and 11.
    """
    _check_costs(costs)
    c0 = costs.p_target * costs.c_miss * errors.miss + costs.p_nontarget * costs.c_false_alarm * errors.false_alarm
    c1 = costs.p_target * costs.c_miss - c0
    return TDCFCoefficients(c0, c1, costs.p_spoof * costs.c_spoof * errors.false_alarm_spoof)


def legacy_tdcf_coefficients(
    errors: ASVErrors, costs: Costs = COSTS, *, c_miss_cm: float = 1, c_false_alarm_cm: float = 10
) -> TDCFCoefficients:
    """TDCFCoefficients of the t-DCF of ASVspoof 2019, which has no c0: an error-free countermeasure costs nothing.

    Raises:
        InputError: a negative cost, or priors that do not sum to one.

    Source: Kinnunen et al. 2018 (arXiv:1804.09618).
    """
    _check_costs(costs._replace(c_spoof=min(c_miss_cm, c_false_alarm_cm)))
    c1 = (
        costs.p_target * (c_miss_cm - costs.c_miss * errors.miss)
        - costs.p_nontarget * costs.c_false_alarm * errors.false_alarm
    )
    return TDCFCoefficients(0.0, c1, c_false_alarm_cm * costs.p_spoof * (1 - errors.miss_spoof))


def tdcf_of_det(det: DET, coefficients: TDCFCoefficients) -> np.ndarray:
    """Normalised t-DCF at each point of a curve: (M,); NaN where the coefficients leave nothing to normalise by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = coefficients.c0 + coefficients.c1 * det.miss + coefficients.c2 * det.false_alarm
        return cost / (np.float64(coefficients.c0) + min(coefficients.c1, coefficients.c2))


def min_tdcf(bonafide: np.ndarray, spoof: np.ndarray, coefficients: TDCFCoefficients) -> float:
    """The least normalised t-DCF over all thresholds, at most 1; NaN where c0 + min(c1, c2) is 0.

    Raises:
        InputError: one class is empty, a score is not finite, fewer than three distinct scores, or a negative
            coefficient.
    """
    bonafide, spoof = checked(bonafide, spoof)
    scores = np.concatenate([bonafide, spoof])
    if not np.isfinite(scores).all():
        raise InputError(f"{int((~np.isfinite(scores)).sum())} scores are infinite: t-DCF needs finite scores")
    if len(np.unique(scores)) < 3:
        raise InputError("fewer than 3 distinct scores: t-DCF needs scores, not decisions")
    if min(coefficients.c1, coefficients.c2) < 0:
        raise InputError(f"negative t-DCF coefficients {tuple(coefficients)}: the ASV system is worse than chance")
    return float(np.min(tdcf_of_det(det_curve(bonafide, spoof), coefficients)))


def _check_costs(costs: Costs) -> None:
    priors = (costs.p_target, costs.p_nontarget, costs.p_spoof)
    if min(priors) < 0 or abs(sum(priors) - 1) > 1e-10:
        raise InputError(f"the priors of target, nontarget and spoof must be at least 0 and sum to 1, got {priors}")
    if min(costs.c_miss, costs.c_false_alarm, costs.c_spoof) < 0:
        raise InputError(f"costs must be at least 0, got {tuple(costs[3:])}")


# ASVspoof 5, track 1


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
    cost = miss * det.miss + false_alarm * det.false_alarm
    index = int(np.argmin(cost))
    return EER(float(cost[index] / min(miss, false_alarm)), float(det.thresholds[index]))


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
