"""How often the intervals of an EER hold the true EER, and the paired test finds a difference that is not there.

    python benchmarks/coverage.py --quick                     a look, in less than a minute
    python benchmarks/coverage.py --write docs/statistics.md  all, in a quarter of an hour, into the document

Scores are drawn from normal distributions whose EER is known. By speaker, each score has an offset of its speaker whose
standard deviation is that of the scores of one speaker, so that half of the variance lies between speakers:

    shared   one offset for the bona fide and the spoofed trials of a speaker
    own      an offset for each class
    apart    as own, and each speaker has trials of one class only
    uneven   as shared, with numbers of trials that differ (geometric distribution)

By attack, each spoofed trial has an offset of its attack, of the standard deviation of the scores of one attack.

Seeds are fixed; every number can be had again.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.percentile import bootstrap_difference  # noqa: E402
from qamo import files  # noqa: E402
from qamo.command import Parser, run_command  # noqa: E402
from qamo.evaluation.intervals import clopper_pearson, difference_interval, eer_interval  # noqa: E402
from qamo.evaluation.quantiles import t_quantile  # noqa: E402
from qamo.evaluation.resampling import Sorted, left_out_eers, resampled_eers  # noqa: E402

N_RESAMPLES = 400
NORMAL = NormalDist()
BEGIN, END = "<!-- written by benchmarks/coverage.py -->", "<!-- end -->"

BEFORE, AFTER = "percentile bootstrap", "chosen"
Ends = tuple[float | None, float | None]


class Data(NamedTuple):
    """Scores of one drawn set, and the speakers or attacks of its trials (None where there are none)."""

    bonafide: np.ndarray
    spoof: np.ndarray
    groups: tuple[np.ndarray, np.ndarray] | None
    unit: str = "trial"


# Sets


def draw_trials(rng: np.random.Generator, n_bonafide: int, n_spoof: int, eer: float) -> Data:
    shift = -NORMAL.inv_cdf(eer)
    return Data(rng.normal(shift, 1, n_bonafide), rng.normal(-shift, 1, n_spoof), None)


def draw_speakers(rng: np.random.Generator, design: str, n_speakers: int, n_each: int, eer: float) -> Data:
    """`n_each` trials of each class of each speaker, on average."""
    sizes = rng.geometric(1 / n_each, n_speakers) if design == "uneven" else n_each
    speakers = np.repeat(np.arange(n_speakers), sizes)
    offsets = rng.normal(0, 1, (2, n_speakers))
    if design in ("shared", "uneven"):
        offsets[1] = offsets[0]
    shift = -NORMAL.inv_cdf(eer) * math.sqrt(2)
    bonafide, spoof = rng.normal(0, 1, (2, len(speakers))) + offsets[:, speakers]
    other = speakers + n_speakers if design == "apart" else speakers
    return Data(bonafide + shift, spoof - shift, (speakers, other), "speaker")


def draw_attacks(rng: np.random.Generator, n_attacks: int, n_each: int, eer: float) -> Data:
    """`n_each` trials of each attack and 300 bona fide ones."""
    attacks = np.repeat(np.arange(n_attacks), n_each)
    spoof = rng.normal(0, 1, len(attacks)) + rng.normal(0, 1, n_attacks)[attacks]
    gap = -NORMAL.inv_cdf(eer) * (1 + math.sqrt(2))
    return Data(rng.normal(gap, 1, 300), spoof, (np.zeros(300, int), attacks), "attack")


# Candidates


def candidates(data: Data) -> dict[str, Ends]:
    """Both ends of a 95 % interval by each method, by speaker where there are speakers."""
    trials = Sorted.of(data.bonafide, data.spoof)
    speakers = data.groups if data.unit == "speaker" else None
    drawn = resampled_eers(trials, n_resamples=N_RESAMPLES, seed=0, groups=speakers)
    interval = eer_interval(data.bonafide, data.spoof, unit=data.unit, groups=data.groups, n_resamples=N_RESAMPLES)
    smaller = min(len(data.bonafide), len(data.spoof))
    ends: dict[str, Ends] = {
        BEFORE: tuple(np.quantile(drawn, [0.025, 0.975])),
        "bias-corrected bootstrap": bias_corrected(drawn, trials.eer),
        "Student's t of the logit": logit_t(data, trials, drawn, smaller),
        "Clopper-Pearson, smaller class": clopper_pearson(trials.eer, smaller, smaller),
        AFTER: (interval.low, interval.high),
    }
    return ends


def bias_corrected(drawn: np.ndarray, eer: float) -> Ends:
    """Source: Efron 1987, without the acceleration."""
    below = float(((drawn < eer).mean() + (drawn <= eer).mean()) / 2)
    z = NORMAL.inv_cdf(min(max(below, 1 / len(drawn)), 1 - 1 / len(drawn)))
    low, high = np.quantile(drawn, [NORMAL.cdf(2 * z - 1.96), NORMAL.cdf(2 * z + 1.96)])
    return float(low), float(high)


def logit_t(data: Data, trials: Sorted, drawn: np.ndarray, smaller: int) -> Ends:
    """Standard error of the bootstrap by trial or of the jackknife over speakers, on the scale of log-odds."""
    error, df = float(drawn.std()), smaller - 1.0
    if data.unit == "speaker" and data.groups is not None:
        distinct, codes = np.unique(np.concatenate(data.groups), return_inverse=True)
        left_out = left_out_eers(trials, codes, len(distinct))
        error = math.sqrt((len(left_out) - 1) / len(left_out) * float(((left_out - trials.eer) ** 2).sum()))
        df = min(len(np.unique(part)) for part in data.groups) - 1.0
    eer = min(max(trials.eer, 0.5 / smaller), 1 - 0.5 / smaller)
    half = t_quantile(0.95, df) * error / (eer * (1 - eer))
    centre = math.log(eer / (1 - eer))
    return 1 / (1 + math.exp(-min(centre - half, 700))) if half < 700 else 0.0, 1 / (1 + math.exp(-centre - half))


# Counts


class Cell(NamedTuple):
    """How the methods did on many sets of one kind."""

    kind: str
    eer: float
    coverage: dict[str, float]  # NaN where a method abstains
    width: dict[str, float]  # mean, in [0, 1]


def cell(kind: str, eer: float, draw: Callable[[np.random.Generator], Data], repeats: int) -> Cell:
    hits: dict[str, list[float]] = {}
    widths: dict[str, list[float]] = {}
    for seed in range(repeats):
        for method, (low, high) in candidates(draw(np.random.default_rng([seed, round(1e4 * eer)]))).items():
            low, high = (math.nan, math.nan) if low is None or high is None else (low, high)
            hits.setdefault(method, []).append(math.nan if math.isnan(low) else float(low <= eer <= high))
            widths.setdefault(method, []).append(high - low)
    return Cell(kind, eer, *({m: float(np.mean(v)) for m, v in of.items()} for of in (hits, widths)))


def trial_cells(repeats: int) -> Iterable[Cell]:
    for n_bonafide, n_spoof in ((5, 5), (10, 10), (20, 20), (50, 50), (300, 300), (20, 300), (300, 20)):
        for eer in (0.005, 0.01, 0.05, 0.1, 0.3):
            draw = partial(draw_trials, n_bonafide=n_bonafide, n_spoof=n_spoof, eer=eer)
            yield cell(f"{n_bonafide} + {n_spoof}", eer, draw, repeats)


def speaker_cells(repeats: int, numbers: Sequence[int]) -> Iterable[Cell]:
    sizes = [(n, 20) for n in numbers] + [(5, 4), (5, 60), (30, 60), (100, 3)] * (len(numbers) > 2)
    for design in ("shared", "own", "apart", "uneven"):
        for n_speakers, n_each in sizes:
            for eer in (0.005, 0.05, 0.3):
                draw = partial(draw_speakers, design=design, n_speakers=n_speakers, n_each=n_each, eer=eer)
                yield cell(f"{design}, {n_speakers} x {n_each}", eer, draw, repeats)


def attack_cells(repeats: int, numbers: Iterable[int]) -> Iterable[Cell]:
    for n_attacks in numbers:
        for eer in (0.005, 0.05, 0.2):
            yield cell(
                f"{n_attacks} x 50", eer, partial(draw_attacks, n_attacks=n_attacks, n_each=50, eer=eer), repeats
            )


def false_findings(draw: Callable[[np.random.Generator], Data], repeats: int) -> tuple[float, float]:
    """How often p < .05 for two systems of equal true EER whose scores correlate: before, and now (NaN: abstains)."""
    found = np.zeros((repeats, 2))
    for seed in range(repeats):
        a = draw(np.random.default_rng([seed, 1]))
        b = draw(np.random.default_rng([seed, 2]))
        rng = np.random.default_rng([seed, 3])
        common = [0.7 * rng.normal(size=len(part)) for part in a[:2]]
        systems = [part + shared for data in (a, b) for part, shared in zip(data[:2], common)]
        before = bootstrap_difference(*systems, n_resamples=N_RESAMPLES, groups=a.groups)
        now = difference_interval(*systems, unit=a.unit, groups=a.groups, n_resamples=N_RESAMPLES)
        found[seed] = before.p < 0.05, math.nan if now.p is None else now.p < 0.05
    return float(found[:, 0].mean()), float(found[:, 1].mean())


# The document


def text(value: float, percent: bool = False) -> str:
    if math.isnan(value):
        return "-"
    return f"{100 * value:.1f}" if percent else f"{value:.3f}".removeprefix("0")


def coverage_table(title: str, cells: Iterable[Cell]) -> str:
    """Coverage and mean width before and now, a line a kind of set."""
    lines = [
        f"| {title} | true EER % | coverage before | coverage now | width before | width now |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind, eer, coverage, width in cells:
        rates = [text(coverage[BEFORE]), text(coverage[AFTER]), text(width[BEFORE], True), text(width[AFTER], True)]
        lines.append(" | ".join([f"| {kind}", f"{100 * eer:g}", *rates]) + " |")
    return "\n".join(lines)


def candidates_table(title: str, cells: list[Cell]) -> str:
    """For each candidate the least coverage over all kinds of sets, and the mean width."""
    lines = [f"| {title} | least coverage | cells below .93 | mean width |", "| --- | ---: | ---: | ---: |"]
    for method in cells[0].coverage:
        rates = [c.coverage[method] for c in cells]
        width = float(np.mean([c.width[method] for c in cells]))
        n_below = sum(rate < 0.93 for rate in rates)
        lines.append(f"| {method} | {text(min(rates))} | {n_below} of {len(cells)} | {text(width, True)} |")
    return "\n".join(lines)


def test_table(repeats: int, numbers: Sequence[int]) -> str:
    lines = ["| two equal systems | before | now |", "| --- | ---: | ---: |"]
    kinds: list[tuple[str, Callable[[np.random.Generator], Data]]] = [
        (f"{n} + {n} trials, EER 10 %", partial(draw_trials, n_bonafide=n, n_spoof=n, eer=0.1)) for n in (20, 50, 300)
    ]
    kinds += [
        (
            f"{design}, {n} speakers x 20, EER 10 %",
            partial(draw_speakers, design=design, n_speakers=n, n_each=20, eer=0.1),
        )
        for design in ("shared", "own")
        for n in numbers
    ]
    for kind, draw in kinds:
        before, now = false_findings(draw, repeats)
        lines.append(f"| {kind} | {text(before)} | {text(now)} |")
    return "\n".join(lines)


def document(repeats: int, *, numbers: tuple[int, ...]) -> str:
    by_trial, by_speaker = list(trial_cells(repeats)), list(speaker_cells(repeats, numbers))
    enough = [c for c in by_speaker if not math.isnan(c.coverage[AFTER])]
    return "\n\n".join(
        [
            f"{repeats:,} sets of each kind; widths in points. The simulation's own error is "
            f"{100 * math.sqrt(0.95 * 0.05 / repeats):.1f} points at a coverage of .95.",
            "### Candidates",
            candidates_table("by trial", by_trial),
            candidates_table("by speaker, 5 or more", enough),
            "### By trial",
            coverage_table("bona fide + spoof", by_trial),
            "### By speaker",
            coverage_table("design, speakers x trials a class", by_speaker),
            "### By attack",
            "*Before* is the percentile bootstrap of trials, as there was none by attack.",
            coverage_table("attacks x trials", attack_cells(repeats, [n for n in numbers if n < 100])),
            "### False findings of the paired test at p < .05",
            test_table(repeats, numbers),
        ]
    )


def main(argv: list[str] | None = None) -> int:
    parser = Parser("coverage.py", __doc__)
    parser.add_argument("--quick", action="store_true", help="few repeats, few kinds: for a look")
    parser.add_argument("--repeats", type=int, default=300, help="sets of each kind (default: 300)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this document")

    def command(args: object) -> int:
        return run(quick=args.quick, repeats=args.repeats, path=args.write)  # type: ignore[attr-defined]

    return run_command(parser, command, argv)


def run(*, quick: bool, repeats: int, path: Path | None) -> int:
    start = time.perf_counter()
    tables = document(30, numbers=(4, 10)) if quick else document(repeats, numbers=(2, 4, 5, 10, 30, 100))
    if path is None:
        print(tables)
    else:
        before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        files.write_text(path, f"{before}{BEGIN}\n{tables}\n{END}{after}")
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
