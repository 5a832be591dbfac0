"""The section of quality: results by MOS, how far scores follow MOS, and what MOS alone would reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from eval_metrics import equal_error_rate
from qamo.evaluation import breakdown
from qamo.evaluation.bands import spearman_interval
from qamo.evaluation.breakdown import System
from qamo.quality.agreement import correlation
from qamo.report.charts import CLASSES, SHARE_AXIS, Axis, Chart, Line, histogram_lines, rounded
from qamo.report.conditions import level_table
from qamo.report.page import Section
from qamo.report.subject import Subject
from qamo.report.tables import Column, Table


def quality(subject: Subject, mos: np.ndarray, edges: Sequence[float]) -> Section:
    """The section, for the MOS (N,) of the trials and the edges between its bands."""
    is_bonafide = subject.keys.bonafide
    alone = equal_error_rate(mos[is_bonafide], mos[~is_bonafide]).eer
    higher = (
        "bona fide speech tends to have the higher MOS" if alone < 0.5 else "spoofed speech tends to have the higher"
    )
    lead = (
        "All trials have the same MOS, so it says nothing."
        if mos.min() == mos.max()
        else f"Taken as a score, the MOS alone has an EER of {100 * alone:.2f} % on this set ({higher}; 50 % would be "
        "chance). The nearer that is to a detector's own, the more of its success may be quality and not authenticity."
    )
    bands = breakdown.mos_bands(mos, edges)
    results = [breakdown.mos_results(system, bands, **subject.resampling) for system in subject.systems]
    labels = ["MOS alone", *(system.label for system in subject.systems)]
    rated = System("MOS alone", subject.keys.path, mos, is_bonafide, units=subject.units)
    found = [breakdown.interval(rated, **subject.resampling), *subject.intervals]
    eers = [(value, i.low, i.high) for value, i in zip([alone, *(s.eer.eer for s in subject.systems)], found)]
    columns: list[tuple[Column, list[Any]]] = [(Column("score"), labels), (Column("EER % [95 %]", "interval"), eers)]
    columns.append((Column("interval"), [interval.basis for interval in found]))
    parts: list[Table | Chart | Markup] = [
        level_table(subject, "by-mos", "By MOS band", "MOS", results),
        mos_chart(mos, is_bonafide),
        *(trend_chart(system, mos, k) for k, system in enumerate(subject.systems)),
        correlations(subject, mos),
        Table.of_columns("mos-alone", "MOS as a detector", columns),
    ]
    return Section("quality", "Quality", lead, parts)


def correlations(subject: Subject, mos: np.ndarray) -> Table:
    """Correlations of MOS and score for each system and class."""
    columns = [Column("score of"), Column("class"), Column("trials", "count")]
    columns += [Column("Spearman [95 %]", "number_interval"), Column("interval"), Column("Pearson", "number")]
    rows = []
    for system in subject.systems:
        for (_, name), mask in zip(CLASSES, (system.is_bonafide, ~system.is_bonafide)):
            r = correlation(mos[mask], system.values[mask])
            interval = spearman_interval(mos[mask], system.values[mask], subject.units, mask)
            rows.append([system.label, name, r.n, (r.spearman, *interval[:2]), interval.basis, r.pearson])
    caption = "Correlation of MOS with the score, within each class"
    note = "A score that took no account of quality, nor of anything that goes with it, would have none."
    return Table("mos-correlation", caption, columns, rows, note)


def mos_chart(mos: np.ndarray, is_bonafide: np.ndarray) -> Chart:
    edges = mos_edges(mos)
    bonafide, spoof = mos[is_bonafide], mos[~is_bonafide]
    return Chart(
        "mos-histogram",
        "MOS of both classes",
        "How the quality of bona fide and of spoofed speech is spread on this set.",
        f"Histogram of MOS: the median is {np.median(bonafide):.2f} for bona fide speech and {np.median(spoof):.2f} "
        "for spoofed speech.",
        Axis("MOS", rounded(edges, 6)),
        SHARE_AXIS,
        histogram_lines(*(np.histogram(part, edges)[0] / len(part) for part in (bonafide, spoof))),
    )


def mos_edges(mos: np.ndarray, step: float = 0.1) -> np.ndarray:
    """Edges of bins of MOS that hold all of it."""
    first, last = int(np.floor(mos.min() / step)), int(np.floor(mos.max() / step)) + 1
    return np.arange(first, last + 1) * step


def trend_chart(system: System, mos: np.ndarray, k: int) -> Chart:
    edges = mos_edges(mos, 0.2)
    centers = (edges[:-1] + edges[1:]) / 2
    lines: list[Line] = []
    ends: list[str] = []
    filled = np.zeros(len(centers), dtype=bool)  # bins that show a percentile of either class
    for (color, label), mask in zip(CLASSES, (system.is_bonafide, ~system.is_bonafide)):
        low, middle, high = breakdown.trend(mos[mask], system.values[mask], edges).percentiles
        bins = np.flatnonzero(np.isfinite(middle))
        filled[bins] = True
        if len(bins):
            first, last = (f"{middle[i]:.3g} at MOS {centers[i]:.1f}" for i in (bins[0], bins[-1]))
            ends.append(f"for {label} speech from {first} to {last}")
        text = [f"{m:.3g} (10 to 90 %: {a:.3g} to {b:.3g})" if m == m else "–" for a, m, b in zip(low, middle, high)]
        lines += [
            Line(f"{label}, median", rounded(middle), color, text, points=True),
            Line(f"{label}, 90 %", rounded(high), color, quiet=True),
            Line(f"{label}, 10 %", rounded(low), color, quiet=True),
        ]
    shown = centers[filled]
    return Chart(
        f"mos-trend-{k}",
        f"Score by MOS: {system.label}",
        "Median, and the band from the 10th to the 90th percentile, in bins of 0.2 MOS that hold ten or more trials.",
        f"The median score of {system.label} goes {' and '.join(ends) or 'nowhere: no bin holds ten trials'}.",
        Axis("MOS", rounded(centers, 4), range=rounded([shown[0] - 0.1, shown[-1] + 0.1], 4) if len(shown) else None),
        Axis("score"),
        lines,
        bands=[(1, 2), (4, 5)],
    )
