"""How long RawBoost takes, beside a straightforward version (scipy's filter design, direct filtering).

    python benchmarks/bench_rawboost.py [--repeats 40]

The plain version is the oracle of tests/audio/test_rawboost.py: it makes the same draws and gives the same
waves. Both run on one thread, in turns, so that neither has the quieter machine; medians.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from benchmarks.plain import DEFAULTS, plain
from qamo.audio import SAMPLE_RATE
from qamo.audio.rawboost import rawboost


def milliseconds(function: Callable[..., object], wave: np.ndarray, seed: int, algorithm: int) -> float:
    started = time.perf_counter()
    function(wave, np.random.default_rng(seed), algorithm=algorithm, **DEFAULTS)
    return 1000 * (time.perf_counter() - started)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40)
    args = parser.parse_args(argv)
    wave = np.random.default_rng(0).normal(0, 0.1, 4 * SAMPLE_RATE).astype(np.float32)
    print("a 4 s clip, milliseconds (median of", args.repeats, "each, in turns)")
    print("| algorithm | plain | qamo.audio.rawboost | ratio |\n| --- | --- | --- | --- |")
    for algorithm in (1, 2, 3, 4, 5, 8):
        times: dict[str, list[float]] = {"plain": [], "ours": []}
        for seed in range(args.repeats):
            times["plain"].append(milliseconds(plain, wave, seed, algorithm))
            times["ours"].append(milliseconds(rawboost, wave, seed, algorithm))
        slow, fast = (statistics.median(times[name]) for name in ("plain", "ours"))
        print(f"| {algorithm} | {slow:.1f} | {fast:.1f} | {slow / fast:.1f}x |", flush=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for minutes in (1, 10):
        long = np.random.default_rng(0).normal(0, 0.1, minutes * 60 * SAMPLE_RATE).astype(np.float32)
        taken = milliseconds(rawboost, long, 0, 4)
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"{minutes} min, algorithm 4: {taken / 1000:.2f} s, {peak:.0f} MiB beyond the start")
    return 0


if __name__ == "__main__":
    sys.exit(main())
