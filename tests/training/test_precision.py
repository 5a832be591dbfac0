from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

import main
from eval_metrics import equal_error_rate
from qamo import InputError
from qamo.config.load import load_config
from qamo.training import launch, precision
from qamo.trials.scores import read_scores
from tests.support import tiny_corpus
from tests.support.detectors import LFCC, XLSR, batch_of, detector_of

ROOT = Path(__file__).parents[2]


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
    words = ["--config", str(config), "name=r", "eval.n_resamples=0"]
    assert main.main([*words, "train.max_epochs=12", "train.patience=12", "data.rawboost.algorithm=0"]) == 0
    found = {}
    for name in ("32", "bf16-mixed", "16-mixed"):
        scoring = ["--train", "false", f"comment_eval=in_{name}", f"score.precision={name}", "run.emulate=true"]
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


@pytest.mark.parametrize("key", ["train.precision", "score.precision"])
@pytest.mark.parametrize("limit", ["AVX2", "AVX512_CORE"])
@pytest.mark.parametrize("check", [[], ["--check"]])
def test_a_precision_that_the_processor_emulates_is_refused(corpus, key, limit, check):
    if check and limit != "AVX2":
        pytest.skip("one processor is enough")
    words = ["main.py", "--config", str(corpus / "config.yaml"), f"{key}=bf16-mixed", *check]
    smaller = os.environ | {"ONEDNN_MAX_CPU_ISA": limit, "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=smaller, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{key}: this processor has no products for bf16-mixed and would emulate each" in done.stderr
    assert "take 32" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (corpus / "exps").exists() or not list((corpus / "exps").glob("*/scores/*.txt"))


def test_precisions_and_devices_that_are_not_there_are_sentences():
    for name in ("tf32", "16-mixed"):
        if not precision.is_native(name, "cpu"):
            with pytest.raises(InputError, match=rf"train.precision: .*{name}.*; take 32"):
                precision.resolved(name, "cpu", "train.precision")
    assert precision.resolved("16-mixed", "cpu", "", emulate=True) == "16-mixed"
    assert precision.resolved("auto", "cpu", "") == precision.resolved("32", "cpu", "") == "32"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize("check", [[], ["--check"]])
def test_a_gpu_that_is_not_there_is_a_sentence(corpus, capsys, check):
    assert main.main(["--config", str(corpus / "config.yaml"), "run.accelerator=cuda", *check]) == 2
    said = capsys.readouterr().err
    assert "run.accelerator: cuda was asked for, but PyTorch" in said
    assert "take auto or cpu" in said


@pytest.mark.parametrize("name", ["32", "tf32", "bf16-mixed", "16-mixed"])
def test_a_gpus_float32_products_and_convolutions_are_both_set_and_put_back(name):
    def state():
        backends = torch.backends
        kinds = backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn
        return [kind.fp32_precision for kind in kinds], backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32

    before = state()[1:]
    with precision.computing(name, "cpu"):
        inside = state()
    assert inside == ((["tf32"] * 3, True, True) if name == "tf32" else (["ieee"] * 3, False, False))
    assert state()[1:] == before


@pytest.mark.parametrize("backend", ["conformer_tcm", "nes2net"])
@pytest.mark.parametrize("name", ["bf16-mixed", "16-mixed"])
def test_weights_cast_once_give_the_same_bits_as_autocast(backend, name):
    detector = detector_of(XLSR, **{"model.xlsr.attention": "eager", "model.backend": backend}).eval()
    wave = batch_of(np.random.default_rng(0), 3).wave
    with torch.inference_mode(), precision.computing(name, "cpu"):
        expected = detector(wave).score
        assert precision.cast_weights(detector, name) > 20
        assert torch.equal(detector(wave).score, expected)
    assert precision.cast_weights(detector, "32") == 0


def test_the_device_and_the_precision_are_part_of_a_score_file(corpus, capsys):
    words = ["--config", str(corpus / "config.yaml"), "name=r", "eval.sets=[seen]"]
    assert main.main([*words, "train.max_epochs=1"]) == 0
    folder = corpus / "exps" / "r"
    assert load_config(folder / "config.yaml").train.precision == "32"
    sidecar = folder / "scores" / "seen.txt.json"
    about = json.loads(sidecar.read_text())
    found = {key: about["identity"][key] for key in ("precision", "device", "batch_size")}
    assert found == {"precision": "32", "device": "cpu", "batch_size": 20}
    again = [*words, "--train", "false"]
    for changed, status in ({"device": "cuda"}, 2), ({"precision": "tf32"}, 2), ({}, 0):
        sidecar.write_text(json.dumps(about | {"identity": about["identity"] | changed}))
        capsys.readouterr()
        assert main.main(again) == status
        assert all(f"scores of another {key}" in capsys.readouterr().err for key in changed)
    about["identity"].pop("device")  # as files were before
    sidecar.write_text(json.dumps(about))
    assert main.main(again) == 0


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
