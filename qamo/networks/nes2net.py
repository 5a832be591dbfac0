"""Nes2Net-X: features (B, F, D) in, an embedding (B, D) out (Liu et al. 2025, arXiv:2504.05657).

Two nests of Res2Net splits on the raw features, so no layer shrinks them first; mean pooling over time.

Shapes: B utterances, D features in G groups of C, F frames, S parts of a group, K stacked parts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qamo import InputError


class Nes2Net(nn.Module):
    """Back end: (B, F, D) -> (B, D).

    Raises:
        InputError: the feature size does not split into the groups and parts.

    Source: behaviour matched to ductuantruong/QAMO @47d77cc.
    """

    def __init__(self, input_dim: int, *, n_groups: int, scale: int, dilation: int, se_ratio: int):
        super().__init__()
        if n_groups < 2 or scale < 2 or input_dim % (n_groups * scale):
            raise InputError(
                f"model.nes2net: {input_dim} features do not split into n_groups {n_groups} x scale {scale} parts; "
                "choose two numbers of at least 2 whose product divides the feature size"
            )
        self.dim = input_dim
        self.n_groups = n_groups
        group = input_dim // n_groups
        self.nests = nn.ModuleList(_Nest(group, scale, dilation, se_ratio) for _ in range(n_groups - 1))
        self.norms = nn.ModuleList(nn.BatchNorm1d(group) for _ in range(n_groups - 1))
        self.norm = nn.BatchNorm1d(input_dim)

    def forward(self, features: Tensor) -> Tensor:
        groups = features.transpose(1, 2).chunk(self.n_groups, dim=1)  # G of (B, C, F)
        outputs: list[Tensor] = []
        for nest, norm, group in zip(self.nests, self.norms, groups):
            x = outputs[-1] + group if outputs else group
            outputs.append(norm(F.relu(nest(x))))
        x = torch.cat([*outputs, groups[-1]], dim=1)  # the last group passes untouched
        return F.relu(self.norm(x)).mean(dim=2)


class _Nest(nn.Module):
    """Res2Net block whose parts are stacked, filtered together and summed with learned weights: (B, C, F) -> same."""

    def __init__(self, channels: int, scale: int, dilation: int, se_ratio: int):
        super().__init__()
        self.scale = scale
        part = channels // scale
        self.conv_in = nn.Conv1d(channels, channels, 1)
        self.norm_in = nn.BatchNorm1d(channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(part, part, (3, 1), dilation=(dilation, 1), padding=(dilation, 0)) for _ in range(scale - 1)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(part) for _ in range(scale - 1))
        self.stack_weights = nn.ParameterList(torch.full((1, 1, 1, i + 2), 1 / (i + 2)) for i in range(scale - 1))
        self.conv_out = nn.Conv1d(channels, channels, 1)
        self.norm_out = nn.BatchNorm1d(channels)
        self.squeeze_excitation = _SqueezeExcitation(channels, se_ratio)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.norm_in(F.relu(self.conv_in(x))).chunk(self.scale, dim=1)  # S of (B, C / S, F)
        stack = parts[-1][..., None]  # (B, C / S, F, K), K grows by one a step
        outputs = []
        for conv, norm, weights, part in zip(self.convs, self.norms, self.stack_weights, parts):
            stack = norm(F.relu(conv(torch.cat([stack, part[..., None]], dim=3))))
            outputs.append((stack * weights).sum(dim=3))
        y = torch.cat([*outputs, parts[-1]], dim=1)
        y = self.norm_out(F.relu(self.conv_out(y)))
        return self.squeeze_excitation(y) + x


class _SqueezeExcitation(nn.Module):
    """Weigh each channel by what the whole utterance holds: (B, C, F) -> (B, C, F)."""

    def __init__(self, channels: int, ratio: int):
        super().__init__()
        self.squeeze = nn.Conv1d(channels, channels // ratio, 1)
        self.excite = nn.Conv1d(channels // ratio, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.excite(F.relu(self.squeeze(x.mean(dim=2, keepdim=True))))
        return x * weights.sigmoid()
