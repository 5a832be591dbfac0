"""An epoch as a line of the log, its warnings, and numbers for the loggers."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qamo.config.schema import Config, TrainConfig
from qamo.training.folder import RunFolder
from qamo.training.loggers import Logger, open_loggers
from qamo.training.schedule import share

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from lightning_fabric import Fabric

log = logging.getLogger(__name__)

ONE_CENTROID = 0.98  # cosine above which two centroids hardly differ


def peak_memory_mb() -> dict[str, float]:
    """Peak memory of this process, in MB: resident, where the system counts it, and of a GPU that is used."""
    import torch

    peaks = {}
    if resource is not None:
        unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
        peaks["memory_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peaks["memory_gpu_peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return peaks


def writer(cfg: Config, folder: RunFolder, fabric: Fabric, data: Any) -> Callable[[dict[str, Any]], None]:
    """What `fit` tells of each epoch: an EpochLog's `write` for this run.

    Args:
        data: the run's `data_utils.TrainingData`.
    """
    n_steps = len(data.train) // cfg.train.batch_size
    return EpochLog(
        open_loggers(cfg.run.loggers, folder, cfg.model_dump(mode="json")) if fabric.is_global_zero else (),
        samples_per_epoch=n_steps * cfg.train.batch_size,
        n_classes=data.rule.n_classes if cfg.model.head == "qamo" else 0,
        rates=lambda epoch: rates_after(cfg.train, n_steps, epoch),
    ).write


def rates_after(train: TrainConfig, steps_per_epoch: int, epoch: int) -> dict[str, float]:
    """Learning rates in the last step of an epoch, counted from 1."""
    last = share(train, steps_per_epoch, epoch * steps_per_epoch - 1)
    return {"lr_body": train.lr * last, "lr_head": train.head_lr * last}


class EpochLog:
    """Logs each epoch: a line and warnings, and numbers for `loggers`.

    Args:
        n_classes: quality classes that the head tells apart; one that stays empty for an epoch is warned about.
        rates: the learning rates at the end of an epoch, by name.
    """

    def __init__(
        self,
        loggers: Sequence[Logger],
        *,
        samples_per_epoch: int,
        n_classes: int,
        rates: Callable[[int], Mapping[str, float]],
    ):
        self.loggers = loggers
        self.samples_per_epoch = samples_per_epoch
        self.n_classes = n_classes
        self.rates = rates
        self._before = time.monotonic()

    def write(self, row: dict[str, Any]) -> None:
        now = time.monotonic()
        seconds, self._before = now - self._before, now
        log.info("%s  %.1f s", epoch_line(row), seconds)
        for warning in self.warnings(row):
            log.warning("%s", warning)
        machine = {"speed_samples_per_s": self.samples_per_epoch / seconds, **peak_memory_mb()}
        numbers = {**row, **_shares(row), **self.rates(row["epoch"]), **machine}
        for logger in self.loggers:
            logger.log_metrics({f"{name.split('_')[0]}/{name}": v for name, v in numbers.items()}, row["epoch"])
            logger.save()

    def warnings(self, row: dict[str, Any]) -> list[str]:
        """Warnings about an epoch, one sentence each."""
        found = []
        if row.get("centroid_cosine", 0) > ONE_CENTROID:
            found.append(
                f"two centroids are nearly one (cosine {row['centroid_cosine']:.3f}): quality no longer separates them"
            )
        for k in range(self.n_classes):
            if not row.get(f"n_bonafide_class_{k}"):
                found.append(f"quality class {k} had no bona fide utterance in this epoch")
        return found


def epoch_line(row: dict[str, Any]) -> str:
    """An epoch's row as a line for a person."""
    losses = "  ".join(f"{k.removeprefix('loss_')} {v:.4f}" for k, v in row.items() if k.startswith("loss_"))
    classes = "/".join(str(v) for k, v in row.items() if k.startswith("n_bonafide_class_"))
    cosine = f"  centroid cosine {row['centroid_cosine']:.3f}" if "centroid_cosine" in row else ""
    return (
        f"epoch {row['epoch']:3d}  {losses}  dev loss {row['dev_loss']:.4f}  dev EER {row['dev_eer']:.2f} %{cosine}  "
        f"bona fide by class {classes}  epochs without improvement {row['stale']}"
    )


def _shares(row: dict[str, Any]) -> dict[str, float]:
    """Share of each quality class among an epoch's bona fide utterances."""
    counts = {name: n for name, n in row.items() if name.startswith("n_bonafide_class_")}
    total = max(sum(counts.values()), 1)
    return {name.replace("n_bonafide", "share", 1): n / total for name, n in counts.items()}
