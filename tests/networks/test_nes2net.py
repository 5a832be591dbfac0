"""Nes2Net-X against a version without 2-d convolutions, and its invariants."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from qamo import InputError
from qamo.networks.nes2net import Nes2Net


def small(**changes):
    torch.manual_seed(0)
    back = Nes2Net(64, **{"n_groups": 4, "scale": 4, "dilation": 2, "se_ratio": 1, **changes})
    for name, tensor in back.state_dict().items():  # fresh norms are 0 and 1, which would hide a swap
        if name.endswith(("running_var", "weight")) and "norm" in name:
            tensor.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bias")) and "norm" in name:
            tensor.normal_(std=0.2)
    return back.double().eval()


def by_hand(back, features):
    """The network with every slot of the stack filtered by itself, as a list of 1-d signals."""

    def bn(module, x):
        shape = (1, -1) + (1,) * (x.dim() - 2)
        mean, var = module.running_mean.view(shape), module.running_var.view(shape)
        return (x - mean) / torch.sqrt(var + module.eps) * module.weight.view(shape) + module.bias.view(shape)

    def nest(block, x):
        parts = torch.split(bn(block.norm_in, F.relu(block.conv_in(x))), x.shape[1] // block.scale, dim=1)
        slots, emitted = [parts[-1]], []
        for i in range(block.scale - 1):
            slots.append(parts[i])
            kernel, bias = block.convs[i].weight[..., 0], block.convs[i].bias
            dilation = block.convs[i].dilation[0]
            slots = [
                bn(block.norms[i], F.relu(F.conv1d(s, kernel, bias, padding=dilation, dilation=dilation)))
                for s in slots
            ]
            weights = block.stack_weights[i].flatten()
            emitted.append(sum(w * s for w, s in zip(weights, slots, strict=True)))
        y = bn(block.norm_out, F.relu(block.conv_out(torch.cat([*emitted, parts[-1]], dim=1))))
        pooled = F.relu(block.squeeze_excitation.squeeze(y.mean(2, keepdim=True)))
        return y * torch.sigmoid(block.squeeze_excitation.excite(pooled)) + x

    groups = torch.split(features.transpose(1, 2), 64 // back.n_groups, dim=1)
    running, outputs = 0, []
    for i in range(back.n_groups - 1):
        running = bn(back.norms[i], F.relu(nest(back.nests[i], running + groups[i])))
        outputs.append(running)
    return F.relu(bn(back.norm, torch.cat([*outputs, groups[-1]], dim=1))).mean(2)


@pytest.mark.parametrize("changes", [{}, {"dilation": 1}, {"se_ratio": 2}, {"n_groups": 2, "scale": 8}])
def test_it_equals_a_version_that_filters_slot_by_slot(changes):
    back = small(**changes)
    features = torch.randn(3, 30, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(back(features), by_hand(back, features), atol=1e-12, rtol=1e-12)


def test_the_stack_starts_as_a_mean():
    back = Nes2Net(64, n_groups=4, scale=4, dilation=2, se_ratio=1)
    nest: Any = back.nests[0]
    for i, weights in enumerate(nest.stack_weights):
        assert weights.shape == (1, 1, 1, i + 2)
        assert torch.allclose(weights.sum(), torch.ones(()))


def test_the_embedding_is_as_wide_as_the_features_and_not_negative():
    back = small()
    embedding = back(torch.randn(2, 9, 64, dtype=torch.float64))
    assert embedding.shape == (2, back.dim) == (2, 64)
    assert (embedding >= 0).all()


def test_features_that_do_not_split_are_an_error_with_the_numbers():
    with pytest.raises(InputError, match=r"60 features do not split into n_groups 8 x scale 8"):
        Nes2Net(60, n_groups=8, scale=8, dilation=2, se_ratio=1)


def test_every_parameter_has_a_gradient():
    back = small().train()
    back(torch.randn(4, 20, 64, dtype=torch.float64)).square().sum().backward()
    assert [name for name, p in back.named_parameters() if p.grad is None] == []
