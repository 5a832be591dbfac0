"""Decoded blocks of any rate and number of channels become waves at 16 kHz, and what is odd in them is noted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import soxr

from qamo import InputError
from qamo.audio import SAMPLE_RATE
from qamo.audio.diagnostics import Caution, ChannelMeter, scale_of

Channel = Literal["mix", "left", "right", "each"]
CHANNELS: tuple[Channel, ...] = ("mix", "left", "right", "each")
RATES_HZ = (1_000, 768_000)
MAX_CHANNELS = 64
MAX_PEAK = 2.0**32  # of full scale; no integers are greater, and squares must not overflow


def check_form(rate: int, n_channels: int) -> None:
    """Refuse, before any work, what no recording is like."""
    if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise InputError(f"expected a rate from 1 to 768 kHz, found {rate:,} Hz; the file is damaged")
    if not 1 <= n_channels <= MAX_CHANNELS:
        raise InputError(f"expected at most {MAX_CHANNELS} channels, found {n_channels}; the file is damaged")


def chosen_channels(block: np.ndarray, channel: Channel) -> list[np.ndarray]:
    """(n, channels) -> waves (n,): the mean, the first, the second, or each; one channel is what any choice finds."""
    n_channels = block.shape[1]
    if n_channels == 1 or channel in ("left", "right"):
        return [block[:, min(n_channels - 1, int(channel == "right"))]]
    return list(block.T) if channel == "each" else [block.mean(axis=1)]


class Mixer:
    """Takes blocks in, gives waves out; a change of the rate on the way is a new resampler.

    Args:
        limit_s: more seconds than this are refused.
        begun_s: seconds that were read before, of other parts.
    """

    def __init__(self, channel: Channel, limit_s: float, begun_s: float = 0.0) -> None:
        self.channel = channel
        self.limit_s = limit_s
        self.begun_s = begun_s
        self.seconds = 0.0
        self.n_read = 0
        self.peak = 0.0
        self.whole_numbers = True  # as far as it matters: see `_note_scale`
        self.last_bits = False
        self.meter = ChannelMeter()
        self._rate = 0
        self._pieces: list[list[np.ndarray]] = []  # of each wave
        self._resamplers: list[soxr.ResampleStream] = []

    def take(self, blocks: Iterable[tuple[int, np.ndarray]]) -> None:
        for rate, block in blocks:
            self.add(rate, block)

    def add(self, rate: int, block: np.ndarray) -> None:
        """Take a block (n, channels) at `rate` Hz.

        Raises:
            InputError: without the file's name: more than is taken, or what no recording is like.
        """
        n_samples, n_channels = block.shape
        check_form(rate, n_channels)
        self.seconds += n_samples / rate
        if self.begun_s + self.seconds > self.limit_s + 1e-6:
            raise InputError(f"longer than {self.limit_s / 60:g} minutes, which is all that is taken; cut it")
        if not n_samples:
            return
        self._note_scale(block)
        chosen = chosen_channels(block, self.channel)
        if self.channel == "mix" and n_channels > 1:
            self.meter.add(rate, block, chosen[0])
        if rate != self._rate or len(chosen) != len(self._pieces):
            self._start(rate, len(chosen))
        for place, wave in enumerate(chosen):
            if rate != SAMPLE_RATE:
                wave = self._resamplers[place].resample_chunk(np.ascontiguousarray(wave))
            self._pieces[place].append(wave)
        self.n_read += n_samples

    def result(self) -> tuple[list[np.ndarray], list[Caution]]:
        """All that was taken: (T,) float32 at 16 kHz each, of one length, at the level that was meant."""
        self._flush()
        waves = [pieces[0] if len(pieces) == 1 else np.concatenate(pieces) for pieces in self._pieces]
        factor, odd = scale_of(self.peak, self.whole_numbers, self.last_bits)
        if factor != 1.0:
            waves = [wave * np.float32(factor) for wave in waves]
        return waves, [*([odd] if odd else []), *self.meter.cautions()]

    def _note_scale(self, block: np.ndarray) -> None:
        peak = float(max(block.max(), -block.min()))
        if not np.isfinite(peak):
            bad, place = np.argwhere(~np.isfinite(block))[0]
            value = block[bad, place]
            raise InputError(f"sample {self.n_read + bad} is {value}, expected finite samples; decode the file again")
        if peak > MAX_PEAK:
            raise InputError(f"expected sound, found samples of {peak:.2g} times full scale; decode the file again")
        if peak > 2:
            self.whole_numbers = self.whole_numbers and bool((block == np.rint(block)).all())
        elif 0 < peak <= 2.0**-16 and not self.last_bits:
            steps = block.astype(np.float64) * 2.0**31
            self.whole_numbers = self.whole_numbers and bool((steps == np.rint(steps)).all())
            self.last_bits = bool((steps % 256 != 0).any())
        self.peak = max(self.peak, peak)

    def _start(self, rate: int, n_waves: int) -> None:
        if self._pieces and n_waves != len(self._pieces):
            raise InputError("the number of its channels changes on the way; take them mixed, with --channel mix")
        self._flush()
        self._rate = rate
        self._pieces = self._pieces or [[] for _ in range(n_waves)]
        if rate != SAMPLE_RATE:
            self._resamplers = [soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32") for _ in range(n_waves)]

    def _flush(self) -> None:
        for pieces, resampler in zip(self._pieces, self._resamplers):
            pieces.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        self._resamplers = []


def joined(mixers: Sequence[Mixer]) -> tuple[list[np.ndarray], list[Caution]]:
    """The waves of parts one after the other, and each kind of warning once."""
    results = [mixer.result() for mixer in mixers]
    heard = [waves for waves, _ in results if waves]
    if len({len(waves) for waves in heard}) > 1:
        raise InputError("the number of its channels changes on the way; take them mixed, with --channel mix")
    said = {warning.code: warning for _, warnings in reversed(results) for warning in warnings}
    waves = heard[0] if len(heard) == 1 else [np.concatenate(pieces) for pieces in zip(*heard)]
    return [np.ascontiguousarray(wave, np.float32) for wave in waves], list(said.values())
