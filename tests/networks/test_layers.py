"""Chosen layers of an encoder: against transformers' own hidden states, and as the cache and a training see them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qamo import InputError
from qamo.config.load import load_config
from qamo.networks import distillmos
from qamo.networks.distillmos import DistillMOS
from qamo.networks.feature_cache import FeatureCache, fingerprint
from tests.support.detectors import XLSR as TINY_RUN
from tests.support.detectors import batch_of, detector_of
from tests.support.xlsr import wave, xlsr


def hidden_states(part, waves):
    """What transformers gives, by its own forward, the last after the closing norm."""
    with torch.no_grad():
        found = part.network(waves, output_hidden_states=True)
        return [*found.hidden_states[:-1], found.last_hidden_state]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("freeze", [True, False])
def test_layers_of_xlsr_are_the_hidden_states_of_transformers(attention, freeze):
    whole = xlsr(n_layers=4, freeze=freeze, attention=attention).eval()
    expected = hidden_states(whole, wave())
    for layers in ([0], [2], [1, 3], [0, 2, 4]):
        part = xlsr(n_layers=4, freeze=freeze, attention=attention, layers=layers).eval()
        given = part(wave())
        assert given.shape[2] == part.dim == 32 * len(layers)
        torch.testing.assert_close(given, torch.cat([expected[n] for n in layers], dim=2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole(wave()), expected[-1], rtol=1e-4, atol=1e-5)


def test_weighted_layers_begin_as_their_mean_and_learn_though_the_encoder_is_frozen():
    part = xlsr(n_layers=3, freeze=True, layers="weighted").train()
    expected = torch.stack(hidden_states(part, wave())).mean(0)
    given = part(wave())
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)
    given.square().sum().backward()
    assert part.mix.weights.grad.abs().sum() > 0
    assert [name for name, p in part.named_parameters() if p.requires_grad] == ["mix.weights"]
    with torch.no_grad():
        part.mix.weights.copy_(torch.tensor([0.0, 50.0, 0.0, 0.0]))
    torch.testing.assert_close(part(wave()), hidden_states(part, wave())[1], rtol=1e-4, atol=1e-5)


def test_layers_above_the_highest_are_neither_kept_nor_computed():
    part = xlsr(n_layers=4, layers=[1, 2])
    assert len(part.network.encoder.layers) == 2
    assert isinstance(part.network.encoder.layer_norm, torch.nn.Identity)  # it closes the last layer alone


def test_layers_of_distillmos_are_those_between_its_own():
    waves = wave(8000)
    whole = DistillMOS()
    three = DistillMOS(layers=[0, 3, 7])
    assert three.dim == 3 * distillmos.WIDTH
    given = three(waves)
    torch.testing.assert_close(given[:, :, 400:], whole(waves), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(given[:, :, 200:400], DistillMOS(n_layers=3)(waves), rtol=1e-5, atol=1e-6)
    assert len(DistillMOS(layers=[2, 3]).network.transformer_pool_attn.transformer.transformer_encoder.layers) == 3


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([3, 9], "model.xlsr.layers: 9 was asked for, but this encoder has 2 layers; take numbers from 0 to 2"),
        ([2, 1], "expected last, weighted, or increasing numbers of layers"),
        ([1, 1], "expected last, weighted, or increasing"),
        ([], "expected last, weighted, or increasing"),
        ([-1], "expected last, weighted, or increasing"),
        ([True], "expected last, weighted, or increasing"),
        ("first", "expected last, weighted, or increasing"),
    ],
)
def test_layers_that_are_not_there_are_said(layers, said):
    with pytest.raises(InputError, match=r"model\.xlsr\.layers") as found:
        detector_of(TINY_RUN, **{"model.xlsr.layers": layers})
    assert said in str(found.value)


def test_half_precision_is_for_frozen_front_ends():
    with pytest.raises(InputError, match="float16 is for a frozen front end"):
        load_config(None, {"model.xlsr.features": "float16", "model.xlsr.freeze": False})


def test_the_cache_keeps_the_layers_and_the_learned_weights_stay_outside_it(tmp_path):
    part = xlsr(n_layers=3, freeze=True, layers="weighted").train()
    cache = FeatureCache(tmp_path, part, identity="", max_bytes=1e9)
    expected = torch.cat([part(row[None]) for row in wave()])
    torch.testing.assert_close(cache(part, wave()), expected, rtol=0, atol=0)
    (file,) = {path.stat().st_size for path in tmp_path.rglob("*.npy")}
    assert file > part.states(wave()[:1]).numel() * 4
    with torch.no_grad():
        part.mix.weights.copy_(torch.tensor([0.0, 1.0, 2.0, 3.0]))
    changed = torch.cat([part(row[None]) for row in wave()])
    again = FeatureCache(tmp_path, part, identity="", max_bytes=1e9)
    kept = again(part, wave())
    torch.testing.assert_close(kept, changed, rtol=0, atol=0)
    assert (again.hits, again.misses) == (2, 0)
    kept.sum().backward()
    assert part.mix.weights.grad is not None
    assert fingerprint(part) != fingerprint(part, without="mix.")


def test_half_precision_halves_the_files_and_the_cache_changes_nothing(tmp_path):
    sizes = {}
    for features in ("float32", "float16"):
        part = xlsr(n_layers=2, freeze=True, layers=[1, 2], features=features)
        cache = FeatureCache(tmp_path / features, part, identity="", max_bytes=1e9)
        alone = torch.cat([part(row[None]) for row in wave()])
        assert torch.equal(cache(part, wave()), alone)
        assert torch.equal(cache(part, wave()), alone)
        assert cache.hits == 2
        sizes[features] = sum(path.stat().st_size for path in (tmp_path / features).rglob("*.npy"))
        if features == "float16":
            assert torch.equal(alone.half().float(), alone)
    assert 0.45 < sizes["float16"] / sizes["float32"] < 0.55


def test_a_detector_with_weighted_layers_trains_all_of_its_own_weights():
    detect = detector_of(TINY_RUN, **{"model.xlsr.layers": "weighted", "model.xlsr.freeze": True}).train()
    batch = batch_of(np.random.default_rng(0), 6)
    detect(batch.wave, batch.bonafide, batch.quality).losses["total"].backward()
    assert detect.frontend.mix.weights.grad.abs().sum() > 0
