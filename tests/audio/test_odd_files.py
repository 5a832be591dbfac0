"""Files whose headers are wrong, that were cut, joined or mixed up, and levels and channels that cannot be meant."""

from __future__ import annotations

import re
import struct
import zlib

import numpy as np
import pytest

from qamo import InputError
from qamo.audio import load as audio
from tests.support.sounds import by_ffmpeg, encoded, voice, with_sums

X = voice(4)
PCM = (X * 32767).astype("<i2").tobytes()
LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf58.29.100\0"
ID3 = b"ID3\x04\0\0\0\0\x02\0" + bytes(256)


def wav(data=PCM, size=None, *, rate=16_000, bits=16, before=b"", after=b""):
    """A RIFF file with any length in its header."""
    form = struct.pack("<HHIIHH", 1, 1, rate, rate * bits // 8 & 0xFFFFFFFF, bits // 8, bits)
    size = len(data) if size is None else size
    body = b"WAVEfmt \x10\0\0\0" + form + before + b"data" + struct.pack("<I", size) + data + after
    return b"RIFF" + struct.pack("<I", len(body)) + body


def put(raw, mark, offset, form, value):
    """`raw` with another number at `offset` behind a mark."""
    at = raw.index(mark) + offset
    return raw[:at] + struct.pack(form, value) + raw[at + struct.calcsize(form) :]


def flac(total=None, **more):
    raw = bytearray(encoded(X, "FLAC", **more))
    if total is not None:
        raw[18:26] = (int.from_bytes(raw[18:26], "big") >> 36 << 36 | total).to_bytes(8, "big")
    return bytes(raw)


def other(kind, subtype=None):
    """Another 3 s, in another form."""
    return encoded(np.stack([voice(3, 8_000)] * 2, 1), kind, subtype, 8_000)


def ogg_with_end(raw, granule):
    """An Ogg file whose last page tells another end."""
    at = raw.rindex(b"OggS")
    return with_sums(raw[: at + 6] + struct.pack("<q", granule) + raw[at + 14 :])


MP3 = by_ffmpeg(X, "libmp3lame", "mp3")
M4A = by_ffmpeg(X, "aac", "ipod")
LENGTHS = {
    "wav, data size 0": (wav(size=0), 4),
    "wav, data size 0, notes behind": (wav(size=0, after=LIST), 4),
    "wav, size unknown": (wav(size=0xFFFFFFFF), 4),
    "wav, size of sox to a pipe": (wav(size=0x7FFFF000), 4),
    "wav, size too small": (wav(size=16_000), 4),
    "wav, size too small, notes at the end": (wav(size=16_000, after=LIST), 4),
    "wav, size a little too large": (wav(size=len(PCM) + 44), 4),
    "wav, notes behind": (wav(after=LIST), 4),
    "wav, notes of odd size before": (wav(before=b"LIST\5\0\0\0INFO\0\0"), 4),
    "wav, padding byte forgotten behind": (wav(after=b"LIST\5\0\0\0INFO\0" + LIST), 4),
    "wav, notes that overrun": (wav(after=b"LIST\xff\0\0\0INFO"), 4),
    "wav, zeros to a full sector": (wav(after=bytes(4096)), 4),
    "wav behind ID3": (ID3 + wav(), 4),
    "two wavs joined": (wav() + wav(), 8),
    "two wavs of two forms joined": (wav() + other("WAV"), 7),
    "RF64, size too small": (put(encoded(X, "RF64"), b"ds64", 16, "<q", 16_000), 4),
    "W64, size too small": (put(encoded(X, "W64"), b"data", 16, "<q", 16_024), 4),
    "AIFF, size too small": (put(encoded(X, "AIFF"), b"SSND", 4, ">I", 16_008), 4),
    "AIFF, count too small": (put(encoded(X, "AIFF"), b"COMM", 10, ">I", 10), 4),
    "two AIFFs joined": (encoded(X, "AIFF") * 2, 8),
    "CAF, size unknown": (put(encoded(X, "CAF"), b"data", 4, ">q", -1), 4),
    "CAF, size too small": (put(encoded(X, "CAF"), b"data", 4, ">q", 16_004), 4),
    "AU, size too small": (put(encoded(X, "AU"), b".snd", 8, ">I", 16_000), 4),
    "ADPCM, size too small": (put(encoded(X, "WAV", "IMA_ADPCM"), b"data", 4, "<I", 8_192), 4),
    "FLAC, length unknown": (flac(0), 4),
    "FLAC, length half": (flac(32_000), 4),
    "FLAC, length 1": (flac(1), 4),
    "FLAC behind ID3, a tag at its end": (ID3 + flac() + b"TAG" + bytes(125), 4),
    "two FLACs joined": (flac() + encoded(voice(4, seed=1), "FLAC"), 8),
    "two FLACs of two forms joined": (flac() + other("FLAC"), 7),
    "Vorbis chain": (encoded(X, "OGG", "VORBIS") + other("OGG", "VORBIS"), 7),
    "Opus chain of other channels": (encoded(X, "OGG", "OPUS") + encoded(np.stack([X, X], 1), "OGG", "OPUS"), 8),
    "Vorbis then Opus": (encoded(X, "OGG", "VORBIS") + encoded(X, "OGG", "OPUS"), 8),
    "MP3 without Xing": (by_ffmpeg(X, "libmp3lame", "mp3", write_xing="0"), 4.1),
    "MP3, Xing tells too little": (put(MP3, b"Info" if b"Info" in MP3 else b"Xing", 8, ">I", 10), 4),
    "MP3s of two rates joined": (MP3 + by_ffmpeg(voice(3, 44_100), "libmp3lame", "mp3", 44_100), 7.1),
    "MP3 behind ID3 of a wrong size": (ID3[:-100] + MP3, 4.1),
    "AACs of two forms joined": (
        by_ffmpeg(X, "aac", "adts") + by_ffmpeg(np.stack([voice(3, 44_100)] * 2), "aac", "adts", 44_100),
        7.1,
    ),
    "two M4As joined": (M4A + M4A, 8.1),
    "MP4 in fragments": (by_ffmpeg(X, "aac", "mp4", movflags="frag_keyframe+empty_moov", frag_duration="500000"), 4),
    "two Matroskas joined": (by_ffmpeg(X, "flac", "matroska") * 2, 8),
    "WebM made live": (by_ffmpeg(voice(4, 48_000), "libopus", "webm", 48_000, live="1"), 4),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_headers_are_hints_and_sound_is_read_to_its_end(case):
    content, seconds = LENGTHS[case]
    found = audio.read(content)
    assert len(found.wave) / 16_000 == pytest.approx(seconds, abs=0.15)
    assert not found.warnings


def test_joined_parts_are_each_resampled_at_their_own_rate():
    wave = audio.read(wav() + other("WAV")).wave
    np.testing.assert_array_equal(wave[:64_000], audio.read(wav()).wave)
    np.testing.assert_array_equal(wave[64_000:], audio.read(other("WAV")).wave)


CUT = {
    "wav": wav(),
    "RF64": encoded(X, "RF64"),
    "W64": encoded(X, "W64"),
    "AIFF": encoded(X, "AIFF"),
    "AU": encoded(X, "AU"),
    "CAF": encoded(X, "CAF"),
    "NIST": encoded(X, "NIST"),
    "ADPCM": encoded(X, "WAV", "IMA_ADPCM"),
    "FLAC": flac(),
    "FLAC of unknown length": flac(0),
    "Vorbis": encoded(X, "OGG", "VORBIS"),
    "Opus": encoded(X, "OGG", "OPUS"),
    "MP3": MP3,
    "AAC": by_ffmpeg(X, "aac", "adts"),
    "M4A with its index in front": by_ffmpeg(X, "aac", "ipod", movflags="faststart"),
    "Matroska": by_ffmpeg(X, "flac", "matroska"),
}


@pytest.mark.parametrize("kind", CUT)
def test_what_is_cut_short_is_heard_as_far_as_it_goes_with_a_warning_and_no_trial(tmp_path, kind):
    whole, part = CUT[kind], CUT[kind][: len(CUT[kind]) * 2 // 3]
    assert not audio.read(whole).warnings
    found = audio.read(part)
    assert [warning.code for warning in found.warnings] == ["cut"]
    assert "cut short" in found.warnings[0].text
    assert 1.5 < len(found.wave) / 16_000 < 3.2
    (tmp_path / "cut").write_bytes(part)
    with pytest.raises(InputError, match="cut short"):
        audio.load(tmp_path / "cut")


def test_without_its_index_an_m4a_is_refused_as_cut_short():
    with pytest.raises(InputError, match=r"cut short: its index \(moov\)"):
        audio.read(M4A[: len(M4A) // 2])


@pytest.mark.parametrize("kind", ["FLAC", "AAC"])
def test_what_is_damaged_on_the_way_is_read_with_a_warning(kind):
    raw = CUT[kind]
    found = audio.read(
        raw[: len(raw) // 2] + bytes(b ^ 0x5A for b in raw[len(raw) // 2 :][:900]) + raw[len(raw) // 2 + 900 :]
    )
    assert [warning.code for warning in found.warnings] == ["damaged"]
    assert len(found.wave) / 16_000 == pytest.approx(4, abs=1.5)  # PyAV 17, of Python 3.10, goes on later than PyAV 18


def test_several_chunks_of_sound_are_refused():
    with pytest.raises(InputError, match="several chunks of sound"):
        audio.read(wav(after=LIST + b"data" + struct.pack("<I", 32_000) + PCM[:32_000]))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_end_that_is_told_before_the_sound_ends_is_refused(subtype):
    with pytest.raises(InputError, match="tells an end before its sound ends"):
        audio.read(ogg_with_end(encoded(X, "OGG", subtype), 8_000))


def test_several_tracks_are_said():
    found = audio.read(by_ffmpeg(X, "aac", "mp4", n_tracks=2))
    assert re.match("2 sound tracks, of which the first", found.warnings[0].text)


@pytest.mark.parametrize("rate", [0, 1, 2, 10, 999, 800_000, 4_000_000_000])
def test_rates_that_no_recording_has_are_refused_before_any_work(tmp_path, rate):
    (tmp_path / "a.wav").write_bytes(wav(rate=rate))
    with pytest.raises(InputError, match=r"from 1 to 768 kHz|not a recording"):
        audio.load(tmp_path / "a.wav")
    assert audio.check_header(tmp_path / "a.wav")


def test_more_channels_than_any_recording_has_are_refused():
    assert len(audio.read(encoded(np.repeat(X[:, None], 64, 1), "WAV")).wave) == 64_000
    with pytest.raises(InputError, match="at most 64 channels, found 65"):
        audio.read(encoded(np.repeat(X[:, None], 65, 1), "WAV"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (encoded(X * 32_768, "WAV", "FLOAT"), "its floats are at 16-bit scale"),
        (encoded(np.rint(X * 30), "WAV", "FLOAT"), "its floats are at 16-bit scale"),  # quiet, but whole numbers
        (encoded(X * 2**23, "WAV", "DOUBLE"), "its floats are at 24-bit scale"),
        (wav((X * 32_767).astype("<i4").tobytes(), bits=32), "its 32-bit integers hold 16-bit samples"),
    ],
)
def test_a_scale_that_cannot_be_meant_is_mended_and_said(tmp_path, content, said):
    found = audio.read(content)
    assert [warning.code for warning in found.warnings] == ["scale"]
    assert said in found.warnings[0].text
    if "30" not in said and np.abs(found.wave).max() > 0.01:
        np.testing.assert_allclose(found.wave, X, atol=1e-4)
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(InputError, match=said):
        audio.load(tmp_path / "a.wav")


@pytest.mark.parametrize("n_channels", [1, 2])
def test_numbers_that_are_no_sound_are_refused(n_channels):
    with pytest.raises(InputError, match=r"3e\+38 times full scale"):
        audio.read(encoded(np.full((4_000, n_channels), 3e38), "WAV", "FLOAT", 44_100))


def test_levels_that_may_be_meant_stay_as_they_are():
    assert [w.code for w in audio.read(encoded(X * 10, "WAV", "FLOAT")).warnings] == ["hot"]
    for quiet in (encoded(X * 2**-17, "WAV", "PCM_24"), encoded(X * 1e-6, "WAV", "FLOAT"), encoded(0 * X, "WAV")):
        found = audio.read(quiet)
        assert not found.warnings
        assert np.abs(found.wave).max() < 1e-5


SILENT, LATE = np.zeros(64_000), np.r_[np.zeros(160), X[:-160]]


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [
        (X, -X, "cancel"),
        (X, -0.98 * X, "cancel"),
        (X, voice(4, seed=1), "channels"),
        (np.r_[X, SILENT], np.r_[SILENT, voice(4, seed=1)], "channels"),
        (X, X, None),
        (X, 0.5 * LATE, None),  # one speaker, two microphones
        (X, SILENT, None),
        (X, 1e-3 * np.random.default_rng(0).normal(size=64_000), None),  # a dead line
        (*(0.1 * np.random.default_rng(0).normal(size=(2, 64_000))), None),  # rain
    ],
)
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_channels_that_cannot_be_mixed_are_said_and_can_be_taken_one_by_one(left, right, said, rate):
    content = encoded(np.stack([left, right], 1), "WAV", rate=rate)
    found = audio.read(content)
    assert [warning.code for warning in found.warnings] == ([said] if said else [])
    assert not audio.read(content, channel="left").warnings
    waves = audio.read(content, channel="each").waves
    assert len(waves) == 2
    assert len(waves[0]) == len(waves[1]) == len(found.wave)


def test_the_seconds_of_the_shared_cases_are_heard_or_refused(shared_cases):
    """All cases that others found; cut lossy files hold less than their share, and say that they are cut."""
    wrong = []
    for path, seconds in shared_cases:
        try:
            found = audio.read(path)
        except InputError:
            continue
        cut = any(warning.code == "cut" for warning in found.warnings)
        if abs(len(found.wave) / 16_000 - seconds) > 0.2 and not cut:
            wrong.append((path.name, len(found.wave) / 16_000, seconds))
    assert not wrong


def test_a_file_that_is_not_what_it_was_a_moment_ago_still_gives_itself():
    """Every fixture above is of its own bytes: nothing is kept between files."""
    digests = [zlib.crc32(audio.read(content).wave.tobytes()) for content, _ in LENGTHS.values()]
    again = [zlib.crc32(audio.read(content).wave.tobytes()) for content, _ in reversed(LENGTHS.values())]
    assert digests == again[::-1]


def test_sound_without_a_decoder_is_said_in_words():
    raw = put(wav(), b"fmt ", 8, "<H", 0xFFFF)
    with pytest.raises(
        InputError, match=r"not a recording that libsndfile .* or FFmpeg reads \(no decoder for its sound"
    ):
        audio.read(raw)
