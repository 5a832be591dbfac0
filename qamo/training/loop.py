"""Training: the loop and the choice of the best epochs.

The loop is plain functions. `fit` calls `train_epoch` and `dev_loss` until the dev loss has not improved for a
while, keeps the best epochs, and writes last.pt after every epoch and every `save_every_s` seconds inside one.
Every random draw of training is a function of (seed, epoch, index), so a run that was cut off, wherever, ends bit
for bit where an uninterrupted one does (on a CPU with as many threads and processes).

Several processes: each computes the front end on its share of the batch, then the features are gathered, and every
process computes the back end, the head and the loss on the whole batch. Batch norms and the loss thereby see what
they see in a single process, and so the gradients are those of a single process. (A back end is about 1 % of the
work of XLS-R; computing it everywhere costs less than synchronising its batch norms layer by layer would.) The dev
set is cut into batches before it is shared out, and their losses are added in its order: given equal weights, the
dev loss, the best epochs and the early stop are the same for any number of processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from eval_metrics import equal_error_rate
from qamo import InputError
from qamo.config.schema import TrainConfig
from qamo.networks.contract import Detector
from qamo.progress import progress
from qamo.training import precision
from qamo.training.cuda_graph import Passes
from qamo.training.gather import gather_rows, set_anywhere, share_batches
from qamo.training.loader import Batches
from qamo.training.schedule import Schedule
from qamo.training.signals import Interrupted, StopFlag, stopping_on_signals
from qamo.training.state import Saver, TrainState, read_last, resume
from qamo.training.step_log import StepLog


def build_optimizer(detector: Detector, *, lr: float, head_lr: float, weight_decay: float) -> torch.optim.Adam:
    """Adam with coupled weight decay in two groups: the head, and everything else that is trained.

    The published code runs two Adams; Adam treats every tensor by itself, so one with two groups takes equal steps.
    """
    head = [p for p in detector.head.parameters() if p.requires_grad]
    fused = True if head and head[0].is_cuda else None  # one kernel for all tensors in place of several each
    of_head = {id(p) for p in head}
    body = [p for p in detector.parameters() if p.requires_grad and id(p) not in of_head]
    groups = [{"params": body, "lr": lr}, {"params": head, "lr": head_lr}]
    return torch.optim.Adam([g for g in groups if g["params"]], weight_decay=weight_decay, fused=fused)


def fit(
    fabric: Fabric,
    detector: Detector,
    batches: Batches,
    train: TrainConfig,
    folder: Path,
    on_epoch: Callable[[dict[str, Any]], None] = lambda row: None,
    keep_metrics: bool = True,
    record: bool = False,
) -> TrainState:
    """Train until the dev loss has not improved for `patience` epochs; resume from last.pt if it is there.

    Args:
        detector: a `model.Detector`; left with the weights of the last epoch.
        folder: of the run, for last.pt, metrics.jsonl (if `keep_metrics`) and the best epochs.
        on_epoch: told the row of each finished epoch.
        record: forward and backward pass as a CUDA graph, where that can be.

    Raises:
        InputError: the loss is not finite, or last.pt is damaged.
        Interrupted: SIGTERM or Ctrl-C came; the state is saved.
    """
    torch.manual_seed(batches.seed)
    share_batches(fabric, detector, train.batch_size)
    cast(nn.Module, detector).to(fabric.device)  # before the optimiser, which asks where the weights are
    optimizer = build_optimizer(detector, lr=train.lr, head_lr=train.head_lr, weight_decay=train.weight_decay)
    schedule = Schedule(optimizer, train, batches.steps_per_epoch)
    if saved := read_last(folder):
        detector.load_state_dict(saved["model"])
    model, fabric_optimizer = fabric.setup(cast(nn.Module, detector), optimizer)
    state = resume(fabric, optimizer, saved) if saved else TrainState()  # after the set-up: moments follow the weights
    saver = Saver(fabric, detector, optimizer, folder, batches.provenance, train.save_every_s, keep_metrics)
    saver.tidy(state)
    passes = Passes(fabric, detector, model, record=record)
    fabric.barrier()
    with stopping_on_signals() as stop, precision.float32_products(train.precision):
        while not state.finished:
            terms = train_epoch(fabric, passes, fabric_optimizer, batches, state, schedule, saver, stop)
            if (dev := dev_loss(fabric, detector, batches, stop)) is None:  # asked to stop halfway
                saver.save(state)  # with the epoch's last step
                raise Interrupted
            on_epoch(end_epoch(state, terms, dev, train, saver))
        if set_anywhere(fabric, stop.asked)[0]:
            raise Interrupted
    return state


def train_epoch(
    fabric: Fabric,
    passes: Passes,
    optimizer: Any,
    batches: Batches,
    state: TrainState,
    schedule: Schedule,
    saver: Saver,
    stop: StopFlag,
) -> dict[str, Any]:
    """Take the steps of one epoch that are still to take; means of the loss terms and counts of the classes."""
    model = passes.model.train()
    label = f"train epoch {state.epoch + 1}"
    steps = StepLog(fabric, batches, saver.folder)
    source = batches.train(state.epoch, state.step)
    for batch in progress(source, label, total=batches.steps_per_epoch, initial=state.step, unit="step"):
        # Where a front end's file asks for dropout, its draws are of (seed, epoch, step) as all others are.
        torch.manual_seed(
            int(
                np.random.SeedSequence([batches.seed, state.epoch, state.step, fabric.global_rank]).generate_state(1)[0]
            )
        )
        losses = passes.forward(batch)
        steps.add(state, losses, batch)
        passes.backward(losses, optimizer)
        if schedule.train.clip_norm is not None:
            fabric.clip_gradients(model, optimizer, max_norm=schedule.train.clip_norm, error_if_nonfinite=False)
        schedule.set(batches.steps_per_epoch * state.epoch + state.step)
        optimizer.step()
        state.step += 1
        stopping, due = set_anywhere(fabric, stop.asked, saver.due)
        if stopping or due:
            steps.read(state)
            saver.save(state)
        if stopping:
            raise Interrupted
    steps.read(state)
    return _summary(state, model)


def dev_loss(fabric: Fabric, detector: Detector, batches: Batches, stop: StopFlag) -> dict[str, float] | None:
    """Mean one-class loss over the dev set against the nearest centroid, and the dev EER in per cent.

    The mean is over utterances, whatever the batches. The EER is NaN where the dev set holds one class only.
    None: a process was asked to stop.
    """
    detector.eval()
    n_common = batches.n_dev_batches // fabric.world_size  # batches that every process has
    mine = range(fabric.global_rank, batches.n_dev_batches, fabric.world_size)
    rows: list[Tensor] = []  # (3,) a trial: index, score, label
    losses: list[Tensor] = []  # (3,) a batch: number, sum of its losses, trials
    with torch.inference_mode(), fabric.autocast():
        for i, batch in enumerate(progress(batches.dev(), "dev", total=len(mine), unit="batch")):
            output = detector(batch.wave, batch.bonafide)
            n = len(batch.bonafide)
            loss = output.losses["total"].double().reshape(1, 1) * n  # nothing is read before the end: a GPU goes on
            losses.append(torch.cat([torch.full_like(loss, mine[i]), loss, torch.full_like(loss, n)], dim=1))
            columns = batch.indices.double(), output.score.double(), batch.bonafide.double()
            rows.append(torch.stack(columns, dim=1))
            if i < n_common and set_anywhere(fabric, stop.asked)[0]:
                return None
    # In the order of the dev set, whichever process had which batch.
    per_batch, trials = (_gathered(fabric, some) for some in (losses, rows))
    _, total, n_trials = np.cumsum(per_batch, axis=0)[-1]  # one after the other, unlike sum()
    loss = float(total / n_trials)
    if not math.isfinite(loss):
        raise InputError(
            f"the dev loss is {loss}: the weights have diverged; the last good state is kept; "
            "lower train.lr and start the run anew under another --name"
        )
    score, label = trials[:, 1], trials[:, 2] > 0
    bonafide, spoof = score[label], score[~label]
    eer = 100 * float(equal_error_rate(bonafide, spoof).eer) if len(bonafide) and len(spoof) else math.nan
    return {"dev_loss": loss, "dev_eer": eer}


def _gathered(fabric: Fabric, rows: list[Tensor]) -> np.ndarray:
    """Rows of all processes by their first column."""
    mine = torch.cat(rows).cpu() if rows else torch.zeros(0, 3, dtype=torch.float64)
    everyone = gather_rows(fabric, mine)
    return everyone[everyone[:, 0].argsort()].numpy()


def end_epoch(
    state: TrainState, terms: dict[str, Any], dev: dict[str, float], train: TrainConfig, saver: Saver
) -> dict[str, Any]:
    """Count the epoch, keep it if it is one of the best, and save; the epoch's row."""
    state.epoch, state.step, state.sums = state.epoch + 1, 0, {}
    improved = not state.best or dev["dev_loss"] < state.best[0][0]
    state.stale = 0 if improved else state.stale + 1
    state.finished = state.epoch >= train.max_epochs or state.stale >= train.patience
    row = {"epoch": state.epoch, **terms, **dev, "stale": state.stale}
    state.history.append(row)
    entry = dev["dev_loss"], f"epoch_{state.epoch:03d}.pt"
    # The file that is pushed out stays until last.pt no longer names it.
    state.best = sorted([*state.best, entry])[: train.n_best]
    if entry in state.best:
        saver.write(entry[1], epoch=state.epoch, dev_loss=entry[0])
    saver.save(state)
    saver.tidy(state)
    return row


def _summary(state: TrainState, model: Any) -> dict[str, Any]:
    """The epoch's row: loss terms as means over steps, counts as they are, and how far the centroids are apart."""
    row: dict[str, Any] = {}
    for name, value in state.sums.items():
        row[name] = value / state.step if name.startswith("loss_") else round(value)
    centroids = getattr(model.head, "centroids", None)
    if centroids is not None and len(centroids) > 1:
        unit = torch.nn.functional.normalize(centroids.detach().float(), dim=1)
        row["centroid_cosine"] = (unit @ unit.T)[np.triu_indices(len(unit), 1)].max().item()
    return row
