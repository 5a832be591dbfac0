"""Graceful shutdown: SIGTERM and Ctrl-C set a flag that long loops check between steps."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)


class Interrupted(Exception):
    """The run was asked to stop, and its state is saved."""


class StopFlag:
    """Set by the first SIGTERM or Ctrl-C."""

    asked = False


@contextmanager
def stopping_on_signals() -> Iterator[StopFlag]:
    """Turn SIGTERM and Ctrl-C into a flag; a second Ctrl-C stops at once."""
    flag = StopFlag()

    def ask(number: int, frame: Any) -> None:
        if flag.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not flag.asked:
            log.warning("stopping after this step (signal %d); press Ctrl-C again to stop without saving", number)
        flag.asked = True

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: signals are somebody else's
        before = {}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
