"""Long recordings as windows of the length that a detector was trained on.

Windows start every (1 - overlap) of their length and the last one ends where the recording ends; a recording shorter
than a window is repeated to fill one, as in training. Shapes: T samples, W samples of a window, n windows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from qamo.audio.diagnostics import FRAME_SAMPLES, speech_frames
from qamo.audio.load import fit_length

OVERLAP = 0.5  # share of a window that the next one covers too
SPEECH_SHARE = 0.25  # of a window's frames; with less it counts as a pause


def window_starts(n_samples: int, window_samples: int, overlap: float) -> np.ndarray:
    """Where windows start, in samples, ascending; at least one: (n,) int.

    Args:
        overlap: share of a window that the next one covers too, in [0, 1).
    """
    last = max(0, n_samples - window_samples)
    hop = max(1, round(window_samples * (1 - overlap)))
    return np.append(np.arange(0, last, hop), last)


def batches(windows: Iterable[tuple[np.ndarray, int]], window_samples: int, batch_size: int) -> Iterator[np.ndarray]:
    """Windows, each a wave (T,) and the sample it starts at, some at a time: (B, W) float32 each."""
    remaining = iter(windows)
    while chosen := list(itertools.islice(remaining, batch_size)):
        yield np.stack([fit_length(wave[start : start + window_samples], window_samples) for wave, start in chosen])


def spoken(wave: np.ndarray, starts: np.ndarray, window_samples: int) -> np.ndarray:
    """Which windows hold speech and not mostly a pause: (n,) bool."""
    total = np.concatenate([[0], np.cumsum(speech_frames(wave))])
    first = starts // FRAME_SAMPLES
    last = np.minimum(-(-(starts + window_samples) // FRAME_SAMPLES), len(total) - 1)
    return (total[last] - total[first]) >= SPEECH_SHARE * (last - first)
