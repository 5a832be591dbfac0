"""What ONNX and its int8 form cost in EER and save in time and size, on the evaluation sets of a finished run.

    python benchmarks/onnx_cost.py exps/NAME

Scores the first window of each recording three ways, one recording at a time and on one thread, and prints a table:
PyTorch, ONNX, ONNX int8. Needs the recordings that the run's config names.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import table
from benchmarks.subjects import labelled_sets
from eval_metrics import equal_error_rate
from model import load_detector
from qamo.audio import load as audio
from qamo.command import Parser, run_command
from qamo.config.load import (
    read_run_config,
)
from qamo.export.onnx import export_onnx, quantize
from qamo.inference.scorer import open_scorer
from qamo.inference.scorer_torch import window_of


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser("onnx_cost.py", __doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--n", type=int, default=0, help="recordings of each set, evenly chosen; 0: all")
    return run_command(parser, command, argv)


def command(args: argparse.Namespace) -> int:
    sets = labelled_sets(read_run_config(args.run / "config.yaml"), args.n)
    window = window_of(args.run)
    with tempfile.TemporaryDirectory() as folder:
        full, small = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        export_onnx(load_detector(args.run), full, window_samples=window)
        quantize(full, small)
        files = {"PyTorch": args.run / "model.pt", "ONNX": full, "ONNX int8": small}
        sizes = {way: path.stat().st_size / 1e6 for way, path in files.items()}
        files["PyTorch"] = args.run
        scorers = {way: open_scorer(path, device="cpu", n_threads=1) for way, path in files.items()}
    seconds = dict.fromkeys(scorers, 0.0)
    scores = {way: {name: np.empty(len(labels)) for name, (_, labels) in sets.items()} for way in scorers}
    for name, (paths, _) in sets.items():
        for index, path in enumerate(paths):
            wave = audio.fit_length(audio.load(path), window)[None]
            for way, scorer in scorers.items():
                started = time.process_time()
                scores[way][name][index] = scorer(wave)[0]
                seconds[way] += time.process_time() - started
    n_clips = sum(len(paths) for paths, _ in sets.values())
    rows = []
    for way, found in scores.items():
        eers = [equal_error_rate(found[name][labels], found[name][~labels]).eer for name, (_, labels) in sets.items()]
        gap = max(np.abs(found[name] - scores["PyTorch"][name]).max() for name in sets)
        speed = f"{1000 * seconds[way] / n_clips:.1f}"
        rows.append([way, f"{sizes[way]:.1f}", speed, *(f"{100 * eer:.2f}" for eer in eers), f"{gap:.1e}"])
    header = ["way", "MB", "ms a clip", *(f"{name} EER %" for name in sets), "largest difference"]
    counts = ", ".join(f"{name} {len(labels)}" for name, (_, labels) in sets.items())
    print("\n".join([*table(header, rows), "", f"One thread, CPU time of scoring alone; recordings: {counts}."]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
