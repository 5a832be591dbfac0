"""Precision: the number formats of matrix products and convolutions, in training and in scoring.

    32          float32; on a GPU exact too, in products and in convolutions
    tf32        float32 whose factors a GPU rounds to 10 bits of mantissa (Ampere and later); sums stay in float32
    bf16-mixed  bfloat16, 8 bits
    16-mixed    float16, 11 bits and a small range: the loss is scaled while training, and the scale is part of a resume
    auto        tf32 on a GPU that has it, else 32. A GPU multiplies TF32 7 times as fast as float32, and the published
                code's PyTorch had TF32 switched on in products and convolutions

Under a mixed precision weights, optimisers, waves, cepstra, norms, head and loss stay in float32. PyTorch by itself
computes convolutions in TF32 and products in float32, neither exact nor fast, so both are always set.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric.plugins.precision.amp import MixedPrecision
from lightning_fabric.plugins.precision.precision import Precision
from torch import nn
from torch.nn.utils import parametrize

from qamo import InputError
from qamo.networks.cpu import onednn

FORMATS = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
CAPABILITIES = {"tf32": (8, 0), "bf16-mixed": (8, 0), "16-mixed": (7, 0)}  # of the first GPUs with such products


class Mixed(MixedPrecision):
    """Fabric's mixed precision, which leaves the inputs alone: a wave cut to the 8 bits of bfloat16 would be noisy."""

    def convert_input(self, data: Any) -> Any:
        return data

    def convert_output(self, data: Any) -> Any:
        return data


def resolved(name: str, device_type: str, key: str, *, emulate: bool = False) -> str:
    """The precision that `name` stands for on a kind of device.

    Args:
        key: of the config, for the message.
        emulate: let the device emulate products that it has not.

    Raises:
        InputError: the device has no such products.
    """
    if name == "auto":
        return "tf32" if is_native("tf32", device_type) else "32"
    if is_native(name, device_type) or (emulate and name in FORMATS):
        return name
    if name == "tf32":
        raise InputError(f"{key}: tf32 is a format of NVIDIA GPUs from Ampere on, which are not used here; take 32")
    what = "this GPU" if device_type == "cuda" else "this processor"
    raise InputError(
        f"{key}: {what} has no products for {name} and would emulate each, many times slower than float32; take 32, or "
        "a device that has them (run.emulate=true computes it all the same)"
    )


def is_native(name: str, device_type: str) -> bool:
    """Whether a kind of device multiplies in the format of a precision, rather than emulating it."""
    if name == "32":
        return True
    if device_type == "cuda":
        return torch.version.hip is not None or torch.cuda.get_device_capability() >= CAPABILITIES[name]
    return name in FORMATS and onednn.is_native(FORMATS[name])


def plugin(precision: str, device_type: str) -> Precision:
    """What Fabric trains with. Made here, since Fabric replaces 16-mixed by bf16-mixed on a CPU without being asked."""
    return Mixed(precision, device_type) if precision in FORMATS else Precision()  # type: ignore[arg-type]


def autocast(precision: str, device_type: str) -> torch.autocast:
    """The context that puts products into 16 bits; it changes nothing for 32 and tf32."""
    return torch.autocast(device_type, dtype=FORMATS.get(precision), enabled=precision in FORMATS)


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """What a GPU does with products and convolutions in float32: TF32 for tf32, exact for all others."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    _allow_tf32(precision == "tf32", precision == "tf32")
    try:
        yield
    finally:
        _allow_tf32(*before)


@contextmanager
def computing(precision: str, device_type: str) -> Iterator[None]:
    """All of a precision: 16 bits by autocast, and what a GPU does with float32."""
    with float32_products(precision), autocast(precision, device_type):
        yield


def _allow_tf32(products: bool, convolutions: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.backends.cudnn.allow_tf32 = convolutions
    if hasattr(torch.backends, "fp32_precision"):  # newer names, which older switches set in part
        backends: Any = torch.backends
        backends.cuda.matmul.fp32_precision = "tf32" if products else "ieee"
        for kind in (backends.cudnn.conv, backends.cudnn.rnn):
            kind.fp32_precision = "tf32" if convolutions else "ieee"


def cast_weights(module: Any, precision: str) -> int:
    """Cast the weights that products read to 16 bits, once, for scoring; how many tensors.

    Autocast keeps no cast weight where no gradient is recorded, and so casts all of them again for each batch. The
    scores are the same bits. Parts that compute in float32 whatever the precision are left alone; the module can no
    longer be saved or trained.
    """
    dtype = FORMATS.get(precision)
    if dtype is None:
        return 0
    parts = [module.backend, *([module.frontend] if module.frontend.mixed else [])]
    layers = [layer for part in parts for layer in part.modules() if isinstance(layer, _LAYERS)]
    for layer in layers:
        for name in list(getattr(layer, "parametrizations", {})):  # a weight norm is computed once, in float32
            parametrize.remove_parametrizations(layer, name)
        layer.to(dtype)
    return sum(len(list(layer.parameters())) for layer in layers)


_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
