"""Decoding of whatever a person hands over."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from qamo import InputError
from qamo.audio import load as audio
from qamo.audio.decoding import decode


def sweep(rate, seconds=3.0):
    t = np.arange(int(rate * seconds)) / rate
    return 0.3 * np.sin(2 * np.pi * (200 + 300 * t) * t)


def write_m4a(path, wave, rate):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_it_is_what_the_corpus_reader_gives_bit_for_bit(tmp_path, rate, n_channels):
    rng = np.random.default_rng(rate)
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.1 * rng.normal(size=(9 * rate, n_channels)), rate)  # longer than a block
    assert np.array_equal(decode(path), audio.load(path))
    assert np.array_equal(decode(path.read_bytes()), audio.load(path))


@pytest.mark.parametrize("ending", ["mp3", "ogg", "opus", "flac", "m4a", "webm"])
def test_lossy_and_foreign_formats_decode_to_the_same_speech(tmp_path, ending):
    rate, path = 48_000, tmp_path / f"a.{ending}"
    if ending == "m4a":
        write_m4a(path, sweep(rate), rate)
    elif ending == "webm":
        av = pytest.importorskip("av")
        soundfile.write(tmp_path / "a.ogg", sweep(rate), rate, format="OGG", subtype="OPUS")
        with av.open(str(tmp_path / "a.ogg")) as source, av.open(str(path), "w") as container:
            stream = container.add_stream_from_template(source.streams.audio[0])
            for packet in source.demux(source.streams.audio[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    container.mux(packet)
    elif ending == "opus":
        soundfile.write(path, sweep(rate), rate, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, sweep(rate), rate)
    wave, expected = decode(path), sweep(16_000)
    assert len(wave) == pytest.approx(len(expected), abs=2_500)
    assert np.array_equal(wave, decode(path.read_bytes()))
    lags = np.correlate(wave[8_000:24_000], expected[10_000:20_000], "valid")  # codecs delay
    energy = np.linalg.norm(expected[10_000:20_000])
    at = int(np.argmax(lags))
    assert lags[at] / energy / np.linalg.norm(wave[8_000 + at : 18_000 + at]) > 0.99


def test_a_small_file_cannot_unpack_to_more_than_is_taken(tmp_path):
    path = tmp_path / "bomb.flac"
    soundfile.write(path, np.zeros(16_000 * 300, np.int16), 16_000)
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match=r"longer than 0\.5 minutes"):
        decode(path.read_bytes(), max_s=30)
    assert len(decode(path.read_bytes(), max_s=300)) == 16_000 * 300


@pytest.mark.parametrize("content", [b"not sound", b"RIFF\0\0\0\0WAVE", b"ID3", b"\0" * 1000, b"fLaC" + b"\xff" * 50])
def test_what_is_not_a_recording_is_refused_in_a_sentence(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(InputError, match=r"clip: .*(reads|found)") as caught:
            decode(source, name="clip")
        assert "<_io" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_absent_empty_and_broken_recordings_are_told_apart(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        decode(tmp_path / "none.wav")
    (tmp_path / "empty.wav").touch()
    with pytest.raises(InputError, match="0 bytes"):
        decode(tmp_path / "empty.wav")
    with pytest.raises(InputError, match="0 bytes"):
        decode(b"")
    with pytest.raises(InputError, match="found a folder"):
        decode(tmp_path)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan, 0.0]), 16_000, subtype="FLOAT")
    with pytest.raises(InputError, match="sample 1 is not a finite number"):
        decode(tmp_path / "nan.wav")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16_000)
    with pytest.raises(InputError, match="found 0 samples"):
        decode(tmp_path / "none.wav")
