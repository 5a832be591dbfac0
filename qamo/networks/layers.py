"""Which layers of an encoder a front end gives: the last, some side by side, or all, weighted.

Layers count as transformers counts hidden states: 0 is what enters the first layer, k is what the k-th layer gives, and
the last of all is taken after the encoder's closing norm, where it has one. A layer above the highest that is asked
for is neither kept nor computed.

Shapes: B utterances, T samples at 16 kHz, F frames, L layers, W width of the encoder, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from qamo import InputError

LARGEST_HALF = 65_504.0  # in float16


class Layered(nn.Module):
    """A front end of which layers are chosen: forward is `mix(states(wave))`.

    `states` is what the weights of the encoder decide, and what a feature cache keeps of a frozen one; `mix` has the
    learned weights of `layers: weighted`, which are trained though the encoder is frozen.

    A subclass calls `choose` when it is built, and has `encoded`: (B, T) -> (B, F, W) of the last layer where `at` is
    None, else (B, F, L, W) of the hidden states that `at` counts.
    """

    frozen: bool
    dim: int
    at: list[int] | None
    in_half: bool
    mix: nn.Module

    def choose(self, layers: str | Sequence[int], n_layers: int, width: int, features: str, section: str) -> int:
        """Fix which hidden states are given; returns how many layers that takes.

        Args:
            layers: last, weighted, or numbers of hidden states, increasing.
            n_layers: those of the encoder.
            features: float32, or float16: what `states` gives is rounded to it.
            section: of the config, for the message.

        Raises:
            InputError: the encoder has no such layer.
        """
        self.in_half = features == "float16"
        if layers == "last":
            self.at, self.mix, self.dim = None, nn.Identity(), width
            return n_layers
        weighted = isinstance(layers, str)
        self.at = list(range(n_layers + 1)) if isinstance(layers, str) else list(layers)
        if self.at[-1] > n_layers:
            raise InputError(
                f"{section}.layers: {self.at[-1]} was asked for, but this encoder has {n_layers} layers; "
                f"take numbers from 0 to {n_layers}"
            )
        self.mix = Weighted(n_layers + 1) if weighted else nn.Flatten(2)
        self.dim = width if weighted else width * len(self.at)
        return max(self.at[-1], 1)

    def encoded(self, wave: Tensor) -> Tensor:
        raise NotImplementedError

    def states(self, wave: Tensor) -> Tensor:
        """(B, T) -> (B, F, W), or (B, F, L, W), in the wave's number format; without gradients if frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            x = self.encoded(wave).to(wave.dtype)
            return x.clamp(-LARGEST_HALF, LARGEST_HALF).half().to(wave.dtype) if self.in_half else x

    def forward(self, wave: Tensor) -> Tensor:
        return self.mix(self.states(wave))


class Weighted(nn.Module):
    """Sum of layers with weights that are learned, a softmax, equal at the start: (B, F, L, W) -> (B, F, W).

    Source: Yang et al. 2021, SUPERB, arXiv:2105.01051; transformers' `use_weighted_layer_sum`.
    """

    def __init__(self, n_states: int):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(n_states))

    def forward(self, states: Tensor) -> Tensor:
        return (states * self.weights.softmax(dim=0)[:, None]).sum(dim=2)


def hidden_states(network: Any, inputs: Tensor, at: Sequence[int] | None) -> Tensor:
    """Last hidden state of a network of transformers, (B, F, W), or those that `at` counts, (B, F, L, W)."""
    if at is None:
        return network(inputs).last_hidden_state
    found = network(inputs, output_hidden_states=True)
    every = [*found.hidden_states[:-1], found.last_hidden_state]  # the last of them may be before the closing norm
    return torch.stack([every[n] for n in at], dim=2)


def through_layers(encoder: Any, x: Tensor, step: Callable[[Any, Tensor], Tensor], at: Sequence[int] | None) -> Tensor:
    """(B, F, W) through the layers of a wav2vec 2.0 encoder, each taken by `step`, and what closes them.

    Args:
        step: (layer, x) -> x, which may write to the x that it is given; computed again in the backward pass where the
            layers say so.
        at: as of `hidden_states`.
    """
    kept: list[Tensor] = []
    for number, layer in enumerate(encoder.layers):
        if at is not None and number in at:
            kept.append(x.clone())
        if torch.is_grad_enabled() and layer.gradient_checkpointing and layer.training:
            x = checkpoint(step, layer, x, use_reentrant=False)
        else:
            x = step(layer, x)
    x = encoder.layer_norm(x)
    if at is None:
        return x
    return torch.stack([*kept, x] if len(encoder.layers) in at else kept, dim=2)


def cut(encoder: nn.Module, n_layers: int, *, closing_norm: bool) -> None:
    """Leave the first `n_layers` of a transformer's `layers`.

    Args:
        closing_norm: whether `encoder.layer_norm` comes after the last layer: nothing that is asked for then passes it.
    """
    layers = encoder.layers
    if isinstance(layers, nn.ModuleList) and n_layers < len(layers):
        encoder.layers = layers[:n_layers]
        if closing_norm:
            encoder.layer_norm = nn.Identity()
