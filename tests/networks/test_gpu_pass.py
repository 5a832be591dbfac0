"""The way that a GPU takes through XLS-R, taken on a CPU, against transformers' own steps."""

from __future__ import annotations

import pytest
import torch

from qamo.networks import gpu_pass
from tests.support.xlsr_cpu import both, go_as_on_a_gpu, taken, waves, xlsr


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    """The shapes that the GPU's way was taken for."""
    go_as_on_a_gpu(monkeypatch)
    return taken(monkeypatch, gpu_pass.GPUPass)


@pytest.mark.parametrize("n_samples", [400, 401, 719, 720, 1039, 1040, 6_400, 33_333])
def test_features_are_the_plain_ones_for_any_length(n_samples, as_on_a_gpu):
    fast, plain = both()
    wave = waves(3, n_samples)
    with torch.inference_mode():
        torch.testing.assert_close(fast(wave), plain(wave), atol=1e-5, rtol=0)
    assert as_on_a_gpu == [wave.shape]


def test_attention_written_out_is_the_same(monkeypatch):
    fast, plain = both()
    wave = waves(2, 9_000)
    monkeypatch.setattr(gpu_pass, "_in_tf32", lambda x: True)
    with torch.inference_mode():
        torch.testing.assert_close(fast(wave), plain(wave), atol=1e-5, rtol=0)


def test_sums_between_layers_stay_in_float32_under_autocast(monkeypatch):
    fast, plain = both()
    wave = waves(2, 6_400)
    seen = []
    original = gpu_pass._layer
    monkeypatch.setattr(gpu_pass, "_layer", lambda layer, x, **more: seen.append(x.dtype) or original(layer, x, **more))
    with torch.inference_mode():
        expected = plain(wave)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough, rougher = fast(wave), plain(wave).float()
    assert set(seen) == {torch.float32}
    assert (rough - expected).abs().mean() < (rougher - expected).abs().mean() < 0.1


@pytest.mark.parametrize("layers", [[0, 2], [1], "weighted"])
def test_chosen_layers_are_the_plain_ones(layers):
    torch.manual_seed(0)
    fast = xlsr(layers=layers)
    plain = xlsr(layers=layers)
    plain.load_state_dict(fast.state_dict())
    plain.plain = True
    with torch.inference_mode():
        torch.testing.assert_close(fast(waves(2, 6_400)), plain(waves(2, 6_400)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_the_plain_ones(checkpointing):
    torch.manual_seed(0)
    fast, plain = xlsr(gradient_checkpointing=checkpointing).train(), xlsr().train()
    plain.load_state_dict(fast.state_dict())
    plain.plain = True
    wave = waves(2, 6_400)
    weights = torch.randn(fast(wave).shape)
    found = []
    for frontend in (fast, plain):
        (frontend(wave) * weights).sum().backward()
        found.append({name: p.grad for name, p in frontend.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[1].items():
        torch.testing.assert_close(found[0][name], gradient, atol=1e-4, rtol=1e-4)


def test_steps_are_compiled_for_one_shape_only(monkeypatch):
    fast, plain = both()
    calls = []

    def stem(layers, wave):
        calls.append(wave.shape)
        return gpu_pass._stem(layers, wave)

    monkeypatch.setattr(gpu_pass, "_compiled", lambda: (stem, gpu_pass._layer))
    fast.gpu_pass.compiled_for = torch.Size([2, 6_400])
    with torch.inference_mode():
        for shape in ([2, 6_400], [1, 6_400], [2, 6_401]):
            torch.testing.assert_close(fast(waves(*shape)), plain(waves(*shape)), atol=1e-5, rtol=0)
    assert calls == [(2, 6_400)]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("tf32", [False, True])
def test_on_a_gpu_it_is_the_plain_way_too(tf32, monkeypatch):
    fast, plain = (frontend.cuda() for frontend in both())
    wave = waves(3, 33_333).cuda()
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", tf32)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
    with torch.inference_mode():
        torch.testing.assert_close(fast(wave), plain(wave), atol=1e-2 if tf32 else 1e-4, rtol=0)
