"""What the benchmarks measure: made-up clips, the sets of a config, full-size detectors, and scoring to a file."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from lightning_fabric import Fabric

import data_utils
from model import Detector, build_detector
from qamo import InputError
from qamo.audio import WINDOW_SAMPLES
from qamo.config.parts import ModelConfig
from qamo.config.schema import Config, ScoreConfig
from qamo.evaluation.score_set import score_trials
from qamo.evaluation.sets import evaluation_sets
from qamo.training.loader import read_by_threads
from qamo.training.precision import resolved
from qamo.training.signals import StopFlag
from qamo.trials.keys import read_keys


def make_clips(folder: Path, n: int, seconds: float = 4.0) -> list[Path]:
    """FLAC files of noise with the slope of speech, some longer than others."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(n):
        wave = rng.normal(size=int(16_000 * seconds * (1 + 0.1 * (i % 3))))
        wave = np.convolve(wave, 0.9 ** np.arange(60), mode="same")
        paths.append(folder / f"clip_{i:05d}.flac")
        soundfile.write(paths[-1], 0.3 * wave / np.abs(wave).max(), 16_000)
    return paths


def detector(**config: Any) -> Detector:
    """A detector with random weights; by default XLS-R 300M and the Conformer-TCM."""
    torch.manual_seed(0)
    return build_detector(ModelConfig.model_validate({"xlsr": {"weights": None}, **config}))


def score(detector: Detector, paths: list[Path], out: Path, batch_size: int, precision: str) -> None:
    """Recordings to a score file, on the CPU.

    Raises:
        InputError: this processor would emulate the precision, which takes hours.
    """
    precision = resolved(precision, "cpu", "precision")
    source = data_utils.ScoreSet(paths, window_samples=WINDOW_SAMPLES)
    out.unlink(missing_ok=True)
    out.with_name(out.name + ".json").unlink(missing_ok=True)
    score_trials(
        Fabric(accelerator="cpu", devices=1),
        detector,
        [path.stem for path in paths],
        functools.partial(read_by_threads, source.__getitem__, n_workers=1),
        out,
        ScoreConfig(batch_size=batch_size, precision=precision, on_bad_audio="fail"),
        identity={},
        stop=StopFlag(),
    )


def labelled_sets(cfg: Config, n: int = 0) -> dict[str, tuple[list[Path], np.ndarray]]:
    """Recordings of each evaluation set, N paths, and which are bona fide, (N,) bool; all, or about `n` of them.

    Raises:
        InputError: a set has no keys, or its recordings are not there.
    """
    found = {}
    for name, chosen in evaluation_sets(cfg.data, cfg.eval).items():
        if chosen.keys is None:
            raise InputError(f"{chosen.list}: no keys, so no EER; leave the set out of eval.sets")
        keys = read_keys(chosen.keys, subset=chosen.subset)
        path_of = {trial.removesuffix(".wav"): path for trial, path in zip(chosen.names, chosen.paths)}
        labels = zip((trial.removesuffix(".wav") for trial in keys.names), keys.bonafide.tolist())
        pairs = [(path_of[trial], label) for trial, label in labels if trial in path_of]
        pairs = pairs[:: max(1, len(pairs) // n) if n else 1]
        found[name] = [path for path, _ in pairs], np.array([label for _, label in pairs])
    return found
