"""Training: the loop, what a resume needs, and the choice of the best epochs.

The loop is plain functions. `fit` calls `train_epoch` and `dev_loss` until the dev loss has not improved for a
while, keeps the best epochs, and writes last.pt after every epoch and every `save_every_s` seconds inside one.
Every random draw of training is a function of (seed, epoch, index), so a run that was cut off, wherever, ends bit
for bit where an uninterrupted one does (on a CPU with as many threads and processes).

Several processes: each computes the front end on its share of the batch, then all exchange features, and every
process computes the back end, the head and the loss on the whole batch. Batch norms and the loss thereby see what
they see in a single process, and so the gradients are those of a single process.
"""

from __future__ import annotations

import json
import logging
import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from eval_metrics import equal_error_rate
from qamo import InputError
from qamo.checkpoint import read_checkpoint, write_checkpoint
from qamo.files import write_text
from qamo.runlog import progress

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """What a loader yields: waves with what is known of them."""

    wave: Tensor  # (B, T)
    bonafide: Tensor  # (B,) bool
    quality: Tensor  # (B,) int64
    place: Tensor  # (B,) int64: in the protocol
    augmented: Tensor  # (B,) bool


@dataclass
class TrainState:
    """What a resumed run must know besides weights and optimiser. Saved with them in last.pt."""

    epoch: int = 0  # epochs finished
    step: int = 0  # steps finished in the epoch under way
    stale: int = 0  # epochs since the dev loss last improved
    finished: bool = False
    best: list[tuple[float, str]] = field(default_factory=list)  # (dev loss, file), best first
    sums: dict[str, float] = field(default_factory=dict)  # of the epoch under way
    history: list[dict[str, Any]] = field(default_factory=list)  # a row an epoch, as in metrics.jsonl


class Interrupted(Exception):
    """The run was asked to stop, and its state is saved."""


class Batches(NamedTuple):
    """The sources of training and dev batches."""

    train: Callable[[int, int], Iterable[Batch]]  # (epoch, first step) -> this process's batches from there on
    dev: Callable[[], Iterable[Batch]]  # this process's share
    steps_per_epoch: int
    n_dev: int  # trials of the dev set
    names: list[str]  # of the training protocol, for messages


def build_optimizer(detector: Any, *, lr: float, head_lr: float, weight_decay: float) -> torch.optim.Adam:
    """Adam with coupled weight decay in two groups: the head, and everything else that is trained.

    The published code runs two Adams; Adam treats every tensor by itself, so one with two groups takes equal steps.
    """
    head = [p for p in detector.head.parameters() if p.requires_grad]
    of_head = {id(p) for p in head}
    body = [p for p in detector.parameters() if p.requires_grad and id(p) not in of_head]
    groups = [{"params": body, "lr": lr}, {"params": head, "lr": head_lr}]
    return torch.optim.Adam([g for g in groups if g["params"]], weight_decay=weight_decay)


def fit(
    fabric: Fabric,
    detector: Any,
    batches: Batches,
    *,
    run_dir: Path,
    seed: int,
    max_epochs: int,
    patience: int,
    lr: float,
    head_lr: float,
    weight_decay: float,
    n_best: int,
    save_every_s: float,
    model_config: dict[str, Any],
    provenance: dict[str, Any],
    on_epoch: Callable[[dict[str, Any]], None] = lambda row: None,
) -> TrainState:
    """Train until the dev loss has not improved for `patience` epochs; resume from run_dir/last.pt if it is there.

    Args:
        detector: a `model.Detector`; left with the weights of the last epoch.
        model_config, provenance: stored in every checkpoint, so that it can be loaded by itself.
        on_epoch: told the row of each finished epoch.

    Raises:
        InputError: the loss is not finite, or last.pt is damaged.
        Interrupted: SIGTERM or Ctrl-C came; the state is saved.
    """
    torch.manual_seed(seed)
    if fabric.world_size > 1:
        detector.exchange = Exchange(fabric)
    optimizer = build_optimizer(detector, lr=lr, head_lr=head_lr, weight_decay=weight_decay)
    state = resume(run_dir, detector, optimizer)
    model, optimizer = fabric.setup(detector, optimizer)
    saver = Saver(fabric, detector, optimizer, run_dir, save_every_s, model_config, provenance)
    with stopping_on_signals() as stop:
        while not state.finished:
            terms = train_epoch(fabric, model, optimizer, batches, state, saver, stop)
            dev = dev_loss(fabric, detector, batches, stop)
            if stop.asked:  # the dev set was left halfway; the epoch's last step is saved
                saver.save(state)
                raise Interrupted
            state.epoch, state.step, state.sums = state.epoch + 1, 0, {}
            improved = not state.best or dev["dev_loss"] < state.best[0][0]
            state.stale = 0 if improved else state.stale + 1
            state.finished = state.epoch >= max_epochs or state.stale >= patience
            row = {"epoch": state.epoch, **terms, **dev, "stale": state.stale}
            state.history.append(row)
            dropped = keep_best(fabric, state, dev["dev_loss"], saver, n_best)
            saver.save(state)
            if fabric.is_global_zero:
                write_text(run_dir / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in state.history))
                for name in dropped:
                    (run_dir / name).unlink(missing_ok=True)
            on_epoch(row)
    return state


def train_epoch(
    fabric: Fabric,
    model: nn.Module,
    optimizer: Any,
    batches: Batches,
    state: TrainState,
    saver: Saver,
    stop: StopFlag,
) -> dict[str, Any]:
    """Take the steps of one epoch that are still to take; means of the loss terms and counts of the classes."""
    model.train()
    label = f"train epoch {state.epoch + 1}"
    source = batches.train(state.epoch, state.step)
    for batch in progress(source, label, total=batches.steps_per_epoch, initial=state.step, unit="step"):
        losses = model(batch.wave, batch.bonafide, batch.quality).losses
        total = losses["total"]
        if not torch.isfinite(total):
            names = ", ".join(batches.names[i] for i in batch.place.tolist())
            raise InputError(
                f"epoch {state.epoch + 1}, step {state.step + 1}: the loss is {total.item()} on {names}; the last good "
                f"state is kept in {saver.run_dir}/last.pt; lower train.lr, or look at these recordings"
            )
        optimizer.zero_grad()
        fabric.backward(total)
        optimizer.step()
        state.step += 1
        _add(state.sums, {f"loss_{name}": value.item() for name, value in losses.items()})
        _add(state.sums, _counts(fabric, batch))
        if stop.asked_anywhere(fabric):
            saver.save(state)
            raise Interrupted
        if state.step < batches.steps_per_epoch:
            saver.save_if_due(state)
    return _summary(state, model)


def dev_loss(fabric: Fabric, detector: nn.Module, batches: Batches, stop: StopFlag) -> dict[str, float]:
    """Mean one-class loss over the dev set against the nearest centroid, and the dev EER in per cent.

    The mean is over utterances, whatever the batches. A detector of which one class is missing has EER NaN.
    """
    detector.eval()
    sums, scores, labels = torch.zeros(2, dtype=torch.float64), [], []
    with torch.inference_mode(), fabric.autocast():
        total = math.ceil(batches.n_dev / fabric.world_size)
        for batch in progress(batches.dev(), "dev", total=total, unit="clip", count=lambda b: len(b.bonafide)):
            output = detector(batch.wave, batch.bonafide)
            sums += torch.tensor([output.losses["total"].double().item() * len(batch.bonafide), len(batch.bonafide)])
            scores.append(output.score.float().cpu())
            labels.append(batch.bonafide.cpu())
            if stop.asked_anywhere(fabric):
                return {}
    score, label = torch.cat(scores), torch.cat(labels)
    if fabric.world_size > 1:
        sums = _reduced(fabric, sums)
        score, label = _gather_rows(fabric, score), _gather_rows(fabric, label)
    loss = (sums[0] / sums[1]).item()
    if not math.isfinite(loss):
        raise InputError(f"the dev loss is {loss}: the weights have diverged; lower train.lr and start again")
    bonafide, spoof = score[label].numpy(), score[~label].numpy()
    eer = 100 * float(equal_error_rate(bonafide, spoof).eer) if len(bonafide) and len(spoof) else math.nan
    return {"dev_loss": loss, "dev_eer": eer}


def keep_best(fabric: Fabric, state: TrainState, loss: float, saver: Saver, n_best: int) -> list[str]:
    """File the epoch among the n best; return the files it pushes out, to be deleted once last.pt is written."""
    name = f"epoch_{state.epoch:03d}.pt"
    ranked = sorted([*state.best, (loss, name)])
    state.best, dropped = ranked[:n_best], ranked[n_best:]
    if (loss, name) in state.best and fabric.is_global_zero:
        saver.write(saver.run_dir / name, epoch=state.epoch, dev_loss=loss)
    return [old for _, old in dropped]


def resume(run_dir: Path, detector: nn.Module, optimizer: torch.optim.Optimizer) -> TrainState:
    """Bring detector and optimiser to where last.pt left them, and return its state; a new one without last.pt."""
    path = run_dir / "last.pt"
    if not path.exists():
        return TrainState()
    saved = read_checkpoint(path)
    if "train_state" not in saved or "optimizer" not in saved:
        raise InputError(f"{path}: holds weights but no training state; move it away to start the run anew")
    detector.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    state = TrainState(**saved["train_state"])
    state.best = [(loss, name) for loss, name in state.best]
    log.info("resuming %s after epoch %d, step %d", run_dir, state.epoch, state.step)
    return state


class Saver:
    """Writes checkpoints of one run; every process calls it, the first one writes."""

    def __init__(
        self,
        fabric: Fabric,
        detector: nn.Module,
        optimizer: Any,
        run_dir: Path,
        save_every_s: float,
        model_config: dict[str, Any],
        provenance: dict[str, Any],
    ):
        self.fabric = fabric
        self.detector = detector
        self.optimizer = optimizer
        self.run_dir = run_dir
        self.save_every_s = save_every_s
        self.model_config = model_config
        self.provenance = provenance
        self._last = time.monotonic()

    def save(self, state: TrainState) -> None:
        """Write last.pt: all that a resume needs."""
        if self.fabric.is_global_zero:
            optimizer = self.optimizer.state_dict()
            self.write(self.run_dir / "last.pt", train_state=asdict(state), optimizer=optimizer)
        self.fabric.barrier()
        self._last = time.monotonic()

    def save_if_due(self, state: TrainState) -> None:
        due = time.monotonic() - self._last >= self.save_every_s
        if self.fabric.world_size > 1:  # one clock decides, so that all save the same step
            due = bool(self.fabric.broadcast(due))
        if due:
            self.save(state)

    def write(self, path: Path, **more: Any) -> None:
        write_checkpoint(
            path, model_state=self.detector.state_dict(), model_config=self.model_config, **self.provenance, **more
        )


class Exchange:
    """All processes' features and labels, in batch order, with gradients flowing back to the process they came from.

    DDP averages the gradients of the processes. Each of them computes the whole batch's loss, so those of the back
    end and the head are equal and stay so; those of the features are summed over the processes on their way back,
    and the average over processes undoes that sum's factor: what remains is the single-process gradient.
    """

    def __init__(self, fabric: Fabric):
        self.fabric = fabric

    def __call__(
        self, features: Tensor, bonafide: Tensor, quality: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        from torch.distributed.nn.functional import all_gather

        gathered = torch.cat(tuple(all_gather(features.contiguous())))
        labels = _gather_rows(self.fabric, bonafide)
        classes = None if quality is None else _gather_rows(self.fabric, quality)
        return gathered, labels, classes


class StopFlag:
    """Set by SIGTERM or Ctrl-C; looked at between steps."""

    asked = False

    def asked_anywhere(self, fabric: Fabric) -> bool:
        """Whether any process was asked to stop. All processes must call this at the same place."""
        if fabric.world_size > 1:
            self.asked = _reduced(fabric, torch.tensor(float(self.asked))).item() > 0
        return self.asked


@contextmanager
def stopping_on_signals() -> Iterator[StopFlag]:
    """Turn SIGTERM and Ctrl-C into a flag; a second Ctrl-C stops at once."""
    flag = StopFlag()

    def ask(number: int, frame: Any) -> None:
        if flag.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        flag.asked = True
        log.warning("stopping after this step (signal %d); press Ctrl-C again to stop without saving", number)

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: signals are somebody else's
        before = {}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _add(sums: dict[str, float], terms: dict[str, float]) -> None:
    for name, value in terms.items():
        sums[name] = sums.get(name, 0.0) + value


def _counts(fabric: Fabric, batch: Batch) -> dict[str, float]:
    """How many utterances of each kind a batch held, over all processes."""
    counts = {"n_bonafide": batch.bonafide.sum().item(), "n_spoof": (~batch.bonafide).sum().item()}
    counts["n_augmented"] = batch.augmented.sum().item()
    quality = batch.quality[batch.bonafide]
    classes = torch.bincount(quality.cpu(), minlength=2)
    if fabric.world_size > 1:
        n_classes = int(_reduced(fabric, torch.tensor(len(classes)), "max"))
        padded = torch.nn.functional.pad(classes, (0, n_classes - len(classes)))
        values = torch.tensor([*counts.values(), *padded.tolist()], dtype=torch.float64)
        summed = _reduced(fabric, values).tolist()
        counts = dict(zip(counts, summed))
        classes = torch.tensor(summed[3:])
    return {**counts, **{f"n_bonafide_class_{k}": float(n) for k, n in enumerate(classes.tolist())}}


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


def _reduced(fabric: Fabric, value: Tensor, how: str = "sum") -> Tensor:
    """`value` summed, or what `how` says, over the processes."""
    return cast(Tensor, fabric.all_reduce(value.to(fabric.device), reduce_op=how)).cpu()


def _gather_rows(fabric: Fabric, rows: Tensor) -> Tensor:
    """Rows of all processes in process order; the processes may hold different numbers of rows."""
    length = torch.tensor(len(rows), device=fabric.device)
    lengths = [int(n) for n in cast(Tensor, fabric.all_gather(length)).reshape(-1)]
    padded = torch.zeros(max(lengths), *rows.shape[1:], dtype=rows.dtype, device=fabric.device)
    padded[: len(rows)] = rows.to(fabric.device)
    gathered = cast(Tensor, fabric.all_gather(padded.float() if rows.dtype == torch.bool else padded))
    parts = gathered.reshape(len(lengths), max(lengths), *rows.shape[1:])
    return torch.cat([part[:n] for part, n in zip(parts, lengths)]).to(rows.device, rows.dtype)
