"""The mean over time: no weights of its own, so the head works on the encoder's features themselves.

Shapes: B utterances, F frames, D features.
"""

from __future__ import annotations

from torch import Tensor, nn


class Mean(nn.Module):
    """The average over frames: (B, F, D) -> (B, D).

    Source: the back end of the AntiDeepfake models, Ge et al. 2025, arXiv:2506.21090, with the head `wce`.
    """

    def __init__(self, input_dim: int):
        super().__init__()
        self.dim = input_dim

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(dim=1)
