"""XLS-R's convolution stem and layers through torch.compile, on a GPU."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from qamo.command import first_line
from qamo.config.schema import Config
from qamo.training import precision

# About where the time is won back on an H200 with a slow processor: a recording takes a second, compiling some twenty.
PAYS_AFTER = {"recorded recordings": 2_000, "compiled recordings": 100_000, "compiled steps": 2_000}

log = logging.getLogger(__name__)


def compile_for_training(cfg: Config, fabric: Fabric, detector: Any, *, n_steps: int) -> None:
    """Compile the steps of a training that is long enough, on a GPU and unless `run.compile` is off.

    Before Fabric sets the detector up: what is tried out here is not to be shared among processes.
    """
    if cfg.run.compile == "off" or fabric.device.type != "cuda" or n_steps < PAYS_AFTER["compiled steps"]:
        return
    n_waves = -(-cfg.train.batch_size // (fabric.world_size * cfg.train.frontend_chunks))
    wave = torch.zeros(n_waves, cfg.data.window_samples, device=fabric.device)
    with precision.computing(cfg.train.precision, fabric.device.type):
        compile_steps(detector.to(fabric.device).train(), wave, backward=True)


def compile_steps(detector: Any, wave: Tensor, *, backward: bool) -> bool:
    """Compile the steps of an XLS-R front end for waves of one shape, and try them out; whether they are.

    Where it fails, a warning says why, and the steps are taken as they are written. Other front ends are left alone.

    Args:
        wave: (B, T) of the shape that will come, on the detector's device.
        backward: try the backward pass too.
    """
    steps = getattr(detector.frontend, "gpu_pass", None)
    if steps is None:
        return False
    steps.compiled_for = wave.shape
    try:
        with torch.enable_grad() if backward else torch.inference_mode():
            features = detector.frontend(wave)
            if backward and features.requires_grad:
                features.sum().backward()
                detector.zero_grad()
    except Exception as error:  # a compiler can fail in any way: a missing C compiler, an old driver, too little memory
        steps.compiled_for = None
        log.warning(
            "torch.compile failed (%s), so the layers run as they are written; run.compile=off leaves the attempt out",
            first_line(error),
        )
        return False
    return True
