"""What ONNX and its int8 form cost in EER and save in time and size, on the evaluation sets of a finished run.

    python benchmarks/onnx_cost.py exps/NAME

Scores the first window of each recording three ways, one recording at a time and on one thread, and prints a table:
PyTorch, ONNX, ONNX int8. Needs the recordings that the run's config names, and requirements-extra.txt.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from data_utils import evaluation_sets  # noqa: E402
from eval_metrics import equal_error_rate  # noqa: E402
from model import load_detector  # noqa: E402
from qamo import InputError  # noqa: E402
from qamo.audio import load as audio  # noqa: E402
from qamo.config.load import read_run_config  # noqa: E402
from qamo.export import onnx as onnx_export  # noqa: E402
from qamo.inference.scorer import open_scorer  # noqa: E402
from qamo.inference.scorer_torch import window_of  # noqa: E402
from qamo.trials.keys import read_keys  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--n", type=int, default=0, help="recordings of each set, evenly chosen; 0: all")
    args = parser.parse_args(argv)
    try:
        measure(args.run, args.n)
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


def measure(run: Path, n_recordings: int) -> None:
    cfg = read_run_config(run / "config.yaml")
    sets = evaluation_sets(cfg.data, cfg.eval)
    window = window_of(run)
    with tempfile.TemporaryDirectory() as folder:
        full, small = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        onnx_export.export_onnx(load_detector(run), full, window_samples=window)
        onnx_export.quantize(full, small)
        sizes = [(run / "model.pt").stat().st_size, full.stat().st_size, small.stat().st_size]
        ways = {
            name: open_scorer(path, device="cpu", n_threads=1)
            for name, path in (("PyTorch", run), ("ONNX", full), ("ONNX int8", small))
        }
        print("| way | MB | ms a clip | " + " | ".join(f"{name} EER %" for name in sets) + " | largest difference |")
        print("| --- |" + " --- |" * (len(sets) + 3))
        scores: dict[str, list[np.ndarray]] = {way: [] for way in ways}
        seconds, n_clips, labels = dict.fromkeys(ways, 0.0), 0, []
        for chosen in sets.values():
            if chosen.keys is None:
                raise InputError(f"{chosen.list}: no keys, so no EER; leave the set out of eval.sets")
            keys = read_keys(chosen.keys, subset=chosen.subset)
            path_of = {name.removesuffix(".wav"): path for name, path in zip(chosen.names, chosen.paths)}
            label_of = {name.removesuffix(".wav"): label for name, label in zip(keys.names, keys.bonafide.tolist())}
            step = max(1, len(keys) // n_recordings) if n_recordings else 1
            names = [name for name in [*label_of][::step] if name in path_of]
            labels.append(np.array([label_of[name] for name in names]))
            rows = {way: np.empty(len(names)) for way in ways}
            for place, name in enumerate(names):
                wave = audio.fit_length(audio.load(path_of[name]), window)[None]
                for way, scorer in ways.items():
                    started = time.process_time()
                    rows[way][place] = scorer(wave)[0]
                    seconds[way] += time.process_time() - started
            n_clips += len(names)
            for way in ways:
                scores[way].append(rows[way])
        for (way, size), original in zip(zip(ways, sizes), [scores["PyTorch"]] * 3):
            eers = [
                f"{100 * equal_error_rate(values[label], values[~label]).eer:.2f}"
                for values, label in zip(scores[way], labels)
            ]
            difference = max(float(np.abs(a - b).max()) for a, b in zip(scores[way], original))
            speed = 1000 * seconds[way] / n_clips
            print(f"| {way} | {size / 1e6:.1f} | {speed:.1f} | {' | '.join(eers)} | {difference:.1e} |")
        counts = ", ".join(f"{name} {len(label)}" for name, label in zip(sets, labels))
        print(f"\nOne thread, CPU time of scoring alone; recordings: {counts}.")


if __name__ == "__main__":
    sys.exit(main())
