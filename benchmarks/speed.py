"""How fast this program is beside a plain version (plain.py), and how its cost grows.

    python benchmarks/speed.py                          everything; about 20 minutes and 12 GB on two quiet cores
    python benchmarks/speed.py --only data startup      some of it
    python benchmarks/speed.py --rounds 1               roughly

Both versions run in turns in one process on the same input, and their results are compared; a ratio is one of medians.
Written: benchmarks/results/speed.json, the table in benchmarks/README.md, and growth.svg beside it. Parts that are not
run keep their last figures; a part that cannot run on this machine says why in its row.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import N_CORES, ROOT, in_child
from benchmarks.parts import data, growth, machine, quality, scoring, training
from qamo import InputError
from qamo.command import Parser, run_command
from qamo.files import write_json, write_text

RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "benchmarks" / "README.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

# In the order of the README: how a part is measured, and its figures as lines of Markdown.
PARTS: dict[str, tuple[Callable[..., dict[str, Any]], Callable[[dict[str, Any]], list[str]]]] = {
    "scoring": (scoring.measure, scoring.table),
    "training": (training.measure, training.table),
    "data": (data.measure, data.table),
    "rawboost": (data.measure_rawboost, data.rawboost_table),
    "channel": (data.measure_channel, data.channel_table),
    "cache": (scoring.measure_kept, scoring.kept_table),
    "mos": (quality.measure, quality.table),
    "growth": (growth.measure, growth.table),
    "startup": (machine.startup, machine.startup_table),
}
ON_ONE_CORE = {"data", "rawboost", "channel"}


def build_parser() -> Parser:
    parser = Parser("speed.py", __doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5, help="times that each version runs")
    parser.add_argument("--batch-size", type=int, default=10, help="of scoring")
    parser.add_argument("--train-batch-size", type=int, default=2)
    parser.add_argument("--threads", type=int, default=N_CORES)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), command, argv)


def command(args: argparse.Namespace) -> int:
    path = RESULTS / "speed.json"
    path.parent.mkdir(exist_ok=True)
    found = json.loads(path.read_text()) if path.exists() else {}
    batch_sizes = {"scoring": [args.batch_size], "training": [args.train_batch_size]}
    for name in args.only:
        load = os.getloadavg()[0]
        print(f"{name} (load {load:.1f}) ...", flush=True)
        threads = str(1 if name in ON_ONE_CORE else args.threads)
        limits = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        try:
            figures = in_child(PARTS[name][0], args.rounds, *batch_sizes.get(name, []), **limits)
        except InputError as error:
            figures = {"failed": str(error)}
        found[name] = {**figures, "load": load}
        found["machine"] = in_child(machine.describe, OMP_NUM_THREADS=str(args.threads))
        write_json(path, found)
        print(json.dumps(found[name], indent=1), flush=True)
    if "growth" in args.only and "failed" not in found["growth"]:
        growth.plot(found["growth"], RESULTS / "growth.svg")
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    write_text(README, f"{before}{BEGIN}\n\n{tables(found)}\n{END}{rest.split(END)[1]}")
    return 0


def tables(found: dict[str, Any]) -> str:
    """The measured part of the README, from what is known."""
    lines = machine.about(found["machine"])
    measured = {name: found[name] for name in PARTS if name in found}
    for name, figures in measured.items():
        failed = figures.get("failed")
        lines += [f"**{name}** cannot run here: {failed}", ""] if failed else PARTS[name][1](figures)
    if "versions" in measured.get("scoring", {}):
        lines += scoring.projection(measured["scoring"])
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
