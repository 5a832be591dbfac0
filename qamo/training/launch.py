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
from qamo.training import device, precision
from qamo.training.peers import Peers

# Of processes that compute in step; what may take longer, they wait for in `Peers.meet`. One that dies ends the others
# at once, and of one that gives no sign of life they say so within minutes.
WAIT = timedelta(minutes=15)
LOST_PEER = ("gloo", "NCCL", "Connection closed by peer")  # in the RuntimeError of a process that misses another


def processes(cfg: Config) -> Fabric:
    """Join the processes that torchrun or SLURM started, or start as the config says.

    Raises:
        InputError: the devices are not there, the batch has fewer utterances than there are processes, or these do not
            find each other.
    """
    if cfg.run.n_threads:
        torch.set_num_threads(cfg.run.n_threads)
    accelerator = device.accelerator_of(cfg.run)
    job = device.job_of(cfg, accelerator)
    if accelerator == "cpu":
        malloc.keep_freed()
    else:
        set_deterministic(cfg.run.deterministic)
    fabric = Fabric(
        accelerator=accelerator,
        devices=job.devices,
        num_nodes=job.n_nodes,
        strategy=DDPStrategy(timeout=WAIT) if job.several else "auto",
        plugins=[precision.plugin(cfg.train.precision, accelerator)],
    )
    try:
        fabric.launch()
    except RuntimeError as error:
        if not job.several:
            raise
        raise InputError(
            f"the {job.devices} processes on each of {job.n_nodes} nodes did not find each other "
            f"({str(error).splitlines()[0]}); start the same command on every node, with the address of the first"
        ) from error
    if cfg.train.enabled and cfg.train.batch_size < fabric.world_size:
        raise InputError(
            f"train.batch_size: {cfg.train.batch_size} is the batch of all processes together and cannot be shared "
            f"by {fabric.world_size}; choose at least {fabric.world_size}, or start fewer processes"
        )
    return fabric


def set_deterministic(wanted: bool) -> None:
    """Have a GPU compute a step alike each time, or as fast as it can; on a CPU PyTorch's steps are alike anyway.

    An operation that has no deterministic form warns, and is computed: such a run may differ in its last bits.
    """
    torch.backends.cudnn.deterministic = wanted
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    switches: Any = torch.utils.deterministic
    switches.fill_uninitialized_memory = False  # nothing reads what it would fill
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts


@contextmanager
def together(fabric: Fabric, cfg: Config) -> Iterator[None]:
    """Work as one of several processes that agree; where another or a GPU is lost, an InputError says how to resume.

    Raises:
        InputError: the processes were started with different settings, lists or code, or one or a GPU was lost.
    """
    try:
        if fabric.world_size == 1:
            yield
            return
        peers = Peers.of(fabric)
        with peers.watched(this_command()):
            peers.agree(cfg, fabric.device.type)
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
    """The command line that started this process, for a person to type again, on this node where there are several."""
    words, env = shlex.join(sys.argv), os.environ
    if device.under_torchrun():
        n_nodes = int(env["GROUP_WORLD_SIZE"])
        place = f"--nnodes {n_nodes} --node_rank {env.get('GROUP_RANK', 0)} --master_addr {env.get('MASTER_ADDR')} "
        place += f"--master_port {env.get('MASTER_PORT')} "
        return f"torchrun --nproc_per_node {env['LOCAL_WORLD_SIZE']} {place if n_nodes > 1 else ''}{words}"
    if n_tasks := device.slurm_tasks():
        return f"srun --ntasks={n_tasks} --ntasks-per-node={env.get('SLURM_NTASKS_PER_NODE', n_tasks)} python {words}"
    by_hand = "NODE_RANK" in env and "LOCAL_RANK" not in env  # a process for each node, which starts the others
    names = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT") if by_hand else ()
    return " ".join([*(f"{name}={shlex.quote(env[name])}" for name in names if name in env), "python", words])
