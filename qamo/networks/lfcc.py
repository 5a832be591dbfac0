"""LFCC front end: linear-frequency cepstra, computed without weights.

Shapes: B utterances, T samples at 16 kHz, F frames.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from qamo import InputError
from qamo.audio.load import SAMPLE_RATE


class LFCC(nn.Module):
    """Linear-frequency cepstra with deltas, the classic of the field: (B, T) -> (B, F, 3 n_coefficients).

    Pre-emphasis 0.97, Hamming windows without padding, power spectrum, triangular filters evenly spaced from 0 to
    8 kHz, log10, orthonormal DCT-II from coefficient 0 on, then differences x[t + 1] - x[t - 1] (ends repeated)
    and differences of those.

    Raises:
        InputError: more coefficients than filters, or a window longer than the transform.

    Source: Sahidullah et al. 2015 and the LFCC baselines of the ASVspoof challenges (20 ms, 10 ms, 20 filters).
    """

    window: Tensor
    filters: Tensor
    dct: Tensor
    mixed = False

    def __init__(self, *, n_coefficients: int, n_filters: int, n_fft: int, window_ms: float, hop_ms: float):
        super().__init__()
        window_samples = round(window_ms * SAMPLE_RATE / 1000)
        if not 0 < n_coefficients <= n_filters:
            raise InputError(f"model.lfcc: n_coefficients {n_coefficients} is not between 1 and n_filters {n_filters}")
        if window_samples > n_fft:
            raise InputError(f"model.lfcc: a window of {window_samples} samples does not fit n_fft {n_fft}")
        self.dim = 3 * n_coefficients
        self.frozen = True  # it has no weights
        self.n_fft = n_fft
        self.hop_samples = round(hop_ms * SAMPLE_RATE / 1000)
        for name, value in (
            ("window", np.hamming(window_samples)),
            ("filters", _triangles(n_filters, n_fft)),
            ("dct", _dct(n_coefficients, n_filters)),
        ):
            self.register_buffer(name, torch.from_numpy(value).float(), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        n_window = len(self.window)
        if wave.shape[1] < n_window:
            raise InputError(f"expected waves of at least {n_window} samples, one LFCC window, found {wave.shape[1]}")
        with torch.no_grad(), torch.autocast(wave.device.type, enabled=False):
            x = wave.to(self.window.dtype)
            x = torch.cat([x[:, :1], x[:, 1:] - 0.97 * x[:, :-1]], dim=1)
            frames = x.unfold(1, n_window, self.hop_samples) * self.window  # (B, F, n_window)
            power = torch.fft.rfft(frames, self.n_fft).abs().square()
            energies = power @ self.filters.T  # (B, F, n_filters)
            cepstra = torch.log10(energies + torch.finfo(energies.dtype).eps) @ self.dct.T
            deltas = _differences(cepstra)
            return torch.cat([cepstra, deltas, _differences(deltas)], dim=2)


def _differences(x: Tensor) -> Tensor:
    padded = torch.cat([x[:, :1], x, x[:, -1:]], dim=1)
    return padded[:, 2:] - padded[:, :-2]


def _triangles(n_filters: int, n_fft: int) -> np.ndarray:
    """Triangular filters (n_filters, n_fft // 2 + 1) that overlap by half."""
    bins_hz = np.linspace(0, SAMPLE_RATE / 2, n_fft // 2 + 1)
    edges_hz = np.linspace(0, SAMPLE_RATE / 2, n_filters + 2)
    low, center, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    return np.clip(np.minimum((bins_hz - low) / (center - low), (high - bins_hz) / (high - center)), 0, None)


def _dct(n_coefficients: int, n: int) -> np.ndarray:
    """Orthonormal DCT-II as a matrix (n_coefficients, n)."""
    k = np.arange(n_coefficients)[:, None]
    matrix = np.sqrt(2 / n) * np.cos(np.pi * k * (2 * np.arange(n) + 1) / (2 * n))
    matrix[0] /= np.sqrt(2)
    return matrix
