from __future__ import annotations

import numpy as np
import pytest
import soundfile

from qamo import InputError
from qamo.audio import load as audio


def test_a_recording_comes_back_as_it_was_written(tmp_path):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 5000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    loaded = audio.load(tmp_path / "a.wav")
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, wave)


def test_channels_are_averaged(tmp_path):
    left = np.full(1000, 0.5, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", np.stack([left, -left / 2], axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(audio.load(tmp_path / "a.wav"), 0.125, atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_a_tone_where_it_is(tmp_path, rate):
    t = np.arange(rate * 2) / rate
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 1000 * t), rate)
    wave = audio.load(tmp_path / "a.wav")
    assert abs(len(wave) - 32_000) <= 1
    spectrum = np.abs(np.fft.rfft(wave[8000:24_000] * np.hanning(16_000)))
    assert np.argmax(spectrum) == 1000  # 1 Hz a bin
    assert np.abs(wave[8000:24_000]).max() == pytest.approx(0.5, abs=0.01)


def test_short_waves_are_repeated_and_long_ones_cut():
    wave = np.arange(5, dtype=np.float32)
    np.testing.assert_array_equal(audio.fit_length(wave, 12), [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1])
    np.testing.assert_array_equal(audio.fit_length(wave, 3), [0, 1, 2])
    np.testing.assert_array_equal(audio.fit_length(wave, 5), wave)


def test_the_header_check_agrees_with_decoding(tmp_path):
    good, bad = tmp_path / "good.flac", tmp_path / "bad.flac"
    soundfile.write(good, np.zeros(100), 16_000)
    bad.write_bytes(b"fLaC but not really")
    assert audio.check_header(good) is None
    assert "not a recording" in str(audio.check_header(bad))
    with pytest.raises(InputError, match="not a recording"):
        audio.load(bad)


def test_faults_are_told_apart(tmp_path):
    (tmp_path / "empty.flac").touch()
    for name, said in [("missing.flac", "no such file"), ("empty.flac", "0 bytes"), (".", "found a folder")]:
        with pytest.raises(InputError, match=said):
            audio.load(tmp_path / name)
