"""A detector as a folder of safetensors and JSON, or as the published code saves it; XLS-R as a transformers folder.

What is written is read back: a detector must score noise as before, a front end must have equal weights.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from model import load_detector
from qamo import InputError
from qamo.config.parts import ModelConfig, XLSRConfig
from qamo.evaluation.calibration import FILE as CALIBRATION
from qamo.evaluation.calibration import Calibration
from qamo.evaluation.calibration import write as write_calibration
from qamo.export.model_card import write_card
from qamo.files import replacing, write_json
from qamo.inference.scorer_torch import calibration_beside, digest_of, window_of
from qamo.networks.digests import digests_of, saving_safetensors
from qamo.networks.published import to_published
from qamo.networks.xlsr import XLSR
from qamo.networks.xlsr_files import DIGESTS_FILE, read_fairseq, read_xlsr
from qamo.networks.xlsr_recipe import own_key
from qamo.training.checkpoint import share, write_exported

PROBE_SAMPLES = 16_000  # of the noise that both forms of a detector must score alike
MAX_DIFFERENCE = 1e-6  # between those scores


def read_source(run: Path, average: str = "mean") -> tuple[Any, dict[str, Any], Calibration | None]:
    """The detector of a run or a checkpoint, what an export says of it, and its calibration.

    Args:
        average: how the epochs of the published code are averaged, where `run` is a folder of them.

    Raises:
        InputError: the run cannot be read.
    """
    detector = load_detector(run, average=average)
    about: dict[str, Any] = {
        "model_config": portable_config(detector),
        "window_samples": window_of(run),
        "weights": digest_of(detector),
        "source": run.resolve().name,
    }
    return detector, about, calibration_beside(run, about["weights"])[0]


def portable_config(detector: Any) -> dict[str, Any]:
    """The detector's config, without the places of front ends' files: their weights are in the export."""
    return {**detector.config, **{name: {**detector.config[name], "weights": None} for name in ("xlsr", "hf")}}


def convert_xlsr(weights: str, folder: Path, n_heads: int | None = None) -> Path:
    """Write the front end that `weights` names as a transformers folder, and return the file of its weights.

    Args:
        n_heads: attention heads; None: those that the file tells, or of the published network of that width.

    Raises:
        InputError: the weights cannot be read, or the folder holds something already.
    """
    _check_new(folder)
    frontend = XLSR(**XLSRConfig(weights=weights, n_heads=n_heads).model_dump())
    folder.mkdir(parents=True, exist_ok=True)
    network: Any = frontend.network
    vars(network.config).update(own_key(frontend.recipe))
    disable_progress_bar()
    with tempfile.TemporaryDirectory(dir=folder) as staging:
        with saving_safetensors(folder):
            network.save_pretrained(staging)
        for name in ("model.safetensors", "config.json"):  # the config last: without it the folder is refused
            share(Path(staging) / name)
            if name == "config.json":
                write_json(folder / DIGESTS_FILE, digests_of(network.state_dict()))
            os.replace(Path(staging) / name, folder / name)
    written = read_xlsr(str(folder)).state
    expected = network.state_dict()
    if written.keys() != expected.keys() or not all(torch.equal(written[k], t) for k, t in expected.items()):
        raise RuntimeError(f"{folder}: what was written does not read back equal")
    return folder / "model.safetensors"


def export_folder(run: Path, folder: Path, average: str = "mean") -> float:
    """Write a detector as safetensors and JSON, with its calibration and a card; largest difference of its scores.

    Raises:
        InputError: the run cannot be read, or the folder holds something already.
    """
    _check_new(folder)
    detector, about, calibration = read_source(run, average)
    write_exported(folder, model_state=detector.state_dict(), **about)
    if calibration:
        write_calibration(folder / CALIBRATION, calibration.portable())
    name, run_folder = folder.resolve().name, run if run.is_dir() else None
    write_card(folder, name=name, about=about, calibration=calibration, run=run_folder)
    return _score_difference(detector, load_detector(folder))


def export_reference(run: Path, path: Path, xlsr: Path | None, average: str = "mean") -> float:
    """Write a detector as the published code saves it; largest difference of its scores when read back.

    Raises:
        InputError: the run cannot be read, or its detector has no place in a published file.
    """
    detector = load_detector(run, average=average)
    config = portable_config(detector)
    pretraining = None if xlsr is None else read_fairseq(xlsr)
    state = to_published(detector.state_dict(), config["backend"], pretraining=pretraining)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.save(state, file)
    return _score_difference(detector, load_detector(path, ModelConfig.model_validate(config)))


def _check_new(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: expected a new or an empty folder to write to; choose another with -o")


def _score_difference(one: Any, other: Any) -> float:
    noise = torch.randn(2, PROBE_SAMPLES, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        difference = (one(noise).score - other(noise).score).abs().max().item()
    if not difference < MAX_DIFFERENCE:
        raise RuntimeError(f"the exported detector scores differ by {difference}")
    return difference
