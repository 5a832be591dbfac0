"""A detector without weights for tests of the server: the score is the mean magnitude; some sounds are trouble."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from typing import Any

import numpy as np

from qamo.inference.judging import Settings

DEADLY, SLOW = 0.75, 0.5  # a wave that begins with this sample ends the process, or takes a second a window


class StandIn:
    name, weights_digest, head = "stand-in", "0" * 16, "qamo"
    window_samples = 8_000
    calibration, why_uncalibrated = None, "it is a stand-in"

    def __call__(self, waves: np.ndarray) -> np.ndarray:
        if np.isclose(waves[:, 0], DEADLY, atol=1e-3).any():
            os.abort()
        time.sleep(np.isclose(waves[:, 0], SLOW, atol=1e-3).sum())
        return np.abs(waves).mean(axis=1)


def opens_for_writing(event: str, args: tuple[Any, ...]) -> bool:
    """What an audit hook asks."""
    return event == "open" and isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def forbid_writing(event: str, args: tuple[Any, ...]) -> None:
    if opens_for_writing(event, args):
        raise PermissionError(f"{args[0]!r} would be written")


@dataclasses.dataclass(frozen=True)
class StandInSettings(Settings):
    def open(self):
        sys.addaudithook(forbid_writing)  # in the judging process, for as long as it lives
        return StandIn(), None
