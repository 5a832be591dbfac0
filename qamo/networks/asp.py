"""Attentive statistics pooling: the mean and deviation of features over time, weighted by what attention finds.

Shapes: B utterances, F frames, D features, P projected features, E embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEAST_VARIANCE = 1e-6  # its square root must have a gradient


class ASP(nn.Module):
    """A linear projection, attentive statistics pooling, a batch norm and a linear map: (B, F, D) -> (B, E).

    Args:
        projection_size: P.
        attention_size: hidden units of the attention.
        embedding_size: E.

    Source: Okabe, Koshinaka and Shinoda 2018, arXiv:1803.10963, equations 1 to 6; the batch norm after pooling is that
    of Desplanques et al. 2020, arXiv:2005.07143.
    """

    def __init__(self, input_dim: int, *, projection_size: int, attention_size: int, embedding_size: int):
        super().__init__()
        self.dim = embedding_size
        self.projection = nn.Linear(input_dim, projection_size)
        self.hidden = nn.Linear(projection_size, attention_size)
        self.score = nn.Linear(attention_size, 1)
        self.norm = nn.BatchNorm1d(2 * projection_size)
        self.embedding = nn.Linear(2 * projection_size, embedding_size)

    def forward(self, features: Tensor) -> Tensor:
        x = self.projection(features)  # (B, F, P)
        weights = self.score(torch.tanh(self.hidden(x))).softmax(dim=1)  # (B, F, 1)
        mean = (weights * x).sum(dim=1)  # (B, P)
        variance = (weights * (x - mean[:, None]) ** 2).sum(dim=1)
        return self.embedding(self.norm(torch.cat([mean, variance.clamp(min=LEAST_VARIANCE).sqrt()], dim=1)))
