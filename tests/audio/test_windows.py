"""Windows over long recordings."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qamo.audio.load import fit_length
from qamo.audio.windows import batches, spoken, window_starts


@given(st.integers(1, 50_000), st.integers(400, 9_000), st.floats(0, 0.95))
def test_windows_cover_every_sample_and_stay_inside(n_samples, window, overlap):
    starts = window_starts(n_samples, window, overlap)
    assert starts[0] == 0
    assert (np.diff(starts) > 0).all()
    assert (np.diff(starts) <= window).all()  # no gap
    if n_samples <= window:
        assert len(starts) == 1
    else:
        assert starts[-1] + window == n_samples


def test_half_an_overlap_starts_a_window_every_half():
    assert window_starts(10_000, 4_000, 0.5).tolist() == [0, 2_000, 4_000, 6_000]
    assert window_starts(10_500, 4_000, 0.5).tolist() == [0, 2_000, 4_000, 6_000, 6_500]


def test_a_short_recording_is_repeated_as_in_training():
    wave = np.arange(300, dtype=np.float32)
    (only,) = batches(((wave, start) for start in window_starts(300, 1_000, 0.5)), 1_000, 8)
    assert np.array_equal(only[0], fit_length(wave, 1_000))


def test_batches_hold_the_windows_in_order():
    wave = np.arange(10_000, dtype=np.float32)
    starts = window_starts(10_000, 1_000, 0.5)
    parts = list(batches(((wave, start) for start in starts), 1_000, 4))
    assert [len(part) for part in parts] == [4, 4, 4, 4, 3]
    assert np.array_equal(np.concatenate(parts)[:, 0], starts)


def test_windows_of_a_pause_are_told_from_those_of_speech():
    rng = np.random.default_rng(0)
    wave = np.concatenate([rng.normal(0, 0.1, 32_000), rng.normal(0, 1e-5, 64_000), rng.normal(0, 0.1, 32_000)])
    starts = window_starts(len(wave), 16_000, 0)
    assert spoken(wave.astype(np.float32), starts, 16_000).tolist() == [
        True,
        True,
        False,
        False,
        False,
        False,
        True,
        True,
    ]
