"""Training: a step of the full-size network, forward, backward and Adam."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks import plain, subjects
from benchmarks.measure import YARDSTICK, in_turns, ratio_table
from qamo.audio import WINDOW_SAMPLES
from qamo.networks.cpu import malloc
from qamo.training import precision
from qamo.training.loop import build_optimizer


def measure(rounds: int, batch_size: int) -> dict[str, Any]:
    malloc.keep_freed()
    detector: Any = subjects.detector()
    optimizer = build_optimizer(detector, lr=1e-6, head_lr=1e-3, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(1)
    wave = 0.1 * torch.randn(batch_size, WINDOW_SAMPLES, generator=generator)
    batch = wave, torch.arange(batch_size) % 2 == 0, torch.zeros(batch_size, dtype=torch.int64)

    def ours(number_format: str, *, checkpointing: bool = False, chunks: int = 1) -> None:
        precision.resolved(number_format, "cpu", "precision")
        detector.train()
        network = detector.frontend.network
        if checkpointing:
            network.activation_checkpointing_enable({"use_reentrant": False})
        detector.frontend_chunks = chunks
        try:
            with precision.autocast(number_format, "cpu"):
                loss = detector(*batch).losses["total"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        finally:
            if checkpointing:
                network.activation_checkpointing_disable()

    difference = _gradient_difference(detector, batch)  # before any weight has moved
    versions = {
        YARDSTICK: lambda: plain.step(detector, optimizer, *batch),
        "32": lambda: ours("32"),
        "bf16-mixed": lambda: ours("bf16-mixed"),
        "32, gradient_checkpointing": lambda: ours("32", checkpointing=True),
        f"32, frontend_chunks {batch_size}": lambda: ours("32", chunks=batch_size),
    }
    return {"batch_size": batch_size, "versions": in_turns(versions, rounds), "gradient_difference": difference}


def _gradient_difference(detector: Any, batch: tuple[torch.Tensor, ...]) -> float:
    """Norm of the difference of our gradients to the yardstick's, relative to the norm of these."""

    def gradients() -> list[torch.Tensor]:
        detector.zero_grad()
        detector.train()(*batch).losses["total"].backward()
        return [p.grad for p in detector.parameters() if p.grad is not None]

    with plain.plainly(detector):
        expected = gradients()
    squares = sum(float((a - b).double().square().sum()) for a, b in zip(expected, gradients()))
    return (squares / sum(float(a.double().square().sum()) for a in expected)) ** 0.5


def table(part: dict[str, Any]) -> list[str]:
    title = f"A training step, XLS-R 300M, batch {part['batch_size']}, Adam included"
    text = f"Gradients differ from the yardstick's by {part['gradient_difference']:.1e} of their norm (32)."
    return [*ratio_table(title, part, 1, "step"), text, ""]
