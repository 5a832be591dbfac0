"""XLS-R from every kind of file, alike in training and evaluation."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qamo import InputError
from qamo.networks.xlsr_files import read_xlsr
from tests.support.xlsr import PRETRAINING, as_fairseq, as_file, as_folder, fairseq_state, wave, xlsr

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def original():
    frontend = xlsr().eval()
    with torch.no_grad():  # fresh biases and norms are 0 and 1, which would hide a swap
        for parameter in frontend.parameters():
            parameter.add_(
                0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    return frontend


@pytest.mark.parametrize(
    "write",
    [
        as_fairseq,
        as_folder,
        lambda network, folder: as_folder(network, folder, spelling="old"),
        lambda network, folder: as_folder(network, folder, prefix="wav2vec2.", spelling="old"),
        lambda network, folder: as_folder(network, folder, name="pytorch_model.bin"),
        as_file,
    ],
    ids=["fairseq", "folder", "old weight norm", "pretraining network", "pytorch_model.bin", "safetensors"],
)
def test_the_same_weights_from_any_file_give_the_same_features(original, tmp_path, write):
    path = write(original.network, tmp_path)
    frontend = xlsr(weights=str(path)).eval()
    with torch.inference_mode():
        assert torch.equal(frontend(wave()), original(wave()))


def test_weights_that_only_pretraining_reads_are_named_when_dropped(original, tmp_path, caplog):
    path = as_fairseq(original.network, tmp_path)
    with caplog.at_level(logging.INFO):
        read_xlsr(str(path), {"n_heads": 4})
    assert "4 weights that only pre-training reads are left out" in caplog.text
    for name in PRETRAINING:
        assert name in caplog.text


@pytest.mark.parametrize("fault", ["missing", "unexpected"])
def test_a_file_with_other_names_is_refused_naming_them(original, tmp_path, fault):
    state = fairseq_state(original.network)
    if fault == "missing":
        del state["encoder.layers.1.fc1.bias"]
    else:
        state["encoder.layers.1.adapter.weight"] = torch.ones(2)
    torch.save({"model": state}, tmp_path / "x.pt")
    name = "encoder.layers.1." + ("feed_forward.intermediate_dense.bias" if fault == "missing" else "adapter.weight")
    with pytest.raises(InputError, match=f"1 {fault}: {name}"):
        xlsr(weights=str(tmp_path / "x.pt"))


def test_another_architecture_is_refused_with_the_sizes(original, tmp_path):
    path = as_fairseq(original.network, tmp_path)
    with pytest.raises(InputError, match=r"n_layers 2 \(expected 3\), hidden_size 32 \(expected 64\)"):
        xlsr(weights=str(path), hidden_size=64, n_layers=3)


def test_a_folder_of_another_kind_of_wav2vec_is_refused_though_its_shapes_fit(original, tmp_path):
    as_folder(original.network, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"do_stable_layer_norm": False, "feat_extract_norm": "layer"}))
    with pytest.raises(InputError, match="do_stable_layer_norm False: not a network of the XLS-R kind"):
        read_xlsr(str(tmp_path))


def test_paths_that_lead_nowhere(original, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"pretrained/xlsr2_300m\.pt: no such file; download https://"):
        read_xlsr("pretrained/xlsr2_300m.pt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"found no config\.json in it"):
        read_xlsr("folder")
    (tmp_path / "folder" / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"expected model\.safetensors or pytorch_model\.bin"):
        read_xlsr("folder")
    (tmp_path / "cut.safetensors").write_bytes(as_file(original.network, tmp_path).read_bytes()[:-500])
    with pytest.raises(InputError, match="ends too early"):
        read_xlsr("cut.safetensors")


def test_a_whole_detector_in_place_of_a_front_end_is_told(tmp_path):
    torch.save({"ssl_model.model.mask_emb": torch.ones(3), "LL.weight": torch.ones(2)}, tmp_path / "best.pth")
    with pytest.raises(InputError, match="holds a whole detector, not a front end"):
        read_xlsr(str(tmp_path / "best.pth"))


def test_a_hub_name_without_a_network_says_how_to_go_on_by_hand(tmp_path):
    code = "from qamo.networks.xlsr_files import read_xlsr; read_xlsr('facebook/wav2vec2-xls-r-300m')"
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("qamo.InputError: model.xlsr.weights facebook/wav2vec2-xls-r-300m: no such file")
    assert "download https://dl.fbaipublicfiles.com" in last


def test_a_fairseq_file_is_mapped_not_read(tmp_path):
    """The moments of the optimiser, most of the published file, must never enter memory."""
    torch.save(
        {"model": {"post_extract_proj.weight": torch.ones(3)}, "last": torch.ones(60_000_000)}, tmp_path / "x.pt"
    )
    code = (
        "import resource, sys; from qamo.networks import xlsr_files;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024;"
        "before = peak(); xlsr_files.read_fairseq(sys.argv[1]); print(peak() - before)"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "x.pt"], cwd=ROOT, capture_output=True, text=True)
    assert float(run.stdout) < 60, run.stderr  # MiB; the file has 229


def test_training_mode_computes_what_evaluation_does(original):
    """No masking, dropout or layer drop: in transformers' defaults all of them are on."""
    frontend = xlsr()
    frontend.load_state_dict(original.state_dict())
    frontend.train()
    assert frontend.network.training
    outputs = [frontend(wave(16_000)) for _ in range(3)]
    assert all(torch.equal(outputs[0], output) for output in outputs[1:])
    with torch.inference_mode():
        torch.testing.assert_close(outputs[0], original(wave(16_000)), atol=1e-5, rtol=1e-5)


def test_every_weight_is_trained_unless_frozen():
    frontend = xlsr()
    frontend(wave()).square().sum().backward()
    assert [name for name, p in frontend.named_parameters() if p.grad is None] == []


def test_a_frozen_front_end_has_no_gradients_and_stays_in_evaluation_mode():
    frontend = xlsr(freeze=True)
    assert frontend.frozen
    torch.nn.Sequential(frontend).train()
    assert not frontend.training
    assert not frontend.network.training
    features = frontend(wave().requires_grad_())
    assert not features.requires_grad
    assert not any(p.requires_grad for p in frontend.parameters())


def test_gradient_checkpointing_changes_memory_not_gradients(original):
    gradients = []
    for checkpointing in (False, True):
        frontend = xlsr(gradient_checkpointing=checkpointing)
        frontend.load_state_dict(original.state_dict())
        frontend.train()
        frontend(wave()).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in frontend.parameters()]))
    torch.testing.assert_close(*gradients)


def test_eager_attention_equals_sdpa(original):
    eager = xlsr(attention="eager").eval()
    eager.load_state_dict(original.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(eager(wave()), original(wave()), atol=1e-5, rtol=1e-5)


def test_normalised_input_does_not_depend_on_level_and_offset(original):
    normalising = xlsr(normalize_input="utterance").eval()
    normalising.load_state_dict(original.state_dict())
    with torch.inference_mode():
        loud = 10 * wave()  # so that layer_norm's eps does not matter
        torch.testing.assert_close(normalising(loud), normalising(3 * loud + 0.1), atol=1e-3, rtol=0)
        assert not torch.allclose(normalising(wave()), original(wave()), atol=1e-3)


@pytest.mark.parametrize(("n_samples", "n_frames"), [(400, 1), (719, 1), (720, 2), (16_000, 49), (66_800, 208)])
def test_frames_of_a_wave(original, n_samples, n_frames):
    with torch.inference_mode():
        assert original(torch.zeros(1, n_samples)).shape == (1, n_frames, 32)


def test_a_wave_shorter_than_a_frame_is_an_error(original):
    with pytest.raises(InputError, match="found 399 samples"):
        original(torch.zeros(1, 399))
