"""Transmission channels: a room, noise, a band, a codec and lost packets, in this order.

What is done to an utterance is drawn first, as a `Drawn`, and then applied; both take the random source as an argument
and nothing reads global random state. The result has the length of the wave and lies over it in time.

Shapes: T samples at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import fft

from qamo.audio import SAMPLE_RATE
from qamo.audio import load as audio
from qamo.audio.codecs import bit_rates, round_trip
from qamo.audio.rawboost import Range, within_unit

PACKET_SAMPLES = 320  # 20 ms
DIRECT_DB = (-3.0, 9.0)  # energy of the direct sound over that of the synthesised reverberation
GAP_S = 0.002  # between the direct sound and the first reflection
BAND_ORDER = 8  # of the Butterworth responses at both ends of a band
Values = dict[str, str | float]  # some fields of `Drawn`
CONCEALMENTS = ("zero", "repeat")  # what stands in for a lost packet: silence, or the last one that came


class Drawn(NamedTuple):
    """What the chain does to one utterance; None for a stage that it leaves out."""

    room: str | None = None  # "synthetic", or the file of an impulse response
    rt60_s: float | None = None  # of a synthetic room
    noise: str | None = None  # white, pink, babble, or a file
    snr_db: float | None = None
    low_hz: float | None = None  # the band that is passed
    high_hz: float | None = None
    codec: str | None = None
    kbps: float | None = None
    loss_rate: float | None = None  # probability that a packet is lost
    concealment: str | None = None


class Channel:
    """The chain of a config, which draws what `through` does to an utterance.

    Args:
        probability: of an utterance to go through the chain; the others are those of each stage in it.
        codecs: names of `qamo.audio.codecs.CODECS`; bit_rate_kbps: limits of their bit rates.
        noises, rooms: files of noise and of impulse responses; where there are none they are synthesised.
        snr_db, rt60_s, band_low_hz, band_high_hz, loss_rate: ranges that values are drawn from, evenly.
    """

    def __init__(
        self,
        *,
        probability: float,
        reverb_probability: float,
        noise_probability: float,
        band_probability: float,
        codec_probability: float,
        loss_probability: float,
        rt60_s: Range,
        snr_db: Range,
        band_low_hz: Range,
        band_high_hz: Range,
        codecs: Sequence[str],
        bit_rate_kbps: Range,
        loss_rate: Range,
        noises: Sequence[Path] = (),
        rooms: Sequence[Path] = (),
    ):
        self.probability = probability
        self._stages: list[tuple[float, Callable[[np.random.Generator], Values]]] = [  # may be pickled
            (reverb_probability, partial(_room, rooms=rooms, rt60_s=rt60_s)),
            (noise_probability, partial(_noise, noises=noises, snr_db=snr_db)),
            (band_probability, partial(_band, low_hz=band_low_hz, high_hz=band_high_hz)),
            (codec_probability, partial(_codec, codecs=codecs, kbps=bit_rate_kbps)),
            (loss_probability, partial(_loss, rate=loss_rate)),
        ]

    @property
    def share(self) -> float:
        """Probability that at least one stage is applied to an utterance."""
        return float(self.probability * (1 - np.prod([1 - probability for probability, _ in self._stages])))

    def draw(self, rng: np.random.Generator) -> Drawn | None:
        """What happens to an utterance; None where nothing does."""
        if rng.random() >= self.probability:
            return None
        chosen: Values = {}
        for probability, values in self._stages:
            if rng.random() < probability:
                chosen |= values(rng)
        return Drawn(**chosen) if chosen else None  # type: ignore[arg-type]


def through(wave: np.ndarray, drawn: Drawn, rng: np.random.Generator) -> np.ndarray:
    """A wave as it comes out of the chain: (T,) -> (T,) float32 in [-1, 1].

    Raises:
        InputError: a file of noise or of a room cannot be read.
    """
    x = np.asarray(wave, np.float64)
    if not len(x):
        return x.astype(np.float32)
    if drawn.room is not None:
        response = synthetic_room(rng, drawn.rt60_s) if drawn.rt60_s is not None else audio.load(Path(drawn.room))
        x = reverberant(x, response)
    if drawn.noise is not None and drawn.snr_db is not None:
        x = noisy(x, noise(rng, drawn.noise, len(x)), drawn.snr_db)
    if drawn.low_hz is not None and drawn.high_hz is not None:
        x = band_limited(x, drawn.low_hz, drawn.high_hz)
    x = within_unit(x)
    if drawn.codec is not None and drawn.kbps is not None:
        x = round_trip(x, drawn.codec, drawn.kbps)
    if drawn.loss_rate is not None:
        x = with_losses(x, rng, drawn.loss_rate, repeat=drawn.concealment == "repeat")
    return within_unit(x).astype(np.float32)


# ---- draws


def _room(rng: np.random.Generator, rooms: Sequence[Path], rt60_s: Range) -> Values:
    return {"room": _one_of(rng, rooms)} if rooms else {"room": "synthetic", "rt60_s": _in(rng, rt60_s)}


def _noise(rng: np.random.Generator, noises: Sequence[Path], snr_db: Range) -> Values:
    return {"noise": _one_of(rng, noises or list(NOISES)), "snr_db": _in(rng, snr_db)}


def _band(rng: np.random.Generator, low_hz: Range, high_hz: Range) -> Values:
    return {"low_hz": _in(rng, low_hz), "high_hz": _in(rng, high_hz)}


def _codec(rng: np.random.Generator, codecs: Sequence[str], kbps: Range) -> Values:
    codec = _one_of(rng, codecs)
    rates = bit_rates(codec, kbps)
    return {"codec": codec, "kbps": float(rates[int(rng.integers(len(rates)))])}


def _loss(rng: np.random.Generator, rate: Range) -> Values:
    return {"loss_rate": _in(rng, rate), "concealment": _one_of(rng, CONCEALMENTS)}


def _one_of(rng: np.random.Generator, values: Sequence[str | Path]) -> str:
    return str(values[int(rng.integers(len(values)))])


def _in(rng: np.random.Generator, limits: Range) -> float:
    return float(rng.uniform(*limits))


# ---- rooms


def synthetic_room(rng: np.random.Generator, rt60_s: float) -> np.ndarray:
    """An impulse response: the direct sound, then noise that decays by 60 dB in `rt60_s` seconds: (N,).

    Source: J. D. Polack's model of late reverberation, with a drawn ratio of direct to reverberant energy.
    """
    n = max(1, round(rt60_s * SAMPLE_RATE))
    tail = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    direct_db = rng.uniform(*DIRECT_DB)
    tail *= 10 ** (-direct_db / 20) / max(_norm(tail), 1e-12)
    return np.concatenate([[1.0], np.zeros(round(GAP_S * SAMPLE_RATE)), tail])


def reverberant(x: np.ndarray, response: np.ndarray) -> np.ndarray:
    """A wave in a room, at its own level: (T,) -> (T,). The peak of the response, the direct sound, is not late."""
    delay = int(np.argmax(np.abs(response)))
    size = fft.next_fast_len(len(x) + len(response) - 1, real=True)
    wet = fft.irfft(fft.rfft(x, size) * fft.rfft(response.astype(np.float64), size), size)[delay : delay + len(x)]
    level = _norm(wet)
    return wet * (_norm(x) / level) if level > 0 else x


# ---- noise


def noise(rng: np.random.Generator, kind: str, n: int) -> np.ndarray:
    """Noise of a kind that `NOISES` names, or a drawn part of a file, repeated where it is short: (n,).

    Raises:
        InputError: the file cannot be read.
    """
    if kind in NOISES:
        return NOISES[kind](rng, n)
    recorded = audio.load(Path(kind)).astype(np.float64)
    start = int(rng.integers(max(1, len(recorded) - n + 1)))
    return audio.fit_length(recorded[start:], n)


def noisy(x: np.ndarray, added: np.ndarray, snr_db: float) -> np.ndarray:
    """A wave with noise at a ratio of their energies: (T,) -> (T,)."""
    level = _norm(added)
    return x + added * (_norm(x) / level / 10 ** (snr_db / 20)) if level > 0 else x


def _white(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_normal(n)


def _pink(rng: np.random.Generator, n: int) -> np.ndarray:
    """Power as 1/f from 20 Hz on."""
    return _shaped(rng, n, lambda hz: 1 / np.sqrt(np.maximum(hz, 20)))


def _babble(rng: np.random.Generator, n: int) -> np.ndarray:
    """Noise with the long-term spectrum of speech (flat to 500 Hz, then 9 dB less an octave), swelling as talk does."""
    talk = _shaped(rng, n, lambda hz: np.where(hz < 80, 0.0, np.maximum(hz / 500, 1) ** -1.5))
    swell = _shaped(rng, n, lambda hz: np.where((hz > 0) & (hz < 6), 1.0, 0.0))
    return talk * np.exp(0.5 * swell / max(_norm(swell) / np.sqrt(n), 1e-12))


NOISES = {"white": _white, "pink": _pink, "babble": _babble}


def _shaped(rng: np.random.Generator, n: int, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    size = fft.next_fast_len(n, real=True)
    spectrum = fft.rfft(rng.standard_normal(size))
    return fft.irfft(spectrum * gain(fft.rfftfreq(size, 1 / SAMPLE_RATE)), size)[:n]


# ---- bands and packets


def band_limited(x: np.ndarray, low_hz: float, high_hz: float) -> np.ndarray:
    """What lies between two frequencies, by Butterworth responses without their phase: (T,) -> (T,)."""
    size = fft.next_fast_len(len(x) + SAMPLE_RATE // 5, real=True)  # room for what the filter smears
    hz = fft.rfftfreq(size, 1 / SAMPLE_RATE)
    above = 1 / np.sqrt(1 + (low_hz / np.maximum(hz, 1e-3)) ** (2 * BAND_ORDER))
    below = 1 / np.sqrt(1 + (hz / high_hz) ** (2 * BAND_ORDER))
    return fft.irfft(fft.rfft(x, size) * above * below, size)[: len(x)]


def with_losses(x: np.ndarray, rng: np.random.Generator, rate: float, *, repeat: bool) -> np.ndarray:
    """A wave whose packets of 20 ms are lost with a probability each: (T,) -> (T,).

    Args:
        repeat: the last packet that came stands in for a lost one, and not silence.
    """
    n = -(-len(x) // PACKET_SAMPLES)
    packets = np.pad(x, (0, n * PACKET_SAMPLES - len(x))).reshape(n, PACKET_SAMPLES)
    came = rng.random(n) >= rate
    if repeat:
        last = np.maximum.accumulate(np.where(came, np.arange(n), -1))
        packets, came = packets[last], last >= 0
    return np.where(came[:, None], packets, 0).reshape(-1)[: len(x)]


def _norm(x: np.ndarray) -> float:
    return float(np.sqrt(np.square(x).sum()))
