"""Heads: an embedding in, a score out, and the loss that shapes both.

Every head is an nn.Module with two methods:

    head(embedding)                           -> score (B,), higher means bona fide
    head.loss(embedding, bonafide, quality)   -> {"total": scalar, <term>: scalar, ...}

A head with centroids also has `cosines(embedding)` -> (B, K). Heads compute in float32 under autocast and in
half precision, and in float64 where the embedding is float64. A batch of one class only gives finite losses.

Shapes: B utterances, E embedding size, K centroids.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class QAMO(nn.Module):
    """Quality-aware multi-centroid one-class head (Truong et al. 2025, arXiv:2509.20679).

    Bona fide speech of quality class k is drawn to within `radius_bonafide` (cosine) of centroid k;
    spoofed speech is pushed beyond `radius_spoof` of every centroid.
    """

    def __init__(
        self,
        embedding_size: int,
        *,
        n_centroids: int,
        radius_bonafide: float,
        radius_spoof: float,
        alpha: float,
        scale: float,
        margin: float,
        quality_weight: float,
        score: str,
    ):
        super().__init__()
        self.centroids = nn.Parameter(torch.randn(n_centroids, embedding_size))
        self.radius_bonafide = radius_bonafide
        self.radius_spoof = radius_spoof
        self.alpha = alpha
        self.scale = scale
        self.margin = margin
        self.quality_weight = quality_weight
        self.combine = SCORES[score]

    def cosines(self, embedding: Tensor) -> Tensor:
        """Cosine of each embedding (B, E) to each centroid: (B, K)."""
        return _cosines(embedding, self.centroids)

    def forward(self, embedding: Tensor) -> Tensor:
        """One score in [-1, 1] from the cosines to the centroids: (B, E) -> (B,)."""
        return self.combine(self.cosines(embedding))

    def loss(self, embedding: Tensor, bonafide: Tensor, quality: Tensor | None = None) -> dict[str, Tensor]:
        """One-class loss, plus the quality term where quality is known.

        Args:
            embedding: (B, E), any norm.
            bonafide: (B,) bool.
            quality: (B,) int64 class in [0, K); read on bona fide rows only. None on the dev set, where each
                utterance is measured against its nearest centroid.

        Source: arXiv:2509.20679; behaviour matched to ductuantruong/QAMO @47d77cc.
        """
        cosines = self.cosines(embedding)  # (B, K)
        nearest = cosines.amax(dim=1)
        own = nearest if quality is None else cosines.gather(1, (quality * bonafide)[:, None]).squeeze(1)
        one_class = _one_class(own, nearest, bonafide, self.radius_bonafide, self.radius_spoof, self.alpha)
        if quality is None:
            return {"total": one_class, "one_class": one_class}
        quality_term = _quality_term(cosines, bonafide, quality, self.scale, self.margin)
        total = one_class + self.quality_weight * quality_term
        return {"total": total, "one_class": one_class, "quality": quality_term}


class OCSoftmax(nn.Module):
    """One-class softmax head with a single centroid (Zhang et al. 2021, arXiv:2010.13995)."""

    def __init__(self, embedding_size: int, *, radius_bonafide: float, radius_spoof: float, alpha: float):
        super().__init__()
        self.centroids = nn.Parameter(torch.randn(1, embedding_size))  # drawn and drawn over, as the original does
        nn.init.kaiming_uniform_(self.centroids, 0.25)
        self.radius_bonafide = radius_bonafide
        self.radius_spoof = radius_spoof
        self.alpha = alpha

    def cosines(self, embedding: Tensor) -> Tensor:
        """Cosine of each embedding (B, E) to the centroid: (B, 1)."""
        return _cosines(embedding, self.centroids)

    def forward(self, embedding: Tensor) -> Tensor:
        """Cosine to the centroid: (B, E) -> (B,) in [-1, 1]."""
        return self.cosines(embedding)[:, 0]

    def loss(self, embedding: Tensor, bonafide: Tensor, quality: Tensor | None = None) -> dict[str, Tensor]:
        """One-class loss; `quality` is not read.

        Source: arXiv:2010.13995.
        """
        score = self(embedding)
        total = _one_class(score, score, bonafide, self.radius_bonafide, self.radius_spoof, self.alpha)
        return {"total": total, "one_class": total}


class WCE(nn.Module):
    """Weighted cross-entropy on two logits, the baseline; optionally plus QAMO's quality term (an ablation).

    The score is the bona fide logit, as in the field's baselines: unbounded, and not a log-likelihood ratio.
    """

    def __init__(
        self,
        embedding_size: int,
        *,
        weight_spoof: float,
        weight_bonafide: float,
        quality_weight: float,
        n_centroids: int,
        scale: float,
        margin: float,
    ):
        super().__init__()
        self.linear = nn.Linear(embedding_size, 2)  # rows: spoof, bona fide
        self.weight_spoof = weight_spoof
        self.weight_bonafide = weight_bonafide
        self.quality_weight = quality_weight
        self.scale = scale
        self.margin = margin
        # Without the quality term there are no centroids: a parameter without a gradient would stop DDP.
        self.centroids = nn.Parameter(torch.randn(n_centroids, embedding_size)) if quality_weight > 0 else None

    def logits(self, embedding: Tensor) -> Tensor:
        """Spoof and bona fide logits: (B, E) -> (B, 2)."""
        with torch.autocast(embedding.device.type, enabled=False):
            x = _at_least_float32(embedding)
            return F.linear(x, self.linear.weight.to(x.dtype), self.linear.bias.to(x.dtype))

    def forward(self, embedding: Tensor) -> Tensor:
        """Bona fide logit: (B, E) -> (B,)."""
        return self.logits(embedding)[:, 1]

    def loss(self, embedding: Tensor, bonafide: Tensor, quality: Tensor | None = None) -> dict[str, Tensor]:
        """Weighted cross-entropy (a weighted mean), plus the quality term where it is on and quality is known."""
        logits = self.logits(embedding)
        weights = logits.new_tensor([self.weight_spoof, self.weight_bonafide])
        cross_entropy = F.cross_entropy(logits, bonafide.long(), weight=weights)
        if quality is None or self.centroids is None:
            return {"total": cross_entropy, "wce": cross_entropy}
        cosines = _cosines(embedding, self.centroids)
        quality_term = _quality_term(cosines, bonafide, quality, self.scale, self.margin)
        total = cross_entropy + self.quality_weight * quality_term
        return {"total": total, "wce": cross_entropy, "quality": quality_term}


def _mean(cosines: Tensor) -> Tensor:
    return cosines.mean(dim=1)


def _softmax(cosines: Tensor) -> Tensor:
    return (cosines.softmax(dim=1) * cosines).sum(dim=1)


def _max(cosines: Tensor) -> Tensor:
    return cosines.amax(dim=1)


# The published code takes the mean; the paper the softmax-weighted sum (equations 7 and 8) and, as an
# ablation, the nearest centroid (equation 6).
SCORES = {"mean": _mean, "softmax": _softmax, "max": _max}


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _cosines(embedding: Tensor, centroids: Tensor) -> Tensor:
    with torch.autocast(embedding.device.type, enabled=False):  # a cosine in bfloat16 has two digits
        x = _at_least_float32(embedding)
        return F.normalize(x, dim=1) @ F.normalize(centroids.to(x.dtype), dim=1).T


def _one_class(
    own: Tensor, nearest: Tensor, bonafide: Tensor, radius_bonafide: float, radius_spoof: float, alpha: float
) -> Tensor:
    """Softplus of how far each utterance is on the wrong side of its radius, averaged; own, nearest: (B,)."""
    excess = torch.where(bonafide, radius_bonafide - own, nearest - radius_spoof)
    return F.softplus(alpha * excess).mean()


def _quality_term(cosines: Tensor, bonafide: Tensor, quality: Tensor, scale: float, margin: float) -> Tensor:
    """Additive-margin cross-entropy over the centroids, averaged over the bona fide rows; cosines: (B, K)."""
    target = quality * bonafide  # spoofed rows may hold any value, also one that is no class
    classes = torch.arange(cosines.shape[1], device=target.device)
    own = (target[:, None] == classes).to(cosines.dtype)  # an integer times a float would round to float32
    logits = scale * (cosines - margin * own)
    each = F.cross_entropy(logits, target, reduction="none")
    # Masked and divided by at least 1: a batch without bona fide speech adds 0, not NaN, and keeps its gradients.
    return (each * bonafide).sum() / bonafide.sum().clamp(min=1)
