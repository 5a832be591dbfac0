"""The synthesisers: text or a human recording in, an artificial voice at 16 kHz out.

A text engine is a function (texts, speaking, rng) -> wave of at least `speaking.n_samples`, built from as many of the
texts as that takes. A vocoder takes a human wave. Waves are (T,) float32.
Some engines carry state from one call to the next (espeak-ng's flutter), so the builder runs each block of clips in a
fresh process and in a fixed order; then neither the number of processes nor an interruption changes a byte.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from scipy import signal

from builder.fairness import coded, joined, tidied
from qamo import InputError
from qamo.audio import SAMPLE_RATE
from qamo.audio import load as audio


@dataclass(frozen=True)
class Engine:
    """What an engine is called in the protocol, what it can say, and how it works."""

    attack: str
    kind: str
    licence: str
    languages: tuple[str, ...] | None  # None: it changes human recordings of any language
    package: str


ENGINES = {
    "espeak": Engine(
        "A01", "formant synthesis", "GPL-3", ("en", "es", "fr", "it", "ru", "cs", "nl", "sv"), "PyPI espeakng-loader"
    ),
    "world": Engine("A02", "vocoder, pitch and envelope moved", "MIT", None, "PyPI pyworld-prebuilt"),
    "hibari": Engine("A03", "neural text-to-speech", "Apache-2.0", ("en",), "PyPI hibari-tts"),
    "griffinlim": Engine("A11", "phase reconstruction from 80 mels", "MIT", None, "this repository"),
    "lpc": Engine("A12", "linear prediction vocoder", "MIT", None, "this repository"),
    "flite": Engine("A13", "cluster generation (rms, awb, slt)", "BSD-like", ("en",), "Debian flite, libflite1"),
}
SEEN = ("espeak", "world", "hibari")
UNSEEN = ("griffinlim", "lpc", "flite")


# ---- text to speech


@dataclass(frozen=True)
class Speaking:
    language: str
    codec: str  # a synthetic voice passes it once, where a human one was recorded through it
    n_samples: int
    flite: str | None = None  # folder of the unpacked packages, colon-separated


def speak(engine: str, texts: list[str], speaking: Speaking, rng: np.random.Generator) -> np.ndarray:
    """Speak texts until the clip is long enough, with one voice."""
    say = TEXT_ENGINES[engine](speaking, rng)
    pieces: list[np.ndarray] = []
    have = 0
    for text in texts:
        piece = tidied(coded(say(text), speaking.codec))
        if len(piece):
            pieces.append(piece)
            have += len(piece)
        if have >= speaking.n_samples:
            return joined(pieces)
    if not pieces:
        raise InputError(f"{engine} said nothing for {texts[0]!r}; report this as a fault")
    return joined(pieces)


Say = Callable[[str], np.ndarray]


def _espeak(speaking: Speaking, rng: np.random.Generator) -> Say:
    variant = rng.choice(["m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4"])
    rate, pitch, span = int(rng.integers(140, 190)), int(rng.integers(25, 75)), int(rng.integers(30, 70))
    library = _espeak_library()
    # breathy variants draw from the C library's random numbers, which espeak-ng seeds with the time
    library.espeak_ng_SetRandSeed(ctypes.c_long(int(rng.integers(2**31))))
    if library.espeak_SetVoiceByName(f"{speaking.language}+{variant}".encode()):
        raise InputError(f"espeak-ng has no voice {speaking.language}+{variant}; reinstall espeakng-loader")
    for parameter, value in ((1, rate), (3, pitch), (4, span)):  # espeakRATE, espeakPITCH, espeakRANGE
        library.espeak_SetParameter(parameter, value, 0)

    def say(text: str) -> np.ndarray:
        data = text.encode() + b"\0"
        _espeak_samples.clear()
        # position from 0 characters to the end; flags 1: UTF-8
        library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 1, 0, 1, None, None)
        library.espeak_Synchronize()
        pcm = np.frombuffer(b"".join(_espeak_samples), dtype=np.int16).astype(np.float32) / 32768
        return soxr.resample(pcm, library.rate_hz, SAMPLE_RATE)

    return say


_espeak_samples: list[bytes] = []


@lru_cache(1)
def _espeak_library() -> Any:
    import espeakng_loader

    library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
    # output 2: synchronous, samples to the callback only
    rate_hz = library.espeak_Initialize(2, 0, str(espeakng_loader.get_data_path()).encode(), 0)
    if rate_hz <= 0:
        raise InputError("espeak-ng does not start; reinstall espeakng-loader")
    callback_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

    def collect(wave: Any, n_samples: int, _events: object) -> int:
        if wave and n_samples:
            _espeak_samples.append(ctypes.string_at(wave, 2 * n_samples))
        return 0

    library.callback = callback_type(collect)  # kept, or the collector would free it
    library.espeak_SetSynthCallback(library.callback)
    library.rate_hz = rate_hz
    return library


def _hibari(speaking: Speaking, rng: np.random.Generator) -> Say:
    voice = _hibari_voice()
    speed, seed = float(rng.uniform(0.85, 1.2)), int(rng.integers(2**31))
    semitones = float(rng.uniform(-3, 3))  # one voice only: read faster or slower, then moved back in pitch
    ratio = 2 ** (semitones / 12)

    def say(text: str) -> np.ndarray:
        wave = np.asarray(voice(text, seed=seed, speed=speed / ratio), dtype=np.float32)
        return soxr.resample(wave, 24_000 * ratio, SAMPLE_RATE)

    return say


@lru_cache(1)
def _hibari_voice() -> Callable[..., np.ndarray]:
    from hibari import Hibari

    return Hibari(threads=1)


def _flite(speaking: Speaking, rng: np.random.Generator) -> Say:
    if speaking.flite is None:
        raise InputError("flite was not fetched; report this as a fault")
    folders = [Path(folder) for folder in speaking.flite.split(":")]
    program = next(path for folder in folders for path in folder.glob("usr/bin/flite"))
    libraries = [str(path) for folder in folders for path in folder.glob("usr/lib/*-linux-gnu")]
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}
    voice = str(rng.choice(["rms", "awb", "slt"]))
    stretch = f"duration_stretch={rng.uniform(0.9, 1.15):.3f}"
    pitch = f"int_f0_target_mean={rng.uniform(0.9, 1.15) * {'rms': 105, 'awb': 120, 'slt': 165}[voice]:.1f}"

    def say(text: str) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "said.wav"
            command = [str(program), "-voice", voice, "--setf", stretch, "--setf", pitch, "-t", text, "-o", str(path)]
            subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
            return audio.load(path)

    return say


TEXT_ENGINES = {"espeak": _espeak, "hibari": _hibari, "flite": _flite}


# ---- vocoders


def griffin_lim(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The wave from its 80-mel magnitudes alone (Griffin and Lim 1984, with momentum)."""
    n_fft, hop, n_iterations = 1024, 256, 32
    padded = np.pad(wave, (0, -len(wave) % hop))
    mel = _mel_matrix(n_fft, 80)
    magnitude = np.maximum(np.linalg.pinv(mel) @ (mel @ np.abs(_stft(padded, n_fft, hop))), 0)
    phase = np.exp(2j * np.pi * rng.random(magnitude.shape))
    previous: np.ndarray | float = 0.0
    for _ in range(n_iterations):
        rebuilt = _stft(_istft(magnitude * phase, n_fft, hop, len(padded)), n_fft, hop)
        moved = rebuilt + 0.99 / 1.99 * (rebuilt - previous)
        phase = moved / np.maximum(np.abs(moved), 1e-12)
        previous = rebuilt
    return _istft(magnitude * phase, n_fft, hop, len(padded))[: len(wave)].astype(np.float32)


def world(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """WORLD analysis and synthesis, pitch and spectral envelope moved by random amounts."""
    import pyworld

    x = wave.astype(np.float64)
    f0, times = pyworld.dio(x, SAMPLE_RATE)
    f0 = pyworld.stonemask(x, f0, times, SAMPLE_RATE)
    envelope = pyworld.cheaptrick(x, f0, times, SAMPLE_RATE)
    aperiodicity = pyworld.d4c(x, f0, times, SAMPLE_RATE)
    pitch, stretch = 2 ** (rng.uniform(-4, 4) / 12), rng.uniform(0.92, 1.08)
    bins = np.arange(envelope.shape[1])
    moved = np.exp(np.stack([np.interp(bins / stretch, bins, row) for row in np.log(envelope)]))
    return pyworld.synthesize(f0 * pitch, moved, aperiodicity, SAMPLE_RATE).astype(np.float32)[: len(wave)]


def lpc(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An all-pole filter driven by pulses where voiced and by noise where not (Atal and Hanauer 1971)."""
    import pyworld

    order, size, hop = 20, 480, 160
    x = signal.lfilter([1, -0.95], 1, wave.astype(np.float64))
    f0, times = pyworld.dio(wave.astype(np.float64), SAMPLE_RATE)
    f0 = pyworld.stonemask(wave.astype(np.float64), f0, times, SAMPLE_RATE) * 2 ** (rng.uniform(-3, 3) / 12)
    window = np.hanning(size)
    padded = np.pad(x, (size // 2, size))
    n_frames = len(x) // hop
    excitation = np.zeros(n_frames * hop)
    noise = rng.standard_normal(n_frames * hop)
    next_pulse = 0.0
    output = np.zeros(n_frames * hop)
    state = np.zeros(order)
    for frame in range(n_frames):
        start = frame * hop
        segment = padded[start : start + size] * window
        lags = np.correlate(segment, segment, "full")[size - 1 : size + order]
        lags[0] = lags[0] * 1.0001 + 1e-9
        coefficients = _levinson(lags)
        gain = np.sqrt(max(float(lags[: order + 1] @ coefficients), 0) / np.sum(window**2))
        pitch = f0[min(round(start / SAMPLE_RATE / 0.005), len(f0) - 1)]
        block = excitation[start : start + hop]
        if pitch > 0:
            period = SAMPLE_RATE / pitch
            next_pulse = max(next_pulse, start)
            while next_pulse < start + hop:
                block[int(next_pulse) - start] += np.sqrt(period)
                next_pulse += period
            block += 0.15 * noise[start : start + hop]
        else:
            block += noise[start : start + hop]
        output[start : start + hop], state = signal.lfilter([gain], coefficients, block, zi=state)
    return signal.lfilter([1], [1, -0.95], output).astype(np.float32)


VOCODERS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "griffinlim": griffin_lim,
    "world": world,
    "lpc": lpc,
}


def _levinson(lags: np.ndarray) -> np.ndarray:
    """Prediction error filter of the autocorrelation `lags` (order + 1,) -> (order + 1,), the first one 1."""
    coefficients = np.zeros(len(lags))
    coefficients[0], error = 1.0, lags[0]
    for i in range(1, len(lags)):
        reflection = -(coefficients[:i] @ lags[i:0:-1]) / error
        coefficients[1 : i + 1] += reflection * coefficients[i - 1 :: -1][:i]
        error *= 1 - reflection**2
    return coefficients


def _stft(wave: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    padded = np.pad(wave, n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    return np.fft.rfft(frames * np.hanning(n_fft + 1)[:-1], axis=1).T


def _istft(spectrum: np.ndarray, n_fft: int, hop: int, n_samples: int) -> np.ndarray:
    window = np.hanning(n_fft + 1)[:-1]
    frames = np.fft.irfft(spectrum.T, n_fft, axis=1) * window
    n_blocks, overlap = len(frames), n_fft // hop
    total = np.zeros((n_blocks + overlap - 1, hop))
    weight = np.zeros_like(total)
    for part in range(overlap):
        total[part : part + n_blocks] += frames[:, part * hop : (part + 1) * hop]
        weight[part : part + n_blocks] += window[part * hop : (part + 1) * hop] ** 2
    wave = (total / np.maximum(weight, 1e-8)).reshape(-1)
    return wave[n_fft // 2 : n_fft // 2 + n_samples]


@lru_cache(2)
def _mel_matrix(n_fft: int, n_mels: int) -> np.ndarray:
    def to_mel(hz: np.ndarray) -> np.ndarray:
        return 2595 * np.log10(1 + hz / 700)

    edges_mel = np.linspace(0, to_mel(np.array(SAMPLE_RATE / 2)), n_mels + 2)
    bins_mel = to_mel(np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE))
    rising = (bins_mel - edges_mel[:-2, None]) / (edges_mel[1] - edges_mel[0])
    falling = (edges_mel[2:, None] - bins_mel) / (edges_mel[1] - edges_mel[0])
    return np.maximum(0, np.minimum(rising, falling))
