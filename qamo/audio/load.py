"""The one reader of recordings: a file or bytes in, a wave out, one-dimensional float32 at 16 kHz.

libsndfile decodes what it reads exactly and to the end (WAV, FLAC, AIFF, Ogg and their kin); FFmpeg the rest (MP3, AAC,
M4A, WebM, ...), and what libsndfile gives up on. Samples are read in blocks until the decoder has no more: what headers
say of lengths is a hint. Resampling is soxr's; several channels are averaged.

`read` gives a recording as far as it goes, with warnings, for a person who asks about it; `load` refuses what would be
a doubtful trial, for training and scoring. Whatever a decoder does, the error is an `InputError` with the file's name.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile

from qamo import InputError
from qamo.audio import SAMPLE_RATE as SAMPLE_RATE
from qamo.audio import WINDOW_SAMPLES as WINDOW_SAMPLES
from qamo.audio import containers, ffmpeg, flac, sndfile
from qamo.audio.containers import Part
from qamo.audio.diagnostics import Caution
from qamo.audio.mixing import CHANNELS, Channel, Mixer, joined
from qamo.files import shown

MAX_S = 36_000.0  # ten hours; a small file may unpack to months
DOUBTFUL = {"cut", "damaged", "scale", "cancel", "channels"}  # warnings that training and scoring take for faults


class Recording(NamedTuple):
    """What `read` gives."""

    waves: list[np.ndarray]  # (T,) float32 at 16 kHz; several where each channel was asked for
    warnings: list[Caution]

    @property
    def wave(self) -> np.ndarray:
        """The only wave."""
        (wave,) = self.waves
        return wave


def load(path: Path) -> np.ndarray:
    """Decode a recording for training or scoring: (T,) float32 at 16 kHz.

    Raises:
        InputError: missing, unreadable, empty, not finite, cut short, damaged, or at a level or with channels that
            cannot be meant.
    """
    found = read(path)
    for warning in found.warnings:
        if warning.code in DOUBTFUL:
            raise InputError(f"{shown(path)}: {warning.text}; mend the file or leave it out")
    return found.wave


def read(
    source: Path | str | bytes | BinaryIO, *, name: str = "", max_s: float | None = None, channel: Channel = "mix"
) -> Recording:
    """Decode a recording as far as it goes.

    Args:
        source: a file, the bytes of one, or an open one, which is read into memory.
        name: what messages call it; the path by default.
        max_s: refuse what is longer, before it is decoded to the end.
        channel: mix: the mean of the channels; left, right: one of them; each: a wave for each.

    Raises:
        InputError: missing, unreadable, empty, too long, or not finite.
    """
    if channel not in CHANNELS:
        raise InputError(f"--channel: expected {', '.join(CHANNELS)}, found {channel!r}")
    path = os.fsencode(source) if isinstance(source, (str, os.PathLike)) else None
    called = name or (os.fsdecode(path) if path else "recording")
    try:
        with _opened(source) as file:
            return _read(file, path, called, channel, MAX_S if max_s is None else max_s)
    except InputError as error:
        raise InputError(f"{shown(called)}: {error}") from None
    except Exception as error:  # whatever a decoder makes of a damaged file is that file's fault
        raise InputError(f"{shown(called)}: not a recording that can be read ({_reason(error)})") from None


def check_header(path: Path) -> str | None:
    """What is wrong with a recording as far as its header shows, or None; cut short counts."""
    try:
        with _opened(path) as file:
            if flac.is_plain(file.read(42)):  # ten times faster, which counts for 800,000 files
                return None
            for part, window, for_sndfile in _laid_out(file, os.fsencode(path), str(path)):
                if part.cut:
                    return "cut short: the file ends before its sound does"
                _look(part, window, for_sndfile)
        return None
    except InputError as error:
        return str(error)
    except Exception as error:
        return f"not a recording that can be read ({_reason(error)})"


def fit_length(wave: np.ndarray, n_samples: int = WINDOW_SAMPLES) -> np.ndarray:
    """Cut a wave to its first `n_samples`, or repeat it until it is that long: (T,) -> (n_samples,).

    Source: the padding of the published QAMO code (ductuantruong/QAMO @47d77cc).
    """
    if len(wave) >= n_samples:
        return wave[:n_samples]
    return np.tile(wave, -(-n_samples // len(wave)))[:n_samples]


# ---- one file


def _opened(source: Path | str | bytes | BinaryIO) -> BinaryIO:
    if not isinstance(source, (str, os.PathLike)):
        content = source if isinstance(source, bytes) else source.read()
        if not content:
            raise InputError("expected a recording, found an empty file (0 bytes)")
        return sndfile.Memory(content)
    try:
        found = os.stat(source)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError("no such file; check the name and the folder") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or device, which cannot be read twice"
        raise InputError(f"expected a recording, found {kind}")
    if not found.st_size:
        raise InputError("expected a recording, found an empty file (0 bytes); copy it again")
    return os.fdopen(os.open(source, os.O_RDONLY), "rb")  # so that decoders do not learn its name


def _laid_out(file: BinaryIO, path: bytes | None, name: str) -> Iterator[tuple[Part, BinaryIO, bytes | BinaryIO]]:
    """Each part, its bytes as a file of its own, and what libsndfile is given: a path where that will do."""
    size = file.seek(0, io.SEEK_END)
    for part in containers.parts(file, size, os.path.splitext(name)[1]):
        if (part.start, part.end, part.patch) == (0, size, None):
            file.seek(0)
            yield part, file, path or file
            continue
        file.seek(part.start)
        content = bytearray(file.read(part.end - part.start))
        if part.patch:
            place, value = part.patch
            content[place : place + len(value)] = value
        window = sndfile.Memory(content)
        yield part, window, window


def _read(file: BinaryIO, path: bytes | None, name: str, channel: Channel, max_s: float) -> Recording:
    mixers: list[Mixer] = []
    findings, cut = ffmpeg.Findings(), False
    for part, window, for_sndfile in _laid_out(file, path, name):
        cut = cut or part.cut
        begun = sum(mixer.seconds for mixer in mixers)
        mixers.append(_heard(part, window, for_sndfile, findings, lambda: Mixer(channel, max_s, begun)))  # noqa: B023
    waves, warnings = joined(mixers)
    if not waves or not len(waves[0]):
        n_read = sum(mixer.n_read for mixer in mixers)
        raise InputError(f"expected speech, found {n_read} samples; replace or remove the file")
    if cut or findings.cut:
        seconds = len(waves[0]) / SAMPLE_RATE
        warnings.append(
            Caution("cut", f"cut short: the file ends before its sound does; {seconds:.2f} s are there and were read")
        )
    if findings.damaged:
        warnings.append(Caution("damaged", "damaged: parts of it could not be decoded and are left out"))
    if findings.n_tracks > 1:
        warnings.append(Caution("tracks", f"{findings.n_tracks} sound tracks, of which the first was read"))
    return Recording(waves, warnings)


def _heard(
    part: Part,
    window: BinaryIO,
    for_sndfile: bytes | BinaryIO,
    findings: ffmpeg.Findings,
    new_mixer: Callable[[], Mixer],
) -> Mixer:
    """A part by libsndfile where that reads it to its end, else by FFmpeg."""
    first, failed, broken = new_mixer(), "", False
    if part.sndfile:
        try:
            first.take(sndfile.blocks(for_sndfile))
        except InputError:
            raise
        except Exception as error:
            failed, broken = _reason(error), isinstance(error, sndfile.Broken)
        if not failed and not (part.doubted and ffmpeg.is_longer(window, part.demuxer, first.seconds)):
            return first
        if not part.demuxer:
            raise InputError(f"not a recording that libsndfile reads ({failed}); copy or convert it again")
    second, more = new_mixer(), ffmpeg.Findings()
    try:
        second.take(ffmpeg.blocks(window, part.demuxer, more))
    except InputError:
        raise
    except Exception as error:
        if part.sndfile and not failed:
            return first
        both = f"libsndfile ({failed}) or FFmpeg" if failed else "FFmpeg"
        raise InputError(f"not a recording that {both} reads ({_reason(error)}); copy or convert it again") from None
    if part.sndfile and not failed and second.seconds < first.seconds + ffmpeg.APART_S:
        return first
    findings.add(more, broken=broken and not part.cut)
    return second


def _look(part: Part, window: BinaryIO, for_sndfile: bytes | BinaryIO) -> None:
    """Raise what is wrong with a part as far as its header shows."""
    if part.sndfile:
        try:
            return sndfile.look(for_sndfile)
        except soundfile.SoundFileError:
            if not part.demuxer:
                raise
    ffmpeg.look(window, part.demuxer)


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return shown(str(text).strip().splitlines()[-1].rsplit(": ", 1)[-1].rstrip(".").lower())
