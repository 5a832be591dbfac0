"""The faster way through XLS-R on a CPU against transformers' own steps: features, gradients, changes of weights."""

from __future__ import annotations

import copy
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qamo.networks.cpu import onednn, xlsr_pass
from tests.support.xlsr_cpu import both, taken, waves, xlsr

needs_bfloat16 = pytest.mark.skipif(
    not onednn.has_onednn(torch.bfloat16), reason="oneDNN has no bfloat16 here, so XLS-R takes the plain way"
)


@pytest.fixture
def count_passes(monkeypatch):
    """The shapes that the faster way was taken for."""
    return taken(monkeypatch, xlsr_pass.CPUPass)


@pytest.mark.parametrize("n_samples", [400, 401, 719, 720, 1039, 1040, 6_400, 16_000, 33_333, 66_800])
@pytest.mark.parametrize("n_waves", [1, 3])
def test_features_are_the_plain_ones_for_any_length(n_waves, n_samples, count_passes):
    fast, plain = both()
    wave = waves(n_waves, n_samples)
    with torch.inference_mode():
        torch.testing.assert_close(fast(wave), plain(wave), atol=1e-5, rtol=0)
    assert len(count_passes) == 1


@pytest.mark.parametrize("frames_at_once", [1, 2, 7, 1000])
def test_pieces_of_the_stem_fit_together(frames_at_once, monkeypatch):
    fast, plain = both()
    monkeypatch.setattr(xlsr_pass, "FRAMES_AT_ONCE", frames_at_once)
    with torch.inference_mode():
        torch.testing.assert_close(fast(waves(3, 9_000)), plain(waves(3, 9_000)), atol=1e-5, rtol=0)


def test_no_wave_hears_its_neighbour():
    fast, _ = both()
    wave, other = waves(3, 5_000), waves(3, 5_000)
    other[1] = 100.0
    with torch.inference_mode():
        a, b = fast(wave), fast(other)
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[2], b[2])
    assert not torch.equal(a[1], b[1])


@pytest.mark.parametrize("n_samples", [400, 720, 6_400, 20_000])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_the_plain_ones(n_samples, checkpointing, count_passes):
    found = []
    for frontend in both(gradient_checkpointing=checkpointing):
        frontend.train()
        features = frontend(waves(2, n_samples))
        (features * torch.linspace(-1, 2, features.shape[2])).square().mean().backward()
        found.append({name: p.grad for name, p in frontend.named_parameters()})
    assert len(count_passes) == 1
    for name, plain in found[1].items():
        scale = max(plain.abs().max().item(), 1e-3)  # a key's bias has no gradient but rounding
        assert (found[0][name] - plain).abs().max().item() < 1e-5 * scale + 1e-7, name


def test_gradients_of_framed_products_are_those_of_the_convolution_in_double_precision():
    for kernel, stride, n_rows in ((3, 2, 9), (3, 2, 10), (2, 2, 8), (2, 2, 9), (3, 2, 3), (1, 1, 5), (10, 5, 20)):
        generator = torch.Generator().manual_seed(kernel * n_rows)
        x = torch.randn(n_rows, 6, generator=generator)
        weight = torch.randn(5, 6, kernel, generator=generator)
        bias = torch.randn(5, generator=generator)
        double = [t.double().requires_grad_() for t in (x, weight, bias)]
        expected = torch.nn.functional.conv1d(double[0].T[None], double[1], double[2], stride=stride)[0].T
        single = [t.requires_grad_() for t in (x, weight, bias)]
        rows = weight.permute(0, 2, 1).flatten(1)
        found = onednn.framed_linear(x, rows, bias, kernel, stride)
        torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
        towards = torch.randn(expected.shape, generator=generator)
        found.backward(towards)
        expected.backward(towards.double())
        for a, b in zip(single, double):
            torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-5, check_dtype=False)


def test_a_step_of_training_is_seen_by_the_next_evaluation():
    """Weights that are kept in another form must not outlive the ones they were made of."""
    fast, plain = both()
    wave = waves(2, 6_400)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        before = fast(wave)
    for fused in (False, True):
        optimizer = torch.optim.Adam(fast.parameters(), lr=1e-2, fused=fused)
        fast(wave).square().mean().backward()  # without leaving evaluation mode, which alone would drop what is kept
        optimizer.step()
    plain.load_state_dict(fast.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(fast(wave), plain(wave), atol=1e-5, rtol=0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            after = fast(wave)
    assert (after - before).abs().mean() > 0.1
    torch.testing.assert_close(after, plain(wave).detach(), atol=0.1, rtol=0)
    fast.load_state_dict(xlsr().state_dict())
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fast(wave), before)


def test_a_frozen_network_gives_the_same_with_and_without_recording():
    """Packed weights serve only where nothing is recorded; another form of the same ones serves elsewhere."""
    fast, plain = both()
    fast.requires_grad_(False)
    wave = waves(2, 6_400)
    for context in (torch.inference_mode, torch.enable_grad, torch.no_grad, torch.enable_grad):
        with context():
            torch.testing.assert_close(fast(wave).clone(), plain(wave).detach(), atol=1e-5, rtol=0)


def test_nothing_is_kept_while_training_and_copies_start_empty():
    fast, _ = both()
    with torch.inference_mode():
        fast(waves(1, 6_400))
    assert fast.cpu_pass._kept
    assert not copy.deepcopy(fast).cpu_pass._kept
    assert not any("cpu_pass" in name for name in fast.state_dict())
    fast.train()
    fast(waves(1, 6_400)).sum().backward()
    assert not fast.cpu_pass._kept


@needs_bfloat16
def test_bfloat16_strays_from_float32_less_than_autocast_does():
    fast, plain = both()
    wave = waves(4, 33_333)
    with torch.inference_mode():
        exact = plain(wave)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ours, autocast = fast(wave), plain(wave)
    assert (ours - exact).abs().mean() < 0.95 * (autocast - exact).abs().mean()
    assert (ours - exact).abs().max() < 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("training", [False, True])
def test_features_have_the_waves_format_whichever_way_is_taken(dtype, attention, training):
    frontend = xlsr(attention=attention).train(training)
    with torch.autocast("cpu", dtype=dtype):
        assert frontend(waves(1, 6_400)).dtype == torch.float32
    assert frontend(waves(1, 6_400)).dtype == torch.float32
    assert frontend.double()(waves(1, 6_400).double()).dtype == torch.float64


def test_bfloat16_gradients_point_where_those_of_float32_do():
    fast, plain = both()
    found = []
    for frontend, enabled in ((fast, True), (plain, False)):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            features = frontend.train()(waves(4, 16_000))
        (features * torch.linspace(-1, 2, features.shape[2])).square().mean().backward()
        found.append(torch.cat([p.grad.flatten() for p in frontend.parameters()]))
    assert torch.cosine_similarity(found[0], found[1], dim=0) > 0.999


@pytest.mark.parametrize("at_once", [1, 7, 512])
def test_queries_of_bfloat16_attention_are_independent(at_once, monkeypatch):
    fast, plain = both()
    wave = waves(2, 33_333)
    with torch.inference_mode():
        monkeypatch.setattr(xlsr_pass, "QUERIES_AT_ONCE", at_once)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = fast(wave)
        torch.testing.assert_close(features, plain(wave), atol=0.1, rtol=0)


def test_a_linear_layer_is_torchs_with_and_without_gradients():
    torch.manual_seed(0)
    ours, torchs = onednn.Linear(40, 24), torch.nn.Linear(40, 24)
    torchs.load_state_dict(ours.state_dict())
    for x in (torch.randn(40), torch.randn(3, 5, 40), torch.randn(5, 40, 3).mT, torch.randn(0, 40)):
        found = []
        for layer in (ours, torchs):
            layer.zero_grad()
            x = x.detach().requires_grad_()
            y = layer(x)
            y.square().sum().backward()
            found.append([y, x.grad, layer.weight.grad, layer.bias.grad])
        for a, b in zip(*found):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5)
        with torch.inference_mode():
            torch.testing.assert_close(ours(x), torchs(x), atol=1e-5, rtol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(torch.randn(2, 40)).dtype == torch.bfloat16
    assert ours.double()(torch.randn(2, 40).double()).dtype == torch.float64
    no_bias = onednn.Linear(40, 24, bias=False)
    x = torch.randn(2, 40)
    torch.testing.assert_close(no_bias(x), x @ no_bias.weight.T, atol=1e-5, rtol=0)
    ours.float().weight.requires_grad_(False)  # a layer of which the bias alone is trained
    ours.bias.grad = None
    ours(x).sum().backward()
    assert ours.bias.grad.tolist() == [2.0] * 24
    x = torch.randn(2, 40, requires_grad=True)
    (first,) = torch.autograd.grad(ours(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):  # no second derivative in place of a wrong one
        first.sum().backward()


def test_weights_that_change_format_and_come_back_are_seen():
    fast, plain = both()
    wave = waves(1, 6_400)
    with torch.inference_mode():
        fast(wave)
        assert fast.cpu_pass._kept
        fast.bfloat16()
        assert not fast.cpu_pass._kept  # nor does a network that moved to a GPU leave packed weights behind
        torch.testing.assert_close(fast.float()(wave), plain.bfloat16().float()(wave), atol=1e-5, rtol=0)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="of oneDNN's instruction sets on x86")
@pytest.mark.parametrize("limit", ["AVX2", "AVX512_CORE", "AVX512_CORE_VNNI"])
def test_a_processor_that_emulates_bfloat16_is_known(limit):
    program = "import torch\nfrom qamo.networks.cpu.onednn import is_native\nprint(is_native(torch.bfloat16))"
    words = [sys.executable, "-c", program]
    smaller = os.environ | {"ONEDNN_MAX_CPU_ISA": limit}
    done = subprocess.run(words, cwd=Path(__file__).parents[2], env=smaller, check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
    assert onednn.is_native(torch.float32)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="of oneDNN's instruction sets on x86")
def test_a_processor_without_products_in_bfloat16_takes_the_plain_way():
    program = """
import torch
from qamo.networks.cpu import onednn
from tests.support.xlsr_cpu import both, waves
assert onednn.has_onednn() and not onednn.has_onednn(torch.bfloat16)
fast, plain = both()
with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
    assert torch.equal(fast(waves(1, 6_400)), plain(waves(1, 6_400)))
"""
    older = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], env=older, check=True)


def test_where_the_faster_way_does_not_hold_the_plain_one_is_taken(count_passes, monkeypatch):
    fast, _ = both()
    wave = waves(1, 6_400)
    fast(wave.clone().requires_grad_())  # the gradient towards the wave
    copy.deepcopy(fast).double()(wave.double())
    eager = xlsr(attention="eager")
    with torch.inference_mode():
        eager(wave)
        with torch.autocast("cpu", dtype=torch.float16):
            fast(wave)
        monkeypatch.setattr(xlsr_pass, "has_onednn", lambda dtype: False)
        fast(wave)
    torch.export.export(xlsr(), (wave,))
    assert count_passes == []


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_network_itself_runs_with_fused_attention():
    fast, plain = both()
    wave = waves(2, 6_400)
    with torch.inference_mode():
        expected = plain(wave)
        found = fast.cuda()(wave.cuda()).cpu()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            rough = fast(wave.cuda()).float().cpu()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(rough, expected, atol=0.1, rtol=0)
