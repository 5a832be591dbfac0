"""A picture of one judged recording: its waveform, and the score of each window over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qamo.audio.load import SAMPLE_RATE
from qamo.files import replacing
from qamo.inference.judge import Judgement

COLUMNS = 1_200  # of the waveform's envelope


def envelope(wave: np.ndarray, n_columns: int = COLUMNS) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest sample of each column: (T,) -> (C,), (C,) with C = min(T, n_columns)."""
    edges = np.linspace(0, len(wave), min(len(wave), n_columns) + 1).astype(int)[:-1]
    return np.minimum.reduceat(wave, edges), np.maximum.reduceat(wave, edges)


def draw(
    path: Path,
    wave: np.ndarray,
    judgement: Judgement,
    *,
    threshold: float | None = None,
    band: tuple[float, float] | None = None,
) -> None:
    """Write the picture in the format of the path's ending.

    Args:
        wave: (T,) at 16 kHz, T at least 1.
        band: scores of an uncertain verdict, shaded.
    """
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    low, high = envelope(wave)
    duration_s = len(wave) / SAMPLE_RATE
    upper.fill_between(np.linspace(0, duration_s, len(low)), low, high, color="#4a5a6a", linewidth=0.3)
    upper.set_ylabel("wave")
    title = Path(judgement.path).name
    if judgement.verdict:
        title += f": {judgement.verdict}"
    if judgement.probability_bonafide is not None:
        title += f" (bona fide {100 * judgement.probability_bonafide:.0f} %)"
    upper.set_title(title, loc="left")

    skipped_label: str | None = "pause, skipped"
    for window in judgement.windows:
        span = (window.start_s, window.end_s)
        if window.score is None:
            lower.axvspan(*span, color="0.88", linewidth=0, zorder=0, label=skipped_label)
            skipped_label = None
        else:
            lower.plot(span, (window.score, window.score), color="#1f77b4", alpha=0.35, linewidth=3)
    centres = [(window.start_s + window.end_s) / 2 for window in judgement.windows]
    scores = [np.nan if window.score is None else window.score for window in judgement.windows]  # a pause is a gap
    lower.plot(centres, scores, "o-", color="#1f77b4", markersize=4, label="windows")
    if band is not None and band[0] < band[1]:
        lower.axhspan(*band, color="#e6a700", alpha=0.2, linewidth=0, label="uncertain")
    if threshold is not None:
        lower.axhline(threshold, color="#b03a2e", linestyle="--", linewidth=1, label=f"threshold {threshold:.3f}")
    if judgement.score is not None:
        lower.axhline(judgement.score, color="0.2", linewidth=1, label=f"score {judgement.score:.3f}")
    lower.set_ylabel("score (bona fide is up)")
    lower.set_xlabel("seconds")
    lower.set_xlim(0, duration_s)
    lower.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".") or "png", dpi=120)
