"""Join the processes of a job, and say in a sentence where one of them is lost."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from qamo import InputError
from qamo.config.schema import Config
from qamo.networks.cpu import malloc
from qamo.training import device, precision

LOST_PEER = ("gloo", "NCCL", "Connection closed by peer")  # in the RuntimeError of a process that misses another


def processes(cfg: Config) -> Fabric:
    """Join the processes that torchrun started, or start as the config says.

    Raises:
        InputError: the devices are not there, or the training batch has fewer utterances than there are processes.
    """
    if cfg.run.n_threads:
        torch.set_num_threads(cfg.run.n_threads)
    accelerator = device.accelerator_of(cfg.run)
    job = device.job_of(cfg, accelerator)
    if accelerator == "cpu":
        malloc.keep_freed()
    fabric = Fabric(
        accelerator=accelerator,
        devices=job.devices,
        num_nodes=job.n_nodes,
        # Processes that score wait for the slowest. A process that dies ends the others whatever the timeout.
        strategy=DDPStrategy(timeout=timedelta(hours=2)) if job.several else "auto",
        plugins=[precision.plugin(cfg.train.precision, accelerator)],
    )
    fabric.launch()
    if cfg.train.enabled and cfg.train.batch_size < fabric.world_size:
        raise InputError(
            f"train.batch_size: {cfg.train.batch_size} is the batch of all processes together and cannot be shared "
            f"by {fabric.world_size}; choose at least {fabric.world_size}, or start fewer processes"
        )
    return fabric


@contextmanager
def together(fabric: Fabric) -> Iterator[None]:
    """Work as one of several processes; where another or a GPU is lost, an InputError says so and how to resume."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise InputError(
            f"the memory of {fabric.device} is too small for this training: train.frontend_chunks=4 or "
            "model.xlsr.gradient_checkpointing=true give the same gradients in less; what was saved last is kept"
        ) from None
    except RuntimeError as error:
        if "CUDA error" in str(error):
            raise InputError(
                f"{fabric.device} failed ({str(error).splitlines()[0]}); what was saved last is kept, and the same "
                f"command goes on from there, on another device with CUDA_VISIBLE_DEVICES: {this_command()}"
            ) from error
        if fabric.world_size == 1 or not any(word in str(error) for word in LOST_PEER):
            raise
        raise InputError(
            "lost touch with another process of this job, whose own message says why; what was saved last is kept, "
            f"and the same command goes on from there: {this_command()}"
        ) from error


def this_command() -> str:
    """The command line that started this process, for a person to type again."""
    words = shlex.join(sys.argv)
    if not device.under_torchrun():
        return f"python {words}"
    n_local, n_nodes = os.environ["LOCAL_WORLD_SIZE"], int(os.environ["GROUP_WORLD_SIZE"])
    return f"torchrun --nproc_per_node {n_local}{f' --nnodes {n_nodes}' if n_nodes > 1 else ''} {words}"
