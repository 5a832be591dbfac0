"""An end for what waits."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LONGEST_S = 20


@contextmanager
def alarmed() -> Iterator[None]:
    """TimeoutError in what takes longer than `LONGEST_S`."""

    def ring(*_: Any) -> None:
        raise TimeoutError("it waits for something")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
