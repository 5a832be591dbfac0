"""What each process of tests/training/test_distributed.py does under torchrun: measure, then run the real command.

torchrun --nproc_per_node N -m tests.support.distributed_steps OUT CONFIG KILL_AT_EPOCH
"""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

import main
from qamo import InputError
from qamo.config.load import load_config
from qamo.training import launch
from qamo.training.gather import gather_batch, gather_rows, set_anywhere, share_of
from qamo.training.loader import Batch, Batches
from qamo.training.loop import dev_loss
from qamo.training.signals import StopFlag
from tests.support.detectors import LFCC, XLSR, batch_of, detector_of


def share(batch: Batch, fabric: Fabric) -> Batch:
    rows = share_of(len(batch.wave), fabric.global_rank, fabric.world_size)
    return Batch(*(column[rows] for column in batch))


def gradient_difference(fabric: Fabric, n: int) -> dict[str, float]:
    """Largest difference of a gradient from the single process's, over the tensor's largest, and of batch norms."""
    batch = batch_of(np.random.default_rng(5), n)
    alone, together = detector_of(XLSR).double().train(), detector_of(XLSR).double().train()
    together.gather = partial(gather_batch, fabric, batch_size=n)
    together.frontend_chunks = 2
    model = fabric.setup(together)
    for detector, part in ((alone, batch), (model, share(batch, fabric))):
        losses = detector(part.wave.double(), part.bonafide, part.quality).losses
        if detector is alone:
            losses["total"].backward()
        else:
            fabric.backward(losses["total"])
    largest = max(float(p.grad.abs().max()) for p in alone.parameters() if p.grad is not None)
    worst = {"gradient": 0.0, "batch norm": 0.0}
    for ours, theirs in zip(together.parameters(), alone.parameters()):
        assert ours.grad is not None and theirs.grad is not None  # noqa: PT018
        scale = max(float(theirs.grad.abs().max()), 1e-6 * largest)  # the gradient of a key bias is 0 but for rounding
        worst["gradient"] = max(worst["gradient"], float((ours.grad - theirs.grad).abs().max()) / scale)
    for mine, other in zip(together.buffers(), alone.buffers()):
        worst["batch norm"] = max(worst["batch norm"], float((mine - other).abs().max()))
    return worst


def dev_losses(fabric: Fabric, n_dev: int) -> list[dict[str, float] | None]:
    """The dev loss of all processes together, and of this one alone."""
    whole = batch_of(np.random.default_rng(7), n_dev)
    parts = [Batch(*(column[start : start + 4] for column in whole)) for start in range(0, n_dev, 4)]
    detector = detector_of(LFCC)
    mine = Batches(lambda *_: [], lambda: parts[fabric.global_rank :: fabric.world_size], 0, len(parts), [], 0, {})
    single = Batches(lambda *_: [], lambda: parts, 0, len(parts), [], 0, {})

    class Alone:
        world_size, global_rank, autocast = 1, 0, fabric.autocast

    together = dev_loss(fabric, detector, mine, StopFlag())
    return [together, dev_loss(Alone(), detector, single, StopFlag())]  # type: ignore[arg-type]


def gathered(fabric: Fabric) -> bool:
    """Whether rows of uneven numbers and all kinds come back in order, bit for bit."""
    rank, n = fabric.global_rank, fabric.world_size

    def of(k: int, dtype: torch.dtype) -> Tensor:
        return (torch.arange(k * 3).reshape(k, 3) + 0.1 * k).to(dtype)

    return all(
        torch.equal(gather_rows(fabric, of(rank, dtype)), torch.cat([of(k, dtype) for k in range(n)]))
        for dtype in (torch.float64, torch.bfloat16, torch.int64, torch.bool)
    )


def agreements(fabric: Fabric) -> list[list[bool]]:
    last = fabric.global_rank == fabric.world_size - 1
    return [set_anywhere(fabric, last, False), set_anywhere(fabric, False, True)]


def refusal(config: str) -> str:
    try:
        launch.processes(load_config(Path(config), {"train.batch_size": 2}))
    except InputError as error:
        return str(error)
    return ""


def steps(out: Path, config: str, kill_at_epoch: int) -> int:
    words = ["--config", config, "name=shared", "train.save_every_s=0.001", "train.max_epochs=4"]
    fabric = launch.processes(load_config(Path(config)))
    found = {
        # 20 are shared by three as 6, 7 and 7, and 8 as 2, 3 and 3.
        "gradients": [gradient_difference(fabric, n) for n in (6, 20, 8)],
        "dev": [dev_losses(fabric, n_dev) for n_dev in (13, 3)],  # 3 is a single batch: some processes have none
        "gathered": gathered(fabric),
        "agreed": agreements(fabric),
        "odd": refusal(config),
    }
    (out / f"found_{fabric.world_size}_{fabric.global_rank}.json").write_text(json.dumps(found))
    if kill_at_epoch and fabric.global_rank == 1:

        def kill(frame, event, argument):
            if event == "call" and frame.f_code.co_name == "train_epoch":
                state = frame.f_locals["state"]
                if state.epoch + 1 == kill_at_epoch:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(kill)
    return main.main(words)


if __name__ == "__main__":
    sys.exit(steps(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
