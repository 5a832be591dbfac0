"""Graceful shutdown: SIGTERM and Ctrl-C set a flag that long loops check between steps."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)

# torchrun passes on what every process of a terminal's group has got already: signals this close together are one.
ONE_REQUEST_S = 0.5


class Interrupted(Exception):
    """The run was asked to stop, and its state is saved."""


class StopFlag:
    """Set by the first SIGTERM or Ctrl-C."""

    asked = False
    since = 0.0


@contextmanager
def stopping_on_signals() -> Iterator[StopFlag]:
    """Turn SIGTERM and Ctrl-C into a flag; a second one stops at once."""
    flag = StopFlag()

    def ask(number: int, frame: Any) -> None:
        now = time.monotonic()
        if flag.asked:
            if now - flag.since > ONE_REQUEST_S or "WORLD_SIZE" not in os.environ:
                raise KeyboardInterrupt
            return
        log.warning("stopping after this step (signal %d); press Ctrl-C again to stop without saving", number)
        flag.asked, flag.since = True, now

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: signals are somebody else's
        before = {}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
