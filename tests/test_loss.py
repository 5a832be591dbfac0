"""Heads against the formulas of the paper written out in NumPy, and their invariants."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loss import QAMO, WCE, OCSoftmax

SETTINGS = {"radius_bonafide": 0.9, "radius_spoof": 0.2, "alpha": 20.0}
QUALITY = {"scale": 32.0, "margin": 0.4}


def qamo(n_centroids=2, size=8, score="mean", quality_weight=0.1):
    torch.manual_seed(3)
    return QAMO(size, n_centroids=n_centroids, **SETTINGS, **QUALITY, quality_weight=quality_weight, score=score)


def wce(quality_weight=0.0):
    torch.manual_seed(3)
    return WCE(8, weight_spoof=0.1, weight_bonafide=0.9, quality_weight=quality_weight, n_centroids=2, **QUALITY)


def batch(n=12, size=8, n_classes=2):
    rng = np.random.default_rng(0)
    embedding = torch.from_numpy(rng.normal(size=(n, size)).astype(np.float32))
    return embedding, torch.from_numpy(rng.random(n) < 0.5), torch.from_numpy(rng.integers(0, n_classes, n))


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("n_centroids", [1, 2, 5])
def test_qamo_loss_is_the_papers_formula(n_centroids):
    head = qamo(n_centroids)
    embedding, bonafide, quality = batch(n_classes=n_centroids)
    losses = head.loss(embedding, bonafide, quality)

    e, c = unit(embedding.double().numpy()), unit(head.centroids.detach().double().numpy())
    one_class, quality_terms = [], []
    for x, real, q in zip(e, bonafide.tolist(), quality.tolist()):
        s = [float(x @ ck) for ck in c]
        one_class.append(np.log1p(np.exp(20 * ((0.9 - s[q]) if real else (max(s) - 0.2)))))
        if real:
            logits = [32 * (s[k] - 0.4 * (k == q)) for k in range(n_centroids)]
            quality_terms.append(np.log(np.sum(np.exp(np.array(logits) - max(logits)))) + max(logits) - logits[q])
    assert losses["one_class"].item() == pytest.approx(np.mean(one_class), rel=1e-5)
    assert losses["quality"].item() == pytest.approx(np.mean(quality_terms), rel=1e-5, abs=1e-6)
    assert losses["total"].item() == pytest.approx(np.mean(one_class) + 0.1 * np.mean(quality_terms), rel=1e-5)


def test_without_quality_bona_fide_speech_is_measured_against_its_nearest_centroid():
    head = qamo()
    embedding, bonafide, _ = batch()
    nearest = head.cosines(embedding).argmax(dim=1)
    dev = head.loss(embedding, bonafide)
    assert set(dev) == {"total", "one_class"}
    assert dev["total"].item() == pytest.approx(head.loss(embedding, bonafide, nearest)["one_class"].item(), rel=1e-6)


def test_score_rules():
    embedding, _, _ = batch()
    cosines = qamo(3).cosines(embedding).detach().numpy()
    weights = np.exp(cosines) / np.exp(cosines).sum(axis=1, keepdims=True)
    expected = {"mean": cosines.mean(axis=1), "max": cosines.max(axis=1), "softmax": (weights * cosines).sum(axis=1)}
    for rule, scores in expected.items():
        np.testing.assert_allclose(qamo(3, score=rule)(embedding).detach().numpy(), scores, rtol=1e-5, atol=1e-6)


def test_quality_of_spoofed_speech_is_never_read():
    head = qamo()
    embedding, bonafide, quality = batch()
    other = torch.where(bonafide, quality, torch.tensor(-1))
    assert torch.equal(head.loss(embedding, bonafide, quality)["total"], head.loss(embedding, bonafide, other)["total"])


@pytest.mark.parametrize("make", [qamo, wce, lambda: wce(0.1), lambda: OCSoftmax(8, **SETTINGS)])
@pytest.mark.parametrize("real", [True, False])
def test_a_batch_of_one_class_has_finite_losses_and_reaches_every_parameter(make, real):
    head = make()
    embedding, bonafide, quality = batch()
    embedding.requires_grad_()
    losses = head.loss(embedding, torch.full_like(bonafide, real), quality)
    losses["total"].backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert torch.isfinite(embedding.grad).all()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, f"{name}: DDP waits for its gradient"
        assert torch.isfinite(parameter.grad).all()
    if not real:
        assert losses.get("quality", torch.zeros(())).item() == 0


def test_losses_are_those_of_directions_not_of_norms():
    head = qamo()
    embedding, bonafide, quality = batch()
    first = head.loss(embedding, bonafide, quality)["total"].item()
    assert head.loss(7 * embedding, bonafide, quality)["total"].item() == pytest.approx(first, rel=1e-5)


def test_oc_softmax_is_qamo_with_one_centroid_and_no_quality():
    one, other = OCSoftmax(8, **SETTINGS), qamo(1, quality_weight=0.0)
    other.centroids.data = one.centroids.data.clone()
    embedding, bonafide, _ = batch()
    quality = torch.zeros(len(bonafide), dtype=torch.int64)
    assert torch.allclose(one(embedding), other(embedding))
    expected = other.loss(embedding, bonafide, quality)["total"]
    assert torch.allclose(one.loss(embedding, bonafide)["total"], expected)


def test_wce_is_the_weighted_mean_of_log_losses_and_scores_by_the_bona_fide_logit():
    head = wce()
    embedding, bonafide, quality = batch()
    logits = (embedding @ head.linear.weight.T + head.linear.bias).detach().double().numpy()
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    label = bonafide.numpy().astype(int)
    weight = np.where(label == 1, 0.9, 0.1)
    expected = -(weight * log_p[np.arange(len(label)), label]).sum() / weight.sum()
    assert head.loss(embedding, bonafide, quality)["total"].item() == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(head(embedding).detach().numpy(), logits[:, 1], rtol=1e-5, atol=1e-6)


def test_wce_with_the_quality_term_adds_qamos():
    head = wce(0.1)
    other = qamo()
    other.centroids.data = head.centroids.data.clone()
    embedding, bonafide, quality = batch()
    losses = head.loss(embedding, bonafide, quality)
    assert torch.allclose(losses["quality"], other.loss(embedding, bonafide, quality)["quality"])
    assert torch.allclose(losses["total"], losses["wce"] + 0.1 * losses["quality"])
    assert set(head.loss(embedding, bonafide)) == {"total", "wce"}


@pytest.mark.parametrize("make", [qamo, lambda: wce(0.1), lambda: OCSoftmax(8, **SETTINGS)])
def test_heads_compute_in_float32_under_autocast(make):
    head = make()
    embedding, bonafide, quality = batch()
    expected = head.loss(embedding, bonafide, quality)["total"], head(embedding)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head.loss(embedding, bonafide, quality)["total"], head(embedding)
    for a, b in zip(expected, found):
        assert b.dtype == torch.float32
        assert torch.equal(a, b)


def test_a_float64_head_computes_in_float64():
    head = qamo().double()
    embedding, bonafide, quality = batch()
    losses = head.loss(embedding.double(), bonafide, quality)
    assert losses["quality"].dtype == torch.float64
    # float32 would round the margin 0.4 at the eighth digit, which the scale makes visible.
    cosines = head.cosines(embedding.double()).detach()
    logits = 32 * cosines.clone()
    logits[torch.arange(len(quality)), quality] -= 32 * 0.4
    expected = torch.nn.functional.cross_entropy(logits[bonafide], quality[bonafide])
    assert losses["quality"].item() == pytest.approx(expected.item(), rel=1e-13)
