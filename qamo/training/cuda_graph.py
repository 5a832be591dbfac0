"""The same work on a GPU again and again, recorded once as a CUDA graph and then launched as one.

A training step of XLS-R 300M launches 3,000 kernels and a scored batch 1,000, which can take Python longer than the GPU
needs to compute them. A recording is those kernels on the same memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from qamo.command import first_line
from qamo.training.loader import Batch

log = logging.getLogger(__name__)

WARM_UP = 3  # times before the recording, in which libraries choose kernels and take their memory


class Recorded:
    """What a function of tensors of fixed sizes does. What it returns is overwritten the next time.

    Args:
        inputs: of the sizes that will come; fewer rows may come, and then the others are left over from before.
    """

    def __init__(self, function: Callable[..., Any], inputs: Sequence[Tensor]):
        self.inputs = [tensor.clone() for tensor in inputs]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                function(*self.inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # other threads pin memory meanwhile
            self.outputs = function(*self.inputs)

    def __call__(self, *inputs: Tensor) -> Any:
        for kept, new in zip(self.inputs, inputs):
            kept[: len(new)].copy_(new, non_blocking=True)
        self.graph.replay()
        return self.outputs


def recorded(what: str, function: Callable[..., Any], inputs: Sequence[Tensor]) -> Recorded | None:
    """None, with a warning that says `what`, where recording fails."""
    try:
        return Recorded(function, inputs)
    except RuntimeError as error:  # out of memory among them: a graph keeps its memory from time to time
        log.warning(
            "%s could not be recorded as a CUDA graph (%s), so kernels are launched one by one; "
            "run.compile=off leaves the attempt out",
            what,
            first_line(error),
        )
    torch.cuda.empty_cache()
    return None


def is_always_the_same(detector: Any) -> bool:
    """Whether a pass does the same work each time: XLS-R's, with nothing drawn and nothing read from disk."""
    return getattr(detector.frontend, "draws", True) is False and detector.feature_cache is None


def can_be_recorded(fabric: Fabric, detector: Any) -> bool:
    """Whether a training step is the same work each time: on one GPU, its gradients neither scaled nor in pieces."""
    return (
        fabric.device.type == "cuda"
        and fabric.world_size == 1
        and fabric.strategy.precision.precision != "16-mixed"
        and is_always_the_same(detector)
        and not detector.frontend.checkpointing
        and detector.frontend_chunks == 1
    )


class Passes:
    """Forward and backward pass of training steps: one after the other, or recorded together at the first of them.

    Args:
        model: the detector as `fabric` has set it up.
        record: whether to try, where it can be.
    """

    def __init__(self, fabric: Fabric, detector: Any, model: nn.Module, *, record: bool):
        self.fabric = fabric
        self.model = model
        self.recorded: Recorded | None = None
        self._untried = record and can_be_recorded(fabric, detector)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch."""
        inputs = batch.wave, batch.bonafide, batch.quality
        if self._untried:
            self._untried = False
            statistics = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
            self.recorded = recorded("the training step", self._both, inputs)
            for buffer, before in statistics:
                buffer.copy_(before)
        return self.recorded(*inputs) if self.recorded else self.model(*inputs).losses

    def backward(self, losses: dict[str, Tensor], optimizer: Any) -> None:
        """Leave the gradients of these losses, the last that `forward` gave, in the parameters."""
        if not self.recorded:
            optimizer.zero_grad()
            self.fabric.backward(losses["total"])

    def _both(self, *inputs: Tensor) -> dict[str, Tensor]:
        self.model.zero_grad()  # in a recording: gradients are written and not added to
        losses: dict[str, Tensor] = self.model(*inputs).losses
        self.fabric.backward(losses["total"])
        return losses
