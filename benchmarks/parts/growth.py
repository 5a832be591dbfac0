"""Growth: cost against clip length and batch size, and against the number of trials through main.py."""

from __future__ import annotations

import gc
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import subjects, tiny_corpus
from benchmarks.measure import in_child, median_s, peak_mb, run
from qamo.audio import WINDOW_SAMPLES
from qamo.networks.cpu import malloc
from qamo.training import precision
from qamo.trials import recordings
from qamo.trials.protocol import read_trial_list

PRECISIONS = ("32", "bf16-mixed")
SIZES = (1_000, 5_000, 20_000, 50_000)  # trials that are scored
N_LOOKED_AT = 600_000  # recordings that --check looks at: about as many as DF has
LINKS_PER_FILE = 20_000  # fewer than file systems allow


def measure(rounds: int) -> dict[str, Any]:
    found = _of_network(rounds)
    gc.collect()
    for row in found["batch"]:
        row["peak_mb"] = in_child(peak_of_forward, row["batch_size"])
    return {**found, "trials": in_child(score_trials, list(SIZES)), "looks": in_child(look_ahead, N_LOOKED_AT)}


def _of_network(rounds: int) -> dict[str, Any]:
    """Seconds a clip with the full-size network."""
    malloc.keep_freed()
    detector = subjects.detector().eval()

    def seconds(n_waves: int, n_samples: int) -> dict[str, float]:
        wave = 0.1 * torch.randn(n_waves, n_samples)
        taken = {}
        for name in filter(_is_native, PRECISIONS):
            with torch.inference_mode(), precision.autocast(name, "cpu"):
                taken[name] = median_s(lambda: detector(wave), rounds) / n_waves
        return taken

    seconds(1, 16_000)
    return {
        "length": [{"length_s": n, **seconds(1, 16_000 * n)} for n in (1, 2, 4, 8, 16, 32)],
        "batch": [{"batch_size": n, **seconds(n, WINDOW_SAMPLES)} for n in (1, 2, 5, 10, 20)],
    }


def _is_native(name: str) -> bool:
    return precision.is_native(name, "cpu")


def peak_of_forward(n_waves: int) -> float:
    """Peak memory of a process that scores one batch in float32, MB."""
    malloc.keep_freed()
    detector = subjects.detector().eval()
    with torch.inference_mode():
        detector(0.1 * torch.randn(n_waves, WINDOW_SAMPLES))
    return peak_mb()


# ---- trials


def score_trials(sizes: list[int]) -> list[dict[str, float]]:
    """main.py scoring so many trials with a tiny detector: CPU seconds beyond those for 10 trials, and peak MB."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = linked_corpus(root, max(sizes))
        lines = (root / "seen.txt").read_text().splitlines(keepends=True)
        words = ["main.py", "--config", config, "eval.n_resamples=0", "score.batch_size=100"]
        run([*words, "name=trained", "train.max_epochs=1", "eval.sets=[]"])
        words += ["--train", "false", "--ckpt_path", root / "exps" / "trained" / "model.pt", "eval.sets=[seen]"]
        rows = []
        start_s = 0.0
        for n in (10, *sizes):
            (root / "seen.txt").write_text("".join(lines[:n]))
            scored = run([*words, f"name=n{n}", "data.window_samples=4000"])
            assert len((root / "exps" / f"n{n}" / "scores" / "seen.txt").read_text().splitlines()) == n
            start_s = start_s or scored.cpu_s
            rows.append({"n": n, "s": scored.cpu_s - start_s, "peak_mb": scored.peak_mb})
    return rows[1:]


def look_ahead(n: int) -> dict[str, float]:
    """Seconds to read a list of `n` names and to look at their recordings, and the memory that it takes, MB."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        linked_corpus(root, n)
        before, found = peak_mb(), {"n": float(n)}
        started = time.monotonic()
        names = read_trial_list(root / "seen.txt")
        found["read_s"] = time.monotonic() - started
        paths = recordings.Recordings(root / "LA" / "seen" / "flac", names, ".flac")
        for how in ("exist", "header"):
            started = time.monotonic()
            recordings.check_recordings(paths, what="seen", where="the corpus", how=how)
            found[f"{how}_s"] = time.monotonic() - started
        return {**found, "mb": peak_mb() - before}


def linked_corpus(root: Path, n: int) -> Path:
    """The tiny corpus with `n` names in its set "seen", links to a few files so that they take no disk; its config."""
    config = tiny_corpus.build(root)
    folder = root / "LA" / "seen" / "flac"
    originals = sorted(folder.iterdir())
    lines = []
    for i in range(n):
        kind = i % 10
        if i % LINKS_PER_FILE < 10:
            source = folder / f"copy_{i}.flac"
            source.write_bytes(originals[kind].read_bytes())
            originals[kind] = source
        name = f"LA_E_{i:07d}"
        os.link(originals[kind], folder / f"{name}.flac")
        lines.append(f"SPK {name} - {'- bonafide' if kind % 3 == 0 else 'A01 spoof'} 3.00\n")
    (root / "seen.txt").write_text("".join(lines))
    return config


# ---- what is written


def table(part: dict[str, Any]) -> list[str]:
    first, last = part["trials"][0], part["trials"][-1]
    lines = [
        f"**Growth** (load {part['load']:.1f})",
        "",
        "![growth](results/growth.svg)",
        "",
        f"{first['n']:,} to {last['n']:,} trials: {1000 * first['s'] / first['n']:.2f} to "
        f"{1000 * last['s'] / last['n']:.2f} CPU ms a trial (a tiny model), "
        f"peak {first['peak_mb']:.0f} to {last['peak_mb']:.0f} MB.",
        "",
    ]
    if looks := part.get("looks"):
        lines += [
            f"Looking ahead at {looks['n']:,.0f} recordings: list read in {looks['read_s']:.1f} s, files found in "
            f"{looks['exist_s']:.1f} s, opened in {looks['header_s']:.1f} s; {looks['mb']:.0f} MB.",
            "",
        ]
    return lines


def plot(found: dict[str, Any], path: Path) -> None:
    """Write the picture of growth as SVG."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "qamo"
    figure, ((length, batch), (trials, memory)) = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    for axis, rows, x in ((length, found["length"], "length_s"), (batch, found["batch"], "batch_size")):
        for name in PRECISIONS:
            timed = [r for r in rows if name in r]  # a precision that the processor would emulate is not timed
            axis.plot([r[x] for r in timed], [r[name] for r in timed], marker="o", label=name)
        axis.legend()
    length.set(xlabel="clip length, s", ylabel="s a clip, batch 1", xscale="log", yscale="log")
    batch.set(xlabel="batch size", ylabel="s a clip of 4.175 s", ylim=(0, None))
    n_trials = [r["n"] for r in found["trials"]]
    trials.plot(n_trials, [r["s"] for r in found["trials"]], marker="o")
    trials.set(xlabel="trials (tiny model, tiny files)", ylabel="CPU s", ylim=(0, None))
    peaks = {key: [r["peak_mb"] / 1000 for r in found[key]] for key in ("batch", "trials")}
    memory.plot([r["batch_size"] for r in found["batch"]], peaks["batch"], marker="o", label="XLS-R: by batch size")
    memory.set(xlabel="batch size", ylabel="peak memory, GB", ylim=(0, None))
    upper = memory.twiny()
    upper.plot(n_trials, peaks["trials"], marker="s", color="C2", label="tiny model: by trials")
    upper.set_xlabel("trials")
    memory.legend(handles=[*memory.lines, *upper.lines], loc="center right")
    figure.savefig(path, metadata={"Date": None})
