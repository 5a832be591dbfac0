"""Augmentation of training: RawBoost, then the channel, drawn by (seed, epoch, index of the utterance) alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from qamo.audio.channel import Channel, Drawn, through
from qamo.audio.rawboost import rawboost

CHANNEL_DRAWS = 0xC4  # sets the channel's random source apart from RawBoost's, which is as it was before there was one


class Plan(NamedTuple):
    """What happens to an utterance in an epoch."""

    rawboost: bool
    channel: Drawn | None

    @property
    def augments(self) -> bool:
        return self.rawboost or self.channel is not None


class Augmentation:
    """RawBoost, then the channel, each with a probability and draws of its own.

    Args:
        probability: of RawBoost; options: its keyword arguments.
        channel: None: never.
    """

    def __init__(self, seed: int, *, probability: float, options: Mapping[str, Any], channel: Channel | None = None):
        self.seed = seed
        self.probability = probability
        self.options = options
        self.channel = channel

    @property
    def share(self) -> float:
        """Probability that an utterance is augmented in an epoch."""
        of_channel = self.channel.share if self.channel else 0.0
        return self.probability + (1 - self.probability) * of_channel

    def plan(self, epoch: int, index: int) -> Plan:
        """What happens to an utterance in an epoch; nothing is read or computed."""
        return self._drawn(epoch, index)[0]

    def __call__(self, wave: np.ndarray, epoch: int, index: int) -> tuple[np.ndarray, bool]:
        """The wave as training hears it in an epoch, (T,) -> (T,) float32, and whether anything was done to it.

        Raises:
            InputError: a file of noise or of a room cannot be read.
        """
        plan, of_rawboost, of_channel = self._drawn(epoch, index)
        if plan.rawboost:
            wave = rawboost(wave, of_rawboost, **self.options)
        if plan.channel is not None:
            wave = through(wave, plan.channel, of_channel)
        return wave, plan.augments

    def first_epoch(self, index: int, n_tries: int = 1000) -> int:
        """The first epoch that augments an utterance, or 0 where none of many does."""
        return next((epoch for epoch in range(n_tries) if self.plan(epoch, index).augments), 0)

    def _drawn(self, epoch: int, index: int) -> tuple[Plan, np.random.Generator, np.random.Generator]:
        of_rawboost = np.random.default_rng([self.seed, epoch, index])
        of_channel = np.random.default_rng([self.seed, epoch, index, CHANNEL_DRAWS])
        boosted = bool(of_rawboost.random() < self.probability)
        return Plan(boosted, self.channel.draw(of_channel) if self.channel else None), of_rawboost, of_channel
