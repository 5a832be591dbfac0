"""ASVspoof 5, track 2: speaker verification that must also reject spoofs, by one score or by two systems in a row.

min_adcf       the least architecture-agnostic detection cost (a-DCF) of one score
tandem_eer     the rate at which a detector and a speaker verification system behind it are equally often wrong
ASVSPOOF5_ASV  error rates of the organisers' speaker verification system
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eval_metrics import COSTS, EER, ASVErrors, Costs, checked, det_curve

Rates = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
ASVSPOOF5_ASV = ASVErrors(  # of the organisers' ASV system, for the min t-DCF of track 2
    false_alarm=0.01881016557566423,
    miss=0.01880141010575793,
    miss_spoof=1 - 0.4607082907604729,
    false_alarm_spoof=0.4607082907604729,
)


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
    index = int(np.argmin(cost))
    return EER(float(cost[index] / min(accept_all, costs.p_target * costs.c_miss)), float(thresholds[index]))


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

    def rates(index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Misses, nontargets accepted, spoofs accepted, for one point of the CM curve at each ASV threshold."""
        passed = 1 - cm.miss[index]
        return 1 - passed * (1 - asv_miss), passed * asv_false_alarm, cm.false_alarm[index] * asv_false_alarm_spoof

    miss, false_alarm, false_alarm_spoof = rates(_balanced(rates, len(thresholds), len(cm.miss)))
    spread = np.maximum(np.maximum(miss, false_alarm), false_alarm_spoof)
    spread = spread - np.minimum(np.minimum(miss, false_alarm), false_alarm_spoof)
    return float(false_alarm_spoof[np.argmin(spread)])


def _balanced(rates: Rates, n_thresholds: int, n_points: int) -> np.ndarray:
    """For each ASV threshold, the point of the CM curve where misses and false alarms are closest: (T,)."""

    def excess(index: np.ndarray) -> np.ndarray:
        """Misses less false alarms; it rises along the CM curve."""
        miss, false_alarm, false_alarm_spoof = rates(index)
        return miss - (false_alarm + false_alarm_spoof) / 2

    low = np.zeros(n_thresholds, np.int64)
    high = np.full(n_thresholds, n_points - 1)  # the CM rejects all: misses are 1, false alarms 0
    while (low < high).any():
        middle = (low + high) // 2
        reached = excess(middle) >= 0
        low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
    before = np.maximum(high - 1, 0)
    return np.where(np.abs(excess(before)) <= np.abs(excess(high)), before, high)


def _share_up_to(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The share of scores at or below each threshold: (N,), (T,) -> (T,)."""
    return np.searchsorted(np.sort(scores), thresholds, side="right") / len(scores)


def _share_above(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The share of scores above each threshold: (N,), (T,) -> (T,)."""
    return (len(scores) - np.searchsorted(np.sort(scores), thresholds, side="right")) / len(scores)
