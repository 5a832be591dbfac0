"""Learning rates over the steps of a training: a function of the number of the step, so that a resume is exact."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qamo.config.schema import TrainConfig

if TYPE_CHECKING:
    import torch


def share(train: TrainConfig, steps_per_epoch: int, step: int) -> float:
    """Of the full rates in a step, counted from 0: warm-up, then constant or a half cosine to the end of max_epochs."""
    if step < train.warmup_steps:
        return (step + 1) / (train.warmup_steps + 1)
    if train.schedule == "constant":
        return 1.0
    done = (step - train.warmup_steps) / max(1, train.max_epochs * steps_per_epoch - train.warmup_steps)
    return 0.5 + 0.5 * math.cos(math.pi * done)


class Schedule:
    """The learning rates of an optimiser's groups.

    Args:
        optimizer: with the full rates.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, train: TrainConfig, steps_per_epoch: int):
        self.optimizer, self.train, self.steps_per_epoch = optimizer, train, steps_per_epoch
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def set(self, step: int) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = rate * share(self.train, self.steps_per_epoch, step)
