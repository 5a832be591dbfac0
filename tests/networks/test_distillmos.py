"""The DistillMOS front end and predictor against the package's own forward."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from qamo import InputError
from qamo.networks import distillmos as dm

pytest.importorskip("xls_r_sqa", reason="pip install --no-deps distillmos xls-r-sqa")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def network():
    return dm.load_network()


def noise(n_samples, n_waves=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(n_waves, n_samples, generator=generator)


def package_states(network, wave):
    """The encoder output inside the package's forward over the explicitly padded wave, by a hook."""
    caught = []
    handle = network.transformer_pool_attn.transformer.register_forward_hook(lambda *a: caught.append(a[2]))
    with torch.no_grad():
        mos = network(wave)
    handle.remove()
    return caught[0], mos[:, 0]


@pytest.mark.parametrize("n_samples", [160, 3_201, 48_000, 66_800, 117_000, 119_000, 122_880])
def test_hidden_states_and_opinions_equal_the_package_forward(network, n_samples):
    wave = noise(n_samples, 2, seed=n_samples)
    wave[1] *= torch.linspace(0, 30, n_samples)
    states, mos = package_states(network, wave)
    with torch.no_grad():
        assert (dm.hidden_states(network, wave) - states).abs().max() < 2e-5  # states reach 6
        assert (dm.opinions(network, wave) - mos).abs().max() < 5e-6


def test_stem_equals_the_package_in_double_precision():
    cnn = dm.load_network().cnn.double()
    wave = noise(66_800).double()
    plain = cnn(torch.nn.functional.pad(wave, (0, dm.MAX_SAMPLES - 66_800)))
    # The package's window function stays in single precision, hence not 1e-15.
    assert (dm._stem(cnn, wave) - plain).abs().max() < 1e-10


def test_predict_equals_the_package_also_beyond_the_padded_length(network):
    waves = [noise(n, seed=n)[0].numpy() for n in (30_000, 122_881, 150_000)]
    with torch.no_grad():
        expected = [float(network(torch.from_numpy(w)[None])) for w in waves]
    np.testing.assert_allclose(dm.predict(network, waves), expected, atol=5e-6)
    np.testing.assert_array_equal(dm.predict(network, waves[::-1])[::-1], dm.predict(network, waves))


def test_predict_ignores_the_level_and_takes_three_samples(network):
    wave = noise(20_000)[0].numpy()
    quiet, loud, three = dm.predict(network, [0.01 * wave, wave, wave[:3]])
    assert abs(quiet - loud) < 1e-3
    assert 1 <= three <= 5


def test_frozen_front_end_keeps_its_mode_and_gives_no_gradient():
    front_end = dm.DistillMOS().train()
    wave = noise(66_800, 2)
    features = front_end(wave)
    assert features.shape == (2, 210, front_end.dim)
    assert not features.requires_grad
    assert front_end.frozen
    assert not any(p.requires_grad for p in front_end.parameters())
    before = {name: value.clone() for name, value in front_end.state_dict().items()}
    assert torch.equal(features, front_end.eval()(wave))
    assert all(torch.equal(value, before[name]) for name, value in front_end.state_dict().items())


def test_front_end_equals_the_network_it_is_cut_from(network):
    wave = noise(66_800)
    states, _ = package_states(network, wave)
    assert (dm.DistillMOS()(wave) - states[:, :210]).abs().max() < 2e-5


def test_fine_tuning_reaches_every_parameter_with_the_gradient_of_the_plain_path():
    front_end = dm.DistillMOS(freeze=False, n_layers=2).train()
    wave = noise(16_000, 2)
    front_end(wave).square().mean().backward()
    fast = {name: p.grad.clone() for name, p in front_end.named_parameters()}
    front_end.zero_grad()
    padded = torch.nn.functional.pad(wave, (0, dm.MAX_SAMPLES - 16_000))
    dm.hidden_states(front_end.network, padded)[:, :51].square().mean().backward()
    for name, parameter in front_end.named_parameters():
        scale = parameter.grad.abs().max()
        assert scale > 0, name
        assert (fast[name] - parameter.grad).abs().max() < 1e-3 * scale, name


def test_state_dict_restores_the_front_end():
    changed = dm.DistillMOS(freeze=False)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.mul_(0.9)
    fresh = dm.DistillMOS()
    fresh.load_state_dict(changed.state_dict())
    wave = noise(16_000)
    with torch.no_grad():
        assert torch.equal(fresh(wave), changed(wave))
        assert not torch.allclose(fresh(wave), dm.DistillMOS()(wave), atol=1e-2)


@pytest.mark.parametrize("n_samples", [80, 122_881])
def test_a_length_that_does_not_fit_is_named(network, n_samples):
    with pytest.raises(InputError, match=f"found {n_samples}"):
        dm.hidden_states(network, noise(n_samples))


def test_loading_needs_no_torchaudio_and_leaves_no_stand_in_and_prints_nothing():
    code = "import sys, qamo.networks.distillmos as d\nd.load_network()\nassert 'torchaudio' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_the_front_end_computes_in_float32_whatever_the_number_format():
    front_end = dm.DistillMOS(n_layers=1)
    wave = 0.1 * torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    exact = front_end(wave)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = front_end(wave)
    assert features.dtype == torch.float32
    assert torch.equal(features, exact)


def test_the_silence_that_is_kept_follows_the_weights_and_the_number_format():
    cnn, wave = dm.load_network().cnn, noise(48_000)
    with torch.no_grad():
        first, again = dm._stem(cnn, wave), dm._stem(cnn, wave)
        assert torch.equal(first, again)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert dm._silence(cnn, wave).dtype == torch.bfloat16
        assert torch.equal(dm._stem(cnn, wave), first)
        cnn.cnn[0].bias.add_(1)
        kept, fresh = dm._silence(cnn, wave), cnn(wave.new_zeros(1, 4 * dm._REACH * 160))
        assert torch.equal(kept, fresh)
    assert dm._silence(cnn, wave).requires_grad  # while gradients are recorded nothing is kept
