"""The contract of front ends, back ends and heads as types, for the rooms that meet them only through a detector.

A class fits by what it has, and derives from nothing but nn.Module: mypy compares the classes in the dicts of model.py
with the protocols below.

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
    """(B, T) -> (B, F, D)."""

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

    def loss(self, embedding: Tensor, bonafide: Tensor, quality: Tensor | None = None) -> dict[str, Tensor]:
        """The terms of the loss, "total" among them; bonafide: (B,) bool, quality: (B,) int64, None on the dev set."""
        ...


Features = Callable[[FrontEnd, Tensor], Tensor]  # (front end, (B, T)) -> (B, F, D)
# This process's (features, bonafide, quality) -> those of all processes.
Gather = Callable[[Tensor, Tensor, "Tensor | None"], "tuple[Tensor, Tensor, Tensor | None]"]


class Detector(Part, Protocol):
    """`model.Detector`, as the rooms below model.py see it."""

    config: dict[str, Any]
    frontend: FrontEnd
    backend: BackEnd
    head: Head
    feature_cache: Features | None
    gather: Gather | None

    def __call__(self, wave: Tensor, bonafide: Tensor | None = None, quality: Tensor | None = None) -> Any: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...

    def eval(self) -> Any: ...
