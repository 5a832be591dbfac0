"""The machine: what it is, what its matrix products reach, and how long the commands take to start."""

from __future__ import annotations

import functools
import os
import platform
import statistics
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.measure import N_CORES, ROOT, median_s, run
from qamo.networks.cpu import onednn

COMMANDS = ["main", "inference", "report", "predict_mos", "export", "serve", "score_ood_dataset"]
N_PRODUCTS = 30  # in one measurement of their speed


def processor() -> str:
    model_name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model_name)
    return model_name


def describe() -> dict[str, Any]:
    """Processor, versions, load, and the matrix products it reaches."""
    return {
        "processor": processor(),
        "cores": N_CORES,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": date.today().isoformat(),
        "load": os.getloadavg()[0],
        "gflops_peak": {name: gflops(median_s(product, N_PRODUCTS)) for name, product in products().items()},
    }


def products() -> dict[str, Callable[[], Any]]:
    """Matrix products of 2048 by each library and in each format that this machine has."""
    made: dict[str, Callable[[], Any]] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
        if name == "fp32":
            made["fp32 MKL"] = functools.partial(torch.matmul, a, b)
        if onednn.has_onednn(dtype):
            made[f"{name} oneDNN"] = functools.partial(onednn._product, a, b, None)
    return made


def gflops(seconds: float) -> float:
    """Of one product that takes so long."""
    return 2 * 2048**3 / seconds / 1e9


def about(found: dict[str, Any]) -> list[str]:
    peaks = ", ".join(f"{name} {value:.0f}" for name, value in found["gflops_peak"].items())
    return [
        f"{found['date']}, {found['processor']}, {found['cores']} cores, {found['threads']} threads, "
        f"Python {found['python']}, torch {found['torch']}, transformers {found['transformers']}. Medians of rounds in "
        "which the versions take turns; the lowest and highest ratio of a round in brackets. Each part names the load "
        "average at its start.",
        "",
        f"Matrix products of 2048 on {found['threads']} threads, GFLOP/s: {peaks}.",
        "",
    ]


def startup(rounds: int) -> dict[str, float]:
    """Seconds until a command has printed its help."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS if (ROOT / f"{name}.py").exists()}
    for _ in range(rounds):
        for name, seconds in taken.items():
            seconds.append(run([f"{name}.py", "--help"]).seconds)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def startup_table(found: dict[str, Any]) -> list[str]:
    times = ", ".join(f"{name} {value:.2f}" for name, value in found.items() if name != "load")
    return ["**Start**, seconds until `--help` is printed: ", f"{times} (load {found['load']:.1f}).", ""]
