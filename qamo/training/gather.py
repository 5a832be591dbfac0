"""Gather over the processes of a training: batches of features with their gradients, rows, and flags."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor

from qamo.networks.contract import Detector


def share_of(n: int, rank: int, world_size: int) -> slice:
    """Which of a batch's `n` rows a process has: as many as the others, or one more; never none if n >= world_size."""
    return slice(n * rank // world_size, n * (rank + 1) // world_size)


def share_batches(fabric: Fabric, detector: Detector, batch_size: int) -> None:
    """Let each of several processes compute the front end on its share, and the rest on the whole batch."""
    if fabric.world_size > 1:
        detector.gather = partial(gather_batch, fabric, batch_size=batch_size)


def gather_batch(
    fabric: Fabric, features: Tensor, bonafide: Tensor, quality: Tensor | None, *, batch_size: int | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """All processes' features and labels, in batch order, with gradients flowing back to the process they came from.

    Args:
        batch_size: of all processes together, shared as `share_of` says; None: as many rows in each.
    """
    rank, world_size = fabric.global_rank, fabric.world_size
    n = len(features) * world_size if batch_size is None else batch_size
    shares = [share_of(n, k, world_size) for k in range(world_size)]
    gathered: Tensor = _Gather.apply(features, rank, shares)
    labels = _gather_shares(bonafide, shares)
    classes = None if quality is None else _gather_shares(quality, shares)
    return gathered, labels, classes


class _Gather(torch.autograd.Function):
    """Features of each process's share (b, F, D) -> those of the batch (B, F, D).

    DDP averages the gradients of the processes. Each computes the whole batch's loss, so those of the back end and
    the head are equal, and stay so. Those of a front end are of this process's rows only: times N, since the
    average divides by N the sum over processes, which is the single-process gradient, however many rows each has.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, rank: int, shares: list[slice]) -> Tensor:
        ctx.rows, ctx.world_size = shares[rank], len(shares)
        return _gather_shares(features, shares)

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
    length = torch.tensor([len(rows)], device=fabric.device)
    lengths = torch.cat(_gather_equal(length, fabric.world_size)).tolist()
    return _gather_shares(rows.to(fabric.device), [slice(0, n) for n in lengths]).to(rows.device)


def _gather_shares(rows: Tensor, shares: list[slice]) -> Tensor:
    """Rows of all processes, of which each holds as many as its share; shorter shares travel padded."""
    lengths = [share.stop - share.start for share in shares]
    padded = rows
    if len(rows) < max(lengths):
        padded = rows.new_zeros(max(lengths), *rows.shape[1:])
        padded[: len(rows)] = rows
    return torch.cat([part[:n] for part, n in zip(_gather_equal(padded, len(shares)), lengths)])


def _gather_equal(rows: Tensor, world_size: int) -> list[Tensor]:
    """`rows` of each process, of which all hold equally many. As bytes: every backend carries those exactly."""
    rows = rows.contiguous()
    parts = [torch.empty_like(rows) for _ in range(world_size)]
    torch.distributed.all_gather([part.view(torch.uint8) for part in parts], rows.view(torch.uint8))
    return parts
