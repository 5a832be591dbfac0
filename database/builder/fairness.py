"""What every clip of either class goes through, so that a detector cannot win on trivia.

Waves are (T,) float32 or float64 at 16 kHz. Everything here is a function of its arguments.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr
from scipy import signal

from qamo.audio import SAMPLE_RATE
from qamo.audio import load as audio

FRAME_SAMPLES = 160  # 10 ms
SILENCE_DB = 38.0  # below the loudest frame
EDGE_S = 0.03  # silence kept at either end
PAUSE_S = 0.3  # longest pause kept inside
JOIN_S = 0.12  # between two recordings that make one clip
LENGTH_S = (3.0, 6.0)
LEVEL_DB = (-32.0, -20.0)  # root mean square below full scale
TILT = 0.6  # greatest coefficient of a first-order filter: hides the spectral balance of an engine or a microphone
SNR_DB = (5.0, 15.0)  # of the channel `noise`, which is pink
FLOOR_DB = -60.0  # pink noise, root mean square below full scale


def decode(path: Path) -> np.ndarray:
    """A source recording -> (T,) float32 at 16 kHz."""
    if path.suffix == ".g722":
        return g722_decoded(path.read_bytes())
    if path.suffix == ".raw":  # headerless 16 kHz PCM of the Sphinx test data
        return np.frombuffer(path.read_bytes(), dtype="<i2").astype(np.float32) / 32768
    if path.suffix == ".mp3":  # by libsndfile, not FFmpeg: the corpus was made so, and is to stay the same to the bit
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return soxr.resample(wave.mean(axis=1), rate, SAMPLE_RATE)
    return audio.load(path)


def tidied(wave: np.ndarray) -> np.ndarray:
    """Without DC, with short edges and with short inner pauses; (0,) if nothing is loud enough."""
    wave = np.asarray(wave, dtype=np.float64)
    n_frames = len(wave) // FRAME_SAMPLES
    if n_frames < 10:
        return np.zeros(0, np.float32)
    wave = wave[: n_frames * FRAME_SAMPLES] - wave.mean()
    power = np.mean(wave.reshape(n_frames, FRAME_SAMPLES) ** 2, axis=1)
    loud = np.flatnonzero(power > max(power.max() * 10 ** (-SILENCE_DB / 10), 1e-9))
    if not len(loud):
        return np.zeros(0, np.float32)
    edge = round(EDGE_S * SAMPLE_RATE / FRAME_SAMPLES)
    keep = np.zeros(n_frames, bool)
    keep[max(loud[0] - edge, 0) : loud[-1] + edge + 1] = True
    half = round(PAUSE_S * SAMPLE_RATE / FRAME_SAMPLES / 2)
    for left, right in itertools.pairwise(loud):
        if right - left - 1 > 2 * half:
            keep[left + 1 + half : right - half] = False
    return np.concatenate(
        [
            _faded(wave[start * FRAME_SAMPLES : stop * FRAME_SAMPLES], start > 0, stop < n_frames)
            for start, stop in _runs(keep)
        ]
    ).astype(np.float32)


def joined(pieces: list[np.ndarray]) -> np.ndarray:
    """Recordings one after the other with a short gap."""
    gap = np.zeros(round(JOIN_S * SAMPLE_RATE), np.float32)
    return np.concatenate([part for piece in pieces for part in (gap, piece)][1:])


def finished(wave: np.ndarray, codec: str, channel: str, n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """The common end of all clips: tilt, codec, channel, level, noise floor -> at most (n_samples,) int16."""
    tilted = signal.lfilter([1, -rng.uniform(-TILT, TILT)], 1, wave[:n_samples])
    wave = coded(tilted.astype(np.float32), codec).astype(np.float64)
    if channel == "noise":
        snr_db = rng.uniform(*SNR_DB)
        wave += pink_noise(len(wave), rng) * np.sqrt(np.mean(wave**2)) * 10 ** (-snr_db / 20)
    elif channel != "clean":
        wave = coded(wave.astype(np.float32), channel).astype(np.float64)
    wave -= wave.mean()
    level = 10 ** (rng.uniform(*LEVEL_DB) / 20)
    wave *= level / max(np.sqrt(np.mean(wave**2)), 1e-6)
    wave += pink_noise(len(wave), rng) * 10 ** (FLOOR_DB / 20)
    wave *= min(1.0, 0.98 / np.abs(wave).max())
    return np.round(wave * 32767).astype(np.int16)


def pink_noise(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise with power falling by 3 dB an octave, at a root mean square of 1."""
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, n_samples)
    return noise / np.sqrt(np.mean(noise**2))


# ---- codecs: (T,) float32 in, the same length out


def coded(wave: np.ndarray, codec: str) -> np.ndarray:
    """Send a wave through a codec that CODECS names."""
    peak = float(np.abs(wave).max())
    scale = 0.5 / peak if peak else 1.0  # the level at which the codec's own noise is fixed
    result = CODECS[codec](wave * np.float32(scale)) / np.float32(scale)
    return np.pad(result, (0, max(0, len(wave) - len(result))))[: len(wave)].astype(np.float32)


def g722_decoded(data: bytes) -> np.ndarray:
    """64 kbit/s G.722 -> (T,) float32 at 16 kHz."""
    import av

    if not data:  # one prompt of the packages is an empty file
        return np.zeros(0, np.float32)
    decoder = av.CodecContext.create("g722", "r")
    frames = [*decoder.decode(av.Packet(data)), *decoder.decode(None)]
    return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames]).astype(np.float32) / 32768


def _g722(wave: np.ndarray) -> np.ndarray:
    import av

    encoder = av.CodecContext.create("g722", "w")
    encoder.sample_rate, encoder.layout, encoder.format = SAMPLE_RATE, "mono", "s16"
    block = 320
    padded = np.pad(_int16(wave), (0, -len(wave) % block))
    data = b""
    for start in range(0, len(padded), block):
        frame = av.AudioFrame.from_ndarray(padded[None, start : start + block], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        data += b"".join(bytes(packet) for packet in encoder.encode(frame))
    data += b"".join(bytes(packet) for packet in encoder.encode(None))
    return g722_decoded(data)[22:]  # the filter bank of G.722 delays by 22 samples


def _through(rate_hz: int, kind: str, subtype: str, level: float | None = None) -> Callable[[np.ndarray], np.ndarray]:
    def code(wave: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        inner = soxr.resample(wave, SAMPLE_RATE, rate_hz)
        soundfile.write(file, inner, rate_hz, format=kind, subtype=subtype, compression_level=level)
        file.seek(0)
        decoded, _ = soundfile.read(file, dtype="float32")
        return soxr.resample(decoded, rate_hz, SAMPLE_RATE)

    return code


def _telephone(wave: np.ndarray) -> np.ndarray:
    narrow = np.clip(soxr.resample(wave, SAMPLE_RATE, 8000), -1, 1)
    law = np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log1p(255)
    law = np.round(law * 127) / 127
    return soxr.resample(np.sign(law) * np.expm1(np.abs(law) * np.log1p(255)) / 255, 8000, SAMPLE_RATE)


CODECS = {
    "g722": _g722,
    "vorbis": _through(22_050, "OGG", "VORBIS", 0.6),
    "vorbis-low": _through(16_000, "OGG", "VORBIS", 1.0),
    "opus": _through(16_000, "OGG", "OPUS", 0.9),
    "mp3": _through(16_000, "MP3", "MPEG_LAYER_III", 0.9),
    "telephone": _telephone,
}
# Drawn for each bona fide clip, and the same for the spoofs beside it. Clean prompts alone would all be of good
# quality: with these shares about a fifth of human speech is below a MOS of 2.5.
CHANNELS = ("clean", "clean", "clean", "telephone", "noise")
WILD_CHANNELS = ("vorbis-low", "opus", "mp3", "telephone", "noise")


def _int16(wave: np.ndarray) -> np.ndarray:
    return np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)


def _runs(keep: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], keep, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2])]


def _faded(wave: np.ndarray, start: bool, stop: bool) -> np.ndarray:
    """5 ms ramps where something was cut away, so that no cut can be heard as a click."""
    wave = wave.copy()
    ramp = np.linspace(0, 1, min(80, len(wave)))
    if start:
        wave[: len(ramp)] *= ramp
    if stop:
        wave[-len(ramp) :] *= ramp[::-1]
    return wave
