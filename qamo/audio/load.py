"""Recordings in, waves out: one-dimensional float32 at 16 kHz, nominally in [-1, 1].

Decoding is libsndfile's, resampling is soxr's; several channels are averaged.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qamo import InputError

SAMPLE_RATE = 16_000  # Hz; the rate of every corpus of the field and of every front end here
WINDOW_SAMPLES = 66_800  # 4.175 s, the window of the paper: 208 XLS-R frames


def load(path: Path) -> np.ndarray:
    """Decode a recording to (T,) float32 at 16 kHz.

    Raises:
        InputError: the file is missing, unreadable, empty, or holds samples that are not finite.
    """
    import soundfile

    try:
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        raise InputError(f"{path}: {_why_unreadable(Path(path), error)}") from None
    mono = wave[:, 0] if wave.shape[1] == 1 else wave.mean(axis=1)
    if not len(mono):
        raise InputError(f"{path}: expected speech, found a recording without samples; replace or remove the file")
    if not np.isfinite(mono).all():
        bad = int(np.argmin(np.isfinite(mono)))
        raise InputError(f"{path}: sample {bad} is {mono[bad]}, expected finite samples; decode the file again")
    if rate != SAMPLE_RATE:
        import soxr

        mono = soxr.resample(mono, rate, SAMPLE_RATE)
        if not len(mono):
            raise InputError(f"{path}: {len(wave)} samples at {rate} Hz are too few to resample to {SAMPLE_RATE} Hz")
    return np.ascontiguousarray(mono, dtype=np.float32)


def check_header(path: Path) -> str | None:
    """What is wrong with a recording as far as its header shows, or None."""
    import soundfile

    if _whole_flac_header(path):  # ten times faster than asking libsndfile, which counts for 800,000 files
        return None
    try:
        info = soundfile.info(path)
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        return _why_unreadable(Path(path), error)
    return None if info.frames else "a recording without samples"


def _whole_flac_header(path: Path) -> bool:
    """Whether a file starts as a FLAC stream of a known, non-zero length with a sound rate and sample size."""
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(42)
    except OSError:
        return False
    if len(head) < 42 or head[:4] != b"fLaC" or head[4] & 0x7F or head[5:8] != b"\0\0\x22":
        return False
    packed = int.from_bytes(head[18:26], "big")  # 20 bits rate, 3 channels, 5 sample size, 36 samples
    return bool(packed >> 44) and (packed >> 36 & 31) >= 3 and bool(packed & (1 << 36) - 1)


def fit_length(wave: np.ndarray, n_samples: int = WINDOW_SAMPLES) -> np.ndarray:
    """Cut a wave to its first `n_samples`, or repeat it until it is that long: (T,) -> (n_samples,).

    Source: the padding of the published QAMO code (ductuantruong/QAMO @47d77cc).
    """
    if len(wave) >= n_samples:
        return wave[:n_samples]
    return np.tile(wave, -(-n_samples // len(wave)))[:n_samples]


def _why_unreadable(path: Path, error: Exception) -> str:
    if not path.exists():
        return "no such file; check the database path and the protocol"
    if path.is_dir():
        return "expected a recording, found a folder"
    if path.stat().st_size == 0:
        return "expected a recording, found an empty file (0 bytes); copy it again"
    with open(path, "rb") as file:
        head = file.read(16)
    reason = str(error).splitlines()[-1].strip().rstrip(".")
    return f"not a recording that libsndfile reads ({reason}; it starts with {head[:8]!r}); copy or convert it again"
