"""Conformer with temporal-channel modelling: features (B, F, D) in, an embedding (B, E) out.

Head tokens let the channels of an utterance talk to its frames (Truong et al. 2024, arXiv:2406.17376, after
arXiv:2210.05958). The embedding is the class token after the last block. No dropout anywhere.

Shapes: B utterances, F frames, D feature size, E embedding size, N = F + 1 tokens (class token first), H heads.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qamo.networks.cpu.onednn import Linear

N_POSITIONS = 10_000  # rows of the fixed position table, 200 s of frames; longer inputs compute theirs


class ConformerTCM(nn.Module):
    """Back end of the paper: (B, F, D) -> (B, E).

    Args:
        init: "copies": the blocks begin with equal weights, as the published code's do, and stay close to each other at
            its learning rate of 1e-6; "independent": each block has draws of its own.

    Source: behaviour matched to ductuantruong/QAMO @47d77cc.
    """

    positions: Tensor

    def __init__(
        self, input_dim: int, *, embedding_size: int, n_heads: int, kernel_size: int, n_blocks: int, init: str
    ):
        super().__init__()
        self.dim = embedding_size
        self.project = Linear(input_dim, embedding_size)
        self.norm = nn.BatchNorm2d(1)  # one channel: a single mean and variance over the whole (F, E) plane
        self.class_token = nn.Parameter(torch.rand(1, embedding_size))
        first = _Block(embedding_size, n_heads, kernel_size)
        others = (
            copy.deepcopy(first) if init == "copies" else _Block(embedding_size, n_heads, kernel_size)
            for _ in range(n_blocks - 1)
        )
        self.blocks = nn.ModuleList([first, *others])
        self.register_buffer("positions", sinusoids(N_POSITIONS, embedding_size), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        x = self.project(features)
        x = F.selu(self.norm(x[:, None])[:, 0])
        n_frames = x.shape[1]
        if n_frames <= len(self.positions):
            x = x + self.positions[:n_frames]
        else:
            x = x + sinusoids(n_frames, self.dim).to(x)
        x = torch.cat([self.class_token.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return x[:, 0]


def sinusoids(n_positions: int, size: int) -> Tensor:
    """Position table (n_positions, size): sine on even channels, cosine on odd ones.

    Angles are rounded to float32 before the sine, as in the published code: late positions differ by 2e-4 otherwise.
    """
    channel = np.arange(size)
    angle = np.arange(n_positions)[:, None] / 10_000 ** (2 * (channel // 2) / size)
    angle32 = torch.from_numpy(angle.astype(np.float32))
    return torch.where(torch.from_numpy(channel % 2 == 0), angle32.sin(), angle32.cos())


class _Block(nn.Module):
    """Half a feed-forward, head-token attention, convolution, half a feed-forward: (B, N, E) -> (B, N, E)."""

    def __init__(self, size: int, n_heads: int, kernel_size: int):
        super().__init__()
        self.feed_forward_1 = _FeedForward(size)
        self.attention = HeadTokenAttention(size, n_heads)
        self.convolution = _Convolution(size, kernel_size)
        self.feed_forward_2 = _FeedForward(size)
        self.norm = nn.LayerNorm(size)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.feed_forward_1(x)
        x = x + self.attention(x)
        x = x + self.convolution(x)
        x = x + 0.5 * self.feed_forward_2(x)
        return self.norm(x)


class _FeedForward(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.expand = Linear(size, 4 * size)
        self.contract = Linear(4 * size, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(F.silu(self.expand(self.norm(x))))


class _Convolution(nn.Module):
    def __init__(self, size: int, kernel_size: int):
        super().__init__()
        inner = 2 * size
        # An even kernel is padded one less on the right, so that the number of tokens stays.
        self.padding = (kernel_size // 2, kernel_size // 2 - (kernel_size + 1) % 2)
        self.norm = nn.LayerNorm(size)
        self.expand = nn.Conv1d(size, 2 * inner, 1)
        self.depthwise = nn.Conv1d(inner, inner, kernel_size, groups=inner)
        self.batch_norm = nn.BatchNorm1d(inner)
        self.contract = nn.Conv1d(inner, size, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x).transpose(1, 2)  # (B, E, N)
        y = F.glu(self.expand(y), dim=1)
        y = self.depthwise(F.pad(y, self.padding))
        y = self.contract(F.silu(self.batch_norm(y)))
        return y.transpose(1, 2)


class HeadTokenAttention(nn.Module):
    """Self-attention over the tokens and one extra token for each head: (B, N, E) -> (B, N, E).

    Head token i sums up channel group i of all tokens. After attention, the class token (the first) receives
    the mean head token and the mean frame token, and the head tokens are dropped.

    Source: arXiv:2406.17376.
    """

    def __init__(self, size: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        head_size = size // n_heads
        self.norm = nn.LayerNorm(size)
        self.summary = Linear(head_size, size)
        self.summary_norm = nn.LayerNorm(head_size)
        self.head_position = nn.Parameter(torch.zeros(1, n_heads, size))
        self.qkv = Linear(size, 3 * size, bias=False)
        self.output = Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        n_tokens, size = x.shape[1:]
        x = torch.cat([x, self.head_tokens(x)], dim=1)  # (B, N + H, E)
        q, k, v = self.qkv(x).unflatten(2, (3, self.n_heads, size // self.n_heads)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)  # (B, H, N + H, E / H)
        y = self.output(attended.transpose(1, 2).flatten(2))
        class_token, frames, heads = y.split([1, n_tokens - 1, self.n_heads], dim=1)
        class_token = class_token + heads.mean(dim=1, keepdim=True) + frames.mean(dim=1, keepdim=True)
        return torch.cat([class_token, frames], dim=1)

    def head_tokens(self, x: Tensor) -> Tensor:
        """One token for each group of channels, averaged over time: (B, N, E) -> (B, H, E)."""
        groups = x.mean(dim=1).unflatten(1, (self.n_heads, -1))  # (B, H, E / H)
        vectors = self.summary(groups).unflatten(2, (self.n_heads, -1))  # (B, H, H, E / H)
        return F.gelu(self.summary_norm(vectors)).flatten(2) + self.head_position
