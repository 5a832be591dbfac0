from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from model import Detector, load_detector
from qamo import InputError
from qamo.config.schema import TrainConfig
from qamo.training import cuda_graph, loop, precision
from qamo.training.cuda_graph import can_be_recorded
from qamo.training.loader import Batch, Batches
from qamo.training.signals import StopFlag
from qamo.training.state import Saver, TrainState
from tests.support.detectors import LFCC, XLSR, batch_of, detector_of

N_DEV, BATCH, STEPS = 10, 6, 3


def batches(poison: tuple[int, int] | None = None, dev_batch: int = 4) -> Batches:
    def train(epoch: int, first: int) -> Iterator[Batch]:
        for step in range(first, STEPS):
            batch = batch_of(np.random.default_rng([epoch, step]), BATCH, first=step * BATCH)
            if (epoch, step) == poison:
                batch.wave[2, 100] = torch.nan
            yield batch

    def dev() -> Iterator[Batch]:
        whole = batch_of(np.random.default_rng(99), N_DEV)
        for start in range(0, N_DEV, dev_batch):
            yield Batch(*(column[start : start + dev_batch] for column in whole))

    names = [f"T_{i:02d}" for i in range(STEPS * BATCH)]
    return Batches(train, dev, STEPS, math.ceil(N_DEV / dev_batch), names, 0, {})


def fit(run_dir: Path, source: Batches | None = None, **options) -> tuple[TrainState, Detector]:
    run_dir.mkdir(exist_ok=True)
    detector = detector_of(options.pop("keys", LFCC))
    settings = {
        "max_epochs": 4,
        "patience": 10,
        "lr": 0.003,
        "head_lr": 0.001,
        "weight_decay": 1e-4,
        "n_best": 2,
        "n_average": 2,
        "save_every_s": 1e9,
    }
    fabric = options.pop("fabric", None) or Fabric(accelerator="cpu")
    record = options.pop("record", False)
    train = TrainConfig(**{**settings, **options})
    state = loop.fit(fabric, detector, source or batches(), train, run_dir, record=record)
    return state, detector


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize(
    "keys",
    [{"chunks": 2}, {"chunks": 3}, {"chunks": 4}, {"model.xlsr.gradient_checkpointing": True}],
    ids=["2 chunks", "3 chunks", "4 uneven chunks", "gradient checkpointing"],
)
def test_ways_to_save_memory_give_the_gradients_of_the_plain_run(keys, dtype, tolerance):
    def step(chunks: int = 1, **more) -> Detector:
        detector = detector_of(XLSR, **more).to(dtype).train()
        detector.frontend_chunks = chunks
        batch = batch_of(np.random.default_rng(1), 6)
        detector(batch.wave.to(dtype), batch.bonafide, batch.quality).losses["total"].backward()
        return detector

    plain, thrifty = step(), step(**keys)
    expected = {name: p.grad for name, p in plain.named_parameters()}
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, parameter in thrifty.named_parameters():
        assert parameter.grad is not None, name
        scale = max(float(expected[name].abs().max()), 1e-3 * largest)
        torch.testing.assert_close(parameter.grad, expected[name], rtol=0, atol=tolerance * scale)
    for (name, ours), theirs in zip(thrifty.named_buffers(), plain.buffers()):
        torch.testing.assert_close(ours, theirs, msg=name)  # batch norms saw the batch once, and as one


def test_chunks_hold_the_graph_of_one_piece_at_a_time():
    detector = detector_of(XLSR).train()
    sizes: list[int] = []
    detector.frontend.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    detector.frontend_chunks = 3
    batch = batch_of(np.random.default_rng(1), 6)
    detector(batch.wave, batch.bonafide, batch.quality).losses["total"].backward()
    assert sizes == [2, 2, 2] * 2  # forward, and once more on the way back
    sizes.clear()
    detector.eval()(batch.wave)
    assert sizes == [6]


def test_one_adam_with_two_groups_steps_as_the_two_adams_of_the_paper():
    ours, theirs = detector_of(LFCC), detector_of(LFCC)
    one = loop.build_optimizer(ours, lr=1e-3, head_lr=1e-2, weight_decay=1e-2)
    head = list(theirs.head.parameters())
    body = [p for p in theirs.parameters() if all(p is not q for q in head)]
    two = [
        torch.optim.Adam(body, lr=1e-3, weight_decay=1e-2),
        torch.optim.Adam(head, lr=1e-2, weight_decay=1e-2),
    ]
    for step in range(3):
        batch = batch_of(np.random.default_rng(step), 6)
        for detector, optimizers in ((ours, [one]), (theirs, two)):
            for optimizer in optimizers:
                optimizer.zero_grad()
            detector(batch.wave, batch.bonafide, batch.quality).losses["total"].backward()
            for optimizer in optimizers:
                optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters()):
        assert torch.equal(a, b)


def test_the_dev_loss_is_the_mean_over_utterances_whatever_the_batches():
    detector = detector_of(LFCC).eval()
    whole = batch_of(np.random.default_rng(99), N_DEV)
    single = [detector(w[None], b[None]).losses["total"].item() for w, b in zip(whole.wave, whole.bonafide)]
    fabric = Fabric(accelerator="cpu")
    for size in (1, 4, 10):
        found = loop.dev_loss(fabric, detector, batches(dev_batch=size), StopFlag())
        assert found is not None
        assert found["dev_loss"] == pytest.approx(np.mean(single), rel=1e-5)


def test_the_best_epochs_are_kept_with_the_weights_they_had(tmp_path):
    state, _ = fit(tmp_path / "run")
    losses = {row["epoch"]: row["dev_loss"] for row in state.history}
    best = sorted(losses, key=lambda epoch: losses[epoch])[:2]
    assert [name for _, name in state.best] == [f"epoch_{epoch:03d}.pt" for epoch in best]
    assert sorted(p.name for p in (tmp_path / "run").glob("epoch_*.pt")) == sorted(name for _, name in state.best)
    fabric = Fabric(accelerator="cpu")
    for loss, name in state.best:
        found = loop.dev_loss(fabric, load_detector(tmp_path / "run" / name), batches(), StopFlag())
        assert found is not None
        assert found["dev_loss"] == loss
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows == state.history
    assert {"loss_total", "loss_one_class", "loss_quality", "dev_loss", "dev_eer", "centroid_cosine"} <= rows[0].keys()
    assert rows[0]["n_bonafide"] == 6
    assert rows[0]["n_bonafide_class_0"] + rows[0]["n_bonafide_class_1"] == 6
    one_class, quality = rows[0]["loss_one_class"], rows[0]["loss_quality"]
    assert rows[0]["loss_total"] == pytest.approx(one_class + 0.1 * quality, rel=1e-6)


def test_training_ends_when_the_dev_loss_has_not_improved_for_the_patience(tmp_path):
    state, _ = fit(tmp_path / "run", max_epochs=40, patience=2, lr=0.05, head_lr=0.5)
    losses = [row["dev_loss"] for row in state.history]
    first_best = int(np.argmin(losses))
    assert state.epoch < 40
    assert len(losses) == first_best + 1 + 2
    assert [row["stale"] for row in state.history[first_best:]] == [0, 1, 2]
    again, _ = fit(tmp_path / "run", max_epochs=40, patience=2, lr=0.05, head_lr=0.5)
    assert again.history == state.history  # a finished training stays finished


def test_a_loss_that_is_not_finite_names_epoch_step_and_utterances_and_keeps_the_last_state(tmp_path):
    with pytest.raises(InputError) as caught:
        fit(tmp_path / "run", batches(poison=(1, 2)))
    said = str(caught.value)
    assert "epoch 2, step 3: the loss is nan on T_12, T_13, T_14, T_15, T_16, T_17" in said
    assert "last.pt; lower train.lr, or look at these recordings" in said
    resumed, _ = fit(tmp_path / "run")
    straight, _ = fit(tmp_path / "straight")
    assert resumed.history == straight.history
    for name in ("last.pt", *(name for _, name in straight.best)):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def test_weights_that_are_not_finite_do_not_replace_finite_ones(tmp_path):
    state, detector = fit(tmp_path / "run")
    before = (tmp_path / "run" / "last.pt").read_bytes()
    optimizer = loop.build_optimizer(detector, lr=1, head_lr=1, weight_decay=0)
    saver = Saver(Fabric(accelerator="cpu"), detector, optimizer, tmp_path / "run", {}, 1.0)
    with torch.no_grad():
        detector.head.centroids[0, 0] = torch.inf
    with pytest.raises(InputError, match="weights are no longer finite; the last good state is kept"):
        saver.save(state)
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_files_that_a_kill_left_behind_are_put_in_order_at_the_next_start(tmp_path):
    run = tmp_path / "run"
    state, _ = fit(run)
    whole = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").write_bytes(whole[: len(whole) // 2])
    (run / "epoch_099.pt").write_bytes(b"of a step that last.pt does not know of")
    fit(run)
    assert (run / "metrics.jsonl").read_bytes() == whole
    assert sorted(p.name for p in run.glob("epoch_*")) == sorted(name for _, name in state.best)


def test_a_checkpoint_without_training_state_is_not_resumed_from(tmp_path):
    state, _ = fit(tmp_path / "run")
    (tmp_path / "run" / state.best[0][1]).rename(tmp_path / "run" / "last.pt")
    with pytest.raises(InputError, match=r"last.pt: holds weights but no training state; move it away"):
        fit(tmp_path / "run")


def test_a_dev_set_of_one_class_has_no_eer_but_a_loss():
    detector = detector_of(LFCC)
    whole = batch_of(np.random.default_rng(99), N_DEV)
    spoof = Batch(*(column[~whole.bonafide] for column in whole))
    source = batches()._replace(dev=lambda: iter([spoof]), n_dev_batches=1)
    found = loop.dev_loss(Fabric(accelerator="cpu"), detector, source, StopFlag())
    assert found is not None
    assert math.isnan(found["dev_eer"])
    assert math.isfinite(found["dev_loss"])


def on_gpu(precision_name: str = "32") -> tuple[Fabric, Batches]:
    fabric = Fabric(accelerator="cuda", devices=1, plugins=[precision.plugin(precision_name, "cuda")])
    source = batches()

    def train(epoch: int, step: int) -> Iterator[Batch]:
        return map(fabric.to_device, source.train(epoch, step))

    return fabric, source._replace(train=train, dev=lambda: map(fabric.to_device, source.dev()))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_resume_on_a_gpu_takes_the_optimiser_along(tmp_path):
    fit(tmp_path, max_epochs=1)
    saved = torch.load(tmp_path / "last.pt", weights_only=True)
    saved["train_state"]["finished"] = False
    torch.save(saved, tmp_path / "last.pt")
    fabric, source = on_gpu()
    state, detector = fit(tmp_path, source, fabric=fabric, max_epochs=2)
    assert state.epoch == 2
    assert all(parameter.is_cuda for parameter in detector.parameters())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", ["32", "tf32", "bf16-mixed"])
def test_a_recorded_step_trains_as_one_whose_kernels_are_launched_one_by_one(name, tmp_path, caplog):
    found = []
    for record in (False, True):
        fabric, source = on_gpu(name)
        folder = tmp_path / str(record)
        state, detector = fit(folder, source, fabric=fabric, record=record, keys=XLSR, precision=name, max_epochs=2)
        found.append((state.history, {key: tensor.cpu() for key, tensor in detector.state_dict().items()}))
    (rows, weights), (rows_recorded, weights_recorded) = found
    assert "could not be recorded" not in caplog.text
    for row, recorded in zip(rows, rows_recorded, strict=True):
        assert recorded == pytest.approx(row, rel=1e-3, abs=1e-4)
    # Not each one: where a gradient is zero but for rounding, as of a bias of keys, Adam makes a whole step of it.
    far = [~torch.isclose(weights_recorded[key], weights[key], atol=1e-4, rtol=1e-3).flatten() for key in weights]
    assert torch.cat(far).double().mean() < 0.01


class OneGPU:
    """Of a Fabric what is asked whether a step can be recorded."""

    device = torch.device("cuda")
    world_size = 1

    class strategy:
        class precision:
            precision = "32-true"


@pytest.mark.parametrize(
    ("keys", "can"),
    [
        ({}, True),
        ({"model.xlsr.gradient_checkpointing": True}, False),
        ({"model.frontend": "lfcc"}, False),
    ],
    ids=["xlsr", "gradient checkpointing", "lfcc"],
)
def test_only_a_step_that_is_the_same_work_each_time_is_recorded(keys, can):
    fabric: Any = OneGPU()
    detector = detector_of({**XLSR, **keys}).train()
    assert can_be_recorded(fabric, detector) == can
    detector.frontend_chunks = 2
    assert not can_be_recorded(fabric, detector)
    assert not can_be_recorded(Fabric(accelerator="cpu"), detector_of(XLSR))


def test_where_recording_fails_the_step_is_taken_as_before(monkeypatch, caplog):
    def fails(*inputs):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(cuda_graph, "Recorded", fails)
    monkeypatch.setattr(cuda_graph, "can_be_recorded", lambda *of: True)
    fabric, detector = Fabric(accelerator="cpu"), detector_of(LFCC).train()
    passes = cuda_graph.Passes(fabric, detector, fabric.setup(detector), record=True)
    (batch, *_) = batches().train(0, 0)
    for _ in range(2):
        passes.backward(passes.forward(batch), torch.optim.SGD(detector.parameters()))
    assert caplog.text.count("(operation not permitted when stream is capturing), so kernels") == 1
    assert all(p.grad is not None for p in detector.parameters())
