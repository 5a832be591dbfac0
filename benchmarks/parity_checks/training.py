"""Training: losses, gradients and the steps of the two Adams, in float32 and float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.parity_checks.goldens import (
    BATCHES,
    by_published_name,
    check,
    check_backends,
    detector,
    difference,
    golden,
    part_of,
    relative,
    waves,
)
from model import Detector, Output
from qamo.networks.published import to_published
from qamo.training.loop import build_optimizer

Arrays = dict[str, np.ndarray]
LOSSES = {"one_class": "cls_loss", "quality": "quality_ce", "total": "total"}  # ours -> golden


@check_backends(": training losses (relative); mixed, all bona fide, all spoof", 1e-5)
def losses(backend: str) -> Iterator[float]:
    for batch in BATCHES:
        arrays = golden(f"train_{backend}_{batch}.npz")
        found = _forward(detector(backend).train(), arrays)[1]
        yield from (relative(found[ours], arrays[key]) for ours, key in LOSSES.items())


# Batch norm over few values amplifies rounding: the original's own float32 embeddings are 9e-6 from its float64 ones.
@check_backends(": training embeddings (relative)", 1e-5, nes2net=2e-5)
def embeddings(backend: str) -> Iterator[float]:
    for batch in BATCHES:
        arrays = golden(f"train_{backend}_{batch}.npz")
        yield relative(_forward(detector(backend).train(), arrays)[0].embedding, arrays["emb"])


@check("Conformer-TCM: gradient of every parameter (relative)", 1e-4)
def gradients() -> Iterator[float]:
    for batch in BATCHES:
        arrays = golden(f"train_conformer_tcm_{batch}.npz")
        detect = detector("conformer_tcm").train()
        _forward(detect, arrays)[1]["total"].backward()
        found = by_published_name(detect, "conformer_tcm", lambda p: p.grad)
        names = arrays["grad_names"].tolist()
        yield 0.0 if set(found) == set(names) else float("inf")
        yield relative([found[name].double().norm().item() for name in names], arrays["grad_norms"])
        yield from (relative(found[name], expected) for name, expected in part_of(arrays, "grad/").items())


@check("Conformer-TCM: every parameter's change in one step of the two Adams", 1e-6)
def one_step() -> Iterator[float]:
    for batch in BATCHES:
        arrays = golden(f"train_conformer_tcm_{batch}.npz")
        change, after = _train(detector("conformer_tcm"), "conformer_tcm", arrays, 1, lr=1e-6)
        yield from (difference(change[name], expected) for name, expected in part_of(arrays, "delta/").items())
        yield difference(after["ocsoftmax.center"], arrays["after/ocsoftmax.center"])


@check_backends(", float64: losses, gradients, buffers, one step and three steps, scores after", 1e-9)
def float64(backend: str) -> Iterator[float]:
    arrays64 = golden(f"train64_{backend}.npz")
    detect = detector(backend).double()
    with torch.inference_mode():
        output = detect(waves("train").double())
        yield relative(output.embedding, arrays64["eval/emb"])
        yield difference(_cosines(detect, output), arrays64["eval/scores"])
    for batch in BATCHES:
        yield from _batch64(backend, part_of(arrays64, f"{batch}/"))


def _batch64(backend: str, arrays: Arrays) -> Iterator[float]:
    """Everything float64 in one golden training batch."""
    names = arrays["grad_names"].tolist()
    detect = detector(backend).double().train()
    output, found = _forward(detect, arrays)
    found["total"].backward()
    grads = by_published_name(detect, backend, lambda p: p.grad)
    yield 0.0 if set(grads) == set(names) else float("inf")
    yield from (relative(found[ours], arrays[key]) for ours, key in LOSSES.items())
    yield relative(output.embedding, arrays["emb"])
    yield relative([grads[name].norm().item() for name in names], arrays["grad_norms"])
    yield _dots(grads, names, arrays["grad_dots"], arrays["grad_norms"])
    yield from (relative(grads[name], expected) for name, expected in part_of(arrays, "grad/").items())
    published = to_published(detect.state_dict(), backend)
    yield from (relative(published[name], expected) for name, expected in part_of(arrays, "buf/").items())
    for key, n_steps, lr in (("step1_dots", 1, 1e-6), ("step3_lr1e-3_dots", 3, 1e-3)):
        detect = detector(backend).double()
        change, after = _train(detect, backend, arrays, n_steps, lr=lr)
        # In proportion to the way that Adam can go in so many steps.
        longest = np.array([n_steps * lr * change[name].numel() ** 0.5 for name in names])
        yield _dots(change, names, arrays[key], longest)
        if n_steps == 1:
            yield difference(after["ocsoftmax.center"], arrays["center_after1"])
    with torch.inference_mode():
        yield difference(_cosines(detect, detect.eval()(waves("train").double())), arrays["scores_after3"])


def _cosines(detect: Detector, output: Output) -> Tensor:
    head: Any = detect.head
    return head.cosines(output.embedding)


def _forward(detect: Detector, arrays: Arrays) -> tuple[Output, dict[str, Tensor]]:
    wave = waves("train").to(next(detect.parameters()).dtype)
    output = detect(wave, torch.from_numpy(arrays["labels"]).bool(), torch.from_numpy(arrays["q_score"]))
    return output, output.losses or {}


def _train(
    detect: Detector, backend: str, arrays: Arrays, n_steps: int, *, lr: float
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Some steps of training -> the change of every parameter, and every parameter after them."""
    before = by_published_name(detect, backend, lambda p: p.detach().clone())
    optimizer = build_optimizer(detect, lr=lr, head_lr=1e-3, weight_decay=1e-4)
    detect.train()
    for _ in range(n_steps):
        loss = _forward(detect, arrays)[1]["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = by_published_name(detect, backend, lambda p: p.detach())
    return {name: value - before[name] for name, value in after.items()}, after


def _dots(values: dict[str, Tensor], names: list[str], expected: np.ndarray, scales: np.ndarray) -> float:
    """Differences of <value, cos(0.1 i)>, each in proportion to its scale; absolute where that is 0 by structure."""
    found = np.array([_dot(values[name]) for name in names])
    return float((np.abs(found - expected) / np.where(scales > 1e-9, scales, 1.0)).max())


def _dot(value: Tensor) -> float:
    flat = value.double().reshape(-1)
    return float(flat @ torch.cos(0.1 * torch.arange(len(flat), dtype=torch.float64)))
