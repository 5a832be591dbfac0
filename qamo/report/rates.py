"""The section of error rates: pooled results, DET curves, and each pair of systems."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from eval_metrics import det_curve, min_dcf, min_tdcf
from qamo.evaluation import breakdown
from qamo.evaluation.breakdown import System
from qamo.evaluation.intervals import LEVEL
from qamo.evaluation.tdcf import pooled_min_tdcf
from qamo.report.charts import Axis, Chart, Line, Mark, rounded, style
from qamo.report.page import Section
from qamo.report.subject import Subject
from qamo.report.tables import Column, Table

N_DET_POINTS = 1200  # along the false alarm axis: more than a screen has pixels
PROBIT = NormalDist().inv_cdf


def rates(subject: Subject) -> Section:
    """Pooled rates, DET curves, and each pair of systems."""
    section = Section("rates", "Error rates", parts=[pooled(subject), det_chart(subject)])
    if len(subject.systems) > 1:
        section.parts.append(pairs(subject))
    return section


def pooled(subject: Subject) -> Table:
    """A row of rates and costs for each system."""
    systems = subject.systems
    tdcfs = [pooled_tdcf(subject, system) for system in systems]
    columns: list[tuple[Column, list[Any]]] = [
        (Column("system"), [s.label for s in systems]),
        (Column("EER % [95 %]", "interval"), [(s.eer.eer, i.low, i.high) for s, i in zip(systems, subject.intervals)]),
        (Column("interval"), [interval.basis for interval in subject.intervals]),
        (Column("threshold", "number"), [s.eer.threshold for s in systems]),
        (Column("min DCF", "number"), [min_dcf(s.bonafide, s.spoof).eer for s in systems]),
    ]
    if any(value is not None for value in tdcfs):
        columns.append((Column("min t-DCF", "number"), tdcfs))
    if any(s.given_threshold is not None for s in systems):
        at_given = [
            None if s.given_threshold is None else breakdown.measure(s, s.is_bonafide, ~s.is_bonafide) for s in systems
        ]
        columns += [
            (Column("given threshold", "number"), [s.given_threshold for s in systems]),
            (Column("miss rate %", "rate"), [m and m.miss for m in at_given]),
            (Column("false alarm rate %", "rate"), [m and m.false_alarm for m in at_given]),
        ]
    return Table.of_columns("pooled", "Pooled results", columns, _note(subject, tdcfs))


def _note(subject: Subject, tdcfs: list[float | None]) -> str:
    note = basis_note(subject) + (
        " The threshold is that of the EER on this very set: for decisions, take one from other data. Min DCF: the "
        "detection cost of ASVspoof 5, track 1, with a share of 5 % spoof and costs of 1 and 10."
    )
    if any(value is not None for value in tdcfs):
        note += (
            " Min t-DCF: the cost of both systems when the detector guards the speaker verification of ASVspoof "
            + ("2019, in its form." if subject.asv else f"2021, over the trials of the subset {subject.subset}.")
            + (" A dash: it needs at least 3 distinct scores." if None in tdcfs else "")
        )
    if any(system.given_threshold is not None for system in subject.systems):
        note += (
            " Miss rate and false alarm rate are those at the given threshold, which for a run is that of its dev EER."
        )
    return note


def pooled_tdcf(subject: Subject, system: System) -> float | None:
    """Min t-DCF where the set has an ASV system and its files are there; None too for a detector's mere decisions."""
    keys = subject.keys
    if len(np.unique(system.values)) < 3:
        return None
    if subject.asv:
        return min_tdcf(system.bonafide, system.spoof, subject.asv)
    if keys.track not in ("LA", "PA") or subject.subset is None:
        return None
    return pooled_min_tdcf(system.bonafide, system.spoof, keys.path, track=keys.track, subset=subject.subset)


def basis_note(subject: Subject) -> str:
    """How the intervals of a table were made."""
    first = subject.intervals[0]
    note = f"Intervals: {first.method}, by {first.unit}"
    if subject.units.note:
        note += f" ({subject.units.note})"
    if first.unit == "trial":
        return note + ". They hold for these very speakers: the trials of a speaker are alike."
    return note + f". They hold for other {first.unit}s of the same kind."


def pairs(subject: Subject) -> Table:
    """The difference of each pair, its p, and that adjusted for the number of pairs."""
    columns = [Column("a"), Column("b"), Column("EER of a − EER of b [95 %], points", "signed")]
    columns += [Column("p", "number"), Column("p, Holm", "number"), Column("interval")]
    rows = [
        [a.label, b.label, (found.value, found.low, found.high), found.p, adjusted, found.basis]
        for a, b, found, adjusted in subject.pairs
    ]
    note = (
        "Both systems are scored on the same trials, so what is hard for both cancels. Student's t with the variance "
        f"of the paired bootstrap by trial ({subject.n_resamples:,} resamples) or, where larger, of the jackknife "
        "over speakers; that over attacks is added. p is two-sided; Holm's is adjusted for all pairs of the table. The "
        "figures hold for these very weights: trained again with another seed, systems differ by more."
    )
    return Table("pairs", "Differences between systems", columns, rows, note)


def verdict(subject: Subject) -> str:
    """A sentence on the two systems with the lowest EERs."""
    a, b, found, adjusted = subject.pairs[0]
    points = f"{abs(100 * found.value):.2f} points"
    if found.low is None or found.high is None or adjusted is None:
        return f"{a.label} and {b.label} differ by {points}; whether by chance cannot be said: {found.basis}."
    low, high = (round(-100 * end, 2) + 0.0 for end in (found.high, found.low))  # no minus before a zero
    interval = f"(95 % interval {low:.2f} to {high:.2f}, {found.basis})".replace("-", "−")
    if adjusted < 1 - LEVEL:
        return f"{a.label} is ahead of {b.label} by {points} {interval}."
    return f"{a.label} and {b.label} differ by {points}, which chance could explain {interval}."


def det_chart(subject: Subject) -> Chart:
    """DET curves of all systems on probit axes."""
    low, high = det_limits(subject.systems)
    grid = np.linspace(PROBIT(low), PROBIT(high), N_DET_POINTS)
    false_alarm_rates = np.array([NormalDist().cdf(z) for z in grid])
    ends = [float(grid[0]), float(grid[-1])]
    texts = [f"{100 * rate:.3g} %" for rate in false_alarm_rates]
    x_label, x_name = "false alarm rate (spoof accepted), %", "false alarm rate"
    words = [f"{s.label} crosses the diagonal at {100 * s.eer.eer:.2f} %" for s in subject.systems]
    return Chart(
        "det",
        "Detection error trade-off",
        "Both axes are stretched by the normal quantile; further down and left is better. The dots are the equal error "
        "rates. At each false alarm rate the curve shows the lowest miss rate that keeps to it. Drag or press + to "
        "zoom.",
        f"Miss rate against false alarm rate for {len(subject.systems)} systems: {'; '.join(words)}.",
        Axis(x_label, rounded(grid, 7), texts, x_name, scale="probit", range=ends),
        Axis("miss rate (bona fide rejected), %", scale="probit", range=ends),
        [det_line(system, k, false_alarm_rates, low, high) for k, system in enumerate(subject.systems)],
        eer_marks(subject, low, high),
        diagonal=True,
        square=True,
        wide=True,
    )


def det_limits(systems: Sequence[System]) -> tuple[float, float]:
    """The lowest and the highest rate of axes that hold each curve to its end, where one rate is a single trial."""
    low, high = 0.05, 0.4
    for system in systems:
        curve = det_curve(system.bonafide, system.spoof)
        ends = np.array([curve.miss, curve.false_alarm])[:, (curve.miss > 0) & (curve.false_alarm > 0)]
        fewest = 0.5 / max(len(system.bonafide), len(system.spoof))
        low = min(low, 0.7 * float(ends.min()) if ends.size else fewest)
        high = max(high, float(ends.max()) if ends.size else high, 1.5 * system.eer.eer)
    return max(low, 1e-6), min(high, 1 - 1e-4)


def det_line(system: System, k: int, false_alarm_rates: np.ndarray, low: float, high: float) -> Line:
    points = breakdown.det_points(system, false_alarm_rates)
    heights = [PROBIT(max(rate, low)) if rate <= high else np.nan for rate in points.miss]
    texts = [f"{100 * rate:.3g} % (threshold {t:.4g})" for rate, t in zip(points.miss, points.thresholds)]
    return Line(system.label, rounded(heights, 6), text=texts, **style(k))


def eer_marks(subject: Subject, low: float, high: float) -> list[Mark]:
    """The EERs on the diagonal; of many, only the ends of the row are labelled: the table has all."""
    eers = [system.eer.eer for system in subject.systems]
    at = [PROBIT(min(max(eer, low), high)) for eer in eers]
    first = at.index(min(at)) if len(at) > 1 else None
    labels = [f"{100 * eer:.2f} %" if z in (min(at), max(at)) else "" for z, eer in zip(at, eers)]
    return [Mark(z, z, style(k)["color"], label, below=k == first) for k, (z, label) in enumerate(zip(at, labels))]
