"""Training: the loop, what a resume needs, and the choice of the best epochs.

The loop is plain functions. `fit` calls `train_epoch` and `dev_loss` until the dev loss has not improved for a
while, keeps the best epochs, and writes last.pt after every epoch and every `save_every_s` seconds inside one.
Every random draw of training is a function of (seed, epoch, index), so a run that was cut off, wherever, ends bit
for bit where an uninterrupted one does (on a CPU with as many threads and processes).

Several processes: each computes the front end on its share of the batch, then all exchange features, and every
process computes the back end, the head and the loss on the whole batch. Batch norms and the loss thereby see what
they see in a single process, and so the gradients are those of a single process. (A back end is about 1 % of the
work of XLS-R; computing it everywhere costs less than synchronising its batch norms layer by layer would.) The dev
set is cut into batches before it is shared out, and their losses are added in its order: given equal weights, the
dev loss, the best epochs and the early stop are the same for any number of processes.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor, nn

from eval_metrics import equal_error_rate
from qamo import InputError
from qamo.files import write_text
from qamo.progress import progress
from qamo.training.checkpoint import read_checkpoint, write_checkpoint
from qamo.training.signals import Interrupted, StopFlag, stopping_on_signals

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """What a loader yields: waves with what is known of them."""

    wave: Tensor  # (B, T)
    bonafide: Tensor  # (B,) bool
    quality: Tensor  # (B,) int64
    place: Tensor  # (B,) int64: in the protocol
    augmented: Tensor  # (B,) bool


LAST = "last.pt"  # what a resume reads


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


class Batches(NamedTuple):
    """The sources of training and dev batches."""

    train: Callable[[int, int], Iterable[Batch]]  # (epoch, first step) -> this process's batches from there on
    dev: Callable[[], Iterable[Batch]]  # of the dev set's batches every world_size-th, from this process's rank on
    steps_per_epoch: int
    n_dev_batches: int  # of all processes together
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
        detector.gather = Exchange(fabric)
    optimizer = build_optimizer(detector, lr=lr, head_lr=head_lr, weight_decay=weight_decay)
    saved = read_last(run_dir)
    if saved:
        detector.load_state_dict(saved["model"])
    model, fabric_optimizer = fabric.setup(detector, optimizer)
    # After the set-up, which moves the weights to their device: the optimiser's moments follow the weights.
    state = resume(fabric, optimizer, saved, run_dir) if saved else TrainState()
    del saved
    saver = Saver(fabric, detector, optimizer, run_dir, save_every_s, model_config, provenance)
    if fabric.is_global_zero:
        tidy(run_dir, state)
    fabric.barrier()
    with stopping_on_signals() as stop:
        while not state.finished:
            terms = train_epoch(fabric, model, fabric_optimizer, batches, state, saver, stop)
            dev = dev_loss(fabric, detector, batches, stop)
            if dev is None:  # asked to stop halfway; the epoch's last step is saved
                saver.save(state)
                raise Interrupted
            state.epoch, state.step, state.sums = state.epoch + 1, 0, {}
            improved = not state.best or dev["dev_loss"] < state.best[0][0]
            state.stale = 0 if improved else state.stale + 1
            state.finished = state.epoch >= max_epochs or state.stale >= patience
            row = {"epoch": state.epoch, **terms, **dev, "stale": state.stale}
            state.history.append(row)
            keep_best(fabric, state, dev["dev_loss"], saver, n_best)
            saver.save(state)
            if fabric.is_global_zero:
                tidy(run_dir, state)
            on_epoch(row)
        if agreed(fabric, stop.asked)[0]:
            raise Interrupted
    return state


def tidy(run_dir: Path, state: TrainState) -> None:
    """Bring metrics.jsonl and the epoch files in line with a saved state, wherever a kill may have left them."""
    if state.history:
        write_text(run_dir / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in state.history))
    kept = {name for _, name in state.best}
    for path in run_dir.glob("epoch_*.pt"):
        if path.name not in kept:
            path.unlink(missing_ok=True)


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
            # Every process computed this same loss, so all of them come here.
            names = ", ".join(batches.names[i] for i in _gather_rows(fabric, batch.place).tolist())
            raise InputError(
                f"epoch {state.epoch + 1}, step {state.step + 1}: the loss is {total.item()} on {names}; the last good "
                f"state is kept in {saver.run_dir}/{LAST}; lower train.lr, or look at these recordings"
            )
        optimizer.zero_grad()
        fabric.backward(total)
        optimizer.step()
        state.step += 1
        _add(state.sums, {f"loss_{name}": value.item() for name, value in losses.items()})
        _add(state.sums, _counts(fabric, batch))
        stopping, due = agreed(fabric, stop.asked, saver.due)
        if stopping or due:
            saver.save(state)
        if stopping:
            raise Interrupted
    return _summary(state, model)


def dev_loss(fabric: Fabric, detector: nn.Module, batches: Batches, stop: StopFlag) -> dict[str, float] | None:
    """Mean one-class loss over the dev set against the nearest centroid, and the dev EER in per cent.

    The mean is over utterances, whatever the batches. The EER is NaN where the dev set holds one class only.
    None: a process was asked to stop.
    """
    detector.eval()
    n_common = batches.n_dev_batches // fabric.world_size  # batches that every process has
    n_mine = len(range(fabric.global_rank, batches.n_dev_batches, fabric.world_size))
    rows = []  # (3,) a trial: place, score, label
    losses = []  # (2,) a batch: sum of its losses, trials
    with torch.inference_mode(), fabric.autocast():
        for i, batch in enumerate(progress(batches.dev(), "dev", total=n_mine, unit="batch")):
            output = detector(batch.wave, batch.bonafide)
            n = len(batch.bonafide)
            losses.append([output.losses["total"].double().item() * n, n])
            columns = batch.place.double(), output.score.double(), batch.bonafide.double()
            rows.append(torch.stack(columns, dim=1).cpu())
            if i < n_common and agreed(fabric, stop.asked)[0]:
                return None
    per_batch = _interleaved(fabric, torch.tensor(losses, dtype=torch.float64).reshape(-1, 2), batches.n_dev_batches)
    trials = _gather_rows(fabric, torch.cat(rows) if rows else torch.zeros(0, 3, dtype=torch.float64))
    trials = trials[trials[:, 0].argsort()]
    sums = np.cumsum(per_batch.numpy(), axis=0)[-1]  # one after the other, in the order of the dev set
    loss = float(sums[0] / sums[1])
    if not math.isfinite(loss):
        raise InputError(
            f"the dev loss is {loss}: the weights have diverged; the last good state is kept; "
            "lower train.lr and start the run anew under another --name"
        )
    score, label = trials[:, 1].numpy(), trials[:, 2].numpy() > 0
    bonafide, spoof = score[label], score[~label]
    eer = 100 * float(equal_error_rate(bonafide, spoof).eer) if len(bonafide) and len(spoof) else math.nan
    return {"dev_loss": loss, "dev_eer": eer}


def keep_best(fabric: Fabric, state: TrainState, loss: float, saver: Saver, n_best: int) -> None:
    """File the epoch among the n best. The file that it pushes out stays until last.pt no longer names it."""
    name = f"epoch_{state.epoch:03d}.pt"
    state.best = sorted([*state.best, (loss, name)])[:n_best]
    if (loss, name) in state.best and fabric.is_global_zero:
        saver.write(saver.run_dir / name, epoch=state.epoch, dev_loss=loss)


def read_last(run_dir: Path) -> dict[str, Any] | None:
    """What the run saved last, or None if it saved nothing yet.

    Raises:
        InputError: last.pt is damaged, or no state of a training.
    """
    path = run_dir / LAST
    if not path.exists():
        return None
    try:
        saved = read_checkpoint(path)
    except InputError as error:
        raise InputError(f"{error}; or move it away to start the run anew") from None
    if "train_state" not in saved or "optimizer" not in saved:
        raise InputError(f"{path}: holds weights but no training state; move it away to start the run anew")
    return saved


def resume(fabric: Fabric, optimizer: torch.optim.Optimizer, saved: dict[str, Any], run_dir: Path) -> TrainState:
    """Bring optimiser and gradient scaler to where last.pt left them, and return its state."""
    optimizer.load_state_dict(saved["optimizer"])
    if saved["scaler"]:
        fabric.strategy.precision.load_state_dict(saved["scaler"])
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

    @property
    def due(self) -> bool:
        return time.monotonic() - self._last >= self.save_every_s

    def save(self, state: TrainState) -> None:
        """Write last.pt: all that a resume needs. Weights that are not finite do not replace finite ones.

        Raises:
            InputError: the weights are not finite.
        """
        finite = [tensor.isfinite().all() for tensor in self.detector.state_dict().values()]
        if not torch.stack(finite).all():
            raise InputError(
                f"epoch {state.epoch + 1}, step {state.step}: weights are no longer finite; the last good state is "
                f"kept in {self.run_dir}/{LAST}; lower train.lr and start the run anew under another --name"
            )
        if self.fabric.is_global_zero:
            self.write(
                self.run_dir / LAST,
                train_state=asdict(state),
                optimizer=self.optimizer.state_dict(),
                scaler=self.fabric.strategy.precision.state_dict(),
            )
        self.fabric.barrier()
        self._last = time.monotonic()

    def write(self, path: Path, **more: Any) -> None:
        write_checkpoint(
            path, model_state=self.detector.state_dict(), model_config=self.model_config, **self.provenance, **more
        )


class Exchange:
    """All processes' features and labels, in batch order, with gradients flowing back to the process they came from."""

    def __init__(self, fabric: Fabric):
        self.fabric = fabric

    def __call__(
        self, features: Tensor, bonafide: Tensor, quality: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        rank, world_size = self.fabric.global_rank, self.fabric.world_size
        gathered: Tensor = _Joined.apply(features, rank, world_size)
        labels = torch.cat(_gather_equal(bonafide, world_size))
        classes = None if quality is None else torch.cat(_gather_equal(quality, world_size))
        return gathered, labels, classes


class _Joined(torch.autograd.Function):
    """Features (B, F, D) of each process -> those of all (N * B, F, D).

    DDP averages the gradients of the processes. Each computes the whole batch's loss, so those of the back end and
    the head are equal, and stay so. Those of a front end are of this process's rows only: times N, since the
    average divides by N the sum over processes, which is the single-process gradient.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, rank: int, world_size: int) -> Tensor:
        ctx.rows = slice(rank * len(features), (rank + 1) * len(features))
        ctx.world_size = world_size
        return torch.cat(_gather_equal(features, world_size))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.rows] * ctx.world_size, None, None


def agreed(fabric: Fabric, *flags: bool) -> list[bool]:
    """For each flag whether any process sets it. All processes must ask at the same place."""
    if fabric.world_size == 1:
        return list(flags)
    asked = torch.tensor(flags, dtype=torch.float32, device=fabric.device)
    torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
    return [value > 0 for value in asked.tolist()]


def _add(sums: dict[str, float], terms: dict[str, float]) -> None:
    for name, value in terms.items():
        sums[name] = sums.get(name, 0.0) + value


def _counts(fabric: Fabric, batch: Batch) -> dict[str, float]:
    """How many utterances of each kind a batch held, over all processes."""
    bonafide, augmented = _gather_rows(fabric, torch.stack([batch.bonafide, batch.augmented], dim=1)).T
    counts = {"n_bonafide": bonafide.sum().item(), "n_spoof": (~bonafide).sum().item()}
    counts["n_augmented"] = augmented.sum().item()
    quality = batch.quality[batch.bonafide]
    classes = torch.bincount(_gather_rows(fabric, quality).cpu(), minlength=2)
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


def _gather_equal(rows: Tensor, world_size: int) -> list[Tensor]:
    """`rows` of each process, of which all hold equally many. As bytes: every backend carries those exactly."""
    rows = rows.contiguous()
    parts = [torch.empty_like(rows) for _ in range(world_size)]
    torch.distributed.all_gather([part.view(torch.uint8) for part in parts], rows.view(torch.uint8))
    return parts


def _gather_rows(fabric: Fabric, rows: Tensor) -> Tensor:
    """Rows of all processes in process order; the processes may hold different numbers of rows."""
    if fabric.world_size == 1:
        return rows
    own = rows.to(fabric.device)
    length = torch.tensor([len(rows)], device=fabric.device)
    lengths = [int(n) for n in torch.cat(_gather_equal(length, fabric.world_size))]
    padded = torch.zeros(max(lengths), *rows.shape[1:], dtype=rows.dtype, device=fabric.device)
    padded[: len(rows)] = own
    parts = _gather_equal(padded, fabric.world_size)
    return torch.cat([part[:n] for part, n in zip(parts, lengths)]).to(rows.device)


def _interleaved(fabric: Fabric, rows: Tensor, total: int) -> Tensor:
    """Rows that were dealt out to the processes one by one, back in the order in which they were dealt."""
    if fabric.world_size == 1:
        return rows
    places = [place for rank in range(fabric.world_size) for place in range(rank, total, fabric.world_size)]
    return _gather_rows(fabric, rows)[torch.tensor(places).argsort()]
