"""A picture of one judged recording: its waveform, and the score of each window over time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # without pyplot: no window, no global state

from qamo.audio import SAMPLE_RATE
from qamo.files import replacing
from qamo.inference.judge import Judgement
from qamo.inference.show import envelope

N_COLUMNS = 1_200  # of the waveform's envelope


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
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    low, high = envelope(wave, N_COLUMNS)
    duration_s = len(wave) / SAMPLE_RATE
    upper.fill_between(np.linspace(0, duration_s, len(low)), low, high, color="#4a5a6a", linewidth=0.3)
    upper.set_ylabel("wave")
    title = Path(judgement.path).name
    if judgement.verdict:
        title += f": {judgement.verdict}"
    if judgement.probability_bonafide is not None:
        title += f" (bona fide {100 * judgement.probability_bonafide:.0f} %)"
    if judgement.dev_eer is not None:
        title += f"; detector {judgement.detector} with a dev EER of {100 * judgement.dev_eer:.1f} %"
    upper.set_title(title, loc="left")
    _draw_scores(lower, judgement, threshold, band)
    lower.set_xlim(0, duration_s)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".") or "png", dpi=120)


def _draw_scores(axes: Axes, judgement: Judgement, threshold: float | None, band: tuple[float, float] | None) -> None:
    skipped_label: str | None = "pause, skipped"
    for window in judgement.windows:
        span = (window.start_s, window.end_s)
        if window.score is None:
            axes.axvspan(*span, color="0.88", linewidth=0, zorder=0, label=skipped_label)
            skipped_label = None
        else:
            axes.plot(span, (window.score, window.score), color="#1f77b4", alpha=0.35, linewidth=3)
    centres = [(window.start_s + window.end_s) / 2 for window in judgement.windows]
    scores = [np.nan if window.score is None else window.score for window in judgement.windows]  # a pause is a gap
    axes.plot(centres, scores, "o-", color="#1f77b4", markersize=4, label="windows")
    if band is not None and band[0] < band[1]:
        low, high = axes.get_ylim()
        ends = [end if math.isfinite(end) else limit for end, limit in zip(band, (low, high))]
        axes.axhspan(*ends, color="#e6a700", alpha=0.2, linewidth=0, label="uncertain")
    if threshold is not None and math.isfinite(threshold):
        axes.axhline(threshold, color="#b03a2e", linestyle="--", linewidth=1, label=f"threshold {threshold:.3f}")
    if judgement.score is not None:
        axes.axhline(judgement.score, color="0.2", linewidth=1, label=f"score {judgement.score:.3f}")
    axes.set_ylabel("score (bona fide is up)")
    axes.set_xlabel("seconds")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
