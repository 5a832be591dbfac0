"""What a recording is like: its length, level, bandwidth, clipping, its channels, and where in it someone speaks.

A detector knows nothing about recordings that differ from those it was trained on, and gives them a score all the
same. `measure` says what can be measured without a model, `domain_of` sums up a corpus by it, and `cautions` says in
what a recording falls outside. `scale_of` and `ChannelMeter` find levels and channels that cannot be meant, while a
file is read. NumPy only.

Shapes: T samples at 16 kHz, N frames of 20 ms; n samples of a block at the file's own rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from qamo.audio import SAMPLE_RATE

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
HOT = 2.0  # of full scale: more than any decoder overshoots by
NEVER = 100.0  # of full scale: 40 dB above it nobody mixes
CANCELS_DB = -10.0  # of the mix of channels that have nothing to do with each other; below that they cancel
ALIKE = 0.35  # correlation of two channels at the best lag; below that they hold different sounds
TOGETHER = 0.3  # correlation of their levels; below that they are loud at different times
LAG_S = 0.025  # between microphones, at most


class Facts(NamedTuple):
    """What `measure` finds."""

    duration_s: float
    level_dbfs: float  # root mean square of the loud frames; -inf for digital silence
    bandwidth_hz: float  # where the spectrum of the speech ends; 0 for digital silence
    clipped_share: float  # of the samples, in [0, 1]
    speech_share: float  # of the frames, in [0, 1]


class Caution(NamedTuple):
    """One reason to trust a score less."""

    code: str  # silence, short, level, ..., not speech; of the reader: cut, damaged, scale, hot, cancel, channels, ...
    text: str  # a sentence without its full stop


def measure(wave: np.ndarray) -> Facts:
    """Look at a wave (T,) at 16 kHz, T at least 1."""
    levels = frame_levels_dbfs(wave)
    speech = speech_frames(wave)
    return Facts(
        duration_s=len(wave) / SAMPLE_RATE,
        level_dbfs=loud_dbfs(levels),
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
    active = levels > max(loud_dbfs(levels) - SPEECH_BELOW_LOUD_DB, SILENT_DBFS)
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


def scale_of(peak: float, whole_numbers: bool, last_bits: bool) -> tuple[float, Caution | None]:
    """What samples must be multiplied by to be what was meant, and what to say about it.

    Args:
        peak: greatest magnitude, where 1 is full scale.
        whole_numbers: whether samples above full scale, or tiny ones counted in steps of 2^-31, are integers.
        last_bits: whether steps of 2^-31 occur, which no 24-bit recording has.
    """
    if peak > HOT and (whole_numbers or peak > NEVER):
        bits = next((bits for bits in (16, 24, 32) if peak <= 1.01 * 2 ** (bits - 1)), 0)
        if bits:
            return 2.0 ** (1 - bits), Caution(
                "scale", f"its floats are at {bits}-bit scale (peak {peak:,.0f}): divided by {2 ** (bits - 1):,}"
            )
    if peak > HOT:
        return 1.0, Caution("hot", f"its samples reach {peak:.3g} times full scale")
    if 0 < peak <= 2.0**-16 and whole_numbers and last_bits:
        return 65_536.0, Caution(
            "scale", f"its 32-bit integers hold 16-bit samples (peak {peak * 2**31:.0f}): multiplied by 65,536"
        )
    return 1.0, None


class ChannelMeter:
    """Whether channels may be mixed: fed with the blocks of a file."""

    def __init__(self) -> None:
        self._apart = 0.0  # energy of the mix if the channels had nothing to do with each other
        self._mixed = 0.0
        self._levels: list[np.ndarray] = []  # of pairs: (frames, 2) energies
        self._likeness: list[float] = []

    def add(self, rate: int, block: np.ndarray, mix: np.ndarray) -> None:
        """Take a block (n, channels) and its mean over the channels (n,)."""
        self._apart += float(np.square(block).sum(dtype=np.float64)) / block.shape[1] ** 2
        self._mixed += float(np.square(mix).sum(dtype=np.float64))
        frame = rate // 50
        n_frames = len(block) // frame
        if block.shape[1] != 2 or not n_frames:
            return
        framed = block[: n_frames * frame].reshape(n_frames, frame, 2)
        self._levels.append(np.square(framed).mean(axis=1))
        for start in range(0, max(1, len(block) - rate), max(rate, len(block) // 4)):
            self._likeness += _likeness(block[start : start + rate], round(LAG_S * rate))

    def cautions(self) -> list[Caution]:
        if self._apart and self._mixed < self._apart * 10 ** (CANCELS_DB / 10):
            return [
                Caution("cancel", "its channels cancel when they are mixed: take one, with --channel left or right")
            ]
        if self._levels and self._hold_two():
            return [
                Caution(
                    "channels",
                    "a different speaker on each channel, as in two-channel telephony: judge them one by one, with "
                    "--channel each",
                )
            ]
        return []

    def _hold_two(self) -> bool:
        """Both channels carry sound that comes and goes, at different times, and not the same sound."""
        with np.errstate(divide="ignore"):
            levels = 10 * np.log10(np.concatenate(self._levels))  # (N, 2) dBFS
        loud = np.percentile(levels, 95, axis=0, method="higher")
        if loud.min() < SILENT_DBFS or np.ptp(loud) > 25 or not self._likeness:
            return False
        levels = np.maximum(levels, loud - 40)
        if levels.std(axis=0).min() < 3:
            return False
        return float(np.median(self._likeness)) < ALIKE and float(np.corrcoef(levels.T)[0, 1]) < TOGETHER


def _likeness(pair: np.ndarray, lag: int) -> list[float]:
    """Greatest correlation of two channels (n, 2) over lags of either sign; nothing where both are silent."""
    energy = np.square(pair).sum(axis=0, dtype=np.float64)
    if not energy.min() > 0:
        return [0.0] if energy.max() > 0 else []
    size = 1 << (len(pair) + lag).bit_length()
    left, right = np.fft.rfft(pair, size, axis=0).T
    by_lag = np.fft.irfft(left * right.conj(), size)
    return [float(np.abs(np.r_[by_lag[: lag + 1], by_lag[-lag:]]).max() / np.sqrt(energy.prod()))]


def loud_dbfs(levels: np.ndarray) -> float:
    return float(np.percentile(levels, 95, method="higher"))
