"""Any recording in, a wave out: what a person or a browser may hand over, beside what `qamo.audio.load` reads.

libsndfile reads wav, flac, mp3, ogg, opus and more; the rest (m4a, aac, webm, the sound of a video) goes to FFmpeg
through PyAV, where that is installed. The sound passes in blocks, so that memory holds the wave at 16 kHz and not the
file's own rate and channels, and so that a small file cannot unpack to more than `max_s`. What libsndfile reads
comes out bit for bit as `qamo.audio.load` gives it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from qamo import InputError
from qamo.audio.load import SAMPLE_RATE

BLOCK_SAMPLES = 1 << 18
EXTENSIONS = {
    ".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".aifc", ".au", ".caf", ".w64", ".rf64", ".sph",
    ".nist", ".m4a", ".mp4", ".aac", ".webm", ".mka", ".mkv", ".wma", ".amr", ".3gp", ".mov",
}  # fmt: skip


def decode(source: Path | bytes, *, name: str = "", max_s: float | None = None) -> np.ndarray:
    """Decode a recording to mono: (T,) float32 at 16 kHz.

    Args:
        source: a file, or the bytes of one.
        name: what messages call it; the path by default.
        max_s: refuse what is longer, before it is decoded to the end.

    Raises:
        InputError: unreadable, empty, too long, or not finite.
    """
    import soundfile

    name = name or (str(source) if isinstance(source, Path) else "recording")
    if isinstance(source, Path) and source.is_dir():
        raise InputError(f"{name}: expected a recording, found a folder")
    try:
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            blocks = file.blocks(BLOCK_SAMPLES, dtype="float32", always_2d=True)
            return _joined(blocks, file.samplerate, name, max_s)
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        return _with_ffmpeg(source, name, max_s, error)


def _joined(blocks: Iterator[np.ndarray], rate: int, name: str, max_s: float | None) -> np.ndarray:
    """Blocks of (n, channels) at `rate` as one wave (T,) at 16 kHz."""
    import soxr

    resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    pieces: list[np.ndarray] = []
    n_read = 0
    for block in blocks:
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
        if not np.isfinite(mono).all():
            bad = n_read + int(np.argmin(np.isfinite(mono)))
            raise InputError(f"{name}: sample {bad} is not a finite number; decode the file again")
        n_read += len(mono)
        if max_s is not None and n_read > max_s * rate:
            raise InputError(f"{name}: longer than {max_s / 60:g} minutes, which is all that is taken; cut it")
        pieces.append(mono if resampler is None else resampler.resample_chunk(np.ascontiguousarray(mono)))
    if resampler is not None:
        pieces.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    wave = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    if not len(wave):
        raise InputError(f"{name}: expected speech, found {n_read} samples at {rate} Hz; replace or remove the file")
    return np.ascontiguousarray(wave, dtype=np.float32)


def _with_ffmpeg(source: Path | bytes, name: str, max_s: float | None, first: Exception) -> np.ndarray:
    reason = str(first).splitlines()[-1].rsplit(": ", 1)[-1].rstrip(".").lower()
    if isinstance(source, Path):
        if not source.is_file():
            raise InputError(f"{name}: no such file")
        if not source.stat().st_size:
            raise InputError(f"{name}: expected a recording, found an empty file (0 bytes)")
    elif not source:
        raise InputError(f"{name}: expected a recording, found an empty file (0 bytes)")
    try:
        import av
    except ImportError:
        raise InputError(
            f"{name}: not a recording that libsndfile reads ({reason}); for m4a, aac, webm and video: "
            "pip install -r requirements.txt"
        ) from None
    try:
        with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as container:
            if not container.streams.audio:
                raise InputError(f"{name}: expected a recording, found a file without sound")
            stream = container.streams.audio[0]
            return _joined(_frames(container, stream), stream.rate or SAMPLE_RATE, name, max_s)
    except (av.FFmpegError, ValueError) as error:
        why = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[-1].lower()
        raise InputError(
            f"{name}: not a recording that libsndfile ({reason}) or FFmpeg ({why}) reads; copy or convert it again"
        ) from None


def _frames(container: Any, stream: Any) -> Iterator[np.ndarray]:
    """Decoded sound as blocks (n, channels) of float32 at the stream's own rate."""
    import av

    planar = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
    for frame in container.decode(stream):
        for piece in planar.resample(frame):
            yield piece.to_ndarray().T
    for piece in planar.resample(None):
        yield piece.to_ndarray().T
