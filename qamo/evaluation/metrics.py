"""Every figure of a set of scores, as `name: value` lines: what `score_ood_dataset.py --metrics` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval_metrics import TDCFCoefficients, actual_dcf, cllr_bits, equal_error_rate, min_dcf, min_tdcf
from qamo import InputError
from qamo.evaluation import detection
from qamo.evaluation.tdcf import pooled_min_tdcf
from qamo.trials.keys import Keys

APCERS = ((0.01, "BPCER100"), (0.05, "BPCER20"), (0.1, "BPCER10"))


@dataclass(frozen=True, eq=False)
class SetScores:
    """The scores of one system on one set, in the order of the key: (N,)."""

    name: str
    keys: Keys
    values: np.ndarray

    @property
    def bonafide(self) -> np.ndarray:
        return self.values[self.keys.bonafide]

    @property
    def spoof(self) -> np.ndarray:
        return self.values[~self.keys.bonafide]

    @property
    def attacks(self) -> np.ndarray | None:
        """The attack of each spoofed trial, (Ns,) of dtype S; None where the key tells none."""
        if "attack" not in self.keys.columns:
            return None
        attacks = self.keys.columns.raw["attack"][~self.keys.bonafide]
        return None if (attacks == b"-").all() else attacks


def all_metrics(
    scored: SetScores, *, threshold: float | None, subset: str | None, legacy: TDCFCoefficients | None
) -> list[str]:
    """The figures in lines.

    Args:
        threshold: of decisions, from other data; without it nothing is decided.
        legacy: coefficients of the t-DCF of ASVspoof 2019.

    Raises:
        InputError: the files of the t-DCF are damaged.
    """
    bonafide, spoof, attacks = scored.bonafide, scored.spoof, scored.attacks
    blocks = detection.pool(bonafide, spoof)
    lines = [
        f"rocch eer: {100 * detection.rocch_eer(blocks):.2f}",
        f"auc: {detection.area_under_curve(bonafide, spoof):.5f}",
        f"min dcf: {min_dcf(bonafide, spoof).eer:.5f}",
        f"act dcf: {actual_dcf(bonafide, spoof):.5f} (takes scores for log-likelihood ratios)",
        f"cllr: {cllr_bits(bonafide, spoof):.5f} bits (takes scores for log-likelihood ratios)",
        f"min cllr: {detection.min_cllr(blocks):.5f} bits",
    ]
    tdcf = None
    if scored.keys.track in ("LA", "PA") and subset is not None:
        tdcf = pooled_min_tdcf(bonafide, spoof, scored.keys.path, track=scored.keys.track, subset=subset)
    lines += [] if tdcf is None else [f"min t-dcf 2021: {tdcf:.4f}"]
    lines += [] if legacy is None else [f"min t-dcf 2019: {min_tdcf(bonafide, spoof, legacy):.4f}"]
    average = detection.attack_average(bonafide, spoof, attacks)
    lines += [] if average is None else [f"eer, mean over attacks: {100 * average:.2f}"]
    of = "the worst attack" if attacks is not None else "all attacks pooled"
    for apcer, name in APCERS:
        bpcer = detection.bpcer_at(bonafide, spoof, apcer, attacks)
        lines.append(f"{name}: {100 * bpcer:.2f} (BPCER at an APCER of {100 * apcer:g} % of {of})")
    if threshold is None:
        return [*lines, "accuracy, F1, APCER: need a threshold from other data, give --dev or --threshold"]
    return lines + _decided(bonafide, spoof, threshold, attacks)


def _decided(bonafide: np.ndarray, spoof: np.ndarray, threshold: float, attacks: np.ndarray | None) -> list[str]:
    made = detection.decisions(bonafide, spoof, threshold, attacks)
    worst = f" (attack {made.worst_attack})" if made.worst_attack else " (all attacks pooled)"
    return [
        f"at the threshold {threshold:.6g}:",
        f"accuracy: {100 * made.accuracy:.2f}",
        f"balanced accuracy: {100 * made.balanced_accuracy:.2f}",
        f"F1: {100 * made.f1_bonafide:.2f} for bona fide, {100 * made.f1_spoof:.2f} for spoof",
        f"BPCER: {100 * made.bpcer:.2f}",
        f"APCER: {100 * made.apcer:.2f}{worst}",
    ]


def over_sets(sets: Sequence[SetScores]) -> list[str]:
    """The EER of each set, of all their trials at one threshold, and the average of the sets.

    Raises:
        InputError: a set has one class only.
    """
    eers = [equal_error_rate(chosen.bonafide, chosen.spoof).eer for chosen in sets]
    pooled = equal_error_rate(
        np.concatenate([chosen.bonafide for chosen in sets]), np.concatenate([chosen.spoof for chosen in sets])
    ).eer
    width = max(map(len, [*(chosen.name for chosen in sets), "average of sets"]))
    rows = [*zip((chosen.name for chosen in sets), eers), ("pooled trials", pooled)]
    rows.append(("average of sets", float(np.mean(eers))))
    return ["", f"{'set':<{width}}     eer", *(f"{name:<{width}}  {100 * eer:6.2f}" for name, eer in rows)]


def dev_threshold(scores: tuple[np.ndarray, np.ndarray], path: Path) -> float:
    """The threshold of the EER of dev scores: (Nb,), (Ns,).

    Raises:
        InputError: they are of one class only.
    """
    try:
        return equal_error_rate(*scores).threshold
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
