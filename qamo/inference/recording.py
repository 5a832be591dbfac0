"""Find recordings, and read one as a wave, (T,) float32 at 16 kHz: the one place where this room decodes sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from qamo.audio.decoding import EXTENSIONS, decode


def read(recording: Path | bytes, *, name: str = "", max_s: float | None = None) -> np.ndarray:
    """Decode a file, or the bytes of one.

    Args:
        name: what messages call it; the path by default.
        max_s: refuse what is longer.

    Raises:
        InputError: unreadable, empty, too long, or not finite.
    """
    return decode(recording, name=name, max_s=max_s)


def expand(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Recordings in the order of the arguments, folders searched in the order of names; with what is wrong, or ""."""
    for path in paths:
        if not path.is_dir():
            yield path, ""
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file())
        if not inside:
            yield path, f"{path}: found no recordings in this folder, by their endings"
        for recording in inside:
            yield recording, ""
