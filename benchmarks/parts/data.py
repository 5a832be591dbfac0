"""Data: decoding, RawBoost and window on one core, the loader's first batch, each algorithm of RawBoost, each codec."""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import data_utils
from benchmarks import plain, subjects
from benchmarks.measure import YARDSTICK, in_child, in_turns, peak_mb, ratio_table
from benchmarks.measure import table as markdown
from benchmarks.parts import machine
from qamo.audio import load as audio
from qamo.audio.channel import through
from qamo.audio.codecs import CODECS
from qamo.audio.rawboost import rawboost
from qamo.config.schema import ChannelConfig, RawBoostConfig
from qamo.quality.classes import QualityRule
from qamo.training.loader import read_by_processes
from qamo.trials.protocol import Trials

RAWBOOST_4 = RawBoostConfig().model_dump(exclude={"probability"})


def measure(rounds: int, n_clips: int = 40) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        paths = subjects.make_clips(Path(folder), n_clips)

        def ours(path: Path, seed: int) -> np.ndarray:
            wave = rawboost(audio.load(path), np.random.default_rng(seed), **RAWBOOST_4)
            return audio.fit_length(wave)

        def plainly(path: Path, seed: int) -> np.ndarray:
            return plain.augmented(path, audio.WINDOW_SAMPLES, seed)

        gaps = [float(np.abs(ours(path, i) - plainly(path, i)).max()) for i, path in enumerate(paths[:6])]
        versions = {
            YARDSTICK: lambda: [plainly(path, i) for i, path in enumerate(paths)],
            "ours": lambda: [ours(path, i) for i, path in enumerate(paths)],
            "ours, decode and window only": lambda: [audio.fit_length(audio.load(path)) for path in paths],
        }
        timed = in_turns(versions, rounds)
    found = {"n_clips": n_clips, "versions": timed, "largest_difference": max(gaps)}
    return {**found, "loader": in_child(loader_start)}


def loader_start(n_workers: int = 2, n_clips: int = 200) -> dict[str, float]:
    """Seconds from asking for a training epoch to its first batch of 20, and the memory of a worker, MB."""
    with tempfile.TemporaryDirectory() as folder:
        paths = subjects.make_clips(Path(folder), n_clips)
        trials = Trials(Path("list"), [p.stem for p in paths], np.ones(n_clips, bool), np.full(n_clips, 4.0))
        rule = QualityRule(np.array([2.5]), "lower")
        source = data_utils.TrainSet(
            trials, paths, window_samples=audio.WINDOW_SAMPLES, rule=rule, boost=RawBoostConfig()
        )
        keys = data_utils.epoch_batches(n_clips, 20, seed=0, epoch=0)
        started = time.perf_counter()
        batches = read_by_processes(source, keys, data_utils.collate, n_workers=n_workers)
        next(batches)
        first_s = time.perf_counter() - started
        for _ in range(3):
            next(batches)
        return {"first_batch_s": first_s, **_memory_of_children()}


def _memory_of_children() -> dict[str, float]:
    """The largest private and proportional memory of a child of this process, MB; nothing where /proc lacks it."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not children.exists():
        return {}
    own, pss = [], []
    for pid in children.read_text().split():
        rows = dict(line.split(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
        own.append(sum(float(rows[k].split()[0]) for k in ("Private_Clean", "Private_Dirty")) / 1024)
        pss.append(float(rows["Pss"].split()[0]) / 1024)
    return {"worker_private_mb": max(own), "worker_pss_mb": max(pss)}


def table(part: dict[str, Any]) -> list[str]:
    loader, ours = part["loader"], part["versions"]["ours"]
    rate = "" if "failed" in ours else f"{part['n_clips'] / ours['cpu_s']:.0f} clips a second of one core, all of them "
    text = (
        f"{rate}augmented. Largest difference of a sample: {part['largest_difference']:.1e}. First batch of 20 after "
        f"{loader['first_batch_s']:.2f} s"
    )
    if "worker_pss_mb" in loader:
        text += f"; a worker has {loader['worker_private_mb']:.0f} MB of its own "
        text += f"({loader['worker_pss_mb']:.0f} MB with its share of what is common)"
    title = "Data: decode, RawBoost 4, window, one core, clips of 4 to 4.8 s"
    return [*ratio_table(title, part, part["n_clips"], "clip"), f"{text}.", ""]


# ---- RawBoost


def measure_rawboost(rounds: int, n_seeds: int = 8) -> dict[str, Any]:
    """Milliseconds of each algorithm beside the plain version, and what ten minutes take."""

    def boost(function: Callable[..., Any], algorithm: int, n_s: int, n_seeds: int) -> None:
        wave = np.random.default_rng(0).normal(0, 0.1, n_s * audio.SAMPLE_RATE).astype(np.float32)
        for seed in range(n_seeds):
            function(wave, np.random.default_rng(seed), algorithm=algorithm, **plain.RAWBOOST)

    found: dict[str, Any] = {"ms": {}}
    for algorithm in (1, 2, 3, 4, 5, 8):
        versions = {YARDSTICK: plain.rawboost, "ours": rawboost}
        timed = in_turns({k: functools.partial(boost, v, algorithm, 4, n_seeds) for k, v in versions.items()}, rounds)
        found["ms"][str(algorithm)] = {name: 1000 * row["wall_s"] / n_seeds for name, row in timed.items()}
    before, started = peak_mb(), time.perf_counter()
    boost(rawboost, 4, 600, 1)
    return {**found, "ten_minutes_s": time.perf_counter() - started, "ten_minutes_mb": peak_mb() - before}


def rawboost_table(part: dict[str, Any]) -> list[str]:
    rows = [
        [algorithm, f"{ms[YARDSTICK]:.1f}", f"{ms['ours']:.1f}", f"{ms[YARDSTICK] / ms['ours']:.1f}"]
        for algorithm, ms in part["ms"].items()
    ]
    return [
        "**RawBoost** of a clip of 4 s, milliseconds, beside a plain version with the same result",
        "",
        *markdown(["algorithm", "plain", "ours", "ratio"], rows),
        "",
        f"Ten minutes take {part['ten_minutes_s']:.1f} s and {part['ten_minutes_mb']:.0f} MB.",
        "",
    ]


# ---- the channel


def measure_channel(rounds: int, n_clips: int = 60, n_alone: int = 15) -> dict[str, Any]:
    """Milliseconds of CPU for 4 s through each codec at drawn bit rates, through the drawn mixture, the whole chain."""
    with tempfile.TemporaryDirectory() as folder:
        waves = [audio.load(path)[: 4 * audio.SAMPLE_RATE] for path in subjects.make_clips(Path(folder), n_clips)]

    def boost() -> None:
        for seed, wave in enumerate(waves[:n_alone]):
            rawboost(wave, np.random.default_rng(seed), **RAWBOOST_4)

    others = ("reverb", "noise", "band", "loss")
    alone = {"codec_probability": 1.0, **{f"{stage}_probability": 0.0 for stage in others}}
    mixture = f"codecs, drawn from {', '.join(ChannelConfig().codecs)}"
    versions = {YARDSTICK: boost}
    versions |= {name: _channel(waves[:n_alone], codecs=[name], **alone) for name in CODECS}
    versions |= {mixture: _channel(waves, **alone), "the whole chain as drawn by default": _channel(waves)}
    for run in versions.values():
        run()  # measures how late each codec is, once
    timed = in_turns(versions, rounds)
    n_of = dict.fromkeys(versions, n_alone) | dict.fromkeys(list(versions)[-2:], n_clips)
    ms = {name: 1000 * row["cpu_s"] / n_of[name] for name, row in timed.items()}
    return {"processor": machine.processor(), "rounds": rounds, "ms": ms}


def _channel(waves: Sequence[np.ndarray], **values: Any) -> Callable[[], None]:
    chain = data_utils.training_channel(ChannelConfig(probability=1.0, **values))
    assert chain is not None

    def run() -> None:
        for seed, wave in enumerate(waves):
            rng = np.random.default_rng([7, seed])
            if drawn := chain.draw(rng):
                through(wave, drawn, rng)

    return run


def channel_table(part: dict[str, Any]) -> list[str]:
    ms = part["ms"]
    rows = [
        [name.replace(YARDSTICK, "RawBoost 4, for comparison"), f"{1000 / taken:.0f}", f"{taken / ms[YARDSTICK]:.2f}"]
        for name, taken in ms.items()
    ]
    where = f"{part['processor']}, load {part['load']:.1f}, {part['rounds']} rounds"
    title = f"**Channel**: clips of 4 s a second of one core ({where})"
    return [title, "", *markdown(["", "clips/s", "cost, in RawBoosts"], rows), ""]
