"""How long the scoring commands take and how much memory, at the official sizes.

    python benchmarks/evaluation.py [--repeats 5] [--official PATH/TO/2021/eval-package/main.py]

Keys and scores are made up, in the official layout and with the official numbers of trials: LA 181,566 (and 785,281 ASV
trials), DF 611,829, In-the-Wild 31,779. With --official the organisers' package runs on the same files, in turns with
ours, and the outputs are compared; it needs pandas and matplotlib. Without it ours stands beside figures of theirs that
were recorded on a machine of the same kind. Times are medians of whole processes, imports included; memory is the peak.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks import official_sizes
from benchmarks.measure import ROOT, Run, median_s, run
from eval_metrics import equal_error_rate
from qamo.command import Parser, run_command
from qamo.evaluation.intervals import difference_interval, eer_interval

# The official package under NumPy 2.4 and pandas 3.1: median seconds, imports included, and peak MB. Recorded once, on
# other made-up keys of this size.
RECORDED = {"LA": (6.1, 170.0), "DF": (13.2, 409.0)}


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser("evaluation.py", __doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--official", type=Path, help="main.py of the organisers' evaluation package")
    return run_command(parser, command, argv)


def command(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        official_sizes.make_files(folder)

        def case(label: str, recorded: str, *flags: str) -> None:
            ours = [ROOT / "2021" / "eval-package" / "main.py", *flags]
            official = [args.official.resolve(), *flags] if args.official else None
            compare(label, ours, official, folder, args.repeats, recorded)

        la = ["--cm-score-file", "LA.txt", "--track", "LA", "--subset", "eval", "--metadata", "keys"]
        case("LA eval, C012 recomputed", "", *la, "--recompute-c012", "--c012-path", "c012.npy")
        case("LA eval", "LA", *la, "--c012-path", "c012.npy")
        case("DF eval", "DF", *la[:1], "DF.txt", "--track", "DF", *la[4:])
        scorer = [ROOT / "score_ood_dataset.py", "itw.txt", "itw"]
        compare("In-the-Wild, with interval", scorer, None, folder, args.repeats, "")
    compute_times(min(args.repeats, 3))
    return 0


Words = Sequence[object]


def compare(label: str, ours: Words, official: Words | None, folder: Path, repeats: int, recorded: str) -> None:
    runs, theirs = [], []
    for _ in range(repeats):
        runs.append(run(ours, folder))
        if official is not None:
            theirs.append(run(official, folder))
    seconds, megabytes = _medians(runs)
    line = f"{label:28}  {seconds:6.2f} s  {megabytes:4.0f} MB"
    if theirs:
        line += "  same output" if theirs[0].output == runs[0].output else "  OUTPUT DIFFERS"
    if reference := _medians(theirs) if theirs else RECORDED.get(recorded):
        kind = "official" if theirs else "official, recorded"
        line += f"  {kind}: {reference[0]:.1f} s, {reference[1]:.0f} MB"
        line += f"  -> {reference[0] / seconds:.0f}x as fast, {megabytes / reference[1]:.0%} of the memory"
    print(line, flush=True)


def _medians(runs: list[Run]) -> tuple[float, float]:
    return statistics.median(one.seconds for one in runs), statistics.median(one.peak_mb for one in runs)


def compute_times(repeats: int) -> None:
    """Cost of the metrics themselves, without files."""
    rng = np.random.default_rng(0)

    def seconds(function: Callable[..., Any], *args: Any, times: int = repeats, **options: Any) -> float:
        return median_s(functools.partial(function, *args, **options), times)

    print("\nEER of n trials, in ns for each n log2(n):")
    for n in (100_000, 800_000, 3_200_000):
        taken = seconds(equal_error_rate, rng.normal(1, 1, n // 2), rng.normal(-1, 1, n // 2))
        print(f"{n:28,}  {taken:6.3f} s  {1e9 * taken / n / np.log2(n):5.1f}")

    pair = rng.normal(2, 1, 14_869), rng.normal(-2, 1, 519_059)
    speakers = rng.integers(0, 93, len(pair[0])), rng.integers(0, 93, len(pair[1]))
    other = pair[0] + rng.normal(0, 0.5, len(pair[0])), pair[1] + rng.normal(0, 0.5, len(pair[1]))
    print("\n1,000 resamples of the 533,928 trials of DF eval:")
    for unit, groups in (("trial", None), ("speaker", speakers)):
        options: dict[str, Any] = {"unit": unit, "groups": groups}
        print(f"{f'interval, by {unit}':28}  {seconds(eer_interval, *pair, **options):6.2f} s")
        taken = seconds(difference_interval, *pair, *other, times=1, **options)
        print(f"{f'two systems, by {unit}':28}  {taken:6.2f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
