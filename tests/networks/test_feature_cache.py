from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from qamo.networks.feature_cache import FeatureCache, fingerprint


class Frontend(nn.Module):
    """Frames of 10 samples through a linear layer, counting the waves that pass."""

    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.linear = nn.Linear(10, 4)
        self.n_waves = 0

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        self.n_waves += len(wave)
        return self.linear(wave.unflatten(1, (-1, 10)))


@pytest.fixture
def waves() -> torch.Tensor:
    return torch.randn(5, 200, generator=torch.Generator().manual_seed(1))


def cache_of(folder, frontend, **options) -> FeatureCache:
    return FeatureCache(folder, frontend, **{"identity": "", "max_bytes": 1e9, **options})


def test_what_comes_from_disk_is_what_was_computed_bit_for_bit(tmp_path, waves):
    frontend = Frontend()
    computed = cache_of(tmp_path, frontend)(frontend, waves)
    again = cache_of(tmp_path, frontend)
    kept = again(frontend, waves)
    assert torch.equal(computed, kept)
    assert torch.equal(kept, torch.cat([frontend(wave[None]) for wave in waves]))
    assert (again.hits, again.misses) == (5, 0)
    assert not kept.requires_grad


def test_another_wave_front_end_or_identity_is_computed_anew(tmp_path, waves):
    frontend = Frontend()
    cache_of(tmp_path, frontend)(frontend, waves)
    changed = waves.clone()
    changed[2, 7] += 1e-6
    partly = cache_of(tmp_path, frontend)
    partly(frontend, changed)
    assert (partly.hits, partly.misses) == (4, 1)
    other = Frontend(seed=1)
    for cache, part in ((cache_of(tmp_path, other), other), (cache_of(tmp_path, frontend, identity="bf16"), frontend)):
        assert torch.equal(cache(part, waves), torch.cat([part(wave[None]) for wave in waves]))
        assert cache.misses == 5


def test_a_map_that_was_cut_short_is_computed_again(tmp_path, waves):
    frontend = Frontend()
    expected = cache_of(tmp_path, frontend)(frontend, waves)
    for path, size in zip(sorted(tmp_path.rglob("*.npy")), (0, 60, 150, 200, 300)):
        os.truncate(path, size)
    cache = cache_of(tmp_path, frontend)
    assert torch.equal(cache(frontend, waves), expected)
    assert cache.misses == 5
    assert cache_of(tmp_path, frontend)(frontend, waves).equal(expected)


def test_the_maps_read_longest_ago_go_first(tmp_path, waves):
    frontend = Frontend()
    cache = cache_of(tmp_path, frontend)
    cache(frontend, waves)
    paths = [cache._path(wave) for wave in waves]
    for age, path in enumerate(reversed(paths)):
        os.utime(path, (1000 - age, 1000 - age))
    cache(frontend, waves[:1])  # read now
    stale, fresh = paths[1].with_name(".a.npy.1.tmp"), paths[2].with_name(".b.npy.2.tmp")
    for path in (stale, fresh):
        path.touch()
    os.utime(stale, (1000, 1000))
    cache.max_bytes = 2 * paths[0].stat().st_size
    assert cache.evict() == 3
    assert [path.exists() for path in paths] == [True, False, False, False, True]
    assert (stale.exists(), fresh.exists()) == (False, True)


def test_a_fingerprint_tells_weights_names_shapes_and_dtypes_apart():
    first = Frontend()
    with torch.no_grad():
        nudged = Frontend()
        nudged.linear.bias[0] += 1e-7
    prints = [fingerprint(first), fingerprint(nudged), fingerprint(first, "x"), fingerprint(Frontend().half())]
    assert len(set(prints)) == 4
    assert fingerprint(Frontend()) == prints[0]
