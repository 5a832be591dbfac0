"""What a run says and writes down about itself: progress, log, provenance, TensorBoard.

Progress is a bar on a terminal and a line now and then elsewhere, so that a log file stays readable.
"""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

ONE_CENTROID = 0.98  # cosine above which two centroids hardly differ
LINE_EVERY_S = 20.0  # between two progress lines where there is no terminal
PACKAGES = ("torch", "transformers", "numpy", "scipy", "lightning-fabric", "soundfile", "soxr", "distillmos")


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

        with tqdm(total=total, desc=label, unit=f" {unit}", initial=initial, leave=False, smoothing=0.1) as bar:
            for item in items:
                yield item
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
            log.info("%s: %d of %s %ss, %.1f a second%s", label, done, total or "?", unit, rate, remaining)


def is_first_process() -> bool:
    """Whether this is the one of several processes that speaks for all."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0))) == 0


def start_log(path: Path | None = None, *, verbose: bool = True) -> None:
    """Send log messages to standard error and, where given, to a file as well. May be called again with a file."""
    root = logging.getLogger()
    root.setLevel(logging.INFO if verbose and is_first_process() else logging.WARNING)
    logging.captureWarnings(True)
    for noisy in ("torch.distributed", "urllib3", "lightning_fabric", "lightning", "matplotlib", "transformers"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
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


class _Stderr(logging.StreamHandler):
    """Writes around a progress bar, not through it."""

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr.isatty():
            from tqdm import tqdm

            tqdm.write(self.format(record), file=sys.stderr)
        else:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()


def provenance(root: Path, *, device: Any = "cpu", n_processes: int = 1) -> dict[str, Any]:
    """When and where a run was made: code version, packages, machine. Empty where something cannot be told."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if "torch" in sys.modules:
        versions["torch"] = sys.modules["torch"].__version__  # names the build too: 2.13.0+cpu
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": " ".join(sys.argv),
        "git_commit": _git(root, "rev-parse", "HEAD"),
        "git_dirty": None if changed is None else changed != "",
        "python": platform.python_version(),
        "packages": versions,
        "device": _device(device),
        "n_processes": n_processes,
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        },
    }


def peak_memory_mb() -> dict[str, float]:
    """Peak memory of this process, in MB: resident, and where a GPU is used on that."""
    import resource

    import torch

    peaks = {"memory_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peaks["memory_gpu_peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return peaks


class EpochLog:
    """Says how each epoch went: a line and warnings to the log, numbers to TensorBoard events.

    Args:
        folder: of the events; None: no events.
        n_classes: quality classes that the head tells apart; one that stays empty for an epoch is warned about.
        constants: written along with every epoch.
    """

    def __init__(self, folder: Path | None, *, samples_per_epoch: int, n_classes: int, constants: dict[str, float]):
        self.samples_per_epoch = samples_per_epoch
        self.n_classes = n_classes
        self.constants = constants
        self._before = time.monotonic()
        self._events: Any = None
        if folder is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter

                self._events = SummaryWriter(str(folder))
            except ImportError:
                log.info("tensorboard is not installed: no events are written")

    def write(self, row: dict[str, Any]) -> None:
        now = time.monotonic()
        seconds, self._before = now - self._before, now
        log.info("%s  %.1f s", epoch_line(row), seconds)
        for warning in self.warnings(row):
            log.warning("%s", warning)
        if self._events is not None:
            machine = {"speed_samples_per_s": self.samples_per_epoch / seconds, **peak_memory_mb()}
            for name, value in {**row, **_shares(row), **self.constants, **machine}.items():
                self._events.add_scalar(f"{name.split('_')[0]}/{name}", value, row["epoch"])
            self._events.flush()

    def warnings(self, row: dict[str, Any]) -> list[str]:
        """What a person should know about an epoch."""
        said = []
        if row.get("centroid_cosine", 0) > ONE_CENTROID:
            said.append(
                f"two centroids are nearly one (cosine {row['centroid_cosine']:.3f}): quality no longer separates them"
            )
        for k in range(self.n_classes):
            if not row.get(f"n_bonafide_class_{k}"):
                said.append(f"quality class {k} had no bona fide utterance in this epoch")
        return said


def epoch_line(row: dict[str, Any]) -> str:
    """An epoch's row as a line for a person."""
    losses = "  ".join(f"{k.removeprefix('loss_')} {v:.4f}" for k, v in row.items() if k.startswith("loss_"))
    classes = "/".join(str(v) for k, v in row.items() if k.startswith("n_bonafide_class_"))
    cosine = f"  centroid cosine {row['centroid_cosine']:.3f}" if "centroid_cosine" in row else ""
    return (
        f"epoch {row['epoch']:3d}  {losses}  dev loss {row['dev_loss']:.4f}  dev EER {row['dev_eer']:.2f} %{cosine}  "
        f"bona fide by class {classes}  stale {row['stale']}"
    )


def _shares(row: dict[str, Any]) -> dict[str, float]:
    """Share of each quality class among an epoch's bona fide utterances."""
    counts = {name: n for name, n in row.items() if name.startswith("n_bonafide_class_")}
    total = max(sum(counts.values()), 1)
    return {name.replace("n_bonafide", "share", 1): n / total for name, n in counts.items()}


def _device(device: Any) -> str:
    import torch

    named = torch.device(device)
    return f"{named} {torch.cuda.get_device_name(named)}" if named.type == "cuda" else str(named)


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
