"""RawBoost spelled out, slow and easy to check by eye: what the fast version is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import signal

from qamo.config.schema import RawBoostConfig

DEFAULTS = RawBoostConfig().model_dump(exclude={"probability", "algorithm"})


NYQUIST_HZ = 8000


def plain(wave: np.ndarray, rng: Any, *, algorithm: int, **cfg: Any) -> np.ndarray:
    """RawBoost spelled out with scipy's filter design and direct filtering: slow, and easy to check by eye."""

    def uniform(limits: Any) -> float:
        return limits[0] + (limits[1] - limits[0]) * rng.random()

    def notch(gain_db: Any) -> np.ndarray:
        taps = np.ones(1)
        for _ in range(cfg["n_bands"]):
            center, width, n_taps = uniform(cfg["center_hz"]), uniform(cfg["width_hz"]), int(uniform(cfg["n_taps"])) | 1
            edges = [max(center - width / 2, 1e-3), min(center + width / 2, NYQUIST_HZ - 1e-3)]
            taps = np.convolve(taps, signal.firwin(n_taps, edges, window="hamming", fs=2 * NYQUIST_HZ))
        peak = np.abs(signal.freqz(taps, 1, fs=2 * NYQUIST_HZ)[1]).max()
        return taps * 10 ** (uniform(gain_db) / 20) / peak

    def centered(x: np.ndarray, taps: np.ndarray) -> np.ndarray:
        n_pad = len(taps) + 1
        y = signal.lfilter(taps, 1, np.pad(x, (0, n_pad)))
        return y[n_pad // 2 : int(len(y) - n_pad / 2)]

    def limited(x: np.ndarray) -> np.ndarray:
        return x / max(1, np.abs(x).max())

    def lnl(x: np.ndarray) -> np.ndarray:
        low, high = (cfg["gain_db"][i] - cfg["bias_db"][i] for i in (0, 1))
        gains = [cfg["gain_db"]] + [(low, high)] * (cfg["n_orders"] - 1)
        y: Any = sum(centered(x**order, notch(gain)) for order, gain in enumerate(gains, start=1))
        return limited(y - y.mean())

    def isd(x: np.ndarray) -> np.ndarray:
        n = int(len(x) * (uniform((0, cfg["impulse_percent"])) / 100))
        where = rng.permutation(len(x))[:n]
        impulses = (2 * rng.random(n) - 1) * (2 * rng.random(n) - 1)
        y = x.copy()
        y[where] = x[where] + cfg["impulse_gain"] * x[where] * impulses
        return limited(y)

    def ssi(x: np.ndarray) -> np.ndarray:
        noise = rng.standard_normal(len(x))
        noise = centered(noise, notch(cfg["gain_db"]))
        noise = noise / np.abs(noise).max()
        snr = uniform(cfg["snr_db"])
        return x + noise / np.linalg.norm(noise) * np.linalg.norm(x) / 10 ** (0.05 * snr)

    x = np.asarray(wave, dtype=np.float64)
    if algorithm == 8:
        return limited(lnl(x) + isd(x))
    for effect in {0: "", 1: "l", 2: "i", 3: "s", 4: "lis", 5: "li", 6: "ls", 7: "is"}[algorithm]:
        x = {"l": lnl, "i": isd, "s": ssi}[effect](x)
    return x
