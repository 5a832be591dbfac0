"""Attentive statistics pooling against a loop over frames, and its invariants."""

from __future__ import annotations

import math

import torch

from qamo.networks.asp import ASP


def small() -> ASP:
    torch.manual_seed(0)
    part = ASP(10, projection_size=6, attention_size=5, embedding_size=4)
    for name, tensor in part.norm.named_buffers():
        if name != "num_batches_tracked":
            tensor.uniform_(0.5, 2)
    return part.double().eval()


def test_it_equals_equations_1_to_6_frame_by_frame():
    part = small()
    features = torch.randn(3, 7, 10, dtype=torch.float64)
    with torch.no_grad():
        for row, given in zip(features, part(features)):
            x = [part.projection(frame) for frame in row]
            scores = [float(part.score(torch.tanh(part.hidden(frame)))) for frame in x]
            weights = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
            mean = sum(w * frame for w, frame in zip(weights, x))
            deviation = (sum(w * frame * frame for w, frame in zip(weights, x)) - mean * mean).sqrt()
            torch.testing.assert_close(given, part.embedding(part.norm(torch.cat([mean, deviation])[None]))[0])


def test_the_order_of_frames_does_not_matter_and_equal_frames_have_a_gradient():
    part = small()
    features = torch.randn(2, 9, 10, dtype=torch.float64)
    torch.testing.assert_close(part(features), part(features[:, torch.randperm(9)]))
    equal = features[:, :1].repeat(1, 9, 1).requires_grad_()
    part(equal).sum().backward()
    assert equal.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in part.parameters())
