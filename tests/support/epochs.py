"""An epoch's row, and a log for it."""

from __future__ import annotations

from qamo.training import epoch_log

ROW = {
    "epoch": 3,
    "loss_total": 1.5,
    "n_bonafide_class_0": 3,
    "n_bonafide_class_1": 9,
    "centroid_cosine": 0.5,
    "dev_loss": 0.25,
    "dev_eer": 12.5,
    "stale": 0,
}


def log_of(opened=(), n_classes: int = 2) -> epoch_log.EpochLog:
    rates = lambda epoch: {"lr_body": 1e-6 / epoch}  # noqa: E731
    return epoch_log.EpochLog(opened, samples_per_epoch=12, n_classes=n_classes, rates=rates)
