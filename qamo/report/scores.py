"""The section of scores: histograms of both classes for each system."""

from __future__ import annotations

import numpy as np

from qamo.evaluation import breakdown
from qamo.evaluation.breakdown import System
from qamo.report.charts import SHARE_AXIS, Axis, Chart, Line, Mark, histogram_lines, rounded
from qamo.report.page import Section
from qamo.report.subject import Subject
from qamo.report.tables import in_prose


def scores(subject: Subject) -> Section:
    """Histograms of the scores of both classes."""
    lead = (
        "How the scores of both classes are spread. Point at a score, or touch it, to see what a threshold there would "
        "do."
    )
    return Section("scores", "Scores", lead, [histogram_chart(system, k) for k, system in enumerate(subject.systems)])


def histogram_chart(system: System, k: int) -> Chart:
    bins = breakdown.histogram(system)
    lines = histogram_lines(bins.bonafide, bins.spoof)
    for label, rates in (("misses there", bins.miss), ("false alarms there", bins.false_alarm)):
        lines.append(Line(label, [None] * len(rates), text=[f"{100 * r:.2f} %" for r in rates], hidden=True))
    marks = [Mark(system.eer.threshold, None, "ink", f"EER {100 * system.eer.eer:.2f} %")]
    caption = f"{len(bins.bonafide)} bins; dashed, the threshold of the EER, {in_prose(system.eer.threshold)}"
    if system.given_threshold is not None:
        marks.append(Mark(system.given_threshold, None, "accent", "given threshold"))
        caption += f", and the given one, {in_prose(system.given_threshold)}, in blue"
    caption += "."
    if bins.n_outside:
        caption += f" {bins.n_outside:,} outlying scores are counted in the outermost bins."
    return Chart(
        f"scores-{k}",
        system.label,
        caption,
        f"Histogram of the scores of {system.label}: the median is {np.median(system.bonafide):.3g} for bona fide "
        f"speech and {np.median(system.spoof):.3g} for spoofed speech; the EER threshold is "
        f"{system.eer.threshold:.4g}.",
        Axis("score", rounded(bins.edges, 6)),
        SHARE_AXIS,
        lines,
        marks,
    )
