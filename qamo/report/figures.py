"""Figures for papers by matplotlib: DET, scores, Tippett, reliability, conditions; each as PDF, SVG and PNG.

The same input gives the same bytes of one version of matplotlib. Bands and bars are 95 % intervals of what the tables
of the report resample: speakers, or trials. The band of a DET curve is that of the miss rate at each threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # without pyplot: no window, no global state

from eval_metrics import det_curve
from qamo.evaluation import breakdown
from qamo.evaluation.bands import miss_band, weighted_interval
from qamo.evaluation.breakdown import Factor, System
from qamo.files import replacing
from qamo.report.charts import DASHES
from qamo.report.conditions import chosen_factors, slug
from qamo.report.rates import det_limits
from qamo.report.subject import Subject

FORMATS = ("pdf", "svg", "png")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by the colour-blind
TICKS = (0.0001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99)
STYLE: Any = {"svg.hashsalt": "qamo", "svg.fonttype": "none", "pdf.fonttype": 42, "font.size": 9}
NOT_DATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}
MOST_POINTS = 2000  # of a curve, spread evenly over its length
N_BAND_POINTS = 200
PROBIT = NormalDist().inv_cdf


def draw_all(folder: Path, subject: Subject, asked: Sequence[str] | None, llrs: Mapping[str, np.ndarray]) -> list[Path]:
    """Draw all figures that the set has something for into a folder, in each format; their paths.

    Args:
        asked: columns for the figures by condition; None takes all that the report has.
        llrs: calibrated log-likelihood ratios (N,) by system, for Tippett and reliability.
    """
    with mpl.rc_context(STYLE):
        made = {"det": det(subject.systems)}
        for k, system in enumerate(subject.systems):
            made[f"scores{subject.suffix(k)}"] = scores(system)
        if llrs:
            made["tippett"] = tippett(llrs, subject.keys.bonafide)
            made["reliability"] = reliability(llrs, subject)
        for factor in chosen_factors(subject, asked):
            made[f"by-{slug(factor.name)}"] = condition(subject, factor)
        folder.mkdir(parents=True, exist_ok=True)
        return [_save(figure, folder / f"{name}.{kind}") for name, figure in made.items() for kind in FORMATS]


def det(systems: Sequence[System]) -> Figure:
    """DET curves on probit axes, each to its end; where a rate is 0 the curve runs to the edge of the axes."""
    figure, axes = _panel(4.2, 4.2)
    low, high = det_limits(systems)
    for k, system in enumerate(systems):
        curve = det_curve(system.bonafide, system.spoof)
        miss, false_alarm = (_thinned(rates) for rates in (curve.miss, curve.false_alarm))
        basis = _band(axes, system, _colour(k), low, high)
        label = f"{system.label} ({100 * system.eer.eer:.2f} %)"
        x, y = _probit(false_alarm, low, high), _probit(miss, low, high)
        axes.plot(x, y, color=_colour(k), linestyle=_dashes(k), linewidth=1.3, label=label)
        axes.plot(*[_probit(np.array([system.eer.eer]), low, high)] * 2, "o", color=_colour(k), markersize=4)
    ends = PROBIT(low), PROBIT(high)
    axes.plot(ends, ends, color="0.7", linewidth=0.8, zorder=0)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([PROBIT(tick) for tick in ticks], [f"{100 * tick:g}" for tick in ticks])
    axes.set(xlim=ends, ylim=ends, xlabel="false alarm rate / %", ylabel="miss rate / %", aspect="equal")
    axes.tick_params(axis="x", rotation=90)
    axes.legend(title="system (EER)", fontsize=8, loc="upper right", handlelength=3)  # where no useful system goes
    axes.set_title(f"bands: 95 % of the miss rate, {basis}", fontsize=8)
    return figure


def _band(axes: Axes, system: System, colour: str, low: float, high: float) -> str:
    """Draw the band of the miss rate -> what was resampled, or why there is none."""
    false_alarm = np.array([NormalDist().cdf(z) for z in np.linspace(PROBIT(low), PROBIT(high), N_BAND_POINTS)])
    band = miss_band(system, breakdown.det_points(system, false_alarm).thresholds)
    ends = [(interval.low, interval.high) for interval in band if interval.low is not None]
    if ends:
        bottom, top = (_probit(np.array(rates, float), low, high) for rates in zip(*ends))
        axes.fill_between(_probit(false_alarm, low, high), bottom, top, color=colour, alpha=0.18, linewidth=0)
    return band[0].basis


def scores(system: System) -> Figure:
    """Histograms of the scores of both classes, with the threshold of the EER."""
    figure, axes = _panel(4.2, 2.8)
    bins = breakdown.histogram(system)
    for shares, label, colour in ((bins.spoof, "spoof", COLOURS[1]), (bins.bonafide, "bona fide", COLOURS[0])):
        axes.stairs(100 * shares, bins.edges, fill=True, alpha=0.5, color=colour, label=label)
    axes.axvline(system.eer.threshold, color="0.2", linestyle="--", linewidth=1, label="EER threshold")
    axes.set(xlabel=f"score of {system.label}", ylabel="share of the class / %")
    axes.legend(fontsize=8)
    return figure


def tippett(llrs: Mapping[str, np.ndarray], is_bonafide: np.ndarray) -> Figure:
    """The share of trials of each class whose ratio is above a value."""
    figure, axes = _panel(4.2, 3.2)
    for k, (label, values) in enumerate(llrs.items()):
        for part, dashes in ((values[is_bonafide], "-"), (values[~is_bonafide], "--")):
            x = np.concatenate([[part.min()], np.sort(part)]) / math.log(10)
            above = 100 * (1 - np.arange(len(x)) / len(part))
            name = f"{label}, {'bona fide' if dashes == '-' else 'spoof'}"
            axes.step(_thinned(x), _thinned(above), dashes, color=_colour(k), where="post", label=name)
    axes.axvline(0, color="0.7", linewidth=0.8, zorder=0)
    axes.set(xlabel="log$_{10}$ likelihood ratio", ylabel="trials with a larger ratio / %", ylim=(0, 100))
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    return figure


def reliability(llrs: Mapping[str, np.ndarray], subject: Subject) -> Figure:
    """How often speech is bona fide of what is said to be so with a probability, both classes weighing the same."""
    is_bonafide, units = subject.keys.bonafide, subject.units
    figure, axes = _panel(4.2, 3.8)
    edges = np.linspace(0, 1, 11)
    weight = np.where(is_bonafide, 0.5 / is_bonafide.sum(), 0.5 / (~is_bonafide).sum())
    for k, (label, values) in enumerate(llrs.items()):
        probability = 1 / (1 + np.exp(-values))
        codes = np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, 9)
        points = []
        for here in (codes == code for code in range(10) if (codes == code).any()):
            of = weight[here]
            said, seen = (float(of @ part[here] / of.sum()) for part in (probability, is_bonafide.astype(float)))
            interval = weighted_interval(is_bonafide[here], of, units, here)
            points.append((100 * said, 100 * seen))
            if interval.low is not None and interval.high is not None:
                axes.plot([100 * said] * 2, [100 * interval.low, 100 * interval.high], color=_colour(k), linewidth=0.9)
        axes.plot(*zip(*points), "o-", color=_colour(k), markersize=4, linewidth=1.2, label=label)
    axes.plot((0, 100), (0, 100), color="0.7", linewidth=0.8, zorder=0)
    axes.set(xlabel="probability of bona fide speech / %", ylabel="bona fide among these / %", aspect="equal")
    axes.set(xlim=(-2, 102), ylim=(-2, 102))
    axes.set_title(f"bars: 95 %, by {'speaker' if units.unit == 'speaker' else 'trial'}", fontsize=8)
    axes.legend(fontsize=8)
    return figure


def condition(subject: Subject, factor: Factor) -> Figure:
    """The EER of each level of a factor, with its interval, for each system."""
    levels = [level for level, *_ in factor.masks(subject.keys.bonafide)]
    n = len(subject.systems)
    figure, axes = _panel(4.4, 1.1 + 0.2 * len(levels) * max(n, 1.5))
    unit = "trial" if factor.name == subject.units.unit else subject.units.unit
    for k, system in enumerate(subject.systems):
        results = breakdown.by_factor(system, factor, **subject.resampling)
        for i, (_, measured) in enumerate(results):
            if measured.eer is None:
                continue
            y = i + (k - (n - 1) / 2) * 0.7 / n
            low, high, *_ = measured.interval
            if low is not None and high is not None:
                axes.plot([100 * low, 100 * high], [y, y], color=_colour(k), linewidth=1.2)
            axes.plot(100 * measured.eer, y, "o", color=_colour(k), markersize=4)
        axes.plot([], [], "o-", color=_colour(k), markersize=4, label=system.label)
    axes.set_yticks(range(len(levels)), levels)
    axes.set(xlabel=f"EER / %, with 95 % by {unit}", ylabel=factor.name, ylim=(len(levels) - 0.5, -0.5))
    axes.set_xlim(left=0)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    if n > 1:
        axes.legend(fontsize=8)
    return figure


def _panel(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _colour(k: int) -> str:
    return COLOURS[k % len(COLOURS)]


def _dashes(k: int) -> Any:
    """The line style of the k-th line, that of the page: told apart in print without colour too."""
    dash = DASHES[k % len(DASHES)]
    return "-" if dash is None else (0, [n / 2 for n in dash])  # in widths of the line


def _probit(rates: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.array([PROBIT(rate) for rate in np.clip(rates, low, high).tolist()])


def _thinned(values: np.ndarray) -> np.ndarray:
    """At most MOST_POINTS of the values, ends included; dense at both ends, where a curve's corners are."""
    n = len(values)
    if n <= MOST_POINTS:
        return values
    near = np.unique(np.geomspace(1, n, MOST_POINTS // 3).astype(int)) - 1
    index = np.unique(np.concatenate([near, n - 1 - near, np.linspace(0, n - 1, MOST_POINTS // 3).astype(int)]))
    return values[index]


def _save(figure: Figure, path: Path) -> Path:
    with replacing(path) as temporary:
        kind = path.suffix[1:]
        figure.savefig(temporary, format=kind, dpi=300, metadata=NOT_DATED[kind])
    return path
