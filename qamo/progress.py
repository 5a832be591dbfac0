"""Progress and log: a bar on a terminal, a line now and then elsewhere, so that a log file stays readable."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

LINE_EVERY_S = 20.0  # between two progress lines where there is no terminal
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt} of {total_fmt} {unit} [{elapsed}<{remaining}{postfix}]"


def progress(
    items: Iterable[T],
    label: str,
    *,
    total: int | None,
    unit: str,
    initial: int = 0,
    count: Callable[[T], int] = lambda item: 1,
) -> Iterator[T]:
    """Pass `items` through, showing how many of `total` went by, the rate and the time that remains."""
    if not is_first_process():
        yield from items
        return
    if sys.stderr.isatty():
        from tqdm import tqdm

        shown: Any = {"unit": _several(unit), "bar_format": BAR, "leave": False, "smoothing": 0.1}
        with tqdm(total=total, desc=label, initial=initial, **shown) as bar:
            for item in items:
                yield item
                if rate := bar.format_dict["rate"]:
                    bar.set_postfix_str(_speed(rate, unit), refresh=False)
                bar.update(count(item))
        return
    start = last = time.monotonic()
    done = initial
    for item in items:
        yield item
        done += count(item)
        now = time.monotonic()
        if now - last >= LINE_EVERY_S:
            last = now
            rate = (done - initial) / (now - start)
            remaining = f", {_duration((total - done) / rate)} left" if total and rate > 0 else ""
            speed = _speed(rate, unit)
            log.info("%s: %d of %s %s, %s%s", label, done, total or "?", _several(unit), speed, remaining)


NOISY = (
    "torch.distributed", "urllib3", "httpx", "httpx2", "lightning_fabric", "lightning", "matplotlib", "transformers",
)  # fmt: skip


def is_first_process() -> bool:
    """Whether this is the one of several processes that speaks for all."""
    ranks = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))  # of torchrun, srun, Lightning
    return int(next((rank for rank in ranks if rank), 0)) == 0


def start_log(path: Path | None = None, *, verbose: bool = True) -> None:
    """Send log messages to standard error and, where given, to a file as well. May be called again with a file."""
    root = logging.getLogger()
    root.setLevel(logging.INFO if verbose and is_first_process() else logging.WARNING)
    logging.captureWarnings(True)
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.ERROR)
    logging.getLogger("huggingface_hub").propagate = False  # it prints by itself
    if not any(isinstance(h, _Stderr) for h in root.handlers):
        screen = _Stderr()
        screen.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        root.addHandler(screen)
    for old in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        root.removeHandler(old)
        old.close()
    if path is not None:
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        root.addHandler(handler)


def say(text: str, stream: TextIO) -> None:
    """Print a line around a progress bar, not through it."""
    if sys.stderr.isatty():
        from tqdm import tqdm  # where there is a bar, it is loaded already

        tqdm.write(text, file=stream)
    else:
        print(text, file=stream, flush=True)


class _Stderr(logging.StreamHandler):
    """Writes around a progress bar, not through it."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record), sys.stderr)


def _several(unit: str) -> str:
    return f"{unit}es" if unit.endswith("ch") else f"{unit}s"


def _speed(rate: float, unit: str) -> str:
    return f"{rate:.1f} a second" if rate >= 1 or rate <= 0 else f"{1 / rate:.1f} s each {unit}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
