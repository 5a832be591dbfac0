"""Gather over the processes of a training: batches of features with their gradients, rows, and flags."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor


def gather_batch(
    fabric: Fabric, features: Tensor, bonafide: Tensor, quality: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """All processes' features and labels, in batch order, with gradients flowing back to the process they came from."""
    rank, world_size = fabric.global_rank, fabric.world_size
    gathered: Tensor = _Gather.apply(features, rank, world_size)
    labels = torch.cat(_gather_equal(bonafide, world_size))
    classes = None if quality is None else torch.cat(_gather_equal(quality, world_size))
    return gathered, labels, classes


class _Gather(torch.autograd.Function):
    """Features (B, F, D) of each process -> those of all (N * B, F, D).

    DDP averages the gradients of the processes. Each computes the whole batch's loss, so those of the back end and
    the head are equal, and stay so. Those of a front end are of this process's rows only: times N, since the
    average divides by N the sum over processes, which is the single-process gradient.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, rank: int, world_size: int) -> Tensor:
        ctx.rows = slice(rank * len(features), (rank + 1) * len(features))
        ctx.world_size = world_size
        return torch.cat(_gather_equal(features, world_size))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.rows] * ctx.world_size, None, None


def set_anywhere(fabric: Fabric, *flags: bool) -> list[bool]:
    """For each flag whether any process sets it. All processes must ask at the same point."""
    if fabric.world_size == 1:
        return list(flags)
    asked = torch.tensor(flags, dtype=torch.float32, device=fabric.device)
    torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
    return [value > 0 for value in asked.tolist()]


def gather_rows(fabric: Fabric, rows: Tensor) -> Tensor:
    """Rows of all processes in process order; the processes may hold different numbers of rows."""
    if fabric.world_size == 1:
        return rows
    own = rows.to(fabric.device)
    length = torch.tensor([len(rows)], device=fabric.device)
    lengths = [int(n) for n in torch.cat(_gather_equal(length, fabric.world_size))]
    padded = torch.zeros(max(lengths), *rows.shape[1:], dtype=rows.dtype, device=fabric.device)
    padded[: len(rows)] = own
    parts = _gather_equal(padded, fabric.world_size)
    return torch.cat([part[:n] for part, n in zip(parts, lengths)]).to(rows.device)


def _gather_equal(rows: Tensor, world_size: int) -> list[Tensor]:
    """`rows` of each process, of which all hold equally many. As bytes: every backend carries those exactly."""
    rows = rows.contiguous()
    parts = [torch.empty_like(rows) for _ in range(world_size)]
    torch.distributed.all_gather([part.view(torch.uint8) for part in parts], rows.view(torch.uint8))
    return parts
