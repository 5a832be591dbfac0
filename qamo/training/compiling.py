"""XLS-R's layers through torch.compile, one by one: what is made of one layer serves for all of its kind."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)


def compile_layers(detector: Any, wave: Tensor, *, backward: bool) -> int:
    """Compile the layers of an XLS-R front end in place and try them out on `wave`; how many are compiled.

    Where it fails, a warning says why and the layers run as they are written. Other front ends are left alone.

    Args:
        wave: (B, T) of the size that will come, on the detector's device.
        backward: try the backward pass too.
    """
    network: Any = getattr(detector.frontend, "network", None)
    encoder = getattr(network, "encoder", None)
    if encoder is None or not detector.frontend.mixed:
        return 0
    layers: list[nn.Module] = [*network.feature_extractor.conv_layers, *encoder.layers]
    for layer in layers:
        layer.compile(dynamic=False)
    try:
        with torch.enable_grad() if backward else torch.inference_mode():
            features = detector.frontend(wave)
            if backward and features.requires_grad:
                features.sum().backward()
                detector.zero_grad()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a compiler can fail in any way: a missing C compiler, an old driver, a new operator
        for layer in layers:
            layer._compiled_call_impl = None
        log.warning(
            "torch.compile failed (%s), so the layers run as they are written; run.compile=off leaves the attempt out",
            next(iter(str(error).strip().splitlines()), type(error).__name__)[:200],
        )
        return 0
    return len(layers)
