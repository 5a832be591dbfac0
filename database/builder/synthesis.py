"""One clip, or a block of clips, from its plan to a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from builder import engines, fairness
from builder.recipe import Clip
from qamo.audio.load import SAMPLE_RATE
from qamo.files import replacing


def make_block(work: tuple[Path, list[Clip], str | None]) -> int:
    """Make a block of clips in order -> how many; runs in a fresh process."""
    out, block, flite = work
    for clip in block:
        pcm = make(clip, flite)
        path = out / clip.path
        kind = "WAV" if path.suffix == ".wav" else "FLAC"
        with replacing(path) as temporary:
            soundfile.write(temporary, pcm, SAMPLE_RATE, subtype="PCM_16", format=kind)
    return len(block)


def make(clip: Clip, flite: str | None = None) -> np.ndarray:
    """A clip -> (T,) int16 at 16 kHz. Draws depend on `clip.stream` alone."""
    rng = np.random.default_rng(clip.stream)
    if clip.texts:
        speaking = engines.Speaking(clip.language, clip.codec, clip.n_samples, flite)
        wave = engines.speak(str(clip.engine), list(clip.texts), speaking, rng)
    else:
        wave = fairness.joined(
            [fairness.tidied(fairness.decode(path))[start:stop] for path, start, stop in clip.pieces]
        )
        if clip.engine:
            wave = engines.VOCODERS[clip.engine](wave, rng)
    return fairness.finished(wave, clip.codec, clip.channel, clip.n_samples, rng)
