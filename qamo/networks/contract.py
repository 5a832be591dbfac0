"""Front ends, back ends, heads and the detector as types: what the rooms below model.py may ask of them.

A class fits by what it has; mypy compares those in the dicts of model.py with the protocols below.
Shapes: B utterances, T samples at 16 kHz, F frames, D features, E embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from torch import Tensor, nn


class Part(Protocol):
    """What of nn.Module is asked of every part."""

    def parameters(self) -> Iterator[nn.Parameter]: ...
    def state_dict(self) -> dict[str, Any]: ...


class FrontEnd(Part, Protocol):
    """(B, T) -> (B, F, D), in the wave's number format whatever autocast says."""

    dim: int  # D
    frozen: bool  # computes without gradients, and as in evaluation mode whatever the detector's: features may be kept
    mixed: bool  # follows the mixed precision setting; False: always computes in float32

    def __call__(self, wave: Tensor) -> Tensor: ...


class BackEnd(Part, Protocol):
    """(B, F, D) -> (B, E)."""

    dim: int  # E

    def __call__(self, features: Tensor) -> Tensor: ...


class Head(Part, Protocol):
    """(B, E) -> (B,), higher means bona fide; one with centroids also has `cosines`: (B, E) -> (B, K)."""

    def __call__(self, embedding: Tensor) -> Tensor: ...
    def loss(self, embedding: Tensor, bonafide: Tensor, quality: Tensor | None = None) -> dict[str, Tensor]: ...


class Detector(Part, Protocol):
    """`model.Detector`; its docstring says what the attributes are."""

    config: dict[str, Any]
    frontend: FrontEnd
    head: Head
    feature_cache: Callable[[FrontEnd, Tensor], Tensor] | None
    gather: Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor, Tensor | None]] | None

    def __call__(self, wave: Tensor, bonafide: Tensor | None = None, quality: Tensor | None = None) -> Any: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...
    def eval(self) -> Any: ...
