"""Error rates of decisions, and what curves say: ISO/IEC 30107-3, accuracy at a threshold, AUC, ROCCH, PAV.

Scores are higher for bona fide speech; a trial is accepted as bona fide where its score is above the threshold. Nb bona
fide and Ns spoofed trials; rates are in [0, 1].

    Decisions, decisions      accuracy, balanced accuracy, F1, APCER and BPCER at a threshold from other data
    bpcer_at                  BPCER where no attack's APCER is above a given rate
    area_under_curve          area under the ROC curve
    Blocks, pool              isotonic regression (PAV), whose blocks are the convex hull of the ROC curve
    rocch_eer, min_cllr       equal error rate and Cllr of the best monotonous calibration
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from eval_metrics import checked, equal_error_rate


class Decisions(NamedTuple):
    """Shares of right and wrong decisions at one threshold."""

    accuracy: float
    balanced_accuracy: float  # the mean over both classes
    f1_bonafide: float  # harmonic mean of precision and recall, with bona fide speech as what is looked for
    f1_spoof: float
    bpcer: float  # bona fide trials rejected
    apcer: float  # spoofed trials accepted, of the attack with most of them
    worst_attack: str  # "" where no attacks are known


def decisions(bonafide: np.ndarray, spoof: np.ndarray, threshold: float, attacks: np.ndarray | None) -> Decisions:
    """What a threshold does that was chosen on other data.

    Args:
        attacks: (Ns,) the attack of each spoofed trial; None takes all for one.

    Raises:
        InputError: one class is empty, or a score is NaN.

    Source: ISO/IEC 30107-3:2023 for APCER and BPCER.
    """
    bonafide, spoof = checked(bonafide, spoof)
    kept, lost = int((bonafide > threshold).sum()), int((bonafide <= threshold).sum())
    let_in, caught = int((spoof > threshold).sum()), int((spoof <= threshold).sum())
    apcer, worst = max((float((scores > threshold).mean()), name) for name, scores in by_attack(spoof, attacks).items())
    return Decisions(
        accuracy=(kept + caught) / (len(bonafide) + len(spoof)),
        balanced_accuracy=(kept / len(bonafide) + caught / len(spoof)) / 2,
        f1_bonafide=2 * kept / (2 * kept + lost + let_in) if kept else 0.0,
        f1_spoof=2 * caught / (2 * caught + lost + let_in) if caught else 0.0,
        bpcer=lost / len(bonafide),
        apcer=apcer,
        worst_attack=worst,
    )


def bpcer_at(bonafide: np.ndarray, spoof: np.ndarray, apcer: float, attacks: np.ndarray | None = None) -> float:
    """BPCER at the lowest threshold at which no attack is accepted more often than `apcer`, such as 0.05 for BPCER20.

    Raises:
        InputError: one class is empty, or a score is NaN.

    Source: ISO/IEC 30107-3:2023.
    """
    bonafide, spoof = checked(bonafide, spoof)
    thresholds = []
    for scores in by_attack(spoof, attacks).values():
        n_accepted = math.floor(apcer * len(scores) + 1e-9)
        ordered = np.sort(scores)
        thresholds.append(-math.inf if n_accepted >= len(scores) else float(ordered[len(scores) - n_accepted - 1]))
    return float((bonafide <= max(thresholds)).mean())


def attack_average(bonafide: np.ndarray, spoof: np.ndarray, attacks: np.ndarray | None) -> float | None:
    """Mean over attacks of the EER of each against all bona fide trials; None where fewer than two are known."""
    parts = by_attack(spoof, attacks)
    if len(parts) < 2:
        return None
    return float(np.mean([equal_error_rate(bonafide, scores).eer for scores in parts.values()]))


def by_attack(spoof: np.ndarray, attacks: np.ndarray | None) -> dict[str, np.ndarray]:
    """The scores of each attack by its name; trials whose attack is missing (`-`) are one attack without a name."""
    if attacks is None:
        return {"": spoof}
    names, codes = np.unique(attacks, return_inverse=True)
    return {"" if name in ("-", b"-") else _text(name): spoof[codes == i] for i, name in enumerate(names.tolist())}


def area_under_curve(bonafide: np.ndarray, spoof: np.ndarray) -> float:
    """The share of pairs of a bona fide and a spoofed trial in which the bona fide one scores higher; ties count half.

    Raises:
        InputError: one class is empty, or a score is NaN.
    """
    bonafide, spoof = checked(bonafide, spoof)
    ordered = np.sort(spoof)
    below = np.searchsorted(ordered, bonafide, side="left") + np.searchsorted(ordered, bonafide, side="right")
    return float(below.mean() / 2 / len(spoof))


class Blocks(NamedTuple):
    """Isotonic regression: neighbouring scores with one posterior, from the lowest; B blocks."""

    lowest: np.ndarray  # (B,) the lowest score of each
    n_bonafide: np.ndarray  # (B,) int64
    n_spoof: np.ndarray  # (B,) int64

    def llrs(self) -> np.ndarray:
        """Natural log-likelihood ratio of each block: (B,), infinite where it holds one class only."""
        with np.errstate(divide="ignore"):
            odds = np.log(self.n_bonafide) - np.log(self.n_spoof)
        return np.asarray(odds - math.log(self.n_bonafide.sum() / self.n_spoof.sum()))


def pool(bonafide: np.ndarray, spoof: np.ndarray) -> Blocks:
    """Pool adjacent violators: the best non-decreasing posterior of the trials.

    Raises:
        InputError: one class is empty, or a score is NaN.

    Source: Ayer et al. 1955; Bruemmer and du Preez 2013 (arXiv:1304.2331) for its use here.
    """
    bonafide, spoof = checked(bonafide, spoof)
    scores, codes = np.unique(np.concatenate([bonafide, spoof]), return_inverse=True)
    positive = np.bincount(codes[: len(bonafide)], minlength=len(scores)).tolist()
    negative = np.bincount(codes[len(bonafide) :], minlength=len(scores)).tolist()
    low: list[float] = []
    pos: list[int] = []
    neg: list[int] = []
    for score, p, n in zip(scores.tolist(), positive, negative):
        while pos and pos[-1] * (p + n) >= p * (pos[-1] + neg[-1]):
            p, n, score = p + pos.pop(), n + neg.pop(), low.pop()
        low.append(score)
        pos.append(p)
        neg.append(n)
    return Blocks(np.array(low), np.array(pos, np.int64), np.array(neg, np.int64))


def rocch_eer(blocks: Blocks) -> float:
    """The EER on the convex hull of the ROC curve, which no order of ties changes.

    Source: Bruemmer and de Villiers 2013 (arXiv:1304.2865).
    """
    miss = np.concatenate([[0], np.cumsum(blocks.n_bonafide)]) / blocks.n_bonafide.sum()
    false_alarm = 1 - np.concatenate([[0], np.cumsum(blocks.n_spoof)]) / blocks.n_spoof.sum()
    excess = miss - false_alarm  # from -1 to 1
    i = int(np.argmax(excess >= 0))
    part = -excess[i - 1] / (excess[i] - excess[i - 1])
    return float(miss[i - 1] + part * (miss[i] - miss[i - 1]))


def min_cllr(blocks: Blocks) -> float:
    """Cllr in bits after the best monotonous calibration: what the order of the scores alone allows."""
    llrs = blocks.llrs()
    nats = 0.0
    for counts, sign in ((blocks.n_bonafide, -1), (blocks.n_spoof, 1)):
        some = counts > 0
        nats += float((counts[some] * np.logaddexp(0, sign * llrs[some])).sum() / counts.sum())
    return nats / 2 / math.log(2)


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
