"""The plain way to the same results, as speech deepfake detection is usually written: what speed is measured against.

Float32 throughout, transformers' own layers with the attention written out, gradients recorded while scoring as well,
one process, librosa, filters designed by SciPy and applied sample by sample. Equal in output: each benchmark that
uses it compares the results, and tests/benchmarks/test_speed.py does so on a small network.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from torch import Tensor

from benchmarks.plain import DEFAULTS
from benchmarks.plain import plain as plain_rawboost
from qamo.audio.load import SAMPLE_RATE
from qamo.networks.cpu import malloc

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


def default_malloc() -> bool:
    """glibc's own thresholds after the first large block was freed: undoes `malloc.keep_freed` for a comparison."""
    return malloc.set_options({malloc.M_MMAP_MAX: 65_536, M_MMAP_THRESHOLD: 2**25, malloc.M_TRIM_THRESHOLD: 2**26})


@contextmanager
def plainly(detector: Any) -> Iterator[Any]:
    """The detector with its front end computed by transformers' own layers and eager attention."""
    frontend = detector.frontend
    config = frontend.network.config
    before = frontend.plain, config._attn_implementation
    frontend.plain, config._attn_implementation = True, "eager"
    try:
        yield detector
    finally:
        frontend.plain, config._attn_implementation = before


def load(path: Path, n_samples: int) -> np.ndarray:
    """A recording's window by librosa, repeated or cut: (n_samples,)."""
    import librosa

    wave, _ = librosa.load(path, sr=SAMPLE_RATE)
    while len(wave) < n_samples:
        wave = np.concatenate([wave, wave])[: max(n_samples, len(wave))]
    return wave[:n_samples]


def augmented(path: Path, n_samples: int, seed: int) -> np.ndarray:
    """The window of a recording after RawBoost 4."""
    import librosa

    wave, _ = librosa.load(path, sr=SAMPLE_RATE)
    boosted = plain_rawboost(wave, np.random.default_rng(seed), algorithm=4, **DEFAULTS).astype(np.float32)
    repeats = -(-n_samples // len(boosted))
    return np.tile(boosted, repeats)[:n_samples]


def score(detector: Any, paths: Sequence[Path], out: Path, *, batch_size: int, n_samples: int) -> None:
    """Recordings to a score file, all scores held until the end, and with each batch's scores its graph."""
    names, scores = [], []
    with plainly(detector):
        detector.eval()
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            wave = torch.from_numpy(np.stack([load(path, n_samples) for path in batch]))
            found = detector(wave).score
            names += [path.stem for path in batch]
            scores += found.detach().tolist()
    out.write_text("".join(f"{name} {value}\n" for name, value in zip(names, scores)))


def step(detector: Any, optimizer: torch.optim.Optimizer, wave: Tensor, bonafide: Tensor, quality: Tensor) -> float:
    """One step of training; the loss before it."""
    with plainly(detector):
        detector.train()
        loss = detector(wave, bonafide, quality).losses["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()
