"""Scoring: files to a score file with the full-size network; and with the features of a frozen front end kept."""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import plain, subjects
from benchmarks.measure import ROOT, YARDSTICK, in_child, in_turns, median_s, peak_mb, ratio_table
from benchmarks.parts import machine
from qamo import InputError
from qamo.audio import WINDOW_SAMPLES
from qamo.networks.cpu import malloc
from qamo.networks.feature_cache import FeatureCache
from qamo.trials.scores import read_scores

GFLOP_A_WINDOW = 154.1  # of XLS-R 300M: 125.6 linear, 20.5 stem, 4.3 attention, 3.5 position, 0.2 projection
PRECISIONS = {"32": "fp32", "bf16-mixed": "bf16"}  # and the matrix products that bound each
TRIALS = {"LA": 181_566, "DF": 611_829, "In-the-Wild": 31_779, "FoR": 4_634}


def measure(rounds: int, batch_size: int) -> dict[str, Any]:
    """The peak memory of a process of each version, then time and the difference of the scores."""
    peaks = {}
    for version in (YARDSTICK, *PRECISIONS):
        n = batch_size if version == YARDSTICK else 10
        if version != YARDSTICK or _available_gb() > 2 + 1.6 * n:  # do not take what others need
            try:
                peaks[f"{version} (batch {n})"] = in_child(peak_of_scoring, version, n)
            except InputError:
                continue  # the table of times has the reason
    return {**_timed(rounds, batch_size), "peak_mb": peaks}


def _timed(rounds: int, batch_size: int) -> dict[str, Any]:
    malloc.keep_freed()
    detector = subjects.detector().eval()
    with tempfile.TemporaryDirectory() as folder:
        paths = subjects.make_clips(Path(folder) / "clips", 4 * batch_size)
        outs = {name: Path(folder) / f"{name}.txt" for name in (YARDSTICK, *PRECISIONS)}
        versions: dict[str, Callable[[], Any]] = {
            name: functools.partial(_score, name, detector, paths, out, batch_size) for name, out in outs.items()
        }
        in_turns({name: versions[name] for name in PRECISIONS}, 1)
        # The machine's own speed drifts: its matrix products are timed in the same turns.
        products = machine.products()
        versions |= {name: functools.partial(median_s, run, machine.N_PRODUCTS) for name, run in products.items()}
        warm_up = functools.partial(_score, "32", detector, paths[:batch_size], outs["32"], batch_size)
        timed = in_turns(versions, rounds, warm_up)
        peaks = {f"peak {name}": timed.pop(name) for name in products}
        scores = {name: read_scores(out) for name, out in outs.items() if "failed" not in timed[name]}
    for name, row in timed.items():
        if "failed" not in row:
            row["gflops"] = GFLOP_A_WINDOW * len(paths) / row["wall_s"]
            if name != YARDSTICK and YARDSTICK in scores:
                assert scores[name].names == scores[YARDSTICK].names
                row["largest_difference"] = float(abs(scores[name].values - scores[YARDSTICK].values).max())
    reached = {n: machine.N_PRODUCTS * machine.gflops(r["wall_s"]) for n, r in peaks.items() if "failed" not in r}
    return {"n_clips": len(paths), "batch_size": batch_size, "versions": timed, "gflops_peak": reached}


def _score(version: str, detector: Any, paths: list[Path], out: Path, batch_size: int) -> None:
    if version == YARDSTICK:
        plain.score(detector, paths, out, batch_size=batch_size, n_samples=WINDOW_SAMPLES)
    else:
        subjects.score(detector, paths, out, batch_size, version)


def _available_gb() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []:
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) / 1e6
    return float("inf")


def peak_of_scoring(version: str, batch_size: int) -> float:
    """Peak memory of a process that scores two batches, MB."""
    if version != YARDSTICK:
        malloc.keep_freed()
    detector = subjects.detector().eval()
    with tempfile.TemporaryDirectory() as folder:
        paths = subjects.make_clips(Path(folder) / "clips", 2 * batch_size)
        _score(version, detector, paths, Path(folder) / "scores.txt", batch_size)
    return peak_mb()


def table(part: dict[str, Any]) -> list[str]:
    title = f"Scoring, files to score file, XLS-R 300M, batches of {part['batch_size']}"
    said = []
    for name, row in part["versions"].items():
        if name == YARDSTICK or "failed" in row:
            continue
        text = f"{name}: {row['gflops']:.0f} GFLOP/s end to end"
        peaks = [v for key, v in part["gflops_peak"].items() if key.startswith(f"peak {PRECISIONS[name]}")]
        if peaks:
            text += f", {row['gflops'] / max(peaks):.0%} of what matrix products reached in turns ({max(peaks):.0f})"
        else:
            text += f" (this processor has no {PRECISIONS[name]} products to compare)"
        if "largest_difference" in row:
            text += f", scores within {row['largest_difference']:.1e} of the yardstick's"
        said.append(text)
    memory = ", ".join(f"{name} {value / 1000:.1f} GB" for name, value in part["peak_mb"].items())
    text = f"{'; '.join(said)} (random weights). Peak memory: {memory}."
    return [*ratio_table(title, part, part["n_clips"], "clip"), text, ""]


def projection(part: dict[str, Any]) -> list[str]:
    """What a full run would cost, from the seconds a clip that were measured."""
    total = sum(TRIALS.values())
    timed = {name: row for name, row in part["versions"].items() if "failed" not in row}
    if YARDSTICK not in timed or "32" not in timed:
        return []
    days = {name: total * row["cpu_s"] / part["n_clips"] / 86_400 for name, row in timed.items()}
    rough = f" and {days['bf16-mixed']:.1f} in bf16" if "bf16-mixed" in days else ""
    return [
        f"**What a full run costs** (a projection, not a measurement): LA, DF, In-the-Wild and FoR are {total:,} "
        f"trials. At the CPU seconds a clip above that is {days[YARDSTICK]:.0f} core-days plainly, {days['32']:.1f} "
        f"in float32{rough}; divide by the cores. No GPU was at hand: `python benchmarks/gpu.py` measures one.",
        "",
    ]


# ---- features kept


def measure_kept(rounds: int, n_files: int = 60) -> dict[str, Any]:
    """Scoring with a frozen DistillMOS front end: the first pass, which fills the cache, and the second."""
    corpus = sorted((ROOT / "database" / "mini").rglob("*.flac"))
    with tempfile.TemporaryDirectory() as folder:
        where = "the mini corpus"
        if len(corpus) < n_files:
            corpus, where = subjects.make_clips(Path(folder) / "clips", n_files), "made-up clips"
        paths = corpus[:: max(1, len(corpus) // n_files)][:n_files]
        detector: Any = subjects.detector(frontend="distillmos").eval()
        kept = FeatureCache(Path(folder) / "maps", detector.frontend, identity="", max_bytes=4e9)
        detector.feature_cache = kept
        seconds, scores = [], []
        for number in range(1 + rounds):
            out = Path(folder) / f"scores_{number}.txt"
            started = time.perf_counter()
            subjects.score(detector, paths, out, 20, "32")
            seconds.append(time.perf_counter() - started)
            scores.append(out.read_text())
        assert kept.misses == len(paths)
    times = {"first_s": seconds[0], "second_s": statistics.median(seconds[1:])}
    return {"n_files": len(paths), "of": where, **times, "identical": len(set(scores)) == 1}


def kept_table(part: dict[str, Any]) -> list[str]:
    first_s, second_s = part["first_s"], part["second_s"]
    return [
        f"**Features kept** (load {part['load']:.1f}): {part['n_files']} files of {part['of']}, DistillMOS front end: "
        f"{first_s:.2f} s, then {second_s:.2f} s, {first_s / second_s:.0f} times faster; score files "
        f"{'identical' if part['identical'] else 'DIFFERENT'}.",
        "",
    ]
