"""How the benchmarks measure: versions in turns, processes of their own, and tables of what was found.

Nothing here imports NumPy or PyTorch: Linux counts the memory of the process that starts a command into its peak.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qamo import InputError, cores
from qamo.networks.cpu import malloc

ROOT = Path(__file__).resolve().parents[1]
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
YARDSTICK = "yardstick"  # the version that ratios are to
N_CORES = cores.usable()


def default_malloc() -> bool:
    """glibc's own thresholds after the first large block was freed: undoes `malloc.keep_freed` for a comparison."""
    return malloc.set_options({malloc.M_MMAP_MAX: 65_536, M_MMAP_THRESHOLD: 2**25, malloc.M_TRIM_THRESHOLD: 2**26})


def in_turns(
    versions: Mapping[str, Callable[[], Any]], rounds: int, warm_up: Callable[[], Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Median wall and CPU seconds of each version, run in turns; the yardstick has malloc's defaults.

    Beside the medians stand the lowest and highest ratio to the yardstick of the same round. A version that this
    machine cannot run has the reason instead, under "failed". `warm_up` follows the yardstick, untimed: memory that
    it gave back is then at hand again, as it is in the middle of a long run.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in versions}
    found: dict[str, dict[str, Any]] = {name: {} for name in versions}
    for _ in range(rounds):
        for name, run in versions.items():
            if found[name]:
                continue
            gc.collect()
            default_malloc() if name == YARDSTICK else malloc.keep_freed()
            started, started_cpu = time.perf_counter(), time.process_time()
            try:
                run()
            except (RuntimeError, MemoryError, InputError) as error:  # PyTorch's own are RuntimeErrors
                found[name] = {"failed": sentence(str(error))}
                continue
            taken[name].append((time.perf_counter() - started, time.process_time() - started_cpu))
            if name == YARDSTICK and warm_up is not None:
                malloc.keep_freed()
                warm_up()
    for name, runs in taken.items():
        if not found[name]:
            base = taken.get(YARDSTICK) or runs
            ratios = [plain / ours for (plain, _), (ours, _) in zip(base, runs)]
            wall_s, cpu_s = map(statistics.median, zip(*runs))
            found[name] = {"wall_s": wall_s, "cpu_s": cpu_s, "ratios": [min(ratios), max(ratios)], "rounds": rounds}
    return found


def median_s(run: Callable[[], Any], times: int) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


# ---- processes


def in_child(function: Callable[..., Any], *args: Any, **environment: str) -> Any:
    """What a function of a module of benchmarks returns in a process of its own; both ways by JSON.

    Raises:
        InputError: the process failed; with the last line that it wrote.
    """
    what = f"{function.__module__}.{function.__name__}"
    code = f"import json, sys, {function.__module__}\nprint('RESULT', json.dumps({what}(*json.loads(sys.argv[1]))))"
    words = [sys.executable, "-c", code, json.dumps(args)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=os.environ | environment)
    result = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if result is None:
        raise InputError(f"{what}: {sentence(done.stderr) or f'ended with status {done.returncode}'}")
    return json.loads(result.removeprefix("RESULT "))


def sentence(text: str) -> str:
    """The last line of an error, without the kind of it."""
    return (text.strip().splitlines() or [""])[-1].rpartition("Error: ")[2][:300]


class Run(NamedTuple):
    """What a command took, and what it printed."""

    seconds: float
    cpu_s: float
    peak_mb: float
    output: str


def run(words: Sequence[object], cwd: Path = ROOT) -> Run:
    """Run a Python script with its words, started by a process that holds nothing else.

    Raises:
        InputError: it failed.
    """
    return Run(*in_child(_run, [sys.executable, *map(str, words)], str(cwd)))


def _run(words: list[str], cwd: str) -> list[Any]:
    started = time.perf_counter()
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise InputError(f"{' '.join(words[1:3])} ended with status {done.returncode}: {sentence(done.stderr)}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return [seconds, used.ru_utime + used.ru_stime, _mb(used.ru_maxrss), done.stdout]


def peak_mb() -> float:
    """Peak memory of this process. Not ru_maxrss, where Linux counts the parent's memory before the exec too."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return float(line.split()[1]) / 1024
    return _mb(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _mb(maxrss: int) -> float:
    return maxrss / (1024**2 if sys.platform == "darwin" else 1024)


# ---- tables


def row(cells: Iterable[object]) -> str:
    """A row of a Markdown table."""
    return "|" + "".join(f" {cell} |" if cell != "" else " |" for cell in cells)


def table(header: Sequence[str], rows: Iterable[Iterable[object]], *, rule: str = "---") -> list[str]:
    """A Markdown table; `rule` is that of all columns but the first, such as `---:`."""
    return [row(header), row(["---", *[rule] * (len(header) - 1)]), *map(row, rows)]


def ratio_table(title: str, part: dict[str, Any], n: int, unit: str) -> list[str]:
    """The versions of a part with their time for each of `n` units, and their ratio to the yardstick."""
    base = part["versions"][YARDSTICK]
    rows: list[list[str]] = []
    for name, found in part["versions"].items():
        if "failed" in found:
            rows.append([name, f"cannot run here: {found['failed']}", "", "", ""])
            continue
        ratios = ["", ""]
        if "failed" not in base:
            spread = "" if name == YARDSTICK else f" ({found['ratios'][0]:.2f} - {found['ratios'][1]:.2f})"
            ratios = [f"{base['wall_s'] / found['wall_s']:.2f}{spread}", f"{base['cpu_s'] / found['cpu_s']:.2f}"]
        rows.append([name, f"{found['wall_s'] / n:.3g}", f"{found['cpu_s'] / n:.3g}", *ratios])
    rounds = max(found.get("rounds", 0) for found in part["versions"].values())
    header = ["", f"s a {unit}", f"CPU s a {unit}", "ratio, wall", "ratio, CPU"]
    return [f"**{title}** (load {part['load']:.1f}, {rounds} rounds)", "", *table(header, rows), ""]
