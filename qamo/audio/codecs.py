"""Codec round trips in memory: a wave encoded, decoded, and laid back in time over what it was.

FFmpeg's encoders and decoders are called on packets, through PyAV, without a container; Vorbis and GSM are
libsndfile's, since builds of FFmpeg often lack them. Settings are the cheap ones of each encoder. Encoders look ahead
and decoders start late: how late is measured once for each codec and bit rate by cross-correlation, and taken out.

Shapes: T samples at 16 kHz, N samples at the rate of a codec.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
from scipy import fft

from qamo import InputError
from qamo.audio import SAMPLE_RATE

TAIL_SAMPLES = 2048  # of silence that push out what a codec holds back; the most that any is late by
CELT_KBPS = 32  # bit rate from which Opus is asked for its music codec, which is the cheaper one
SAMPLE_TYPES = {"s16": np.int16, "flt": np.float32}  # of FFmpeg's decoders that are used here
MP3_KBPS = (8, 16, 24, 32, 40, 48, 56, 64)
VORBIS_KBPS = (30.0, 77.0)  # of libvorbis' lowest and highest quality at 16 kHz, as measured on speech-like sound


class ByFFmpeg(NamedTuple):
    """A codec of FFmpeg, and what its encoder is told."""

    kbps: tuple[float, ...]  # bit rates that can be drawn, increasing
    encoder: str
    decoder: str
    rate_hz: int = SAMPLE_RATE
    sample_format: str = "s16"
    options: Mapping[str, str] = {}


class BySndfile(NamedTuple):
    """A codec of libsndfile: a subtype in a kind of file."""

    kbps: tuple[float, ...]
    kind: str
    subtype: str
    rate_hz: int = SAMPLE_RATE
    range_kbps: tuple[float, float] | None = None  # of the lowest and the highest quality, where it has a choice


CODECS: dict[str, ByFFmpeg | BySndfile] = {
    "mp3": ByFFmpeg(MP3_KBPS, "libmp3lame", "mp3float", 16_000, "fltp", {"compression_level": "9"}),
    "aac": ByFFmpeg((8, 12, 16, 24, 32, 48, 64), "aac", "aac", 16_000, "fltp", {"aac_coder": "fast"}),
    "opus": ByFFmpeg((6, 8, 12, 16, 24, 32, 48, 64), "libopus", "opus", 16_000, "flt", {"compression_level": "0"}),
    "vorbis": BySndfile((32, 40, 48, 64), "OGG", "VORBIS", 16_000, VORBIS_KBPS),
    "mulaw": ByFFmpeg((64,), "pcm_mulaw", "pcm_mulaw", 8000),
    "alaw": ByFFmpeg((64,), "pcm_alaw", "pcm_alaw", 8000),
    "gsm": BySndfile((13,), "WAV", "GSM610", 8000),
    "amr_nb": ByFFmpeg((4.75, 5.15, 5.9, 6.7, 7.4, 7.95, 10.2, 12.2), "libopencore_amrnb", "amrnb", 8000),
    "g722": ByFFmpeg((64,), "g722", "g722"),
}


def round_trip(wave: np.ndarray, codec: str, kbps: float) -> np.ndarray:
    """A wave as it sounds after a codec, of equal length and aligned: (T,) -> (T,) float32; clipped to [-1, 1].

    Args:
        codec: of `CODECS`.
        kbps: one of its bit rates, kbit/s.

    Raises:
        InputError: PyAV is not installed.
    """
    late = _delay(codec, kbps)
    y = _coded(np.concatenate([np.clip(wave, -1, 1), np.zeros(TAIL_SAMPLES)]), codec, kbps)
    y = np.pad(y, (max(0, -late), 0))[max(0, late) :][: len(wave)]
    return np.pad(y, (0, len(wave) - len(y)))


def bit_rates(codec: str, limits: tuple[float, float]) -> tuple[float, ...]:
    """The bit rates of a codec, kbit/s, that lie within limits; where none does, the nearest one."""
    rates = CODECS[codec].kbps
    within = tuple(rate for rate in rates if limits[0] <= rate <= limits[1])
    return within or (min(rates, key=lambda rate: max(limits[0] - rate, rate - limits[1])),)


def check_codecs(names: Sequence[str], *, where: str) -> None:
    """See that all codecs can be had.

    Args:
        where: what messages begin with.

    Raises:
        InputError: the installed FFmpeg lacks one.
    """
    there = [name for name in CODECS if _is_there(name)]
    if missing := [name for name in names if name not in there]:
        raise InputError(
            f"{where}: the installed FFmpeg cannot encode and decode {', '.join(missing)}; leave it out, or install a "
            f"PyAV whose FFmpeg can; of the others there are {', '.join(there)}"
        )


def _is_there(name: str) -> bool:
    codec = CODECS[name]
    if isinstance(codec, BySndfile):
        return codec.subtype in soundfile.available_subtypes(codec.kind)
    av = _pyav()
    return codec.encoder in av.codecs_available and codec.decoder in av.codecs_available and _encodes(av, codec.encoder)


def _encodes(av: Any, name: str) -> bool:
    try:
        return bool(av.codec.Codec(name, "w").is_encoder)
    except ValueError:  # there is a decoder of this name alone
        return False


def _pyav() -> Any:
    try:
        import av
    except ImportError:
        raise InputError("codecs need PyAV; pip install -r requirements.txt") from None
    return av


@functools.cache
def _delay(name: str, kbps: float) -> int:
    """Samples at 16 kHz by which a codec's output is late: where it correlates best with what went in."""
    rng = np.random.default_rng(0)
    n = SAMPLE_RATE // 2
    spectrum = fft.rfft(rng.standard_normal(n))
    spectrum[n * 3000 // SAMPLE_RATE :] = 0  # of what narrow-band codecs keep
    probe = fft.irfft(spectrum, n) * (0.02 + 0.2 * (rng.random(25) > 0.5).repeat(n // 25))
    probe = np.concatenate([probe, np.zeros(TAIL_SAMPLES)])
    heard = _coded(probe, name, kbps)
    size = fft.next_fast_len(len(probe) + len(heard))
    at_lag = fft.irfft(fft.rfft(heard, size) * np.conj(fft.rfft(probe, size)), size)
    best = int(np.argmax(np.concatenate([at_lag[-TAIL_SAMPLES:], at_lag[:TAIL_SAMPLES]])))
    return best - TAIL_SAMPLES


def _coded(wave: np.ndarray, name: str, kbps: float) -> np.ndarray:
    """Encoded and decoded, (T,) -> (about T,) float32, as late as the codec makes it."""
    codec = CODECS[name]
    x = _resampled(wave, SAMPLE_RATE, codec.rate_hz)
    if isinstance(codec, BySndfile):
        y, rate_hz = _by_sndfile(x, codec, kbps)
    else:
        y, rate_hz = _by_ffmpeg(x, codec, kbps, _options(name, codec, kbps))
    return _resampled(y, rate_hz, SAMPLE_RATE)


def _options(name: str, codec: ByFFmpeg, kbps: float) -> dict[str, str]:
    options = dict(codec.options)
    if name == "opus":
        options["application"] = "voip" if kbps < CELT_KBPS else "lowdelay"
    return options


def _by_ffmpeg(x: np.ndarray, codec: ByFFmpeg, kbps: float, options: dict[str, str]) -> tuple[np.ndarray, int]:
    """Samples (N,) through encoder and decoder, in one thread; with the rate in Hz that the decoder chose."""
    av = _pyav()
    if codec.sample_format == "s16":
        x = np.rint(np.clip(x * 32767, -32768, 32767)).astype(np.int16)
    encoder = av.CodecContext.create(codec.encoder, "w")
    decoder = av.CodecContext.create(codec.decoder, "r")
    for context in (encoder, decoder):
        context.sample_rate, context.layout, context.thread_count = codec.rate_hz, "mono", 1
    encoder.format, encoder.bit_rate, encoder.options = codec.sample_format, round(1000 * kbps), options
    encoder.open()
    frame = av.AudioFrame.from_ndarray(x[None], format=codec.sample_format, layout="mono")
    frame.sample_rate, frame.pts = codec.rate_hz, 0
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    if encoder.extradata:
        decoder.extradata = encoder.extradata
    frames = [piece for packet in packets for piece in decoder.decode(packet)] + decoder.decode(None)
    kind = SAMPLE_TYPES[frames[0].format.name.rstrip("p")]  # planar or not is one, with a single channel
    y = np.concatenate([np.frombuffer(piece.planes[0], kind, piece.samples) for piece in frames])
    return y.astype(np.float32) / 32768 if y.dtype == np.int16 else y, frames[0].sample_rate


def _by_sndfile(x: np.ndarray, codec: BySndfile, kbps: float) -> tuple[np.ndarray, int]:
    level = None
    if codec.range_kbps:
        low, high = codec.range_kbps
        level = min(max((high - kbps) / (high - low), 0.0), 1.0)
    with io.BytesIO() as file:
        soundfile.write(file, x, codec.rate_hz, format=codec.kind, subtype=codec.subtype, compression_level=level)
        file.seek(0)
        return soundfile.read(file, dtype="float32")


def _resampled(x: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    x = np.ascontiguousarray(x, np.float32)
    return x if from_hz == to_hz else soxr.resample(x, from_hz, to_hz)
