"""Conformer-TCM: its attention against a version in loops, its position table, and its invariants."""

from __future__ import annotations

import numpy as np
import torch

from qamo.networks.conformer_tcm import N_POSITIONS, ConformerTCM, HeadTokenAttention, sinusoids


def small(**changes):
    torch.manual_seed(0)
    sizes = {"embedding_size": 24, "n_heads": 4, "kernel_size": 7, "n_blocks": 2, "init": "independent", **changes}
    return ConformerTCM(16, **sizes).eval()


def test_head_token_attention_equals_a_version_in_loops():
    torch.manual_seed(1)
    layer = HeadTokenAttention(12, 3).double()
    layer.head_position.data.normal_()
    x = torch.randn(1, 5, 12, dtype=torch.float64)
    with torch.no_grad():
        found = layer(x)[0].numpy()

    p = {name: value.detach().numpy() for name, value in layer.named_parameters()}

    def layer_norm(v, weight, bias):
        return (v - v.mean()) / np.sqrt(v.var() + 1e-5) * weight + bias

    def gelu(v):
        return torch.nn.functional.gelu(torch.from_numpy(v)).numpy()

    tokens = [layer_norm(v, p["norm.weight"], p["norm.bias"]) for v in x[0].numpy()]
    head_tokens = []
    for i in range(3):
        mean = np.mean([t[4 * i : 4 * i + 4] for t in tokens], axis=0)
        wide = p["summary.weight"] @ mean + p["summary.bias"]
        parts = [
            gelu(layer_norm(wide[4 * j : 4 * j + 4], p["summary_norm.weight"], p["summary_norm.bias"]))
            for j in range(3)
        ]
        head_tokens.append(np.concatenate(parts) + p["head_position"][0, i])
    everything = np.array(tokens + head_tokens)
    q, k, v = np.split(everything @ p["qkv.weight"].T, 3, axis=1)
    outputs = np.zeros_like(everything)
    for i in range(3):
        own = slice(4 * i, 4 * i + 4)
        for row in range(len(everything)):
            weights = np.exp(k[:, own] @ q[row, own] / 2)  # 2 = sqrt(12 / 3)
            outputs[row, own] = weights @ v[:, own] / weights.sum()
    outputs = outputs @ p["output.weight"].T + p["output.bias"]
    expected = outputs[:5].copy()
    expected[0] += outputs[5:].mean(axis=0) + outputs[1:5].mean(axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_positions_are_the_sinusoids_of_the_formula():
    table = sinusoids(50, 24).numpy()
    for position in (0, 1, 17, 49):
        for channel in range(24):
            angle = position / 10_000 ** (2 * (channel // 2) / 24)
            expected = np.sin(angle) if channel % 2 == 0 else np.cos(angle)
            assert abs(table[position, channel] - expected) < 1e-5


def test_inputs_longer_than_the_position_table_are_taken():
    back = small(n_blocks=1)
    assert len(back.positions) == N_POSITIONS
    features = torch.randn(1, 150, 16)
    with torch.inference_mode():
        whole = back(features)
        back.positions = back.positions[:100]
        assert torch.equal(back(features), whole)


def test_the_position_table_is_not_in_the_state_dict():
    assert not any("positions" in name for name in small().state_dict())


def test_an_utterance_is_embedded_alike_in_any_batch():
    back = small()
    features = torch.randn(3, 20, 16)
    with torch.inference_mode():
        together = back(features)
        alone = torch.cat([back(row[None]) for row in features])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert together.shape == (3, 24)


def test_the_order_of_frames_matters():
    back = small()
    features = torch.randn(1, 20, 16)
    with torch.inference_mode():
        assert not torch.allclose(back(features), back(features.flip(1)), atol=1e-3)


def test_an_even_kernel_keeps_the_number_of_tokens():
    with torch.inference_mode():
        assert small(kernel_size=8)(torch.randn(2, 5, 16)).shape == (2, 24)


def test_every_parameter_has_a_gradient():
    back = small().train()
    back(torch.randn(4, 20, 16)).square().sum().backward()
    assert [name for name, p in back.named_parameters() if p.grad is None] == []


def state_of(block) -> dict:
    return dict(block.state_dict())


def test_blocks_begin_as_copies_of_one_that_do_not_share_weights():
    back = small(init="copies", n_blocks=3)
    first, *others = map(state_of, back.blocks)
    for other in others:
        assert all(torch.equal(tensor, other[name]) for name, tensor in first.items())
    with torch.no_grad():
        back.blocks[1].norm.weight.fill_(7)
        back.blocks[1].convolution.batch_norm.running_mean.fill_(7)
    assert not (back.blocks[0].norm.weight == 7).any()
    assert not (back.blocks[2].convolution.batch_norm.running_mean == 7).any()
    assert len(dict(back.named_parameters())) == len(dict(small(n_blocks=3).named_parameters()))


def test_independent_blocks_begin_with_draws_of_their_own():
    first, second = map(state_of, small().blocks)
    equal = {name.rpartition(".")[0] for name, tensor in first.items() if torch.equal(tensor, second[name])}
    drawn = {name.rpartition(".")[0] for name in first if name.endswith("weight") and "norm" not in name}
    assert drawn
    assert not drawn & equal
