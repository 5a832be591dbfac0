"""RawBoost against the published code draw for draw, against a plain version, and on degenerate waves."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import plain
from benchmarks.plain import RAWBOOST as DEFAULTS
from qamo.audio import rawboost as rb

GOLDENS = Path(__file__).parents[2].parent / "shared" / "goldens" / "reference"
NOTCHES = {key: DEFAULTS[key] for key in ("n_bands", "center_hz", "width_hz", "n_taps")}


@pytest.fixture(scope="module")
def golden():
    if not GOLDENS.is_dir():
        pytest.skip("the golden figures are not beside this checkout")
    return np.load(GOLDENS / "rawboost.npz")


@pytest.mark.parametrize("clip", ["1s", "4s", "loud"])
@pytest.mark.parametrize("algorithm", range(9))
def test_every_algorithm_equals_the_published_code_draw_for_draw(golden, algorithm, clip):
    wave = {
        "1s": golden["wave1_i16"].astype(np.float32) / 32768,
        "4s": golden["wave4_i16"].astype(np.float32) / 32768,
        "loud": golden["loud1"],
    }[clip]
    source = np.random.RandomState(1000 + algorithm)
    y = rb.rawboost(wave, source, algorithm=algorithm, **DEFAULTS)
    assert y.dtype == np.float32
    assert source.random_sample() == golden[f"a{algorithm}_{clip}_next"]  # as many draws, of the same kinds
    key = f"a{algorithm}_{clip}"
    if key in golden.files:
        kept = y if golden[key].size == y.size else y[::8]
        np.testing.assert_allclose(kept, golden[key], rtol=0, atol=1e-6)
    assert np.square(y, dtype=np.float64).sum() == pytest.approx(float(golden[f"{key}_sumsq"]), rel=1e-6)
    assert np.abs(y).max() == pytest.approx(float(golden[f"{key}_absmax"]), rel=1e-6)


def test_a_notch_filter_equals_the_published_one(golden):
    source = np.random.RandomState(77)
    (taps,) = rb.notch_filters(source, [(0, 0)], **NOTCHES)
    np.testing.assert_allclose(taps, golden["notch_seed77"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("algorithm", range(9))
@pytest.mark.parametrize("n_samples", [1, 2, 7, 400, 5000, 20_011])
def test_the_fast_version_equals_the_plain_one(algorithm, n_samples):
    wave = np.random.default_rng(n_samples).normal(0, 0.3, n_samples).astype(np.float32)
    fast = rb.rawboost(wave, np.random.default_rng(5), algorithm=algorithm, **DEFAULTS)
    slow = plain.rawboost(wave, np.random.default_rng(5), algorithm=algorithm, **DEFAULTS)
    assert fast.shape == wave.shape
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_samples=st.integers(2, 3000),
    n_bands=st.integers(1, 14),
    n_orders=st.integers(1, 7),
    n_taps=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    gain_db=st.tuples(st.floats(-10, 10), st.floats(-10, 10)),
)
def test_the_fast_version_equals_the_plain_one_for_any_setting(seed, n_samples, n_bands, n_orders, n_taps, gain_db):
    wave = np.random.default_rng(seed).uniform(-1, 1, n_samples)
    cfg = {**DEFAULTS, "n_bands": n_bands, "n_orders": n_orders, "n_taps": n_taps, "gain_db": gain_db}
    fast = rb.rawboost(wave, np.random.default_rng(seed), algorithm=4, **cfg)
    slow = plain.rawboost(wave, np.random.default_rng(seed), algorithm=4, **cfg)
    np.testing.assert_allclose(fast, slow, rtol=1e-5, atol=1e-5 * max(1, np.abs(slow).max()))


@pytest.mark.parametrize("algorithm", range(9))
@pytest.mark.parametrize("n_samples", [1, 2, 3, 16, 16_000])
@pytest.mark.parametrize("kind", ["silence", "constant", "impulse", "full scale"])
def test_degenerate_waves_give_finite_samples_without_a_warning(algorithm, n_samples, kind):
    wave = np.zeros(n_samples, dtype=np.float32)
    if kind == "constant":
        wave[:] = 0.5
    elif kind == "impulse":
        wave[n_samples // 2] = 1.0
    elif kind == "full scale":
        wave[::2], wave[1::2] = 1.0, -1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = rb.rawboost(wave, np.random.default_rng(0), algorithm=algorithm, **DEFAULTS)
    assert np.isfinite(y).all()
    if kind == "silence":
        assert not y.any()


def test_the_wave_is_left_as_it_was_and_the_source_decides_alone():
    wave = np.random.default_rng(1).normal(0, 0.2, 8000).astype(np.float32)
    kept = wave.copy()
    np.random.seed(0)
    first = rb.rawboost(wave, np.random.default_rng([1234, 3, 7]), algorithm=4, **DEFAULTS)
    np.random.seed(1)
    again = rb.rawboost(wave, np.random.default_rng([1234, 3, 7]), algorithm=4, **DEFAULTS)
    other = rb.rawboost(wave, np.random.default_rng([1234, 3, 8]), algorithm=4, **DEFAULTS)
    assert np.array_equal(wave, kept)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_colored_noise_meets_its_signal_to_noise_ratio():
    wave = np.random.default_rng(2).normal(0, 0.2, 48_000)
    y = rb.colored_noise(wave, np.random.default_rng(3), snr_db=(17, 17), gain_db=(0, 0), **NOTCHES)
    snr_db = 20 * np.log10(np.linalg.norm(wave) / np.linalg.norm(y - wave))
    assert snr_db == pytest.approx(17, abs=1e-9)


def test_memory_is_in_proportion_to_the_length():
    import tracemalloc

    peaks = []
    for minutes in (1, 4):
        wave = np.random.default_rng(0).normal(0, 0.1, minutes * 60 * 16_000).astype(np.float32)
        tracemalloc.start()
        rb.rawboost(wave, np.random.default_rng(0), algorithm=1, **DEFAULTS)
        peaks.append(tracemalloc.get_traced_memory()[1] / len(wave))
        tracemalloc.stop()
    assert max(peaks) < 64  # bytes a sample; the wave in float64 is 8
    assert peaks[1] < 1.1 * peaks[0]
