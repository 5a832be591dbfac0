"""Precision: 32, bf16-mixed and 16-mixed, for training and for scoring.

Under a mixed precision matrix products and convolutions are computed in 16 bits; weights, optimisers, waves, cepstra,
norms, head and loss stay in 32. 16-mixed scales the loss while training, and the scale is part of a resume.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric.plugins.precision.amp import MixedPrecision
from lightning_fabric.plugins.precision.precision import Precision

FORMATS = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Mixed(MixedPrecision):
    """Fabric's mixed precision, which leaves the inputs alone: a wave cut to the 8 bits of bfloat16 would be noisy."""

    def convert_input(self, data: Any) -> Any:
        return data

    def convert_output(self, data: Any) -> Any:
        return data


def plugin(precision: str, device_type: str) -> Precision:
    """What Fabric trains with. Made here, since Fabric replaces 16-mixed by bf16-mixed on a CPU without being asked."""
    return Mixed(precision, device_type) if precision in FORMATS else Precision()  # type: ignore[arg-type]


def autocast(precision: str, device_type: str) -> torch.autocast:
    """The context to compute scores in; it changes nothing for 32."""
    return torch.autocast(device_type, dtype=FORMATS.get(precision), enabled=precision in FORMATS)
