"""On what a run is computed: kind and number of devices and machines, precision, and recordings at a time."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch

from qamo import InputError
from qamo.config.schema import Config, RunConfig
from qamo.training import precision

# Recordings of one batch of scoring, which is what an interrupted run goes on from. A CPU gains nothing beyond ten.
SCORE_BATCH = {"cpu": 20, "cuda": 128}


def score_batch(asked: int | str, device_type: str) -> int:
    """How many recordings make a batch of scoring."""
    return SCORE_BATCH[device_type] if isinstance(asked, str) else asked


class Job(NamedTuple):
    """Processes of a job."""

    devices: int  # on each machine
    n_nodes: int
    several: bool  # whether they must be joined


def accelerator_of(run: RunConfig) -> str:
    """cpu or cuda.

    Raises:
        InputError: a GPU is asked for that PyTorch does not see.
    """
    if run.accelerator == "cpu":
        return "cpu"
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if run.accelerator == "cuda" and not n_gpus:
        why = "is built without it" if torch.version.cuda is None else "sees no GPU (look at nvidia-smi)"
        raise InputError(
            f"run.accelerator: cuda was asked for, but PyTorch {torch.__version__} {why}; take auto or cpu"
        )
    if n_gpus and isinstance(run.devices, int) and run.devices > n_gpus and not under_torchrun():
        raise InputError(f"run.devices: {run.devices} GPUs were asked for, this machine has {n_gpus}; take auto")
    return "cuda" if n_gpus else "cpu"


def resolved(cfg: Config) -> Config:
    """A config whose `auto` values of precision and scoring batch are those of this machine.

    Raises:
        InputError: a device is asked for that is not there, or a precision that it would emulate.
    """
    device = accelerator_of(cfg.run)
    emulate = cfg.run.emulate
    train = cfg.train
    if train.enabled or train.precision == "auto":  # of a run that only scores, the precision is history
        name = precision.resolved(train.precision, device, "train.precision", emulate=emulate)
        train = train.model_copy(update={"precision": name})
    score = cfg.score.model_copy(
        update={
            "precision": precision.resolved(cfg.score.precision, device, "score.precision", emulate=emulate),
            "batch_size": score_batch(cfg.score.batch_size, device),
        }
    )
    return cfg.model_copy(update={"train": train, "score": score})


def job_of(cfg: Config, accelerator: str) -> Job:
    """The processes that torchrun or SLURM's srun started, or those that the config asks for.

    Raises:
        InputError: SLURM's tasks are others than the config asks for.
    """
    if under_torchrun():
        n_local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        return Job(n_local, int(os.environ["WORLD_SIZE"]) // n_local, several=True)
    if n_tasks := slurm_tasks():
        return _job_of_slurm(cfg.run, n_tasks)
    devices = cfg.run.devices
    if devices == "auto":
        devices = torch.cuda.device_count() if accelerator == "cuda" and not cfg.train.enabled else 1
    return Job(devices, cfg.run.n_nodes, several=devices > 1 or cfg.run.n_nodes > 1)


def _job_of_slurm(run: RunConfig, n_tasks: int) -> Job:
    n_nodes = int(os.environ.get("SLURM_NNODES") or os.environ.get("SLURM_JOB_NUM_NODES") or 1)
    n_local = n_tasks // n_nodes
    if n_local * n_nodes != n_tasks:
        raise InputError(f"SLURM started {n_tasks} tasks on {n_nodes} nodes; give all nodes equally many")
    for key, asked, found, flag in (
        ("run.devices", run.devices, n_local, "--ntasks-per-node"),
        ("run.n_nodes", run.n_nodes, n_nodes, "--nodes"),
    ):
        if asked not in (1, "auto", found):
            raise InputError(f"{key} is {asked}, but SLURM started {found}; start with `srun {flag}={asked}`")
    os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(n_local))  # without it Lightning refuses tasks
    return Job(n_local, n_nodes, several=n_tasks > 1)


def under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def slurm_tasks() -> int:
    """How many tasks srun started this process among; 0 without SLURM, and in its interactive shells."""
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return 0 if interactive or under_torchrun() else int(os.environ.get("SLURM_NTASKS", 0))
