"""What does not grow with a set, and what looking ahead costs: memory of scoring, time of the looks, time of a resume.

    python benchmarks/scale.py --sizes 1000 100000         peak memory of a tiny model scoring as many names
    python benchmarks/scale.py --looks 600000              seconds to look ahead for as many recordings

Names differ but files are hard links of a few recordings, so that a large set takes no disk. Each size is scored by
the real command in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

PER_FOLDER = 20_000  # links of one recording stay below what file systems allow


def build(root: Path, n: int) -> Path:
    """The tiny corpus with `n` names in its set "seen", of which each is a link to one of its recordings."""
    from tests.support import tiny_corpus

    config = tiny_corpus.build(root)
    folder = root / "LA" / "seen" / "flac"
    originals = sorted(folder.iterdir())
    lines = []
    for i in range(n):
        kind = i % 10
        if i % PER_FOLDER < 10:  # a new copy now and then
            source = folder / f"copy_{i}.flac"
            source.write_bytes(originals[kind].read_bytes())
            originals[kind] = source
        name = f"LA_E_{i:07d}"
        os.link(originals[kind], folder / f"{name}.flac")
        lines.append(
            f"SPK {name} - {'-' if kind % 3 == 0 else 'A01'} {'bonafide' if kind % 3 == 0 else 'spoof'} 3.00\n"
        )
    (root / "seen.txt").write_text("".join(lines))
    return config


def peak_of_scoring(n: int) -> tuple[float, float, int]:
    """Peak resident memory in MB and seconds of scoring `n` names, and how many lines came out."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        config = build(root, n)
        words = ["--config", str(config), "name=r", "train.max_epochs=1", "eval.n_resamples=0"]
        program = [sys.executable, str(Path(__file__).parents[1] / "main.py"), *words]
        subprocess.run([*program, "eval.sets=[]"], check=True, capture_output=True)
        started = time.monotonic()
        scoring = [*program, "--train", "false", "eval.sets=[seen]", "score.batch_size=100", "data.window_samples=4000"]
        child = subprocess.Popen(scoring, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        if status:
            raise RuntimeError(f"scoring {n} names ended with status {status}")
        with open(root / "exps" / "r" / "scores" / "seen.txt") as file:
            n_lines = sum(1 for _ in file)
        return used.ru_maxrss / 1024, time.monotonic() - started, n_lines


def cost_of_looks(n: int) -> None:
    from qamo.trials import protocol, recordings

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        build(root, n)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.monotonic()
        names = protocol.read_trial_list(root / "seen.txt")
        print(f"read and check {n:,} names: {time.monotonic() - started:.1f} s")
        paths = recordings.Recordings(root / "LA" / "seen" / "flac", names, ".flac")
        for how in ("exist", "header"):
            started = time.monotonic()
            recordings.check_recordings(paths, what="seen", how=how)
            print(f"{how}: {n:,} recordings in {time.monotonic() - started:.1f} s")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"memory beyond the start: {(peak - before) / 1024:.0f} MB")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[])
    parser.add_argument("--looks", type=int)
    args = parser.parse_args(argv)
    peaks = []
    for n in args.sizes:
        peak, seconds, n_lines = peak_of_scoring(n)
        peaks.append(peak)
        print(f"{n:,} names: peak {peak:.1f} MB, {seconds:.0f} s, {n_lines:,} lines", flush=True)
    if len(peaks) > 1:
        print(f"largest peak over smallest: {max(peaks) / min(peaks):.4f}")
    if args.looks:
        cost_of_looks(args.looks)
    return 0


if __name__ == "__main__":
    sys.exit(main())
