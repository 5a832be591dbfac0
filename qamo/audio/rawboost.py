"""RawBoost: noise of three kinds on raw waves (Tak et al. 2022, ICASSP, arXiv:2111.04433).

    1 LnL   linear and non-linear convolution: notch-filtered powers of the wave, as of a channel that distorts
    2 ISD   impulsive noise that depends on the signal
    3 SSI   stationary coloured noise, independent of the signal

Algorithms: 1, 2, 3 alone; 4 = 1, 2, 3 in series; 5 = 1, 2; 6 = 1, 3; 7 = 2, 3; 8 = 1 and 2 side by side; 0 = none.
Nothing here reads global random state. The draws and their order are those of the published code, so that with a
legacy `np.random` source the waves are its waves. Filters are designed all at once and applied block by block with
FFTs: time and memory grow linearly with the recording.

Shapes: T samples at 16 kHz, M filters, N taps.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from scipy import fft

from qamo.audio import SAMPLE_RATE

N_RESPONSE = 512  # points on [0, 8 kHz) where a filter's largest gain is looked for
BLOCK_SAMPLES = 3072  # of the FFTs; many times the usual 300 taps
BLOCKS_AT_ONCE = 6  # of 2 to 64 the fastest or near it: the spectra stay in the cache
EDGE_HZ = 1e-3  # least distance of a band's edge to 0 Hz and to the Nyquist frequency

Range = tuple[float, float]


class Randomness(Protocol):
    """What is asked of a random source: np.random.Generator, RandomState and np.random itself all have it."""

    def random(self, size: Any = None) -> Any: ...
    def permutation(self, x: int) -> Any: ...
    def standard_normal(self, size: Any = None) -> Any: ...


def rawboost(
    wave: np.ndarray,
    rng: Randomness,
    *,
    algorithm: int,
    n_bands: int,
    center_hz: Range,
    width_hz: Range,
    n_taps: tuple[int, int],
    gain_db: Range,
    bias_db: Range,
    n_orders: int,
    impulse_percent: float,
    impulse_gain: float,
    snr_db: Range,
) -> np.ndarray:
    """Distort a wave: (T,) -> (T,) float32.

    Args:
        wave: at 16 kHz, nominally in [-1, 1].
        rng: the source of every draw.
        algorithm: 0 to 8, see the module.
        n_bands: notches of a filter; center_hz, width_hz, n_taps: ranges each of them is drawn from.
        gain_db: range of a filter's gain; bias_db: what the orders above the first lie below that.
        n_orders: highest power of the wave in LnL.
        impulse_percent: largest share of samples with an impulse; impulse_gain: its size relative to the sample.
        snr_db: range of the signal-to-noise ratio of SSI.

    Source: arXiv:2111.04433; behaviour matched to ductuantruong/QAMO @47d77cc.
    """
    if not 0 <= algorithm <= 8:
        raise ValueError(f"rawboost: algorithm {algorithm} is not one of 0 to 8")
    x = np.asarray(wave, dtype=np.float64)
    if not len(x):
        return x.astype(np.float32)
    notches = {"n_bands": n_bands, "center_hz": center_hz, "width_hz": width_hz, "n_taps": n_taps}

    def convolutive(x: np.ndarray) -> np.ndarray:
        return convolutive_noise(x, rng, n_orders=n_orders, gain_db=gain_db, bias_db=bias_db, **notches)

    def impulsive(x: np.ndarray) -> np.ndarray:
        return impulsive_noise(x, rng, percent=impulse_percent, gain=impulse_gain)

    def colored(x: np.ndarray) -> np.ndarray:
        return colored_noise(x, rng, snr_db=snr_db, gain_db=gain_db, **notches)

    if algorithm == 8:
        return within_unit(convolutive(x) + impulsive(x)).astype(np.float32)
    in_series = ((), (1,), (2,), (3,), (1, 2, 3), (1, 2), (1, 3), (2, 3))[algorithm]
    for effect in in_series:
        x = {1: convolutive, 2: impulsive, 3: colored}[effect](x)
    return x.astype(np.float32)


def convolutive_noise(
    x: np.ndarray, rng: Randomness, *, n_orders: int, gain_db: Range, bias_db: Range, **notches: Any
) -> np.ndarray:
    """LnL: the sum of the powers x, x², ..., each through a notch filter of its own; zero mean, peak at most 1."""
    lowered = (gain_db[0] - bias_db[0], gain_db[1] - bias_db[1])
    filters = notch_filters(rng, [gain_db] + [lowered] * (n_orders - 1), **notches)
    y = filter_powers(x, filters)
    return within_unit(y - y.mean())


def impulsive_noise(x: np.ndarray, rng: Randomness, *, percent: float, gain: float) -> np.ndarray:
    """ISD: random impulses on a random share of the samples, in proportion to them; peak at most 1."""
    share = _uniform(rng.random(), (0, percent)) / 100
    n_impulses = int(len(x) * share)
    where = rng.permutation(len(x))[:n_impulses]
    impulses = (2 * rng.random(n_impulses) - 1) * (2 * rng.random(n_impulses) - 1)
    y = x.copy()
    y[where] += gain * x[where] * impulses
    return within_unit(y)


def colored_noise(x: np.ndarray, rng: Randomness, *, snr_db: Range, gain_db: Range, **notches: Any) -> np.ndarray:
    """SSI: add notch-filtered white noise at a drawn signal-to-noise ratio; neither clipped nor rescaled."""
    white = rng.standard_normal(len(x))
    noise = filter_powers(white, notch_filters(rng, [gain_db], **notches))
    amplitude_ratio = 10 ** (_uniform(rng.random(), snr_db) / 20)
    level = _norm(noise)
    # The published code first divides the noise by its peak, which the norms cancel.
    return x + noise * (_norm(x) / level / amplitude_ratio) if level > 0 else x


def notch_filters(
    rng: Randomness,
    gains_db: list[Range],
    *,
    n_bands: int,
    center_hz: Range,
    width_hz: Range,
    n_taps: tuple[int, int],
) -> list[np.ndarray]:
    """Impulse responses of one filter for each gain range: `n_bands` band-stop filters in series, then the gain.

    The gain is that of the filter's largest response. Each band-stop is designed by the window method (Hamming,
    unit gain at 0 Hz), as scipy.signal.firwin does; here all bands of all filters at once.
    """
    draws = rng.random((len(gains_db), 3 * n_bands + 1))
    bands = draws[:, :-1].reshape(-1, 3)  # M * n_bands rows: centre, width, taps
    center = _uniform(bands[:, 0], center_hz)
    half_width = _uniform(bands[:, 1], width_hz) / 2
    taps = _uniform(bands[:, 2], n_taps).astype(int) | 1  # odd: a band-stop filter passes the Nyquist frequency
    low = np.maximum(center - half_width, EDGE_HZ)
    high = np.minimum(center + half_width, SAMPLE_RATE / 2 - EDGE_HZ)
    stops = _band_stops(taps, low / (SAMPLE_RATE / 2), high / (SAMPLE_RATE / 2))

    lengths = (taps - 1).reshape(len(gains_db), n_bands).sum(axis=1) + 1
    stride = -(-int(lengths.max()) // (2 * N_RESPONSE))  # the product of spectra must not wrap around
    spectra = fft.rfft(stops, 2 * N_RESPONSE * stride, axis=1).reshape(len(gains_db), n_bands, -1).prod(axis=1)
    peaks = np.abs(spectra[:, :-1:stride]).max(axis=1)
    gains = np.array([10 ** (_uniform(draw, gain) / 20) for draw, gain in zip(draws[:, -1], gains_db)])
    responses = fft.irfft(spectra, axis=1) * (gains / peaks)[:, None]
    return [response[:n] for response, n in zip(responses, lengths)]


def _band_stops(taps: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Hamming-window band-stop filters, a row each, zero beyond their taps; edges as shares of 8 kHz."""
    k = np.arange(taps.max())
    last = np.maximum(taps - 1, 1)[:, None]
    m = k - (taps[:, None] - 1) / 2
    window = 0.54 - 0.46 * np.cos(2 * np.pi * k / last)
    window[taps == 1] = 1.0
    low, high = low[:, None], high[:, None]
    ideal = low * np.sinc(low * m) + np.sinc(m) - high * np.sinc(high * m)
    rows = np.where(k < taps[:, None], ideal * window, 0.0)
    return rows / rows.sum(axis=1, keepdims=True)


def filter_powers(x: np.ndarray, filters: list[np.ndarray]) -> np.ndarray:
    """Sum of filters[i] applied to x to the power i + 1, each with its delay taken out: (T,) -> (T,).

    A filter of N taps counts as delayed by (N + 1) // 2 samples, as in the published code.

    The powers of a block share one inverse FFT (overlap-save).
    """
    delays = [(len(h) + 1) // 2 for h in filters]
    latest = max(delays)
    n_kernel = max(latest + 1, max(latest - d + len(h) for d, h in zip(delays, filters)))
    n_block = max(BLOCK_SAMPLES, 1 << (2 * n_kernel - 1).bit_length())
    n_block = min(n_block, 1 << (len(x) + n_kernel - 1).bit_length())
    step = n_block - n_kernel + 1
    n_blocks = -(-len(x) // step)

    kernels = np.zeros((len(filters), n_kernel))
    for row, delay, taps in zip(kernels, delays, filters):
        row[latest - delay : latest - delay + len(taps)] = taps
    responses = fft.rfft(kernels, n_block, axis=1)

    padded = np.zeros((n_blocks - 1) * step + n_block)
    lead = n_kernel - 1 - latest
    n_copied = min(len(x), len(padded) - lead)
    padded[lead : lead + n_copied] = x[:n_copied]
    blocks = np.lib.stride_tricks.sliding_window_view(padded, n_block)[::step]
    y = np.empty((n_blocks, step))
    for start in range(0, n_blocks, BLOCKS_AT_ONCE):
        part = blocks[start : start + BLOCKS_AT_ONCE]
        power, spectrum = part, fft.rfft(part, axis=1)
        spectrum *= responses[0]
        for response in responses[1:]:
            power = power * part
            of_power = fft.rfft(power, axis=1)
            of_power *= response
            spectrum += of_power
        y[start : start + BLOCKS_AT_ONCE] = fft.irfft(spectrum, n_block, axis=1)[:, n_kernel - 1 :]
    return y.reshape(-1)[: len(x)]


def within_unit(x: np.ndarray) -> np.ndarray:
    """`x`, divided by its peak if that exceeds 1."""
    peak = np.abs(x).max()
    return x / peak if peak > 1 else x


def _norm(x: np.ndarray) -> float:
    # np.linalg.norm would go to BLAS, whose threads wake for this in each of the loader's processes.
    return float(np.sqrt(np.square(x).sum()))


def _uniform(draw: Any, limits: Range) -> Any:
    # rng.uniform's own formula, which unlike Generator.uniform takes limits in either order.
    return limits[0] + (limits[1] - limits[0]) * draw
