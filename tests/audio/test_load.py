"""The one reader: what it gives for whole files, and what it says of what is none."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
import soundfile
import soxr

from qamo import InputError
from qamo.audio import load as audio
from tests.support.sounds import by_ffmpeg, encoded, voice


def sweep(rate, seconds=3.0):
    t = np.arange(int(rate * seconds)) / rate
    return 0.3 * np.sin(2 * np.pi * (200 + 300 * t) * t)


def test_a_recording_comes_back_as_it_was_written(tmp_path):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 5000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    loaded = audio.load(tmp_path / "a.wav")
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, wave)


def test_channels_are_averaged_or_taken_one_by_one(tmp_path):
    left = np.full(1000, 0.5, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", np.stack([left, left / 2], axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(audio.load(tmp_path / "a.wav"), 0.375, atol=1e-7)
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav", channel="left").wave, left)
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav", channel="right").wave, left / 2)
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav", channel="each").waves, [left, left / 2])
    with pytest.raises(InputError, match="expected mix, left, right, each, found 'both'"):
        audio.read(tmp_path / "a.wav", channel="both")


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_a_tone_where_it_is(tmp_path, rate):
    t = np.arange(rate * 2) / rate
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 1000 * t), rate)
    wave = audio.load(tmp_path / "a.wav")
    assert abs(len(wave) - 32_000) <= 1
    spectrum = np.abs(np.fft.rfft(wave[8000:24_000] * np.hanning(16_000)))
    assert np.argmax(spectrum) == 1000  # 1 Hz a bin
    assert np.abs(wave[8000:24_000]).max() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 16_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_reading_in_blocks_is_reading_at_once_bit_for_bit(tmp_path, rate, n_channels):
    wave = 0.1 * np.random.default_rng(rate).normal(size=(9 * 44_100, n_channels))  # longer than a block
    soundfile.write(tmp_path / "a.wav", wave, rate)
    whole = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)[0].mean(axis=1)
    expected = whole if rate == 16_000 else soxr.resample(whole, rate, 16_000)
    content = (tmp_path / "a.wav").read_bytes()
    for found in (audio.load(tmp_path / "a.wav"), audio.read(content).wave, audio.read(io.BytesIO(content)).wave):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("ending", ["mp3", "ogg", "opus", "flac", "m4a", "webm"])
def test_lossy_and_foreign_formats_decode_to_the_same_speech(tmp_path, ending):
    made = {
        "mp3": lambda: encoded(sweep(48_000), "MP3", rate=48_000),
        "ogg": lambda: encoded(sweep(48_000), "OGG", "VORBIS", 48_000),
        "opus": lambda: encoded(sweep(48_000), "OGG", "OPUS", 48_000),
        "flac": lambda: encoded(sweep(48_000), "FLAC", rate=48_000),
        "m4a": lambda: by_ffmpeg(sweep(48_000), "aac", "ipod", 48_000),
        "webm": lambda: by_ffmpeg(sweep(48_000), "libopus", "webm", 48_000),
    }
    path = tmp_path / f"a.{ending}"
    path.write_bytes(made[ending]())
    wave, expected = audio.load(path), sweep(16_000)
    assert len(wave) == pytest.approx(len(expected), abs=2_500)
    np.testing.assert_array_equal(wave, audio.read(path.read_bytes()).wave)
    lags = np.correlate(wave[8_000:24_000], expected[10_000:20_000], "valid")  # codecs delay
    energy = np.linalg.norm(expected[10_000:20_000])
    at = int(np.argmax(lags))
    assert lags[at] / energy / np.linalg.norm(wave[8_000 + at : 18_000 + at]) > 0.99


def test_short_waves_are_repeated_and_long_ones_cut():
    wave = np.arange(5, dtype=np.float32)
    np.testing.assert_array_equal(audio.fit_length(wave, 12), [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1])
    np.testing.assert_array_equal(audio.fit_length(wave, 3), [0, 1, 2])
    np.testing.assert_array_equal(audio.fit_length(wave, 5), wave)


def test_a_small_file_cannot_unpack_to_more_than_is_taken(tmp_path):
    content = encoded(np.zeros(16_000 * 300), "FLAC")
    assert len(content) < 100_000
    with pytest.raises(InputError, match=r"longer than 0\.5 minutes"):
        audio.read(content, max_s=30)
    assert len(audio.read(content, max_s=300).wave) == 16_000 * 300


@pytest.mark.parametrize("content", [b"not sound", b"RIFF\0\0\0\0WAVE", b"ID3", b"\0" * 1000, b"fLaC" + b"\xff" * 50])
def test_what_is_not_a_recording_is_refused_in_a_sentence(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert audio.check_header(path)
    for source in (path, content):
        with pytest.raises(InputError, match=r"clip: .*not a recording") as caught:
            audio.read(source, name="clip")
        assert "<_io" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_faults_are_told_apart(tmp_path):
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan, 0.0]), 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16_000)
    os.mkfifo(tmp_path / "pipe.wav")
    for name, said in [
        ("missing.wav", "no such file"),
        ("empty.wav", "0 bytes"),
        ("nan.wav", "sample 1 is nan"),
        ("none.wav", "found 0 samples"),
        ("pipe.wav", "found a pipe"),
        ("", "found a folder"),
    ]:
        with pytest.raises(InputError, match=f"{name}.*{said}"):
            audio.load(tmp_path / name)
        if name != "nan.wav":
            assert audio.check_header(tmp_path / name)
    with pytest.raises(InputError, match="0 bytes"):
        audio.read(b"")


def test_names_that_are_no_text_are_read_and_shown_escaped(tmp_path):
    folder = os.fsencode(tmp_path)
    for name, kind in [(b"caf\xe9.wav", "WAV"), (b"esc\x1b[31mred.wav", "WAV"), (b"caf\xe9.flac", "FLAC")]:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(encoded(voice(0.5), kind))
        assert len(audio.load(os.fsdecode(os.path.join(folder, name)))) == 8_000
    with pytest.raises(InputError, match=r"x\\x1b\[31m\\udce9\\u202e\.wav: no such file"):
        audio.load(os.fsdecode(os.path.join(folder, b"x\x1b[31m\xe9\xe2\x80\xae.wav")))


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_the_header_check_agrees_with_reading(tmp_path, kind):
    good, cut = tmp_path / "good", tmp_path / "cut"
    good.write_bytes(encoded(voice(), kind))
    cut.write_bytes(good.read_bytes()[: 44 if kind == "FLAC" else 9_000])
    assert audio.check_header(good) is None
    assert kind == "FLAC" or "cut short" in str(audio.check_header(cut))  # a FLAC's header is all that is looked at
    with pytest.raises(InputError, match=r"cut short|not a recording"):
        audio.load(cut)
