"""What a resume needs, written and read: the training state, last.pt, and the files that must agree with it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from qamo import InputError
from qamo.files import write_text
from qamo.networks.contract import Detector
from qamo.training.checkpoint import read_checkpoint, write_checkpoint
from qamo.training.folder import LAST, METRICS

log = logging.getLogger(__name__)


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


def read_last(folder: Path) -> dict[str, Any] | None:
    """What the run saved last, or None if it saved nothing yet.

    Raises:
        InputError: last.pt is damaged, or no state of a training.
    """
    path = folder / LAST
    if not path.exists():
        return None
    try:
        saved = read_checkpoint(path)
    except InputError as error:
        raise InputError(f"{error}; or move it away to start the run anew") from None
    if "train_state" not in saved or "optimizer" not in saved:
        raise InputError(f"{path}: holds weights but no training state; move it away to start the run anew")
    return saved


def resume(fabric: Fabric, optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> TrainState:
    """Bring optimiser and gradient scaler to where last.pt left them, and return its state; empties `saved`."""
    for group, here in zip(saved["optimizer"]["param_groups"], optimizer.param_groups):
        group["fused"] = here["fused"]  # of this device, not of the one that saved; decides where step counts are kept
    optimizer.load_state_dict(saved["optimizer"])
    if saved["scaler"]:
        fabric.strategy.precision.load_state_dict(saved["scaler"])
    state = TrainState(**saved["train_state"])
    state.best = [(loss, name) for loss, name in state.best]
    log.info("resuming after epoch %d, step %d", state.epoch, state.step)
    saved.clear()  # twice the size of the trained weights
    return state


@dataclass
class Saver:
    """Writes checkpoints of one run; every process calls it, the first one writes."""

    fabric: Fabric
    detector: Detector
    optimizer: torch.optim.Optimizer
    folder: Path
    provenance: Mapping[str, Any]  # stored in every checkpoint
    save_every_s: float
    keep_metrics: bool = True  # in metrics.jsonl

    def __post_init__(self) -> None:
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
                f"kept in {self.folder}/{LAST}; lower train.lr and start the run anew under another --name"
            )
        self.write(
            LAST,
            train_state=asdict(state),
            optimizer=self.optimizer.state_dict(),
            scaler=self.fabric.strategy.precision.state_dict(),
        )
        self.fabric.barrier()
        self._last = time.monotonic()

    def write(self, name: str, **more: Any) -> None:
        """Write the weights, and `more`, into the file `name` of the run."""
        if self.fabric.is_global_zero:
            weights, config = self.detector.state_dict(), self.detector.config
            path = self.folder / name
            write_checkpoint(path, model_state=weights, model_config=config, **self.provenance, **more)

    def tidy(self, state: TrainState) -> None:
        """Bring metrics.jsonl and the epoch files in line with a saved state, wherever a kill may have left them."""
        if not self.fabric.is_global_zero:
            return
        if state.history and self.keep_metrics:
            write_text(self.folder / METRICS, "".join(json.dumps(row) + "\n" for row in state.history))
        kept = {name for _, name in state.best}
        for path in self.folder.glob("epoch_*.pt"):
            if path.name not in kept:
                path.unlink(missing_ok=True)
