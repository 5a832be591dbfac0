"""Join the processes of a job, and say in a sentence where one of them is lost."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from qamo import InputError
from qamo.config.schema import Config
from qamo.networks.cpu import malloc
from qamo.training import precision

LOST_PEER = ("gloo", "NCCL", "Connection closed by peer")  # in the RuntimeError of a process that misses another


def processes(cfg: Config) -> Fabric:
    """Join the processes that torchrun started, or start as the config says.

    Raises:
        InputError: the training batch cannot be shared equally by so many.
    """
    if cfg.run.n_threads:
        torch.set_num_threads(cfg.run.n_threads)
    n_local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    devices: Any = n_local if _under_torchrun() else cfg.run.devices
    n_nodes = int(os.environ["WORLD_SIZE"]) // n_local if _under_torchrun() else cfg.run.n_nodes
    accelerator = cfg.run.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if devices == "auto":
        devices = torch.cuda.device_count() if accelerator == "cuda" else 1
    if accelerator == "cpu":
        malloc.keep_freed()
    else:
        set_deterministic(cfg.run.deterministic)
    several = _under_torchrun() or n_nodes > 1 or devices != 1
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=n_nodes,
        # Processes that score wait for the slowest. A process that dies ends the others whatever the timeout.
        strategy=DDPStrategy(timeout=timedelta(hours=2)) if several else "auto",
        plugins=[precision.plugin(cfg.train.precision, accelerator)],
    )
    fabric.launch()
    if cfg.train.enabled and cfg.train.batch_size % fabric.world_size:
        raise InputError(
            f"train.batch_size: {cfg.train.batch_size} is the batch of all processes together and cannot be shared "
            f"by {fabric.world_size}; choose a multiple"
        )
    return fabric


def set_deterministic(wanted: bool) -> None:
    """Have a GPU compute a step alike each time, or as fast as it can; on a CPU PyTorch's steps are alike anyway.

    An operation that has no deterministic form warns, and is computed: such a run may differ in its last bits.
    """
    torch.backends.cudnn.deterministic = wanted
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing reads what it would fill
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts


@contextmanager
def together(fabric: Fabric) -> Iterator[None]:
    """Work as one of several processes; where another is lost, an InputError says so and how to resume."""
    try:
        yield
    except RuntimeError as error:
        if fabric.world_size == 1 or not any(word in str(error) for word in LOST_PEER):
            raise
        raise InputError(
            "lost touch with another process of this job, whose own message says why; what was saved last is kept, "
            f"and the same command goes on from there: {this_command()}"
        ) from error


def this_command() -> str:
    """The command line that started this process, for a person to type again."""
    words = shlex.join(sys.argv)
    if not _under_torchrun():
        return f"python {words}"
    n_local, n_nodes = os.environ["LOCAL_WORLD_SIZE"], int(os.environ["GROUP_WORLD_SIZE"])
    return f"torchrun --nproc_per_node {n_local}{f' --nnodes {n_nodes}' if n_nodes > 1 else ''} {words}"


def _under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ
