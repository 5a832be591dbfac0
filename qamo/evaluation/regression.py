"""Prior-weighted logistic regression: scores of S systems to one log-likelihood ratio, for calibration and fusion.

N trials; weights (S,) and an offset make `scores @ weights + offset`, a natural log-likelihood ratio: above 0 speaks
for bona fide speech.
"""

from __future__ import annotations

import numpy as np

from qamo import InputError

RIDGE = 0.01  # over the number of trials of the smaller class


def fit_llr(scores: np.ndarray, is_bonafide: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights (S,) and offset of the log-likelihood ratio, from scores (N, S) and labels (N,) bool.

    Minimises the cross-entropy in nats, each class weighing one half whatever its numbers, plus ridge / 2 times the sum
    of the squared weights of scores that are scaled to class-balanced mean 0 and variance 1. The ridge is 0.01 over the
    number of trials of the smaller class: it keeps weights finite where the scores separate the classes. The targets
    are 0 and 1, so that with classes of any numbers the offset stays where it belongs.

    Raises:
        InputError: a class is empty, a score is not finite, or all scores of a system are equal.

    Source: Bruemmer and du Preez 2006 (Computer Speech & Language 20, 230-275), prior weighting.
    """
    scores = np.asarray(scores, dtype=np.float64)
    n_bonafide, n = int(is_bonafide.sum()), len(is_bonafide)
    if not 0 < n_bonafide < n:
        raise InputError("calibration: expected scores of bona fide and of spoofed speech, found one kind only")
    if not np.isfinite(scores).all():
        raise InputError("calibration: expected finite scores")
    weight = np.where(is_bonafide, 0.5 / n_bonafide, 0.5 / (n - n_bonafide))
    centre = weight @ scores
    spread = np.sqrt(weight @ (scores - centre) ** 2)
    if not (spread > 0).all():
        raise InputError("calibration: all scores of a system are equal, so they tell nothing apart")
    design = np.column_stack([(scores - centre) / spread, np.ones(n)])  # (N, S + 1)
    ridge = np.append(np.full(scores.shape[1], RIDGE / min(n_bonafide, n - n_bonafide)), 0.0)
    beta = _newton(design, is_bonafide.astype(np.float64), weight, ridge)
    weights = beta[:-1] / spread
    return weights, float(beta[-1] - weights @ centre)


def _newton(design: np.ndarray, target: np.ndarray, weight: np.ndarray, ridge: np.ndarray) -> np.ndarray:
    """Coefficients (K,) of least weighted cross-entropy: (N, K), targets (N,), weights (N,), ridge (K,)."""

    def cost(beta: np.ndarray) -> float:
        odds = design @ beta
        return float(weight @ (np.logaddexp(0, odds) - target * odds) + ridge @ beta**2 / 2)

    beta = np.zeros(design.shape[1])
    for _ in range(100):  # Newton's method with halved steps; the cost is convex
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -500, 500)))
        gradient = design.T @ (weight * (p - target)) + ridge * beta
        hessian = design.T @ ((weight * p * (1 - p))[:, None] * design) + np.diag(ridge + 1e-12)
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        while cost(beta - scale * step) > cost(beta) and scale > 1e-6:
            scale /= 2
        beta = beta - scale * step
        if np.abs(scale * step).max() < 1e-10:
            break
    return beta
