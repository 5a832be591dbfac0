"""The sections of a report on score files: error rates, scores, conditions, speakers, quality, worst errors.

A section is a title, a sentence or two, and tables and charts; nothing is read or written here but the recordings of
the worst errors. N is the number of trials.
"""

from __future__ import annotations

import base64
import html
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

import eval_metrics
from qamo import InputError
from qamo.audio import load as audio
from qamo.evaluation import breakdown
from qamo.evaluation.breakdown import Factor, Measured, System
from qamo.evaluation.percentile import Difference, Interval, bootstrap_eer
from qamo.report.page import COLORS, DASHES, Chart, Markup, Section, rounded, slug
from qamo.report.tables import Column, Table
from qamo.trials.keys import Keys

MOST_LEVELS = 40  # a column with more is broken down only if asked for
MOST_ROWS = 200  # of a table by speaker
NOT_FACTORS = {"speaker", "mos", "subset"}  # they have sections of their own, or are chosen
CROSSES = [("attack", "codec"), ("vocoder", "compr")]  # as the evaluation packages of ASVspoof 2021 have it
CLIP_S = 6  # of a recording that the page holds
CLIPS_BYTES = 3_000_000  # of all recordings in the page; the rest are links to files
N_DET_POINTS = 1200  # along the false alarm axis: more than a screen has pixels
EXTENSIONS = ["", ".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a"]


class Pair(NamedTuple):
    """Two systems and the difference of their EERs, by resampled trials and, where they are known, by speakers."""

    a: System
    b: System
    differences: list[tuple[Difference, str]]  # EER of a - EER of b, and what was drawn


@dataclass(frozen=True, eq=False)
class Set:
    """What is reported on: the systems, the keys, and what else is known of the trials."""

    systems: list[System]
    keys: Keys
    subset: str | None
    mos: np.ndarray | None  # (N,)
    n_resamples: int
    seed: int
    asv: eval_metrics.TDCFCoefficients | None = None  # of the t-DCF of ASVspoof 2019
    factors: dict[str, Factor] = field(default_factory=dict)  # those that were asked for

    @cached_property
    def speakers(self) -> np.ndarray | None:
        """The speaker of each trial as a number: (N,) int64; None where the key names fewer than two."""
        if "speaker" not in self.keys.columns:
            return None
        speaker = self.factor("speaker")
        return speaker.codes if len(speaker.levels) > 1 else None

    @cached_property
    def intervals(self) -> list[Interval]:
        """For each system the interval of its EER when trials are drawn."""
        return [
            bootstrap_eer(system.bonafide, system.spoof, n_resamples=self.n_resamples, seed=self.seed)
            for system in self.systems
        ]

    @cached_property
    def speaker_intervals(self) -> list[Interval | None]:
        """For each system the interval of its EER when whole speakers are drawn."""
        options = {"n_resamples": self.n_resamples, "seed": self.seed}
        return [breakdown.speaker_interval(system, self.speakers, **options) for system in self.systems]

    @cached_property
    def pairs(self) -> list[Pair]:
        """Each pair of systems, the best two first; of more than four systems, the best with each other one."""
        ranked = self.ranked
        n_first = len(ranked) if len(ranked) <= 4 else 1
        return [self._pair(a, b) for i, a in enumerate(ranked[:n_first]) for b in ranked[i + 1 :]]

    def _pair(self, a: System, b: System) -> Pair:
        draws = [None] if breakdown.groups_of(a, self.speakers) is None else [None, self.speakers]
        options = {"n_resamples": self.n_resamples, "seed": self.seed}
        return Pair(a, b, [breakdown.compare(a, b, groups=groups, **options) for groups in draws])

    @property
    def ranked(self) -> list[System]:
        """The systems, lowest EER first."""
        return sorted(self.systems, key=lambda system: system.eer.eer)

    def factor(self, column: str) -> Factor:
        if column not in self.factors:
            self.factors[column] = Factor(column, *self.keys.columns.levels(column))
        return self.factors[column]


def title_of(found: Set) -> str:
    labels = [system.label for system in found.systems]
    names = " and ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else labels)
    if len(labels) > 3:
        names = f"{len(labels)} systems"
    path = found.keys.path.resolve()
    where = path.parent.name if path.name == "meta.csv" else _PROTOCOL_ENDING.sub("", path.stem)
    if found.keys.track:
        where = f"ASVspoof 2021 {found.keys.track}"
    return f"{names} on {where}"


_PROTOCOL_ENDING = re.compile(r"(\.(trn|trl|score))+$")


def summarize(found: Set) -> tuple[Markup, str]:
    """The cards on top, what the comparison comes to, and what is odd; and the line below the title."""
    n_bonafide = int(found.keys.bonafide.sum())
    subtitle = f"{n_bonafide:,} bona fide and {len(found.keys) - n_bonafide:,} spoofed trials"
    subtitle += f" of the subset {found.subset}" if found.subset else ""
    cards, remarks = [], []
    for k, system in enumerate(found.systems):
        low, high = found.intervals[k]
        by_speaker = found.speaker_intervals[k]
        speaker = f"<br>{span(by_speaker)} if speakers are drawn" if by_speaker else ""
        cards.append(
            f'<li style="--own:var(--{COLORS[k % len(COLORS)]})"><b>{html.escape(system.label)}</b>'
            f"<strong>{100 * system.eer.eer:.2f} %</strong><small>equal error rate<br>95 % interval "
            f"{100 * low:.2f} to {100 * high:.2f}{speaker}</small></li>"
        )
        for remark in eval_metrics.score_warnings(system.bonafide, system.spoof):
            remarks.append(f'<p class="remark"><b>{html.escape(system.label)}</b>: {html.escape(remark)}.</p>')
    text = f'<ul class="cards">{"".join(cards)}</ul>{"".join(remarks)}'
    if len(found.systems) > 1:
        text += f'<p class="said-first">{html.escape(verdict(found))}</p>'
    return Markup(text), subtitle


def verdict(found: Set) -> str:
    """A sentence on the two systems with the lowest EERs."""
    a, b, differences = found.pairs[0]
    difference, drawn = differences[-1]
    points = f"{abs(100 * difference.value):.2f} points"
    low, high = (round(-100 * end, 2) + 0.0 for end in (difference.high, difference.low))  # no minus before a zero
    interval = f"95 % interval {low:.2f} to {high:.2f}".replace("-", "−")
    said = f"({interval}, when whole {drawn} are resampled)" if drawn == "speakers" else f"({interval})"
    if difference.high < 0 or difference.low > 0:
        return f"{a.label} is ahead of {b.label} by {points} {said}."
    sentence = f"{a.label} and {b.label} differ by {points}, which chance could explain {said}"
    trials = differences[0][0]
    if drawn == "speakers" and (trials.high < 0 or trials.low > 0):
        sentence += "; among these very speakers the difference is clear"
    return sentence + "."


def span(interval: Interval) -> str:
    return f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"


def rates(found: Set) -> Section:
    """Pooled rates, DET curves, and each pair of systems."""
    section = Section("rates", "Error rates")
    columns = [
        Column("system"),
        Column("EER % [95 %]", "interval"),
        Column("threshold", "number"),
        Column("min DCF", "number"),
    ]
    by_speaker = found.speaker_intervals
    tdcfs = [pooled_tdcf(found, system) for system in found.systems]
    if any(by_speaker):
        columns.insert(2, Column("by speaker %", "interval"))
    if any(value is not None for value in tdcfs):
        columns.append(Column("min t-DCF", "number"))
    given = any(system.given_threshold is not None for system in found.systems)
    if given:
        columns += [Column("given threshold", "number"), Column("FRR %", "rate"), Column("FAR %", "rate")]
    rows = []
    for system, interval, speaker, tdcf in zip(found.systems, found.intervals, by_speaker, tdcfs):
        row: list[Any] = [system.label, (system.eer.eer, *interval), system.eer.threshold]
        row.append(eval_metrics.min_dcf(system.bonafide, system.spoof).eer)
        if any(by_speaker):
            row.insert(2, (system.eer.eer, *speaker) if speaker else None)
        if any(value is not None for value in tdcfs):
            row.append(tdcf)
        if given:
            measured = breakdown.measure(system, found.keys.bonafide, ~found.keys.bonafide)
            known = system.given_threshold is not None
            row += [system.threshold, measured.miss, measured.false_alarm] if known else [None, None, None]
        rows.append(row)
    note = (
        f"Intervals: percentile bootstrap with {found.n_resamples:,} resamples of trials within each class"
        + ("; 'by speaker' draws whole speakers, whose trials are not independent" if any(by_speaker) else "")
        + ". The threshold is that of the EER on this very set: for decisions, take one from other data. Min DCF: the "
        "detection cost of ASVspoof 5, track 1, with a share of 5 % spoof and costs of 1 and 10."
    )
    if any(value is not None for value in tdcfs):
        note += (
            " Min t-DCF: the cost of both systems when the detector guards the speaker verification of ASVspoof "
            + ("2019, in its form." if found.asv else f"2021, over the trials of the subset {found.subset}.")
            + (" A dash: it needs at least 3 distinct scores." if None in tdcfs else "")
        )
    if given:
        note += " FRR and FAR: misses and false alarms at the given threshold, which for a run is that of its dev EER."
    section.parts = [Table("pooled", "Pooled results", columns, rows, note), det_chart(found)]
    if len(found.systems) > 1:
        section.parts.append(pairs(found))
    return section


def pooled_tdcf(found: Set, system: System) -> float | None:
    """Min t-DCF where the set has an ASV system and its files are there; None too for a detector's mere decisions."""
    if len(np.unique(system.values)) < 3:
        return None
    if found.asv:
        return eval_metrics.min_tdcf(system.bonafide, system.spoof, found.asv)
    if found.keys.track not in ("LA", "PA") or found.subset is None:
        return None
    from qamo.evaluation.tdcf import pooled_min_tdcf

    return pooled_min_tdcf(system.bonafide, system.spoof, found.keys.path, track=found.keys.track, subset=found.subset)


def pairs(found: Set) -> Table:
    """The paired bootstrap of each pair."""
    rows = [
        [a.label, b.label, (difference.value, difference.low, difference.high), difference.p, drawn]
        for a, b, differences in found.pairs
        for difference, drawn in differences
    ]
    columns = [
        Column("a"),
        Column("b"),
        Column("EER of a − EER of b [95 %], points", "signed"),
        Column("p", "number"),
        Column("resampled"),
    ]
    return Table(
        "pairs",
        "Differences between systems",
        columns,
        rows,
        f"Paired bootstrap: each of {found.n_resamples:,} resamples draws the same trials, or the same speakers with "
        "all their trials, for both systems. Trials of a speaker are not independent, so where both are given the "
        "speakers' is the one to go by for other speakers. p is two-sided and cannot be smaller than "
        f"{2 / (found.n_resamples + 1):.4f}.",
    )


def det_chart(found: Set) -> Chart:
    """DET curves of all systems on probit axes."""
    inverse = NormalDist().inv_cdf
    eers = [system.eer.eer for system in found.systems]
    n_least = min(int(found.keys.bonafide.sum()), int((~found.keys.bonafide).sum()))
    low = min(max(0.5 / n_least, min(eers) / 25, 1e-5), 0.05)
    high = min(max(0.4, max(eers) * 2), 0.995)
    grid = np.linspace(inverse(low), inverse(high), N_DET_POINTS)
    far = np.array([NormalDist().cdf(z) for z in grid])
    series: list[dict[str, Any]] = []
    marks: list[dict[str, Any]] = []
    for k, system in enumerate(found.systems):
        points = breakdown.det_points(system, far)

        series.append(
            {
                "label": system.label,
                "color": COLORS[k % len(COLORS)],
                "dash": DASHES[k % len(DASHES)],
                "values": rounded([inverse(max(r, low)) if r <= high else np.nan for r in points.miss], 6),
                "text": [f"{100 * r:.3g} % (threshold {t:.4g})" for r, t in zip(points.miss, points.thresholds)],
            }
        )
        at = inverse(min(max(system.eer.eer, low), high))
        marks.append({"x": at, "y": at, "color": COLORS[k % len(COLORS)], "label": f"{100 * system.eer.eer:.2f} %"})
    for mark in marks:  # of many, only the ends of the row are labelled: the table has all
        if mark["x"] not in (min(m["x"] for m in marks), max(m["x"] for m in marks)):
            mark["label"] = ""
    if len(marks) > 1:
        min(marks, key=lambda mark: mark["x"])["below"] = True
    spec = {
        "kind": "lines",
        "x": {
            "label": "false alarm rate (spoof accepted), %",
            "name": "false alarm rate",
            "values": rounded(grid, 7),
            "text": [f"{100 * f:.3g} %" for f in far],
            "scale": "probit",
            "range": [float(grid[0]), float(grid[-1])],
        },
        "y": {
            "label": "miss rate (bona fide rejected), %",
            "scale": "probit",
            "range": [float(grid[0]), float(grid[-1])],
        },
        "series": series,
        "marks": marks,
        "diagonal": True,
        "square": True,
    }
    words = "; ".join(
        f"{system.label} crosses the diagonal at {100 * system.eer.eer:.2f} %" for system in found.systems
    )
    return Chart(
        "det",
        "Detection error trade-off",
        "Both axes are stretched by the normal quantile; further down and left is better. The dots are the equal error "
        "rates. At each false alarm rate the curve shows the lowest miss rate that keeps to it. Drag or press + to "
        "zoom.",
        f"Miss rate against false alarm rate for {len(found.systems)} systems: {words}.",
        spec,
        wide=True,
    )


def score_section(found: Set) -> Section:
    """Histograms of the scores of both classes."""
    section = Section("scores", "Scores")
    section.lead = (
        "How the scores of both classes are spread. Point at a score, or touch it, to see what a threshold there would "
        "do."
    )
    section.parts += [histogram_chart(system, k) for k, system in enumerate(found.systems)]
    return section


def histogram_chart(system: System, k: int) -> Chart:
    spread = breakdown.histogram(system)
    bars = [("bonafide", "bona fide", spread.bonafide), ("spoof", "spoof", spread.spoof)]
    series: list[dict[str, Any]] = [
        {
            "label": label,
            "color": color,
            "values": rounded(np.append(100 * share, 100 * share[-1]), 4),
            "text": [f"{100 * s:.2f} %" for s in np.append(share, share[-1])],
            "stepped": True,
            "fill": True,
            "dash": [5, 3] if color == "spoof" else None,
        }
        for color, label, share in bars
    ]
    for label, rate in (("misses there", spread.miss), ("false alarms there", spread.false_alarm)):
        series.append(
            {"label": label, "hidden": True, "values": [None] * len(rate), "text": [f"{100 * r:.2f} %" for r in rate]}
        )
    marks = [{"x": system.eer.threshold, "y": None, "color": "ink", "label": f"EER {100 * system.eer.eer:.2f} %"}]
    if system.given_threshold is not None:
        marks.append({"x": system.given_threshold, "y": None, "color": "accent", "label": "given threshold"})
    spec = {
        "kind": "lines",
        "x": {"label": "score", "values": rounded(spread.edges, 6), "scale": "linear"},
        "y": {"label": "share of the class in a bin, %", "scale": "linear", "min": 0},
        "series": series,
        "marks": marks,
    }
    median_bonafide, median_spoof = float(np.median(system.bonafide)), float(np.median(system.spoof))
    outside = f" {spread.n_outside:,} outlying scores are counted in the outermost bins." if spread.n_outside else ""
    given = "" if system.given_threshold is None else f", and the given one, {_number(system.given_threshold)}, in blue"
    return Chart(
        f"scores-{k}",
        system.label,
        f"{len(spread.bonafide)} bins; dashed, the threshold of the EER, {_number(system.eer.threshold)}{given}."
        f"{outside}",
        f"Histogram of the scores of {system.label}: the median is {median_bonafide:.3g} for bona fide speech and "
        f"{median_spoof:.3g} for spoofed speech; the EER threshold is {system.eer.threshold:.4g}.",
        spec,
    )


def conditions(found: Set, asked: Sequence[str] | None) -> Section:
    """Results by the columns of the key, and by two of them at once."""
    section = Section("conditions", "Conditions")
    section.lead = (
        "Equal error rates by what the key says of the trials. A codec's spoofed trials are held against bona fide "
        "speech of the same codec; an attack's against all bona fide speech, as there is none of an attack."
    )
    there = [column for column in found.keys.columns if column != "mos"]
    singles: list[str] = []
    crosses: list[tuple[str, str]] = []
    skipped = []
    if asked is None:
        for column in there:
            n_levels = len(found.factor(column).levels)
            if column in NOT_FACTORS or n_levels < 2:
                continue
            if n_levels <= MOST_LEVELS:
                singles.append(column)
            else:
                skipped.append(f"{column} ({n_levels} levels)")
        crosses = [(a, b) for a, b in CROSSES if a in there and b in there]
    else:
        for text in asked:
            parts = text.split("*")
            unknown = [part for part in parts if part not in there]
            if unknown or len(parts) > 2:
                raise InputError(
                    f"--by {text}: expected A or A*B with columns of {found.keys.path}: {', '.join(there)}"
                )
            if len(parts) == 1:
                singles.append(text)
            else:
                crosses.append((parts[0], parts[1]))
    for column in singles:
        factor = found.factor(column)
        if asked or len(factor.masks(found.keys.bonafide)) > 1:
            section.parts.append(factor_table(found, factor))
    for a, b in crosses:
        section.parts += cross_tables(found, found.factor(a), found.factor(b))
    if skipped:
        note = f"Left out for their many levels: {', '.join(skipped)}. Ask for one with --by."
        section.parts.append(Markup(f'<p class="note">{html.escape(note)}</p>'))
    return section


def factor_table(found: Set, factor: Factor) -> Table:
    results = [
        breakdown.by_factor(system, factor, n_resamples=found.n_resamples, seed=found.seed) for system in found.systems
    ]
    return level_table(found, slug(f"by-{factor.name}"), f"By {factor.name}", factor.name, results, sortable=True)


def level_table(
    found: Set, id: str, caption: str, name: str, results: list[list[tuple[str, Measured]]], **options: Any
) -> Table:
    """A row for each level: counts, then for each system its EER, FRR and FAR."""
    columns = [Column(name), Column("bona fide", "count"), Column("spoof", "count")]
    for system in found.systems:
        columns += [
            Column("EER % [95 %]", "interval", system.label),
            Column("FRR %", "rate", system.label),
            Column("FAR %", "rate", system.label),
        ]
    rows = []
    for i, (level, first) in enumerate(results[0]):
        row: list[Any] = [level, first.n_bonafide, first.n_spoof]
        for result in results:
            measured = result[i][1]
            row += [(measured.eer, measured.low, measured.high), measured.miss, measured.false_alarm]
        rows.append(row)
    at = ", ".join(
        f"{_number(s.threshold)} for {s.label} ({'of the EER of all trials' if s.given_threshold is None else 'given'})"
        for s in found.systems
    )
    note = f"FRR and FAR: misses and false alarms at one threshold for all rows: {at}."
    return Table(id, caption, columns, rows, note, **options)


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def cross_tables(found: Set, a: Factor, b: Factor) -> list[Table]:
    """For each system a table of EERs, levels of `a` by levels of `b`."""
    made = []
    for k, system in enumerate(found.systems):
        row_levels, column_levels, cells = breakdown.by_two_factors(system, a, b)
        pooled = dict(breakdown.by_factor(system, a))
        columns = [Column(f"{a.name} \\ {b.name}"), *(Column(level, "rate") for level in column_levels)]
        columns.append(Column("all", "rate"))
        rows = [[level, *(cell.eer for cell in row), pooled[level].eer] for level, row in zip(row_levels, cells)]
        suffix = f"-{k}" if len(found.systems) > 1 else ""
        made.append(
            Table(
                slug(f"{a.name}-by-{b.name}") + suffix,
                f"EER % of {system.label} by {a.name} and {b.name}",
                columns,
                rows,
                "The stronger the colour, the worse; a dash where a class is missing.",
                shade=True,
            )
        )
    return made


def speakers(found: Set) -> Section:
    """Results of each speaker."""
    section = Section("speakers", "Speakers")
    if found.speakers is None:
        return section
    factor = found.factor("speaker")
    if len(factor.levels) > MOST_ROWS:
        counts = np.bincount(factor.codes, minlength=len(factor.levels))
        largest = np.sort(np.argsort(-counts, kind="stable")[:MOST_ROWS])
        section.lead = f"The {MOST_ROWS} speakers with most trials of {len(factor.levels)}."
        codes = np.full(len(factor.levels), MOST_ROWS)
        codes[largest] = np.arange(MOST_ROWS)
        factor = Factor("speaker", [*(factor.levels[i] for i in largest), "all others"], codes[factor.codes])
    section.parts.append(factor_table(found, factor))
    return section


def quality(found: Set, edges: Sequence[float]) -> Section:
    """Results by MOS, how far scores follow MOS, and what MOS alone would reach."""
    assert found.mos is not None
    mos, is_bonafide = found.mos, found.keys.bonafide
    section = Section("quality", "Quality")
    alone = eval_metrics.equal_error_rate(mos[is_bonafide], mos[~is_bonafide]).eer
    better = (
        "bona fide speech tends to have the higher MOS" if alone < 0.5 else "spoofed speech tends to have the higher"
    )
    section.lead = (
        "All trials have the same MOS, so it says nothing."
        if mos.min() == mos.max()
        else f"Taken as a score, the MOS alone has an EER of {100 * alone:.2f} % on this set ({better}; 50 % would be "
        "chance). The nearer that is to a detector's own, the more of its success may be quality and not authenticity."
    )
    bands = breakdown.mos_bands(mos, edges)
    results = [
        breakdown.mos_results(system, bands, n_resamples=found.n_resamples, seed=found.seed) for system in found.systems
    ]
    by_band = level_table(found, "by-mos", "By MOS band", "MOS", results)
    columns = [
        Column("score of"),
        Column("class"),
        Column("trials", "count"),
        Column("Spearman [95 %]", "number_interval"),
        Column("Pearson", "number"),
    ]
    rows: list[list[Any]] = []
    for system in found.systems:
        for name, mask in (("bona fide", is_bonafide), ("spoof", ~is_bonafide)):
            r = breakdown.correlation(mos[mask], system.values[mask])
            rows.append([system.label, name, r.n, (r.spearman, r.low, r.high), r.pearson])
    correlations = Table(
        "mos-correlation",
        "Correlation of MOS with the score, within each class",
        columns,
        rows,
        "A score that took no account of quality, nor of anything that goes with it, would have none.",
    )
    detectors: list[list[Any]] = [
        ["MOS alone", measure_alone(found, mos)],
        *([s.label, (s.eer.eer, *interval)] for s, interval in zip(found.systems, found.intervals)),
    ]
    alone_table = Table(
        "mos-alone", "MOS as a detector", [Column("score"), Column("EER % [95 %]", "interval")], detectors
    )
    section.parts = [by_band, mos_chart(mos, is_bonafide)]
    section.parts += [trend_chart(system, mos, k) for k, system in enumerate(found.systems)]
    section.parts += [correlations, alone_table]
    return section


def measure_alone(found: Set, mos: np.ndarray) -> tuple[float, float, float]:
    parts = mos[found.keys.bonafide], mos[~found.keys.bonafide]
    interval = bootstrap_eer(*parts, n_resamples=found.n_resamples, seed=found.seed)
    return (eval_metrics.equal_error_rate(*parts).eer, *interval)


def mos_chart(mos: np.ndarray, is_bonafide: np.ndarray) -> Chart:
    edges = mos_edges(mos)
    series = []
    for color, label, part in (("bonafide", "bona fide", mos[is_bonafide]), ("spoof", "spoof", mos[~is_bonafide])):
        share = np.histogram(part, edges)[0] / len(part)
        share = np.append(share, share[-1])
        series.append(
            {
                "label": label, "color": color, "values": rounded(100 * share, 4), "stepped": True, "fill": True,
                "text": [f"{100 * s:.2f} %" for s in share], "dash": [5, 3] if color == "spoof" else None,
            }
        )  # fmt: skip
    spec = {
        "kind": "lines",
        "x": {"label": "MOS", "values": rounded(edges, 6), "scale": "linear"},
        "y": {"label": "share of the class in a bin, %", "scale": "linear", "min": 0},
        "series": series,
    }
    return Chart(
        "mos-histogram",
        "MOS of both classes",
        "How the quality of bona fide and of spoofed speech is spread on this set.",
        f"Histogram of MOS: the median is {np.median(mos[is_bonafide]):.2f} for bona fide speech and "
        f"{np.median(mos[~is_bonafide]):.2f} for spoofed speech.",
        spec,
    )


def mos_edges(mos: np.ndarray, step: float = 0.1) -> np.ndarray:
    """Edges of bins of MOS that hold all of it."""
    first, last = int(np.floor(mos.min() / step)), int(np.floor(mos.max() / step)) + 1
    return np.arange(first, last + 1) * step


def trend_chart(system: System, mos: np.ndarray, k: int) -> Chart:
    edges = mos_edges(mos, 0.2)
    series: list[dict[str, Any]] = []
    centers = (edges[:-1] + edges[1:]) / 2
    ends = []
    shown: list[float] = []
    for color, label, mask in (("bonafide", "bona fide", system.is_bonafide), ("spoof", "spoof", ~system.is_bonafide)):
        found = breakdown.trend(mos[mask], system.values[mask], edges)
        known = np.flatnonzero(np.isfinite(found.percentiles[1]))
        if len(known):
            shown += [float(centers[known[0]]), float(centers[known[-1]])]
            ends.append(
                f"for {label} speech from {found.percentiles[1][known[0]]:.3g} at MOS {centers[known[0]]:.1f} to "
                f"{found.percentiles[1][known[-1]]:.3g} at MOS {centers[known[-1]]:.1f}"
            )
        low, middle, high = found.percentiles
        text = [f"{m:.3g} (10 to 90 %: {a:.3g} to {b:.3g})" if m == m else "–" for a, m, b in zip(low, middle, high)]
        quiet = {"color": color, "quiet": True}
        series += [
            {"label": f"{label}, median", "color": color, "values": rounded(middle), "text": text, "points": True},
            {"label": f"{label}, 90 %", "values": rounded(high), **quiet},
            {"label": f"{label}, 10 %", "values": rounded(low), **quiet},
        ]
    spec = {
        "kind": "lines",
        "x": {"label": "MOS", "values": rounded(centers, 4), "scale": "linear"}
        | ({"range": rounded([min(shown) - 0.1, max(shown) + 0.1], 4)} if shown else {}),
        "y": {"label": "score", "scale": "linear"},
        "series": series,
        "bands": [[1, 2], [4, 5]],
    }
    return Chart(
        f"mos-trend-{k}",
        f"Score by MOS: {system.label}",
        "Median, and the band from the 10th to the 90th percentile, in bins of 0.2 MOS that hold ten or more trials.",
        f"The median score of {system.label} goes {' and '.join(ends) or 'nowhere: no bin holds ten trials'}.",
        spec,
    )


# ---- the worst errors


def mistakes(found: Set, n_worst: int, audio_folder: Path | None, beside: Path, clips: dict[str, str]) -> Section:
    """Of each system the bona fide trials that it scores lowest and the spoofed ones that it scores highest."""
    section = Section("errors", "Worst errors")
    section.lead = (
        "Half bona fide speech that was rejected with the lowest scores, half spoofed speech that was accepted with "
        "the highest. Names that stand here for several systems are worth a look at their labels."
    )
    details = [
        column
        for column in found.keys.columns
        if column not in NOT_FACTORS - {"speaker"} and len(found.factor(column).levels) > 1
    ][:4]
    columns = [Column("trial"), Column("is")] + [Column("listen", "raw_html")] * bool(audio_folder)
    columns += [Column("score", "number"), Column("beyond threshold by", "number")]
    columns += [Column(column) for column in details]
    columns += [Column("MOS", "number")] if found.mos is not None else []
    for k, system in enumerate(found.systems):
        rows = []
        for kind, list_ in zip(("bona fide", "spoof"), breakdown.worst(system, -(-n_worst // 2))):
            for mistake in list_:
                name = found.keys.names[mistake.place]
                row: list[Any] = [name, kind]
                row += [player(name, f"trial-{mistake.place}", audio_folder, beside, clips)] if audio_folder else []
                row += [mistake.score, mistake.excess]
                row += [found.keys.columns[column][mistake.place] for column in details]
                row += [float(found.mos[mistake.place])] if found.mos is not None else []
                rows.append(row)
        suffix = f"-{k}" if len(found.systems) > 1 else ""
        section.parts.append(
            Table(
                f"worst{suffix}",
                f"Worst errors of {system.label}",
                columns,
                rows,
                f"Decisions at the threshold {_number(system.threshold)}; distances in standard deviations of all "
                "scores.",
            )
        )
    return section


def player(name: str, clip: str, folder: Path, beside: Path, clips: dict[str, str]) -> str:
    """A player for a trial: its first seconds in the page, or a link where the page is full.

    On narrow screens a button takes the place of the browser's own controls, which drop theirs when squeezed.

    Args:
        clip: the trial's id among the clips of the page.
    """
    path = find_recording(folder, name)
    if path is None:
        return "no such file"
    label = html.escape(f"Play {name}")
    button = f'<button type="button" class="play" aria-label="{label}">▶</button>'
    if clip not in clips:
        if sum(map(len, clips.values())) >= CLIPS_BYTES:
            link = quote(os.path.relpath(path, beside))
            return f'{button}<audio controls preload="none" aria-label="{label}" src="{link}"></audio>'
        try:
            clips[clip] = as_clip(audio.load(path))
        except InputError:
            return "unreadable"
    return f'{button}<audio controls preload="none" aria-label="{label}" data-clip="{clip}"></audio>'


def find_recording(folder: Path, name: str) -> Path | None:
    """The recording of a trial below `folder`; None if there is none, or the name would leave the folder."""
    if name.startswith("/") or ".." in Path(name).parts:
        return None
    return next((path for e in EXTENSIONS if (path := folder / f"{name}{e}").is_file()), None)


def as_clip(wave: np.ndarray) -> str:
    """The start of a wave as a data URI of FLAC, which loses nothing that an ear could be asked to judge."""
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, wave[: CLIP_S * audio.SAMPLE_RATE], audio.SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(out.getvalue()).decode("ascii")
