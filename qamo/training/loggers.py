"""Where the numbers of each epoch go besides the terminal: `run.loggers`.

tensorboard  events in the run's folder `tensorboard/`
jsonl        the run's metrics.jsonl, which `qamo.training.state` writes, since a resume must find it whole
wandb        Weights & Biases, as one run that a resume continues; its own settings are WANDB_PROJECT, WANDB_MODE
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lightning_fabric.loggers import TensorBoardLogger

from qamo import InputError
from qamo.command import first_line
from qamo.files import sha256
from qamo.training.folder import RunFolder

PACKAGES = ("tensorboard", "wandb")  # loggers that are a package of the same name


class Logger(Protocol):
    """Takes the numbers of epochs; Fabric's loggers do."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None: ...
    def save(self) -> None: ...


class WandbLogger:
    """Weights & Biases. Its run is known by the folder's run.json, so that a resume goes on with it.

    Raises:
        InputError: it takes no run: nobody is logged in, or its server is out of reach.
    """

    def __init__(self, folder: RunFolder, settings: Mapping[str, Any]):
        import wandb

        about = {"name": folder.path.name, "id": sha256(folder.record)[:16], "dir": str(folder)}
        try:
            self._run: Any = wandb.init(**about, resume="allow", config=dict(settings))
        except wandb.Error as error:
            reason = first_line(error).rstrip(".")
            raise InputError(
                f"run.loggers: wandb: {reason}; or set WANDB_MODE=offline, or leave wandb out of run.loggers"
            ) from None

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self._run.log(dict(metrics), step=step)

    def save(self) -> None:
        """Nothing to do: wandb sends from a process of its own, and ends with this one."""


def check_installed(names: Sequence[str]) -> None:
    """See that the packages of loggers are there.

    Raises:
        InputError: one is not.
    """
    for name in names:
        if name in PACKAGES and importlib.util.find_spec(name) is None:
            rest = ",".join(other for other in names if other != name)
            raise InputError(f"run.loggers: {name} is not installed; pip install {name}, or set run.loggers=[{rest}]")


def open_loggers(names: Sequence[str], folder: RunFolder, settings: Mapping[str, Any]) -> list[Logger]:
    """The loggers of these names, for the first process of a run.

    Args:
        settings: shown beside the numbers where a logger does that.

    Raises:
        InputError: a package is missing, or takes no run.
    """
    check_installed(names)
    found: list[Logger] = []
    if "tensorboard" in names:
        found.append(TensorBoardLogger(str(folder), name=folder.tensorboard.name, version=""))
    if "wandb" in names:
        found.append(WandbLogger(folder, settings))
    return found
