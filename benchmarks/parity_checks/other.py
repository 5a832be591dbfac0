"""The average of the best epochs, RawBoost, and windows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.parity_checks.goldens import check, difference, golden, part_of
from qamo.audio import load as audio
from qamo.audio.rawboost import rawboost
from qamo.config.schema import RawBoostConfig
from qamo.training import checkpoint


@check("average of the five best epochs, as the published code really does it", 1e-6, "reference", "reference")
@check("average of the five best epochs, as meant", 1e-6, "mean", "true_mean")
def average(how: str, prefix: str) -> Iterator[float]:
    arrays = golden("average.npz")
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i in range(5):
            state = {name: torch.from_numpy(np.asarray(value)) for name, value in part_of(arrays, f"in{i}/").items()}
            paths.append(Path(folder) / f"{i}.pt")
            checkpoint.write_checkpoint(paths[-1], model_state=state, model_config={})
        found = checkpoint.average(paths, how)
    # Sums of the whole tensors; the arrays kept under reference/ hold b1, see docs/differences.md.
    for name, total in zip(arrays["names"].tolist(), arrays[f"{prefix}_sums"]):
        if name in found:
            yield abs(float(found[name].double().sum()) - total)
            if how == "mean":
                yield difference(found[name], arrays[f"{prefix}/{name}"])


@check("RawBoost: all nine algorithms, three waves, draw for draw", 1e-6)
def draw_for_draw() -> Iterator[float]:
    arrays = golden("rawboost.npz")
    clips = {f"{n}s": arrays[f"wave{n}_i16"].astype(np.float32) / 32768 for n in (1, 4)} | {"loud": arrays["loud1"]}
    settings = RawBoostConfig().model_dump(exclude={"probability", "algorithm"})
    for algorithm in range(9):
        for clip, wave in clips.items():
            source = np.random.RandomState(1000 + algorithm)
            y = rawboost(wave, source, algorithm=algorithm, **settings)
            key = f"a{algorithm}_{clip}"
            yield 0.0 if source.random_sample() == arrays[f"{key}_next"] else float("inf")
            if key in arrays:
                yield difference(y if arrays[key].size == y.size else y[::8], arrays[key])


@check("window: cut or repeat to length", 0.0)
def windows() -> Iterator[float]:
    arrays = golden("pad.npz")
    keys = [key for key in arrays if key.removeprefix("pad_").isdigit()]
    yield from (difference(audio.fit_length(arrays["in"], int(key[4:])), arrays[key]) for key in keys)
