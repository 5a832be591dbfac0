"""The plain way to the same results, as speech deepfake detection is usually written: what speed is measured against.

The yardstick: float32 throughout, transformers' own layers with the attention written out, gradients recorded while
scoring as well, one process, librosa. RawBoost: filters designed by SciPy and applied sample by sample. Equal in
output: each benchmark compares the results, and so do tests/benchmarks/test_speed.py and tests/audio/test_rawboost.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import signal
from torch import Tensor

from model import Detector
from qamo.audio import SAMPLE_RATE
from qamo.config.schema import RawBoostConfig

RAWBOOST = RawBoostConfig().model_dump(exclude={"probability", "algorithm"})  # the default ranges

# ---- the yardstick


@contextmanager
def plainly(detector: Detector) -> Iterator[Detector]:
    """The detector with its front end computed by transformers' own layers and eager attention."""
    frontend: Any = detector.frontend
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

    return _window(librosa.load(path, sr=SAMPLE_RATE)[0], n_samples)


def augmented(path: Path, n_samples: int, seed: int) -> np.ndarray:
    """The window of a recording after RawBoost 4."""
    import librosa

    wave, _ = librosa.load(path, sr=SAMPLE_RATE)
    boosted = rawboost(wave, np.random.default_rng(seed), algorithm=4, **RAWBOOST).astype(np.float32)
    return _window(boosted, n_samples)


def _window(wave: np.ndarray, n_samples: int) -> np.ndarray:
    return np.tile(wave, -(-n_samples // len(wave)))[:n_samples]


def score(detector: Detector, paths: Sequence[Path], out: Path, *, batch_size: int, n_samples: int) -> None:
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


def step(
    detector: Detector, optimizer: torch.optim.Optimizer, wave: Tensor, bonafide: Tensor, quality: Tensor
) -> float:
    """One step of training; the loss before it."""
    with plainly(detector):
        detector.train()
        loss = detector(wave, bonafide, quality).losses["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


# ---- RawBoost, easy to check by eye


def rawboost(wave: np.ndarray, rng: Any, *, algorithm: int, **cfg: Any) -> np.ndarray:
    """(T,) -> (T,) float64; `cfg` as RAWBOOST has it, `rng` a NumPy generator or RandomState."""
    x = np.asarray(wave, dtype=np.float64)
    if algorithm == 8:
        return _limited(_lnl(x, rng, cfg) + _isd(x, rng, cfg))
    for effect in {0: "", 1: "l", 2: "i", 3: "s", 4: "lis", 5: "li", 6: "ls", 7: "is"}[algorithm]:
        x = {"l": _lnl, "i": _isd, "s": _ssi}[effect](x, rng, cfg)
    return x


def _lnl(x: np.ndarray, rng: Any, cfg: dict[str, Any]) -> np.ndarray:
    """Linear and non-linear convolutive noise."""
    low, high = (cfg["gain_db"][i] - cfg["bias_db"][i] for i in (0, 1))
    gains = [cfg["gain_db"]] + [(low, high)] * (cfg["n_orders"] - 1)
    y: Any = sum(_centered(x**order, _notch(gain, rng, cfg)) for order, gain in enumerate(gains, start=1))
    return _limited(y - y.mean())


def _isd(x: np.ndarray, rng: Any, cfg: dict[str, Any]) -> np.ndarray:
    """Impulsive signal-dependent noise."""
    n = int(len(x) * (_uniform((0, cfg["impulse_percent"]), rng) / 100))
    where = rng.permutation(len(x))[:n]
    impulses = (2 * rng.random(n) - 1) * (2 * rng.random(n) - 1)
    y = x.copy()
    y[where] = x[where] + cfg["impulse_gain"] * x[where] * impulses
    return _limited(y)


def _ssi(x: np.ndarray, rng: Any, cfg: dict[str, Any]) -> np.ndarray:
    """Stationary signal-independent noise."""
    noise = _centered(rng.standard_normal(len(x)), _notch(cfg["gain_db"], rng, cfg))
    noise = noise / np.abs(noise).max()
    snr_db = _uniform(cfg["snr_db"], rng)
    return x + noise / np.linalg.norm(noise) * np.linalg.norm(x) / 10 ** (0.05 * snr_db)


def _uniform(limits: Any, rng: Any) -> float:
    return limits[0] + (limits[1] - limits[0]) * rng.random()


def _notch(gain_db: Any, rng: Any, cfg: dict[str, Any]) -> np.ndarray:
    taps = np.ones(1)
    for _ in range(cfg["n_bands"]):
        center, width = _uniform(cfg["center_hz"], rng), _uniform(cfg["width_hz"], rng)
        n_taps = int(_uniform(cfg["n_taps"], rng)) | 1
        edges = [max(center - width / 2, 1e-3), min(center + width / 2, SAMPLE_RATE / 2 - 1e-3)]
        taps = np.convolve(taps, signal.firwin(n_taps, edges, window="hamming", fs=SAMPLE_RATE))
    peak = np.abs(signal.freqz(taps, 1, fs=SAMPLE_RATE)[1]).max()
    return taps * 10 ** (_uniform(gain_db, rng) / 20) / peak


def _centered(x: np.ndarray, taps: np.ndarray) -> np.ndarray:
    n_pad = len(taps) + 1
    y = signal.lfilter(taps, 1, np.pad(x, (0, n_pad)))
    return y[n_pad // 2 : int(len(y) - n_pad / 2)]


def _limited(x: np.ndarray) -> np.ndarray:
    return x / max(1, np.abs(x).max())
