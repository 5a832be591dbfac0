"""Matrix products on a CPU by oneDNN, forwards and backwards.

PyTorch gives float32 products to MKL, which on AMD processors leaves half of the machine unused. What is called here is
what torch.compile calls; it is not public, so `has_onednn` asks first whether it is there and right. In bfloat16 it
takes a processor with AVX-512 or the like, where PyTorch's own products take any.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

WIDENING = ("AVX512_CORE", "AVX512_CORE_VNNI")  # instruction sets with which oneDNN emulates bfloat16
EXPECTED_ROWS = 1024  # hint for oneDNN's packing; results do not depend on it


class Linear(nn.Linear):
    """torch's, with oneDNN's product in float32 on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if (
            x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()
            and x.numel() > 0
            and has_onednn()
        ):
            return linear(x, self.weight, self.bias)
        return super().forward(x)


@cache
def has_onednn(dtype: torch.dtype = torch.float32) -> bool:
    """Whether oneDNN's matrix product is there and right, with plain and with packed weights."""
    if not torch.backends.mkldnn.is_available():
        return False
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        x, weight = torch.ones(3, 8, dtype=dtype), (torch.arange(40) % 7).view(5, 8).to(dtype)  # sums that 8 bits hold
        try:
            right = x @ weight.T
            return torch.equal(_product(x, weight, None), right) and torch.equal(_product(x, pack(weight), None), right)
        except (AttributeError, RuntimeError, NotImplementedError, TypeError):
            return False


@cache
def is_native(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies in a format itself; an emulated product takes 5 to 11 times that of float32.

    oneDNN takes bfloat16 from AVX-512 on, but before AVX512_BF16 and AMX it widens each number first. Its environment
    variable ONEDNN_MAX_CPU_ISA is heeded, so that a smaller processor can be imitated.
    """
    if dtype == torch.float32:
        return True
    if dtype == torch.float16:
        supported = getattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", None)
        return torch.backends.mkldnn.is_available() and supported is not None and bool(supported())
    if not has_onednn(dtype):
        return False
    if platform.machine() not in ("x86_64", "AMD64"):
        return True
    limit = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "").upper()
    asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return limit not in WIDENING and any(getattr(torch.cpu, ask, lambda: False)() for ask in asks)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b by oneDNN, without gradients."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def pack(weight: Tensor) -> Tensor:
    """A matrix (m, n) in the order in which oneDNN reads it; only `_product` can use it."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), EXPECTED_ROWS)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(..., n) and (m, n) -> (..., m)."""
    return framed_linear(x, weight, bias, 1, 1)


def framed_linear(x: Tensor, weight: Tensor, bias: Tensor | None, kernel: int, stride: int) -> Tensor:
    """A convolution without padding over the rows of x, as one matrix product.

    Args:
        x: (R, n); with a kernel and stride of 1 (..., n).
        weight: (m, kernel * n).

    Returns:
        ((R - kernel) // stride + 1, m)
    """
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, bias)):
        return _FramedLinear.apply(x, weight, bias, kernel, stride)
    return _product(_frames(x, kernel, stride), weight, bias)


def _frames(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Overlapping frames of the rows of a matrix, as a view: (R, n) -> (frames, kernel * n)."""
    if kernel == 1:
        return x
    n_rows, n = x.shape
    return x.as_strided(((n_rows - kernel) // stride + 1, kernel * n), (stride * n, 1))


class _FramedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, kernel: int, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.sizes = kernel, stride, bias is not None
        return _product(_frames(x, kernel, stride), weight, bias)

    @staticmethod
    @once_differentiable  # the products in it are not recorded: a second derivative would be silently wrong
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        kernel, stride, has_bias = ctx.sizes
        gradient = gradients[0]
        flat = gradient.reshape(-1, gradient.shape[-1])
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _product(gradient, weight.T, None)
            if kernel > 1:
                of_x = _joined(of_x, x, kernel, stride)
        if ctx.needs_input_grad[1]:
            frames = _frames(x, kernel, stride).reshape(-1, weight.shape[1]).contiguous()  # oneDNN refuses overlaps
            of_weight = _product(flat.T, frames.T, None)
        if has_bias and ctx.needs_input_grad[2]:
            of_bias = flat.sum(dim=0)
        return of_x, of_weight, of_bias, None, None


def _joined(frames: Tensor, like: Tensor, kernel: int, stride: int) -> Tensor:
    """The gradient of rows from that of the frames they are part of: (frames, kernel * n) -> (R, n)."""
    n = like.shape[1]
    rows = torch.zeros_like(like)
    for first in range(0, kernel, stride):
        n_kept = min(stride, kernel - first)
        part = frames[:, first * n : (first + n_kept) * n].unflatten(1, (n_kept, n))
        whole = rows[first : first + stride * len(part)]
        if len(whole) < stride * len(part):  # the last frame ends where the rows do
            body, last = len(part) - 1, part[-1]
            rows[first : first + stride * body].view(body, stride, n)[:, :n_kept] += part[:-1]
            rows[first + stride * body : first + stride * body + n_kept] += last
        else:
            whole.view(len(part), stride, n)[:, :n_kept] += part
    return rows
