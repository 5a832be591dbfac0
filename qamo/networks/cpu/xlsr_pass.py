"""The forward pass of XLS-R on a CPU in fewer and faster steps, equal to transformers' own up to rounding.

    matrix products   oneDNN's in float32 too, by `qamo.networks.cpu.onednn`
    convolution stem  as matrix products over overlapping frames, channels last, some frames at a time, so that what
                      passes between layers stays in the cache; its largest activation would be 27 MB an utterance
    position          the grouped convolution over 128 frames by FFT, a 25th of the multiplications; its weight norm
                      is folded once
    packed weights    without gradients, kept in the order in which oneDNN reads them: as large again as the network in
                      float32, an eighth to a quarter faster than packing them for each product
    bfloat16          weights are cast once; the wave, its first layer, the sums between layers and all norms stay in
                      float32, where autocast would cut them all to 8 bits

With gradients the same steps are recorded for the backward pass, save the FFT, which pays only for kept weights.

Shapes: B utterances, T samples, F frames, D features, R rows of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qamo.networks.cpu.onednn import framed_linear, has_onednn, linear, pack
from qamo.networks.layers import through_layers

STRIDES = (5, 2, 2, 2, 2, 2, 2)  # of the stem's convolutions
KERNELS = (10, 3, 3, 3, 3, 2, 2)
FRAME_SAMPLES = 320  # from one of the stem's last frames to the next
KERNEL_SAMPLES = 400  # what one of them sees
FRAMES_AT_ONCE = 64  # of the stem: 4,111 rows of 512 after its first layer, 8 MB in float32
QUERIES_AT_ONCE = 512  # of attention in bfloat16, which is faster with its matrix written out


def usable(network: nn.Module, wave: Tensor) -> bool:
    """Whether this pass can stand in for the network's own on this wave."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    return (
        wave.device.type == "cpu"
        and wave.dtype == torch.float32
        and next(network.parameters()).dtype == torch.float32
        and not wave.requires_grad
        and dtype in (torch.float32, torch.bfloat16)
        and not torch.compiler.is_compiling()  # an export follows the network's own steps
        and not torch.jit.is_tracing()
        and has_onednn(dtype)
    )


class CPUPass:
    """(B, T) -> (B, F, D), with what it derives from the weights for as long as they stay as they are.

    A change is seen where autograd sees it: optimisers, load_state_dict, `with no_grad()`. What writes to
    `weight.data`, or in place to an inference tensor, calls `forget`, as train(), eval() and to() of the front end do.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str], tuple[list[Tensor], Any, Tensor]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> CPUPass:
        return CPUPass()

    def __reduce__(self) -> Any:
        return CPUPass, ()

    def forget(self) -> None:
        """Drop what was derived: the weights are about to change."""
        self._kept.clear()

    def __call__(self, network: Any, wave: Tensor, at: Sequence[int] | None = None) -> Tensor:
        """(B, T) -> (B, F, D); with `at` those hidden states, increasing, (B, F, len(at), D): 0 enters the layers."""
        dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
        with torch.autocast("cpu", enabled=False):  # each step says its own format
            x = self._stem(network.feature_extractor.conv_layers, wave, dtype)
            projection = network.feature_projection
            x = _norm(x, projection.layer_norm)
            x = self._linear(x, projection.projection, dtype).float()
            encoder = network.encoder
            x = x + self._positions(encoder.pos_conv_embed.conv, x)
            return through_layers(encoder, x, partial(self._layer, dtype=dtype), at)

    # ---- the convolution stem

    def _stem(self, layers: Any, wave: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, T) -> (B, F, 512) in `dtype`.

        The waves are laid end to end, each padded to whole frames, so that a batch is one long wave. The frames that
        reach over a joint are computed with the rest and left out.
        """
        n_waves, n_samples = wave.shape
        n_frames = (n_samples - KERNEL_SAMPLES) // FRAME_SAMPLES + 1
        pitch = -(-n_samples // FRAME_SAMPLES)  # frames from one wave to the next
        joined = F.pad(wave, (0, pitch * FRAME_SAMPLES - n_samples)).flatten()
        joined = F.pad(joined, (0, KERNEL_SAMPLES - FRAME_SAMPLES))
        weights = [
            # The first layer, where the wave comes in, stays in float32.
            (self._rows(layer.conv, dtype if i else torch.float32), self._cast(layer.conv.bias, dtype if i else None))
            for i, layer in enumerate(layers)
        ]
        pieces = []
        for start in range(0, n_waves * pitch, FRAMES_AT_ONCE):
            stop = min(start + FRAMES_AT_ONCE, n_waves * pitch)
            x = joined[start * FRAME_SAMPLES : (stop - 1) * FRAME_SAMPLES + KERNEL_SAMPLES, None]
            for layer, (weight, bias), kernel, stride in zip(layers, weights, KERNELS, STRIDES):
                x = framed_linear(x, weight, bias, kernel, stride)
                x = _gelu(_norm(x, layer.layer_norm)).to(dtype)
            pieces.append(x)
        return torch.cat(pieces).view(n_waves, pitch, -1)[:, :n_frames]

    def _rows(self, conv: nn.Conv1d, dtype: torch.dtype) -> Tensor:
        """A convolution's weight (out, in, kernel) as a matrix over frames: (out, kernel * in)."""
        return self._matrix(conv.weight, dtype, "rows", lambda w: w.permute(0, 2, 1).flatten(1))

    # ---- the position convolution

    def _positions(self, conv: Any, x: Tensor) -> Tensor:
        """GELU of the convolution over frames that encodes position: (B, F, D) -> (B, F, D)."""
        kernel = conv.kernel_size[0]
        if torch.is_grad_enabled():
            y = F.conv1d(x.mT, conv.weight, conv.bias, padding=kernel // 2, groups=conv.groups)
            return F.gelu(y[:, :, : x.shape[1]]).mT
        n_fft = 3 * kernel
        tensors = [p for p in conv.parameters() if p is not conv.bias]
        spectrum = self._derived("spectrum", tensors, lambda *_: _spectrum(conv, n_fft).contiguous())
        return F.gelu(_convolve(x, spectrum, kernel, n_fft) + conv.bias)

    # ---- a transformer layer

    def _layer(self, layer: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
        attention, feed = layer.attention, layer.feed_forward
        y = _norm(x, layer.layer_norm).to(dtype)
        shape = (*y.shape[:2], attention.num_heads, attention.head_dim)
        q, k, v = (
            self._linear(y, proj, dtype).view(shape).transpose(1, 2)
            for proj in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        y = _attend(q, k, v).transpose(1, 2).reshape(x.shape)
        x = _sum(x, self._linear(y, attention.out_proj, dtype))
        y = _norm(x, layer.final_layer_norm).to(dtype)
        y = _gelu(self._linear(y, feed.intermediate_dense, dtype))
        return _sum(x, self._linear(y, feed.output_dense, dtype))

    def _linear(self, x: Tensor, module: nn.Linear, dtype: torch.dtype) -> Tensor:
        return linear(x.to(dtype), self._matrix(module.weight, dtype), self._cast(module.bias, dtype))

    # ---- derived weights

    def _matrix(
        self, weight: Tensor, dtype: torch.dtype, what: str = "", arrange: Callable[[Tensor], Tensor] = lambda w: w
    ) -> Tensor:
        """A weight as the matrix (out, in) of a product, packed unless gradients are asked for."""
        if torch.is_grad_enabled():
            if not what:
                return self._cast(weight, dtype)
            return self._derived(what, weight, lambda w: arrange(w).to(dtype).contiguous(), str(dtype))
        return self._derived(f"packed {what}", weight, lambda w: pack(arrange(w).to(dtype)), str(dtype))

    def _cast(self, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
        if dtype is None or tensor.dtype == dtype:
            return tensor
        return self._derived("cast", tensor, lambda t: t.to(dtype).contiguous())

    def _derived(self, what: str, of: Tensor | list[Tensor], make: Callable[..., Tensor], more: str = "") -> Tensor:
        """What `make` makes of weights; without gradients it is kept until one of them changes."""
        tensors = of if isinstance(of, list) else [of]
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            return make(*tensors)
        state = [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors]
        key = id(tensors[0]), what + more
        entry = self._kept.get(key)
        if entry is None or entry[1] != state:
            # Not as an inference tensor: those cannot be read later where gradients are recorded. The weights are
            # held too, so that no other tensor comes to have their id.
            with torch.inference_mode(False), torch.no_grad():
                entry = self._kept[key] = (tensors, state, make(*tensors))
        return entry[2]


def _norm(x: Tensor, norm: Any) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)


def _sum(x: Tensor, y: Tensor) -> Tensor:
    return x + y if torch.is_grad_enabled() else x.add_(y)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention over heads of (B, H, F, D / H)."""
    if q.dtype == torch.bfloat16 and not torch.is_grad_enabled():
        pieces = (q * q.shape[3] ** -0.5).split(QUERIES_AT_ONCE, dim=2)
        return torch.cat([torch.softmax(piece @ k.mT, dim=-1) @ v for piece in pieces], dim=2)
    return F.scaled_dot_product_attention(q, k, v)


# ---- convolution over frames by FFT


def _spectrum(conv: Any, n_fft: int) -> Tensor:
    """Of a grouped convolution's weight: (n_fft / 2 + 1, groups, in, out) complex."""
    weight = conv.weight.unflatten(0, (conv.groups, -1))  # (groups, out, in, kernel)
    return torch.fft.rfft(weight, n_fft).conj().permute(3, 0, 2, 1)


def _convolve(x: Tensor, spectrum: Tensor, kernel: int, n_fft: int) -> Tensor:
    """Grouped convolution with `kernel // 2` frames of padding, cut to as many frames: (B, F, D) -> (B, F, D).

    Block by block (overlap-save), so that one spectrum serves all lengths.
    """
    n_waves, n_frames, size = x.shape
    n_groups = spectrum.shape[1]
    step = n_fft - kernel + 1
    n_blocks = -(-n_frames // step)
    padded = F.pad(x.mT, (kernel // 2, (n_blocks - 1) * step + n_fft - n_frames - kernel // 2))
    blocks = padded.unfold(2, n_fft, step)  # (B, D, blocks, n_fft)
    of_x = torch.fft.rfft(blocks).view(n_waves, n_groups, size // n_groups, n_blocks, -1)
    of_x = of_x.permute(4, 1, 0, 3, 2).flatten(2, 3)  # (bins, groups, B * blocks, in)
    of_y = (of_x @ spectrum).view(-1, n_groups, n_waves, n_blocks, size // n_groups)
    y = torch.fft.irfft(of_y.permute(2, 3, 1, 4, 0), n_fft)[..., :step]  # (B, blocks, groups, out, step)
    return y.permute(0, 1, 4, 2, 3).reshape(n_waves, n_blocks * step, size)[:, :n_frames]
