"""Sounds by formula, in every container, whole and damaged.

python -m tests.support.sounds 1000      reads 1,000 damaged files of each kind under limits; says what went wrong
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

LIMIT_S, LIMIT_BYTES = 5.0, 1 << 30
_OGG_CRC = [0] * 256
for _byte in range(256):
    _value = _byte << 24
    for _ in range(8):
        _value = (_value << 1 ^ 0x04C11DB7 if _value >> 31 else _value << 1) & 0xFFFFFFFF
    _OGG_CRC[_byte] = _value


def voice(seconds: float = 2.0, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    """(T,) float64 within [-0.4, 0.4]: a gliding buzz in syllables."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 25 * np.sin(4.4 * t + 6 * rng.random())) / rate
    buzz = np.sum([np.sin(k * phase) / k for k in range(1, 20)], axis=0)
    syllables = 0.1 + 0.9 * np.clip(np.sin(14 * t + 6 * rng.random()), 0, 1)
    return 0.2 * buzz * syllables + 0.001 * rng.standard_normal(len(t))


def encoded(wave: np.ndarray, kind: str, subtype: str | None = None, rate: int = 16_000) -> bytes:
    """By libsndfile."""
    raw = io.BytesIO()
    soundfile.write(raw, wave, rate, format=kind, subtype=subtype)
    return raw.getvalue()


def by_ffmpeg(
    wave: np.ndarray, codec: str, container: str, rate: int = 16_000, *, n_tracks: int = 1, **options: str
) -> bytes:
    """By FFmpeg: one track or several of the same sound, (T,) or (2, T)."""
    import av

    layout = "mono" if wave.ndim == 1 else "stereo"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound"
        with av.open(str(path), "w", format=container, options=options) as out:
            streams: list[Any] = [out.add_stream(codec, rate=rate, layout=layout) for _ in range(n_tracks)]
            for stream in streams:
                samples = (np.atleast_2d(wave) * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(samples, format="s16p", layout=layout)
                frame.rate, frame.pts = rate, 0
                for packet in (*stream.encode(frame), *stream.encode(None)):
                    out.mux(packet)
        return path.read_bytes()


def seeds() -> dict[str, bytes]:
    """A whole file of each container that is damaged in tests."""
    wave = voice()
    return {
        "wav": encoded(wave, "WAV"),
        "flac": encoded(wave, "FLAC"),
        "mp3": by_ffmpeg(wave, "libmp3lame", "mp3"),
        "ogg": with_serial(encoded(wave, "OGG", "VORBIS")),
        "opus": with_serial(encoded(wave, "OGG", "OPUS")),
        "m4a": by_ffmpeg(wave, "aac", "ipod", movflags="faststart"),
    }


def with_sums(raw: bytes) -> bytes:
    """An Ogg file whose pages have the sums that their content asks for: damage is then not merely rejected."""
    content, place = bytearray(raw), 0
    while (place := content.find(b"OggS", place)) >= 0 and place + 27 <= len(content):
        end = place + 27 + content[place + 26] + sum(content[place + 27 : place + 27 + content[place + 26]])
        content[place + 22 : place + 26] = bytes(4)
        crc = 0
        for byte in content[place:end]:
            crc = (crc << 8 & 0xFFFFFFFF) ^ _OGG_CRC[crc >> 24 ^ byte]
        content[place + 22 : place + 26] = crc.to_bytes(4, "little")
        place += 4
    return bytes(content)


def with_serial(raw: bytes) -> bytes:
    """An Ogg file of one stream with a serial number of its own; libsndfile draws another each time."""
    return with_sums(raw.replace(raw[14:18], b"qamo"))


def damaged(raw: bytes, rng: np.random.Generator) -> bytes:
    """Other bytes in the header, now and then in the sound too, and now and then a cut."""
    content = bytearray(raw)
    span = len(content) if rng.random() < 0.2 else min(len(content), 400 if rng.random() < 0.3 else 80)
    for place in rng.integers(0, span, rng.integers(1, 6)):
        content[place] = rng.choice([0, 255, 127, 128, int(rng.integers(256))])
    if raw[:4] == b"OggS" and rng.random() < 0.8:
        content = bytearray(with_sums(bytes(content)))
    return bytes(content[: int(rng.integers(1, len(content)))] if rng.random() < 0.2 else content)


def main(count: int) -> int:
    """Read damaged files under limits of time and memory; a line for each that broke one, and a digest of the rest."""
    from qamo import InputError
    from qamo.audio.load import check_header, read

    for raw in seeds().values():  # libraries are loaded before memory is limited
        read(raw)
    import resource  # Linux alone has all of this

    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + LIMIT_BYTES, now + LIMIT_BYTES))
    n_bad, digest = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for kind, raw in seeds().items():
            heard = refused = 0
            slowest = 0.0
            for number in range(count):
                path = Path(folder) / f"{number}.{kind}"
                path.write_bytes(damaged(raw, np.random.default_rng([zlib.crc32(kind.encode()), number])))
                started, told = time.monotonic(), ""
                try:
                    wave = read(path).wave
                    assert wave.dtype == np.float32
                    assert np.isfinite(wave).all()
                    heard, digest = heard + 1, zlib.crc32(wave.tobytes(), digest)
                except InputError as error:
                    refused += 1
                    told = str(error)
                except BaseException as error:
                    print(f"{kind} {number}: {error!r}")
                    n_bad += 1
                check_header(path)
                slowest = max(slowest, time.monotonic() - started)
                if time.monotonic() - started > LIMIT_S or (told and ("\n" in told or str(path) not in told)):
                    print(f"{kind} {number}: {time.monotonic() - started:.1f} s, {told!r}")
                    n_bad += 1
                path.unlink()
            print(f"{kind}: {heard} heard, {refused} refused, slowest {slowest:.2f} s", flush=True)
    print(f"digest {digest:08x}")
    return 1 if n_bad else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
