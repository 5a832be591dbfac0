"""Find recordings, and make a wave, (T,) float32 at 16 kHz, of whatever holds one: a file, bytes, an array.

The one place where this room decodes sound.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soxr

from qamo import InputError
from qamo.audio import SAMPLE_RATE, load
from qamo.audio.mixing import Channel, chosen_channels
from qamo.trials.recordings import recordings_in

RATES_HZ = (1_000, 768_000)
MAX_CHANNELS = 64
MAX_PEAK = 100.0  # of full scale, 40 dB above it: more is samples at another scale

# A path, the bytes of a file, an open file, (samples, rate in Hz), or samples at 16 kHz; samples are (T,) or
# (T, channels), as soundfile gives them: floats in [-1, 1], or integers, whose full scale is that of their type.
Recording = str | os.PathLike[str] | bytes | BinaryIO | tuple[np.ndarray, int] | np.ndarray


def read(
    recording: Recording, *, name: str = "", max_s: float | None = None, channel: Channel = "mix"
) -> load.Recording:
    """The wave of a recording, or one of each channel, with the warnings of its decoding.

    Args:
        name: what messages call it; `name_of` by default.
        max_s: refuse a file that is longer.
        channel: mix is the mean of all; each gives as many waves as there are channels.

    Raises:
        InputError: unreadable, empty, too long, or not finite.
    """
    name = name or name_of(recording)
    content: Any = recording
    if isinstance(content, tuple) and len(content) == 2 and np.ndim(content[1]) == 0:
        return load.Recording(_from_array(np.asarray(content[0]), content[1], name, channel), [])
    if hasattr(content, "__array__"):
        return load.Recording(_from_array(np.asarray(content), SAMPLE_RATE, name, channel), [])
    if hasattr(content, "read"):
        content = _content_of(content, name)
    if isinstance(content, (bytes, bytearray, memoryview)):
        return load.read(bytes(content), name=name, max_s=max_s, channel=channel)
    if isinstance(content, (str, os.PathLike)):
        return load.read(Path(content), name=name, max_s=max_s, channel=channel)
    raise InputError(
        f"expected a path, bytes, an open file, an array at 16 kHz or (array, rate), found {type(recording).__name__}"
    )


def name_of(recording: Recording) -> str:
    """What a recording is called: its path, or what it is."""
    path = getattr(recording, "name", "") if hasattr(recording, "read") else recording
    if isinstance(path, (str, os.PathLike)) and os.fspath(path):
        return os.fspath(path)
    return "array" if isinstance(recording, tuple) or hasattr(recording, "__array__") else "recording"


def by_channel(heard: load.Recording, name: str) -> list[tuple[str, load.Recording]]:
    """Each wave of a recording by itself, numbered in its name where there are several."""
    if len(heard.waves) == 1:
        return [(name, heard)]
    return [(f"{name} [{k}]", load.Recording([wave], heard.warnings)) for k, wave in enumerate(heard.waves, start=1)]


def expand(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Recordings in the order of the arguments, folders searched in the order of names; with what is wrong, or "".

    Hidden files, such as the `._clip.wav` of macOS, are no recordings.
    """
    for path in paths:
        if not path.is_dir():
            yield path, ""
            continue
        inside = recordings_in(path)
        if not inside:
            yield path, f"{path}: found no recordings in this folder, by their endings"
        for recording in inside:
            yield recording, ""


def _content_of(file: BinaryIO, name: str) -> bytes:
    if isinstance(file, io.TextIOBase):
        raise InputError(f"{name}: expected a file opened with mode 'rb', found one opened for text")
    try:
        return file.read()
    except (OSError, ValueError) as error:  # closed, or not opened for reading
        raise InputError(f"{name}: cannot be read ({error})") from None


def _from_array(samples: np.ndarray, rate: float, name: str, channel: Channel) -> list[np.ndarray]:
    if samples.ndim not in (1, 2) or not samples.size or (samples.ndim == 2 and samples.shape[1] > MAX_CHANNELS):
        raise InputError(f"{name}: expected samples (T,) or (T, channels), found shape {samples.shape}")
    if samples.dtype.kind not in "fiu":
        raise InputError(f"{name}: expected real samples, found {samples.dtype}")
    if np.asarray(rate).dtype.kind not in "fiu" or not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise InputError(f"{name}: expected a rate of {RATES_HZ[0]:,} to {RATES_HZ[1]:,} Hz, found {rate!r}")
    with np.errstate(over="ignore"):  # what is beyond float32 is refused below
        wave = samples.astype(np.float32)
    if samples.dtype.kind in "iu":
        full_scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
        wave = wave / full_scale - (samples.dtype.kind == "u")  # unsigned samples rest at half their range
    block = wave.reshape(len(wave), -1)  # (T, channels)
    chosen = [np.ascontiguousarray(mono, dtype=np.float32) for mono in chosen_channels(block, channel)]
    peak = float(np.abs(chosen).max())
    if not np.isfinite(peak):
        raise InputError(f"{name}: some of its samples are not finite")
    if peak > MAX_PEAK:
        raise InputError(f"{name}: expected samples in [-1, 1], found up to {peak:g}; divide by their full scale")
    return chosen if rate == SAMPLE_RATE else [soxr.resample(mono, rate, SAMPLE_RATE) for mono in chosen]
