"""Quality classes: from a MOS to the class whose centroid speech is drawn to, and what augmentation does to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qamo import InputError

MAX_PREDICTOR_GAP = 0.1  # mean absolute MOS difference above which two columns are taken to come from two predictors


@dataclass(frozen=True)
class QualityRule:
    """MOS to quality class, and what augmentation does to the class."""

    edges: np.ndarray  # (K - 1,) increasing MOS values
    augmented: str  # lower | lowest | none | predict

    @property
    def n_classes(self) -> int:
        return len(self.edges) + 1

    def classes(self, mos: np.ndarray) -> np.ndarray:
        """Number of edges at or below each MOS: (N,) -> (N,) int64 in [0, K)."""
        return np.searchsorted(self.edges, mos, side="right").astype(np.int64)

    @property
    def predicts(self) -> bool:
        """Whether the class of augmented speech takes a prediction of its MOS."""
        return self.augmented == "predict" and self.n_classes > 1

    def after_augmentation(self, quality: int) -> int:
        """The class that augmentation moves `quality` to, for rules that do not predict MOS."""
        if self.augmented in ("none", "predict"):
            return quality
        return max(quality - 1, 0) if self.augmented == "lower" else 0


def quality_rule(
    mos: np.ndarray, *, thresholds: list[float] | None, quantiles: list[float] | None, augmented: str
) -> QualityRule:
    """The rule with fixed thresholds, or with quantiles of the bona fide training MOS turned into thresholds.

    Args:
        mos: (N,) of the bona fide training utterances.
    """
    if thresholds is not None:
        return QualityRule(np.asarray(thresholds, dtype=np.float64), augmented)
    if not len(mos):
        raise InputError("data.quality.quantiles needs bona fide training utterances, found none")
    edges = np.quantile(mos, quantiles or [])
    if len(np.unique(edges)) < len(edges):
        raise InputError(
            f"data.quality.quantiles: {quantiles} of the training MOS coincide at {edges.tolist()}; use fewer"
        )
    return QualityRule(edges, augmented)


def describe_quality(mos: np.ndarray, rule: QualityRule, probability: float) -> list[str]:
    """Sentences on how many bona fide utterances fall in each class, and whether the MOS labels say anything.

    Args:
        mos: (N,) of the bona fide training utterances.
        probability: of an utterance to be augmented in an epoch.
    """
    before = np.bincount(rule.classes(mos), minlength=rule.n_classes).astype(float)
    moved = np.array([rule.after_augmentation(k) for k in range(rule.n_classes)])
    after = before * (1 - probability) + np.bincount(moved, weights=before * probability, minlength=rule.n_classes)
    total = max(before.sum(), 1)
    predicts = rule.predicts and probability > 0
    expected = [f", {m / total:.1%} expected once {probability:.0%} are augmented" for m in after]
    edges = [f"{e:.3g}" for e in rule.edges]
    spans = [f"MOS {lo}-{hi}" for lo, hi in zip(["1", *edges], [*edges, "5"])]
    sentences = [
        f"quality class {k} ({span}): {n:.0f} bona fide utterances ({n / total:.1%}){'' if predicts else then}"
        for k, (span, n, then) in enumerate(zip(spans, before, expected))
    ]
    if rule.n_classes > 1 and before.max() / total > 0.99:
        fullest = int(before.argmax())
        sentences.append(
            f"the MOS labels are nearly inert: {before.max() / total:.1%} of bona fide speech is in class {fullest}; "
            "the other classes come from augmentation alone"
        )
    if not predicts:
        empty = np.flatnonzero(after < 0.5)
        sentences += [f"quality class {k} is empty: its centroid is trained by spoof alone" for k in empty]
    return sentences


def describe_prediction(
    rule: QualityRule, given: np.ndarray, clean: np.ndarray, after: np.ndarray, protocol: object
) -> list[str]:
    """Sentences on what augmentation does to the classes of n probed utterances, and whether MOS are on one scale.

    Args:
        given, clean, after: (n,) MOS by the protocol, predicted, and predicted after augmentation.
    """
    n = len(given)
    ratios = np.bincount(rule.classes(after), minlength=rule.n_classes) / n
    in_classes = ", ".join(f"{ratio:.0%} in class {k}" for k, ratio in enumerate(ratios))
    sentences = [
        f"of {n} probed bona fide utterances, augmented: {in_classes}; their MOS goes from {clean.mean():.2f} to "
        f"{after.mean():.2f} (DistillMOS)"
    ]
    if np.abs(given - clean).mean() > MAX_PREDICTOR_GAP:
        sentences.append(
            f"the MOS of {protocol} are not DistillMOS's (mean {given.mean():.2f}, DistillMOS {clean.mean():.2f}), "
            "so the classes of plain and of augmented speech are cut on two scales; make the protocol's MOS with "
            "predict_mos.py, or use another data.quality.augmented"
        )
    return sentences
