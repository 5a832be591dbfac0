"""Quality labels: predict_mos.py with a thread a core, beside DistillMOS's own package called file by file."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import soundfile
import torch

from benchmarks import subjects
from benchmarks.measure import ROOT, in_child, run
from benchmarks.measure import table as markdown
from qamo import InputError
from qamo.networks import distillmos

PACKAGE = "package"


def measure(rounds: int, n_files: int = 400) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {PACKAGE: [], "distillmos": [], "distillmos:bf16": []}
    gaps, failed = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        clips = Path(folder) / "clips"
        subjects.make_clips(clips, n_files)
        few = subjects.make_clips(Path(folder) / "few", n_files // 8)
        for number in range(min(rounds, 3)):
            package = in_child(by_package, str(few[0].parent))
            seconds[PACKAGE].append(package["seconds"] / len(few))
            for predictor in ("distillmos", "distillmos:bf16"):
                out = Path(folder) / f"mos_{predictor}_{number}.txt"
                try:
                    run([ROOT / "predict_mos.py", clips, "-o", out, "--predictor", predictor])
                except InputError as error:  # bfloat16 that this processor would emulate
                    failed[predictor] = str(error)
                    continue
                about = json.loads(out.with_name(out.name + ".json").read_text())
                seconds[predictor].append(about["seconds"] / n_files)
                known = {Path(name).stem: float(mos) for name, mos in map(str.split, out.read_text().splitlines())}
                gaps[predictor] = max(abs(known[name] - mos) for name, mos in package["mos"].items())
    found: dict[str, Any] = {"n_files": n_files, "n_by_package": len(few), "rounds": len(seconds[PACKAGE])}
    for name, taken in seconds.items():
        if name in failed:
            found[name] = {"failed": failed[name]}
            continue
        ratios = [plain / ours for plain, ours in zip(seconds[PACKAGE], taken)]
        found[name] = {"s": statistics.median(taken), "ratios": [min(ratios), max(ratios)]}
        if name in gaps:
            found[name]["largest_difference"] = gaps[name]
    return found


def by_package(folder: str) -> dict[str, Any]:
    """Each recording by itself through the forward pass of DistillMOS's own package, without gradients."""
    network: Any = distillmos.load_network()
    mos = {}
    started = time.perf_counter()
    with torch.no_grad():
        for path in sorted(Path(folder).iterdir()):
            wave, _ = soundfile.read(path, dtype="float32")
            mos[path.stem] = float(network(torch.from_numpy(wave)[None]))
    return {"seconds": time.perf_counter() - started, "mos": mos}


def table(part: dict[str, Any]) -> list[str]:
    rows = []
    for name in (PACKAGE, "distillmos", "distillmos:bf16"):
        found, spread, gap = part[name], "", ""
        if "failed" in found:
            rows.append([name, f"cannot run here: {found['failed']}", "", "", ""])
            continue
        if name != PACKAGE:
            spread = f" ({found['ratios'][0]:.2f} - {found['ratios'][1]:.2f})"
            gap = f"{found['largest_difference']:.1e}"
        ratio = f"{part[PACKAGE]['s'] / found['s']:.2f}{spread}"
        rows.append([name, f"{found['s']:.3f}", ratio, gap, f"{10_000 * found['s'] / 60:.0f} min"])
    return [
        f"**MOS**, {part['n_files']} files of 4 to 4.8 s, a thread a core, start included; the package is called "
        f"file by file on {part['n_by_package']} of them (load {part['load']:.1f}, {part['rounds']} rounds)",
        "",
        *markdown(["", "s a file", "ratio", "largest difference", "10,000 files"], rows),
        "",
    ]
