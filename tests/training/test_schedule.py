"""Warm-up, the cosine, clipping; what they are in a resumed run is in test_resume.py."""

from __future__ import annotations

import math

import pytest
import torch

import main
from qamo.config.schema import TrainConfig
from qamo.training.checkpoint import read_checkpoint
from qamo.training.schedule import Schedule


def rates(n_steps: int, **settings: object) -> list[list[float]]:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.Adam([{"params": weights[:1], "lr": 1e-3}, {"params": weights[1:], "lr": 1.0}])
    schedule = Schedule(
        optimizer, TrainConfig(**settings), steps_per_epoch=n_steps // TrainConfig(**settings).max_epochs
    )
    found = []
    for step in range(n_steps):
        schedule.set(step)
        found.append([group["lr"] for group in optimizer.param_groups])
    return found


def test_without_settings_the_rates_are_those_given():
    assert rates(20, max_epochs=2) == [[1e-3, 1.0]] * 20


def test_the_rates_rise_over_the_warm_up_and_fall_to_nothing_at_the_end():
    body, head = zip(*rates(100, max_epochs=4, warmup_steps=20, schedule="cosine"))
    assert head[0] == pytest.approx(1 / 21)
    assert list(head[:21]) == sorted(set(head[:21]))
    assert head[20] == 1.0
    assert head[60] == pytest.approx(0.5)
    assert 0 < head[99] == pytest.approx(0.5 + 0.5 * math.cos(math.pi * 79 / 80))
    assert body == pytest.approx([1e-3 * rate for rate in head])
    assert rates(40, max_epochs=2, warmup_steps=10)[10:] == [[1e-3, 1.0]] * 30


def test_a_warm_up_longer_than_the_training_and_one_step_are_no_special_cases():
    assert rates(2, max_epochs=1, warmup_steps=9)[-1] == pytest.approx([0.2e-3, 0.2])
    assert rates(1, max_epochs=1, schedule="cosine") == [[1e-3, 1.0]]


def test_clipping_bounds_the_step_of_a_run(corpus):
    """Adam divides by the size of gradients, unless they are so small that its epsilon counts."""

    def trained(*settings: str) -> dict[str, torch.Tensor]:
        words = ["--config", str(corpus / "config.yaml"), "train.max_epochs=1", "eval.sets=[]", *settings]
        name = f"r{len(settings)}"
        assert main.main([*words, "--name", name, "train.weight_decay=0"]) == 0
        return read_checkpoint(corpus / "exps" / name / "model.pt")["model"]

    free, clipped = trained(), trained("train.clip_norm=1e-9")
    start = trained("train.lr=0", "train.head_lr=0")
    weights = [name for name, tensor in start.items() if "weight" in name and tensor.is_floating_point()]
    moved = sum(float((free[name] - start[name]).abs().sum()) for name in weights)
    hardly = sum(float((clipped[name] - start[name]).abs().sum()) for name in weights)
    assert 0 < hardly < 0.1 * moved
