"""Learning rates over the steps of a training: a function of the number of the step, so that a resume is exact."""

from __future__ import annotations

import math

import torch

from qamo.config.schema import TrainConfig


class Schedule:
    """The learning rates of an optimiser's groups: warm-up, then constant or a half cosine to the end of max_epochs.

    Args:
        optimizer: with the full rates.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, train: TrainConfig, steps_per_epoch: int):
        self.optimizer = optimizer
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.warmup, self.falls = train.warmup_steps, train.schedule == "cosine"
        self.n_steps = train.max_epochs * steps_per_epoch
        self.clip_norm = train.clip_norm

    def factor(self, step: int) -> float:
        """What the full rates are multiplied by in a step, counted from 0 over all epochs."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        done = (step - self.warmup) / max(1, self.n_steps - self.warmup)
        return 0.5 + 0.5 * math.cos(math.pi * done) if self.falls else 1.0

    def set(self, step: int) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = rate * self.factor(step)
