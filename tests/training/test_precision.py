from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

import main
from eval_metrics import equal_error_rate
from qamo.training import launch, precision
from qamo.trials.scores import read_scores
from tests.support import tiny_corpus
from tests.support.detectors import LFCC, XLSR, batch_of, detector_of


@pytest.mark.parametrize("name", ["32", "bf16-mixed", "16-mixed"])
def test_waves_come_whole_and_head_and_loss_stay_in_32_bits(name):
    detector = detector_of(XLSR, **{"model.xlsr.attention": "eager"}).train()  # module by module, so that one can look
    fabric = Fabric(accelerator="cpu", plugins=[precision.plugin(name, "cpu")])
    seen: dict[str, torch.Tensor] = {}
    detector.frontend.register_forward_pre_hook(lambda module, inputs: seen.update(wave=inputs[0]))
    detector.backend.register_forward_pre_hook(lambda module, inputs: seen.update(features=inputs[0]))
    inner = detector.frontend.network.encoder.layers[0].feed_forward.intermediate_dense
    inner.register_forward_hook(lambda module, inputs, output: seen.update(inner=output))
    model = fabric.setup(detector)
    batch = batch_of(np.random.default_rng(0), 6)
    output = model(batch.wave, batch.bonafide, batch.quality)
    assert torch.equal(seen["wave"], batch.wave)
    assert seen["inner"].dtype == precision.FORMATS.get(name, torch.float32)
    assert output.score.dtype == torch.float32
    assert all(loss.dtype == torch.float32 for loss in output.losses.values())
    fabric.backward(output.losses["total"])
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


def test_the_gradient_scale_shrinks_where_fp16_overflows_and_is_part_of_the_state():
    plugin = precision.plugin("16-mixed", "cpu")
    fabric = Fabric(accelerator="cpu", plugins=[plugin])
    weight = torch.nn.Linear(1, 1)
    model, optimizer = fabric.setup(weight, torch.optim.Adam(weight.parameters()))
    before = weight.weight.clone()
    fabric.backward(model(torch.full((1, 1), 1e38)).float().sum())
    optimizer.step()
    state = plugin.state_dict()
    assert state["scale"] == 2.0**15
    assert torch.equal(weight.weight, before)  # a step that overflowed is left out
    another = precision.plugin("16-mixed", "cpu")
    another.load_state_dict(state)
    assert another.state_dict()["scale"] == 2.0**15
    assert precision.plugin("bf16-mixed", "cpu").state_dict() == precision.plugin("32", "cpu").state_dict() == {}


def test_16_bits_rank_trials_as_32_do(tmp_path, capsys):
    """On 120 trials of a trained tiny model. bf16 keeps 8 bits: measured differences of a cosine are below 0.01."""
    config = tiny_corpus.build(tmp_path, n_eval=120)
    words = ["--config", str(config), "name=r", "train.max_epochs=12", "train.patience=12", "eval.n_resamples=0"]
    assert main.main([*words, "data.rawboost.algorithm=0"]) == 0
    found = {}
    for name in ("32", "bf16-mixed", "16-mixed"):
        scoring = ["--train", "false", f"comment_eval=in_{name}", f"score.precision={name}"]
        assert main.main([*words, *scoring]) == 0
        found[name] = read_scores(tmp_path / "exps" / "r" / "scores" / f"seen_in_{name}.txt")
    bonafide = np.array([i % 3 == 0 for i in range(120)])
    eers = {
        name: 100 * float(equal_error_rate(s.values[bonafide], s.values[~bonafide]).eer) for name, s in found.items()
    }
    assert eers["32"] < 40
    for name in ("bf16-mixed", "16-mixed"):
        difference = np.abs(found[name].values - found["32"].values).max()
        with capsys.disabled():
            print(
                f"\n{name}: EER {eers[name]:.2f} % (32: {eers['32']:.2f} %), largest score difference {difference:.5f}"
            )
        assert 0 < difference < 0.02
        assert abs(eers[name] - eers["32"]) <= 0.1


def test_lfcc_features_do_not_depend_on_the_number_format():
    detector = detector_of(LFCC).eval()
    wave = batch_of(np.random.default_rng(0), 4).wave
    plain = detector.frontend(wave)
    with precision.autocast("bf16-mixed", "cpu"):
        assert torch.equal(detector.frontend(wave), plain)


@pytest.mark.parametrize("wanted", [True, False])
def test_determinism_is_set_as_asked_and_warns_where_there_is_none(wanted, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    for name in ("deterministic", "benchmark"):
        monkeypatch.setattr(torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))
    try:
        launch.set_deterministic(wanted)
        assert torch.backends.cudnn.deterministic is wanted
        assert torch.are_deterministic_algorithms_enabled() is wanted
        assert torch.is_deterministic_algorithms_warn_only_enabled() or not wanted
        assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) is wanted
        assert not torch.utils.deterministic.fill_uninitialized_memory
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = True
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
