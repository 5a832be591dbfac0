"""The forward pass of scoring: batches of waves through a detector, in pieces that the device's memory holds."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from qamo import InputError
from qamo.training import precision
from qamo.training.compiling import PAYS_AFTER, compile_steps
from qamo.training.cuda_graph import Recorded, is_always_the_same, recorded

log = logging.getLogger(__name__)

GB_PER_WINDOW = 0.15  # of XLS-R 300M in float32 without gradients, at 66,800 samples: a generous guess, halved if wrong
WINDOW = 66_800


class ScoringPass:
    """(B, T) -> (B,) scores in float32, on the device; they depend on the size of the pieces by rounding only.

    Of B recordings with n windows each, [(n, T), ...], the mean over the windows.

    On a GPU the weights of a mixed precision are cast once, so the detector can no longer be saved or trained.

    Attributes:
        n_at_once: waves that pass the detector together; halved where the memory is too small.
        recorded: the pass as a CUDA graph, of so many.
    """

    def __init__(self, detector: Any, device: torch.device, precision_name: str, *, batch_size: int, window: int):
        self.detector = detector.eval()
        self.device = device
        self.precision = precision_name
        self.n_at_once = batch_size
        self.recorded: Recorded | None = None
        if device.type == "cuda":
            precision.cast_weights(detector, precision_name)
            free = torch.cuda.mem_get_info(device)[0] / 1e9
            self.n_at_once = pieces_for(free, batch_size, window)

    def prepare(self, window: int, n_recordings: int) -> None:
        """On a GPU, record the pass for pieces of this size, and compile it where it is long enough.

        Args:
            n_recordings: how many will come here.
        """
        if self.device.type != "cuda" or n_recordings < PAYS_AFTER["recorded recordings"]:
            return
        wave = torch.zeros(self.n_at_once, window, device=self.device)
        with torch.inference_mode(), precision.computing(self.precision, self.device.type):
            if n_recordings >= PAYS_AFTER["compiled recordings"]:
                compile_steps(self.detector, wave, backward=False)
            if is_always_the_same(self.detector):
                self.recorded = recorded("scoring", lambda wave: self.detector(wave).score, [wave])

    def __call__(self, wave: Tensor | list[Tensor]) -> Tensor:
        """Raises InputError where not even one wave fits the device's memory."""
        if isinstance(wave, list):
            return torch.stack([scores.mean() for scores in self(torch.cat(wave)).split([len(w) for w in wave])])
        while True:
            try:
                # A copy: what a recording gives is overwritten by the next piece.
                return torch.cat([self._scores(piece).clone() for piece in wave.split(self.n_at_once)])
            except torch.OutOfMemoryError:
                if self.n_at_once == 1:
                    raise InputError(
                        f"the memory of {self.device} does not hold one recording: end what else uses it (nvidia-smi), "
                        "or take score.precision=bf16-mixed or run.accelerator=cpu"
                    ) from None
            # Not in the except clause, which would hold on to the memory of the failed attempt.
            self.recorded = None
            self.n_at_once = max(1, self.n_at_once // 2)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            log.warning("out of memory on %s: going on with %d recordings at a time", self.device, self.n_at_once)

    def _scores(self, piece: Tensor) -> Tensor:
        if self.recorded:
            return self.recorded(piece)[: len(piece)].float()
        scores: Tensor = self.detector(piece.to(self.device, non_blocking=True)).score
        return scores.float()


def pieces_for(free_gb: float, batch_size: int, window: int) -> int:
    """The largest power of two of waves that so much memory surely holds, at most a batch."""
    fitting = max(1, int(free_gb / (GB_PER_WINDOW * max(1.0, window / WINDOW))))
    return min(batch_size, 1 << (fitting.bit_length() - 1))
