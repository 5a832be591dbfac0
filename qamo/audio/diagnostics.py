"""What a recording is like: its length, level, bandwidth, clipping, and where in it someone speaks.

A detector knows nothing about recordings that differ from those it was trained on, and gives them a score all the
same. `measure` says what can be measured without a model, `domain_of` sums up a corpus by it, and `cautions` says in
what a recording falls outside. NumPy only.

Shapes: T samples at 16 kHz, N frames of 20 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from qamo.audio.load import SAMPLE_RATE

FRAME_SAMPLES = 320  # 20 ms
SPEECH_BELOW_LOUD_DB = 35.0  # a frame this far below the loud ones is a pause
SILENT_DBFS = -60.0  # a recording whose loudest frames are below this holds no usable speech
BANDWIDTH_BELOW_PEAK_DB = 60.0  # a band this far below the strongest is taken for empty
BAND_HZ = 250
MAX_SPECTRA = 2_000  # spectra averaged at most; a longer recording is looked at in that many places
CLIP_LEVEL = 0.999  # of full scale
CLIPPED_SHARE = 1e-3  # above this, clipping is worth a warning
SHORT_S = 1.0  # below this a recording is repeated several times to fill a window
TOLERANCE = 0.9  # of the least bandwidth of a corpus; below that a recording is outside


class Facts(NamedTuple):
    """What `measure` finds."""

    duration_s: float
    level_dbfs: float  # root mean square of the loud frames; -inf for digital silence
    bandwidth_hz: float  # where the spectrum of the speech ends; 0 for digital silence
    clipped_share: float  # of the samples, in [0, 1]
    speech_share: float  # of the frames, in [0, 1]


class Caution(NamedTuple):
    """One reason to trust a score less."""

    code: str  # silence, short, level, bandwidth, clipping, speech, mos, mixed
    text: str  # a sentence without its full stop


def measure(wave: np.ndarray) -> Facts:
    """Look at a wave (T,) at 16 kHz, T at least 1."""
    levels = frame_levels_dbfs(wave)
    speech = speech_frames(wave)
    return Facts(
        duration_s=len(wave) / SAMPLE_RATE,
        level_dbfs=_loud(levels),
        bandwidth_hz=bandwidth_hz(wave, speech),
        clipped_share=float(np.mean(np.abs(wave) >= CLIP_LEVEL)),
        speech_share=float(speech.mean()),
    )


def frame_levels_dbfs(wave: np.ndarray) -> np.ndarray:
    """Level of each 20 ms, the last one perhaps shorter: (T,) -> (N,) dBFS, -inf for digital silence."""
    starts = np.arange(0, len(wave), FRAME_SAMPLES)
    energies = np.add.reduceat(np.square(wave, dtype=np.float64), starts)
    lengths = np.diff(starts, append=len(wave))
    with np.errstate(divide="ignore"):
        return 10 * np.log10(energies / lengths)


def speech_frames(wave: np.ndarray) -> np.ndarray:
    """Which frames are not a pause: (T,) -> (N,) bool.

    A frame counts when it is within 35 dB of the loud frames and above -60 dBFS; it keeps its neighbours of 100 ms,
    so that soft ends of words stay. Music and noise count as speech: this finds silence, not speakers.
    """
    levels = frame_levels_dbfs(wave)
    active = levels > max(_loud(levels) - SPEECH_BELOW_LOUD_DB, SILENT_DBFS)
    return np.convolve(active, np.ones(11), mode="same")[: len(active)] > 0.5 if len(active) > 11 else active


def bandwidth_hz(wave: np.ndarray, speech: np.ndarray) -> float:
    """Upper end of the highest band of 250 Hz that is within 60 dB of the strongest one, over the speech frames.

    Telephone speech gives about 4,000 and a lossy codec its cut-off, whatever the sample rate of the file.
    """
    size = 512
    if len(wave) < size:
        wave = np.pad(wave, (0, size - len(wave)))
    starts = np.flatnonzero(speech) * FRAME_SAMPLES
    starts = starts[starts <= len(wave) - size]
    if not len(starts):
        starts = np.array([0])
    if len(starts) > MAX_SPECTRA:
        starts = starts[np.linspace(0, len(starts) - 1, MAX_SPECTRA).astype(int)]
    frames = wave[starts[:, None] + np.arange(size)] * np.hanning(size)
    power = np.square(np.abs(np.fft.rfft(frames, axis=1))).mean(axis=0)[1:]  # (256,), without the constant
    bands = power.reshape(-1, round(BAND_HZ * size / SAMPLE_RATE)).mean(axis=1)  # (32,)
    if not bands.max() > 0:
        return 0.0
    filled = np.flatnonzero(bands > bands.max() * 10 ** (-BANDWIDTH_BELOW_PEAK_DB / 10))
    return float((filled[-1] + 1) * BAND_HZ)


def domain_of(facts: Iterable[Facts]) -> dict[str, float | int]:
    """The ranges that 98 % of the recordings of a corpus lie in, by name; see `cautions`."""
    rows = list(facts)
    lengths, levels, bands = (np.array([getattr(f, name) for f in rows]) for name in Facts._fields[:3])
    low, high = 1, 99
    return {
        "n_measured": len(rows),
        "duration_s_low": round(float(np.percentile(lengths, low)), 2),
        "duration_s_high": round(float(np.percentile(lengths, high)), 2),
        "level_dbfs_low": round(float(np.percentile(np.maximum(levels, SILENT_DBFS), low)), 1),
        "bandwidth_hz_low": float(np.percentile(bands, low, method="lower")),
    }


def cautions(facts: Facts, domain: Mapping[str, float] | None = None, *, mos: float | None = None) -> list[Caution]:
    """In what a recording is unlike those that the model knows, or unfit for any model.

    Args:
        domain: of `domain_of`, perhaps with `mos_low`; without it only what harms any detector is said.
        mos: mean opinion score of the recording, where it is known.
    """
    known = domain or {}
    found = []
    if facts.level_dbfs < SILENT_DBFS:
        level = "digital silence" if np.isinf(facts.level_dbfs) else f"its loudest parts are at {facts.level_dbfs:.0f}"
        unit = "" if np.isinf(facts.level_dbfs) else " dBFS"
        found.append(Caution("silence", f"near silence ({level}{unit}): the score says nothing"))
        return found
    shortest = min(SHORT_S, known.get("duration_s_low", SHORT_S))
    if facts.duration_s < shortest:
        found.append(
            Caution("short", f"only {facts.duration_s:.2f} s long: little to judge by (below {shortest:.2f} s)")
        )
    if "level_dbfs_low" in known and facts.level_dbfs < known["level_dbfs_low"] - 10:
        found.append(
            Caution(
                "level",
                f"quiet ({facts.level_dbfs:.0f} dBFS where the model's dev recordings have at least "
                f"{known['level_dbfs_low']:.0f})",
            )
        )
    if facts.bandwidth_hz < TOLERANCE * known.get("bandwidth_hz_low", 0.0):
        found.append(
            Caution(
                "bandwidth",
                f"nothing above {facts.bandwidth_hz / 1000:.2g} kHz, where the model's dev recordings reach "
                f"{known['bandwidth_hz_low'] / 1000:.2g} kHz: telephone speech or a lossy codec",
            )
        )
    elif not known and facts.bandwidth_hz <= 4_000:
        found.append(Caution("bandwidth", f"nothing above {facts.bandwidth_hz / 1000:.2g} kHz: telephone speech"))
    if facts.clipped_share > CLIPPED_SHARE:
        found.append(Caution("clipping", f"clipped ({100 * facts.clipped_share:.1f} % of the samples at full scale)"))
    if facts.speech_share < 0.2:
        found.append(Caution("speech", f"mostly pauses ({100 * facts.speech_share:.0f} % of the time is not)"))
    if mos is not None and mos < known.get("mos_low", 0.0):
        found.append(
            Caution(
                "mos", f"predicted quality {mos:.2f} MOS, where the model's dev recordings have {known['mos_low']:.2f}"
            )
        )
    return found


def _loud(levels: np.ndarray) -> float:
    return float(np.percentile(levels, 95, method="higher"))
