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
from qamo.training import precision
from qamo.training.peers import Peers

# Of processes that compute in step; what may take longer, they wait for in `Peers.meet`. One that dies ends the others
# at once, and of one that gives no sign of life they say so within minutes.
WAIT = timedelta(minutes=15)
LOST_PEER = ("gloo", "NCCL", "Connection closed by peer")  # in the RuntimeError of a process that misses another


def processes(cfg: Config) -> Fabric:
    """Join the processes that torchrun or SLURM started, or start as the config says.

    Raises:
        InputError: the training batch cannot be shared equally by so many, or they do not find each other.
    """
    if cfg.run.n_threads:
        torch.set_num_threads(cfg.run.n_threads)
    accelerator = cfg.run.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    devices, n_nodes = _started_already(cfg) or (cfg.run.devices, cfg.run.n_nodes)
    if devices == "auto":
        devices = torch.cuda.device_count() if accelerator == "cuda" else 1
    if accelerator == "cpu":
        malloc.keep_freed()
    several = _under_torchrun() or n_nodes > 1 or devices != 1
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=n_nodes,
        strategy=DDPStrategy(timeout=WAIT) if several else "auto",
        plugins=[precision.plugin(cfg.train.precision, accelerator)],
    )
    try:
        fabric.launch()
    except RuntimeError as error:
        if not several:
            raise
        raise InputError(
            f"the {devices} processes on each of {n_nodes} nodes did not find each other "
            f"({str(error).splitlines()[0]}); start the same command on every node, with the address of the first"
        ) from error
    if cfg.train.enabled and cfg.train.batch_size % fabric.world_size:
        raise InputError(
            f"train.batch_size: {cfg.train.batch_size} is the batch of all processes together and cannot be shared "
            f"by {fabric.world_size}; choose a multiple"
        )
    return fabric


def _started_already(cfg: Config) -> tuple[int, int] | None:
    """Processes on each node and nodes, where torchrun or SLURM's srun has started them; None where nobody has.

    Raises:
        InputError: SLURM's tasks are others than the config asks for.
    """
    if _under_torchrun():
        n_local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        return n_local, int(os.environ["WORLD_SIZE"]) // n_local
    n_tasks = _slurm_tasks()
    if not n_tasks:
        return None
    n_nodes = int(os.environ.get("SLURM_NNODES") or os.environ.get("SLURM_JOB_NUM_NODES") or 1)
    n_local = n_tasks // n_nodes
    if n_local * n_nodes != n_tasks:
        raise InputError(f"SLURM started {n_tasks} tasks on {n_nodes} nodes; give all nodes equally many")
    for key, asked, found, flag in (
        ("run.devices", cfg.run.devices, n_local, "--ntasks-per-node"),
        ("run.n_nodes", cfg.run.n_nodes, n_nodes, "--nodes"),
    ):
        if asked not in (1, "auto", found):
            raise InputError(f"{key} is {asked}, but SLURM started {found}; start with `srun {flag}={asked}`")
    os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(n_local))  # without it Lightning refuses tasks
    return n_local, n_nodes


@contextmanager
def together(fabric: Fabric, cfg: Config) -> Iterator[None]:
    """Work as one of several processes that agree; where another is lost, an InputError says so and how to resume.

    Raises:
        InputError: the processes were started with different settings, lists or code, or one of them was lost.
    """
    if fabric.world_size == 1:
        yield
        return
    try:
        peers = Peers.of(fabric)
        with peers.watched(this_command()):
            peers.agree(cfg, fabric.device.type)
            yield
    except RuntimeError as error:
        if not any(word in str(error) for word in LOST_PEER):
            raise
        raise InputError(
            "lost touch with another process of this job, whose own message says why; what was saved last is kept, "
            f"and the same command goes on from there: {this_command()}"
        ) from error


def this_command() -> str:
    """The command line that started this process, for a person to type again, on this node where there are several."""
    words, env = shlex.join(sys.argv), os.environ
    if _under_torchrun():
        n_nodes = int(env["GROUP_WORLD_SIZE"])
        place = f"--nnodes {n_nodes} --node_rank {env.get('GROUP_RANK', 0)} --master_addr {env.get('MASTER_ADDR')} "
        place += f"--master_port {env.get('MASTER_PORT')} "
        return f"torchrun --nproc_per_node {env['LOCAL_WORLD_SIZE']} {place if n_nodes > 1 else ''}{words}"
    if n_tasks := _slurm_tasks():
        return f"srun --ntasks={n_tasks} --ntasks-per-node={env.get('SLURM_NTASKS_PER_NODE', n_tasks)} python {words}"
    by_hand = "NODE_RANK" in env and "LOCAL_RANK" not in env  # a process for each node, which starts the others
    names = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT") if by_hand else ()
    return " ".join([*(f"{name}={shlex.quote(env[name])}" for name in names if name in env), "python", words])


def _under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _slurm_tasks() -> int:
    """How many tasks srun started this process among; 0 without SLURM, and in its interactive shells."""
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return 0 if interactive or _under_torchrun() else int(os.environ.get("SLURM_NTASKS", 0))
