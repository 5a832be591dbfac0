"""The golden figures of the published code, and how a check is held against them.

A check is a function that yields differences; the largest counts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import model
from benchmarks.measure import ROOT
from qamo.config.parts import ModelConfig
from qamo.networks.published import published_names

GOLDENS = ROOT.parent / "shared" / "goldens" / "reference"
VERSIONS = "ductuantruong/QAMO @47d77cc on Python 3.7.16, torch 1.8.1, numpy 1.21.6, scipy 1.7.3, fairseq @a540213"
BACKENDS = {"conformer_tcm": "Conformer-TCM", "nes2net": "Nes2Net-X"}
BATCHES = ("mixed", "allbona", "allspoof")
QAMO_OPTIONS: dict[str, Any] = {
    "radius_bonafide": 0.9,
    "radius_spoof": 0.2,
    "alpha": 20.0,
    "scale": 32.0,
    "margin": 0.4,
    "n_centroids": 2,
    "quality_weight": 0.1,
    "score": "mean",
}


class Check(NamedTuple):
    tolerance: float
    differences: Callable[[], Iterator[float]]
    full: bool  # of the network at its full size: minutes, 4 GB
    subject: str  # the module that it is in

    def largest(self) -> float:
        return max(float(value) if np.isfinite(value) else float("inf") for value in self.differences())


CHECKS: dict[str, Check] = {}


def check(what: str, tolerance: float, *args: Any, full: bool = False) -> Callable[[Any], Any]:
    """Make a function, called with `args`, a check of this name."""

    def register(function: Callable[..., Iterator[float]]) -> Callable[..., Iterator[float]]:
        CHECKS[what] = Check(tolerance, functools.partial(function, *args), full, function.__module__)
        return function

    return register


def check_backends(what: str, tolerance: float, nes2net: float | None = None) -> Callable[[Any], Any]:
    """Make a function of a back end's name two checks; the tolerance of the second may differ."""

    def register(function: Callable[..., Iterator[float]]) -> Callable[..., Iterator[float]]:
        check(f"{BACKENDS['conformer_tcm']}{what}", tolerance, "conformer_tcm")(function)
        return check(f"{BACKENDS['nes2net']}{what}", nes2net or tolerance, "nes2net")(function)

    return register


@functools.cache
def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDENS / name) as arrays:
        return dict(arrays)


def part_of(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def waves(name: str) -> Tensor:
    return torch.from_numpy(golden("inputs.npz")[f"wave_{name}_i16"].astype(np.float32) / 32768)


def detector(backend: str) -> model.Detector:
    """The tiny detector of the goldens, with the weights of the published code's own checkpoint."""
    cfg = ModelConfig.model_validate({"backend": backend, "xlsr": {"n_heads": 4}})
    return model.load_detector(GOLDENS / f"tiny_{backend}.pth", cfg)


def by_published_name(module: nn.Module, backend: str, value: Callable[[Any], Any]) -> dict[str, Any]:
    """A value of each parameter under the published code's name for it."""
    parameters = dict(module.named_parameters())
    return {theirs: value(parameters[ours]) for theirs, ours in published_names(parameters, backend).items()}


def difference(found: Any, expected: Any) -> float:
    """Largest absolute difference; infinite where the shapes differ."""
    found = found.detach().cpu().numpy() if isinstance(found, Tensor) else np.asarray(found)
    expected = np.asarray(expected)
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found.astype(np.float64) - expected).max()) if expected.size else 0.0


def relative(found: Any, expected: Any) -> float:
    """Largest difference in proportion to the largest expected value; absolute where that is practically 0.

    Some gradients are 0 by structure (of a bias before a batch norm, say), and what is there is rounding.
    """
    scale = float(np.abs(np.asarray(expected)).max(initial=0))
    return difference(found, expected) / (scale if scale > 1e-6 else 1.0)
