"""What a GPU would do, without one: tensors made on the wrong device, operations, casts and waits, counted.

The meta device computes shapes only. An operation that mixes it with a tensor of the CPU fails, and so does reading a
number, for which a GPU would have to be waited for.
"""

from __future__ import annotations

import contextlib
import types
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from model import HEADS
from qamo import InputError
from qamo.config.schema import Config
from qamo.config.yaml_text import Text
from qamo.evaluation.scoring_pass import ScoringPass, pieces_for
from qamo.networks import gpu_pass
from qamo.training import launch, loader, precision
from qamo.training.compiling import compile_steps
from qamo.training.loader import Batch, Batches
from qamo.training.loop import build_optimizer
from qamo.training.state import TrainState
from qamo.training.step_log import StepLog
from tests.support.detectors import LFCC, XLSR, batch_of, detector_of
from tests.support.hf import description
from tests.support.xlsr_cpu import go_as_on_a_gpu

DISTILLMOS = {**LFCC, "model.frontend": "distillmos", "model.distillmos.freeze": False}
WEIGHTED = {**XLSR, "model.xlsr.layers": "weighted"}
ENCODERS = {
    name: {**XLSR, "model.frontend": "hf", "model.hf.freeze": False, "model.hf.encoder": Text(description(name))}
    for name in ("wavlm", "wav2vec2-bert", "whisper")
}
FRONTENDS = {"lfcc": LFCC, "xlsr": XLSR, "xlsr weighted": WEIGHTED, "distillmos": DISTILLMOS, **ENCODERS}
BACKENDS = {
    "conformer_tcm": {},
    "nes2net": {"model.nes2net.n_groups": 2, "model.nes2net.scale": 2},
    "asp": {},
    "mean": {},
}
# Operations after which Python holds a number or a size that a GPU computed.
WAITS = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "masked_select", "unique", "bincount")


class Counted(TorchDispatchMode):
    """Operations by name while it is entered, and casts of weights."""

    def __init__(self, weights=()):
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.weights = {tensor.data_ptr() for tensor in weights}
        self.casts_of_weights = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").partition(".")[0]
        self.operations[name] += 1
        result = func(*args, **(kwargs or {}))
        if name in ("_to_copy", "to") and result.dtype != args[0].dtype and args[0].data_ptr() in self.weights:
            self.casts_of_weights += 1
        return result

    @property
    def waits(self):
        return sum(self.operations[name] for name in WAITS)

    @property
    def n(self):
        return sum(self.operations.values())


@pytest.fixture
def autocast_on_meta(monkeypatch):
    """The meta device has no autocast to switch off."""
    original = torch.autocast
    monkeypatch.setattr(
        torch, "autocast", lambda kind, **more: contextlib.nullcontext() if kind == "meta" else original(kind, **more)
    )


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    go_as_on_a_gpu(monkeypatch)


def on_meta(batch: Batch) -> Batch:
    return Batch(*(column.to("meta") for column in batch))


def source(n_classes: int = 2) -> Batches:
    return Batches(lambda *_: [], list, 1, 1, [f"T_{i}" for i in range(99)], 0, {}, n_classes)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "scoring"])
def test_nothing_is_made_on_the_cpu_or_read_from_the_device(frontend, backend, head, training, autocast_on_meta):
    if frontend == "distillmos":
        pytest.importorskip("xls_r_sqa", reason="pip install --no-deps distillmos xls-r-sqa")
    keys = {**FRONTENDS[frontend], **BACKENDS[backend], "model.backend": backend, "model.head": head}
    detector = detector_of(keys).to("meta").train(training)
    batch = on_meta(batch_of(np.random.default_rng(0), 4))
    if training:
        losses = detector(batch.wave, batch.bonafide, batch.quality).losses
        losses["total"].backward()
        assert all(p.grad is not None and p.grad.is_meta for p in detector.parameters() if p.requires_grad)
    else:
        with torch.inference_mode():
            assert detector(batch.wave).score.is_meta


@pytest.mark.skipif(torch.version.cuda is None, reason="this build of PyTorch has no CUDA, nor fake tensors on it")
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("frontend", FRONTENDS)
def test_fake_tensors_on_a_gpu_pass_every_part(frontend, backend, head, monkeypatch):
    """As on the meta device, with what PyTorch does on CUDA alone; no GPU is needed, save for the backward pass."""
    if frontend == "distillmos":
        pytest.importorskip("xls_r_sqa", reason="pip install --no-deps distillmos xls-r-sqa")
    monkeypatch.setattr(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True)
    keys = {**FRONTENDS[frontend], **BACKENDS[backend], "model.backend": backend, "model.head": head}
    detector, batch = detector_of(keys).train(), batch_of(np.random.default_rng(0), 4)
    name = "bf16-mixed" if torch.cuda.is_available() else "32"  # PyTorch has no autocast for a GPU that is not there
    with FakeTensorMode(allow_non_fake_inputs=True), precision.computing(name, "cuda"):
        detector = detector.to("cuda")
        wave, bonafide, quality = (column.to("cuda") for column in (batch.wave, batch.bonafide, batch.quality))
        output = detector(wave, bonafide, quality)
        assert {output.score.device.type, output.losses["total"].device.type} == {"cuda"}
        if torch.cuda.is_available():
            output.losses["total"].backward()
            assert {p.grad.device.type for p in detector.parameters() if p.grad is not None} == {"cuda"}
        if frontend != "distillmos":  # which then takes PyTorch's fused layers, and those ask the driver
            with torch.inference_mode():
                assert detector.eval()(wave).score.device.type == "cuda"


def test_a_tensor_made_on_the_cpu_would_be_found(autocast_on_meta):
    detector = detector_of(LFCC).to("meta")
    detector.backend.register_forward_pre_hook(lambda module, inputs: (inputs[0] + torch.ones(inputs[0].shape[2]),))
    with pytest.raises(RuntimeError, match="meta"):
        detector(on_meta(batch_of(np.random.default_rng(0), 4)).wave)
    read = detector_of(LFCC).to("meta")
    read.head.register_forward_hook(lambda module, inputs, output: output * output.sum().item())
    with pytest.raises(RuntimeError, match="meta"):
        read(on_meta(batch_of(np.random.default_rng(0), 4)).wave)


def taken_step(frontend: dict, *, late: bool) -> tuple[Counted, TrainState]:
    """One training step with fused Adam, counted after a first one has warmed up."""
    detector: Any = detector_of(frontend).train()
    optimizer = build_optimizer(detector, lr=1e-6, head_lr=1e-3, weight_decay=1e-4)
    for group in optimizer.param_groups:
        group["fused"] = True
    fabric = Fabric(accelerator="cpu")
    steps, state = StepLog(fabric, source(), "exps/r", late=late), TrainState()
    batch = batch_of(np.random.default_rng(0), 6)
    for _ in range(2):
        counted = Counted()
        with counted:
            losses = detector(batch.wave, batch.bonafide, batch.quality).losses
            steps.add(state, losses, batch)
            optimizer.zero_grad()
            losses["total"].backward()
            optimizer.step()
            state.step += 1
    steps.read(state)
    return counted, state


def test_a_training_step_waits_for_the_device_once_at_most_and_adam_is_one_kernel_a_group(as_on_a_gpu):
    counted, late = taken_step(XLSR, late=True)
    assert counted.waits == 0
    assert counted.operations["_fused_adam_"] == 2
    _, early = taken_step(XLSR, late=False)
    assert late.sums == early.sums
    assert late.sums["n_bonafide"] == 4
    assert late.sums["n_bonafide_class_0"] + late.sums["n_bonafide_class_1"] == 4


def test_operations_of_a_step_grow_with_layers_and_not_with_the_batch(capsys, as_on_a_gpu):
    """A count over the 2-layer network, so that a growth of the code shows; benchmarks/README.md has the full size."""
    n = {layers: taken_step({**XLSR, "model.xlsr.n_layers": layers}, late=True)[0].n for layers in (2, 3)}
    with capsys.disabled():
        print(f"\noperations of a training step with 2 and 3 layers: {n}")
    assert n[3] - n[2] < 150
    assert n[2] < 900


@pytest.mark.parametrize("late", [False, True])
def test_a_loss_that_is_not_finite_is_found_and_named_at_the_latest_one_step_later(late, tmp_path):
    steps, state = StepLog(Fabric(accelerator="cpu"), source(), tmp_path, late=late), TrainState(epoch=1)
    batch = batch_of(np.random.default_rng(0), 3, first=7)
    said = r"epoch 2, step 1: the loss is nan on T_7, T_8, T_9; the last good state is kept in .*/last.pt"
    bad, good = ({"total": torch.tensor(value)} for value in (float("nan"), 1.0))
    if late:
        steps.add(state, bad, batch)
        state.step += 1
        with pytest.raises(InputError, match=said):
            steps.add(state, good, batch_of(np.random.default_rng(0), 3))
        steps.add(TrainState(epoch=1), bad, batch)
        with pytest.raises(InputError, match="the loss is nan"):
            steps.read(state)  # before a state is saved
    else:
        with pytest.raises(InputError, match=said):
            steps.add(state, bad, batch)
    assert state.sums == {}


@pytest.mark.parametrize("name", ["bf16-mixed", "16-mixed"])
def test_weights_are_cast_before_the_first_batch_and_never_again(name, as_on_a_gpu):
    wave = batch_of(np.random.default_rng(0), 3).wave
    counts = []
    for cast in (False, True):
        detector = detector_of(XLSR).eval()
        if cast:
            precision.cast_weights(detector, name)
        with torch.inference_mode(), precision.computing(name, "cpu"), Counted(detector.parameters()) as counted:
            detector(wave)
        counts.append(counted.casts_of_weights)
        assert counted.waits == 0
    assert counts[0] > 20
    assert counts[1] == 0


class Small(torch.nn.Module):
    """A detector on a device whose memory holds four waves."""

    def __init__(self, holds=4):
        super().__init__()
        self.holds, self.seen = holds, []

    def forward(self, wave):
        self.seen.append(len(wave))
        if len(wave) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Config.model_construct(score=wave.mean(dim=1))


def test_a_memory_that_is_too_small_halves_the_pieces_and_changes_no_score(caplog):
    small = Small()
    scoring = ScoringPass(small, torch.device("cpu"), "32", batch_size=16, window=100)
    wave = torch.randn(15, 100)
    assert torch.equal(scoring(wave), wave.mean(dim=1))
    assert scoring.n_at_once == 4
    assert small.seen == [15, 8, 4, 4, 4, 3]
    assert "going on with 4 recordings at a time" in caplog.text
    with pytest.raises(InputError, match="does not hold one recording"):
        ScoringPass(Small(holds=0), torch.device("cpu"), "32", batch_size=2, window=100)(wave)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "memory of cpu is too small for this training: train.frontend"),
        (
            RuntimeError("CUDA error: an illegal access\nmore"),
            r"cpu failed \(CUDA error: an illegal access\); what was",
        ),
    ],
)
def test_a_device_that_fails_is_a_sentence(error, said):
    with pytest.raises(InputError, match=said), launch.together(Fabric(accelerator="cpu"), Config()):
        raise error


def test_pieces_follow_the_free_memory():
    assert [pieces_for(gb, 128, 66_800) for gb in (0.01, 1, 7, 12, 80)] == [1, 4, 32, 64, 128]
    assert pieces_for(12, 128, 4 * 66_800) == 16
    assert pieces_for(80, 20, 66_800) == 20


@pytest.mark.parametrize(
    ("n_cores", "n_gpus", "shared", "n"),
    [(2, 1, 10**12, 4), (8, 1, 10**12, 8), (64, 1, 10**12, 16), (64, 8, 10**12, 8), (64, 1, 64 * 10**6, 4)],
)
def test_as_many_read_as_a_gpu_has_cores_and_shared_memory_holds(n_cores, n_gpus, shared, n, monkeypatch):
    monkeypatch.setattr(loader.cores, "usable", lambda: n_cores)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    monkeypatch.setattr(loader, "_free_shared", lambda: shared)
    gpu: Any = types.SimpleNamespace(device=torch.device("cuda"))
    n_bytes = 20 * 66_800 * 4
    assert loader.n_readers("auto", gpu, n_bytes) == n
    assert loader.n_readers(3, gpu, n_bytes) == 3
    assert loader.n_readers("auto", Fabric(accelerator="cpu"), n_bytes) == 4


@pytest.mark.slow
def test_compiled_steps_equal_eager_ones_with_gradients(as_on_a_gpu):
    batch = batch_of(np.random.default_rng(0), 2)
    found = []
    for compiled in (False, True):
        detector = detector_of(XLSR).train()
        if compiled and not compile_steps(detector, batch.wave, backward=True):
            pytest.skip("torch.compile finds no compiler here")
        output = detector(batch.wave, batch.bonafide, batch.quality)
        output.losses["total"].backward()
        found.append([output.score.detach(), *(p.grad for p in detector.parameters())])
    for eager, ours in zip(*found):
        torch.testing.assert_close(ours, eager, atol=1e-5, rtol=1e-3)


def test_a_compiler_that_fails_is_a_warning(monkeypatch, caplog, as_on_a_gpu):
    detector: Any = detector_of(XLSR).train()
    wave = batch_of(np.random.default_rng(0), 2).wave

    def broken(*inputs):
        raise RuntimeError("no C compiler\nat all")

    monkeypatch.setattr(gpu_pass, "_compiled", lambda: (broken, broken))
    assert not compile_steps(detector, wave, backward=True)
    assert "torch.compile failed (no C compiler)" in caplog.text
    assert detector.frontend(wave).isfinite().all()
    assert not compile_steps(detector_of(LFCC), wave, backward=True)


def test_the_files_that_wait_for_a_device_are_known():
    """A new .item() or .tolist() in the loop would be another wait a step."""
    loop = (Path(__file__).parents[1] / "qamo" / "training" / "loop.py").read_text()
    body = loop[loop.index("def train_epoch") : loop.index("def dev_loss")]
    assert not any(word in body for word in (".item()", ".tolist()", ".cpu()", "isfinite"))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", ["32", "tf32", "bf16-mixed"])
def test_recorded_scores_are_those_of_kernels_launched_one_by_one(name):
    wave = batch_of(np.random.default_rng(0), 11).wave
    found = []
    for n_recordings in (0, 10_000):
        scoring = ScoringPass(detector_of(XLSR).cuda(), torch.device("cuda"), name, batch_size=4, window=4_000)
        scoring.prepare(4_000, n_recordings)
        assert bool(scoring.recorded) == bool(n_recordings)
        with torch.inference_mode(), precision.computing(name, "cuda"):
            found += [scoring(wave).cpu(), scoring(wave.flip(0)).cpu().flip(0)]
    for scores in found[1:]:
        torch.testing.assert_close(scores, found[0], atol=1e-5 if name == "32" else 2e-3, rtol=0)
