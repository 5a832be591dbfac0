"""Losses and counts of training steps, read from a GPU one step late.

Reading a number of a GPU waits for all that it was given to do. So the numbers of a step are copied while the device
goes on, and looked at when the next step is under way. On a CPU they are looked at before the backward pass.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor

from qamo import InputError
from qamo.training.gather import gather_rows
from qamo.training.loader import Batch, Batches
from qamo.training.state import LAST, TrainState


class _Step(NamedTuple):
    """A step whose numbers are on their way."""

    number: int
    names: list[str]
    values: Tensor  # (len(names),) float64 on the CPU, once `copied` says so
    copied: Any  # None: already
    indices: Tensor


class StepLog:
    """Adds the losses and counts of steps to a state's sums, and stops at a loss that is not finite.

    Args:
        late: read the numbers of a step when those of the next are given; None: on a GPU.
    """

    def __init__(self, fabric: Fabric, batches: Batches, folder: Any, *, late: bool | None = None):
        self.fabric = fabric
        self.batches = batches
        self.folder = folder
        self.late = fabric.device.type == "cuda" if late is None else late
        self._waiting: _Step | None = None

    def add(self, state: TrainState, losses: dict[str, Tensor], batch: Batch) -> None:
        """Take the numbers of the step that `state` is about to count.

        Raises:
            InputError: this loss, or read late the one before, is not finite.
        """
        counts = _counts(batch, self.batches.n_classes)
        total = torch.stack(list(counts.values())).double()
        if self.fabric.world_size > 1:
            torch.distributed.all_reduce(total)
        values = torch.cat([torch.stack([loss.detach() for loss in losses.values()]).double(), total])
        names = [*(f"loss_{name}" for name in losses), *counts]
        before, copied = self._waiting, None
        if values.device.type == "cuda":
            values, copied = values.to("cpu", non_blocking=True), torch.cuda.Event()
            copied.record()
        self._waiting = _Step(state.step + 1, names, values, copied, batch.indices)
        if before is not None:
            self._read(state, before)
        if not self.late:
            self.read(state)

    def read(self, state: TrainState) -> None:
        """Look at the step that waits, if one does: before a state is saved or summed up."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._read(state, waiting)

    def _read(self, state: TrainState, step: _Step) -> None:
        if step.copied is not None:
            step.copied.synchronize()
        values = dict(zip(step.names, step.values.tolist()))
        total = values["loss_total"]
        if total - total != 0:  # infinite, or no number
            self._waiting = None
            # Every process computed this same loss, so all of them come here.
            indices = gather_rows(self.fabric, step.indices).tolist()
            raise InputError(
                f"epoch {state.epoch + 1}, step {step.number}: the loss is {total} on "
                f"{', '.join(self.batches.names[i] for i in indices)}; the last good state is kept in "
                f"{self.folder}/{LAST}; lower train.lr, or look at these recordings"
            )
        for name, value in values.items():
            state.sums[name] = state.sums.get(name, 0.0) + value


def _counts(batch: Batch, n_classes: int) -> dict[str, Tensor]:
    """How many utterances of each kind a process's share holds; nothing of it needs to be read from the device."""
    bonafide = batch.bonafide
    classes = torch.arange(n_classes, device=bonafide.device)
    of_class = ((batch.quality[:, None] == classes) & bonafide[:, None]).sum(dim=0)
    counts = {"n_bonafide": bonafide.sum(), "n_spoof": (~bonafide).sum(), "n_augmented": batch.augmented.sum()}
    return {**counts, **{f"n_bonafide_class_{k}": n for k, n in enumerate(of_class.unbind())}}
