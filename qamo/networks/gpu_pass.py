"""The forward pass of XLS-R on a GPU in fewer and faster steps, equal to transformers' own up to rounding.

    convolution stem  channels last, so that norms and products read what lies side by side; transformers' own turns
                      each activation around twice, which is half of the time of a batch
    attention         fused; written out in TF32, for which there is no fused kernel: the one for float32 multiplies
                      each product in three parts
    torch.compile     of the stem and of one layer, for waves of one shape; what is made of one layer serves all

Autocast and the formats of float32 products are the caller's, as of any other module.

Shapes: B utterances, T samples, F frames, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qamo.networks.layers import through_layers

ALIGNED = 16  # taps of the first convolution with zeros: GPUs multiply rows of eights
FRAMES_WRITTEN_OUT = 1024  # of attention in TF32; its matrix grows with their square


def usable(wave: Tensor) -> bool:
    """Whether this pass can stand in for the network's own on this wave."""
    return wave.device.type != "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


class GPUPass:
    """(B, T) -> (B, F, D), by compiled steps for waves of the shape that was asked for.

    Attributes:
        compiled_for: the shape (B, T) whose steps are compiled when they are first taken; None: none.
    """

    def __init__(self) -> None:
        self.compiled_for: tuple[int, ...] | None = None

    def __call__(self, network: Any, wave: Tensor, at: Sequence[int] | None = None) -> Tensor:
        """(B, T) -> (B, F, D); with `at` those hidden states, increasing, (B, F, len(at), D): 0 enters the layers."""
        stem, layer = _compiled() if wave.shape == self.compiled_for else (_stem, _layer)
        x, _ = network.feature_projection(stem(network.feature_extractor.conv_layers, wave))
        x = x.to(wave.dtype)  # the sums between layers stay in float32, where autocast would cut them to 8 bits
        x = x + network.encoder.pos_conv_embed(x)
        written_out = _in_tf32(x) and x.shape[1] <= FRAMES_WRITTEN_OUT
        return through_layers(network.encoder, x, partial(layer, written_out=written_out), at)


@cache
def _compiled() -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """Stem and layer through torch.compile, whose import takes a second."""
    return torch.compile(_stem, dynamic=False), torch.compile(_layer, dynamic=False)


def _stem(layers: Any, wave: Tensor) -> Tensor:
    """(B, T) -> (B, F, 512)."""
    first, *others = layers
    taps = first.conv.kernel_size[0]
    frames = F.pad(wave, (0, ALIGNED - taps)).unfold(1, ALIGNED, first.conv.stride[0])
    x = F.linear(frames, F.pad(first.conv.weight[:, 0], (0, ALIGNED - taps)), first.conv.bias)
    x = F.gelu(first.layer_norm(x))
    for layer in others:
        weight = layer.conv.weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        x = F.conv2d(x.mT.unsqueeze(2), weight, layer.conv.bias, stride=(1, layer.conv.stride[0]))
        x = F.gelu(layer.layer_norm(x.squeeze(2).mT))
    return x


def _layer(layer: Any, x: Tensor, *, written_out: bool) -> Tensor:
    """A transformer layer: (B, F, D) -> (B, F, D)."""
    attention, feed = layer.attention, layer.feed_forward
    y = layer.layer_norm(x)
    q, k, v = (
        proj(y).unflatten(2, (attention.num_heads, attention.head_dim)).transpose(1, 2)
        for proj in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    if written_out:
        y = torch.softmax((q * attention.head_dim**-0.5) @ k.mT, dim=-1) @ v
    else:
        y = F.scaled_dot_product_attention(q, k, v)
    x = x + attention.out_proj(y.transpose(1, 2).flatten(2))
    return x + feed.output_dense(F.gelu(feed.intermediate_dense(layer.final_layer_norm(x))))


def _in_tf32(x: Tensor) -> bool:
    return (
        x.dtype == torch.float32
        and x.is_cuda
        and torch.backends.cuda.matmul.allow_tf32
        and not torch.is_autocast_enabled("cuda")
    )
