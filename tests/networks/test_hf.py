"""Speech encoders of transformers as front ends: against transformers' own networks and feature extractors."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import inference
import main
from model import build_detector, load_detector
from qamo import InputError
from qamo.config.parts import HFConfig, ModelConfig
from qamo.export import folder as export_folder
from qamo.networks.feature_cache import FeatureCache
from qamo.networks.hf import HF
from qamo.networks.hf_inputs import KINDS
from qamo.training.checkpoint import write_checkpoint
from tests.support.detectors import batch_of
from tests.support.hf import ENCODERS, N_LAYERS, WIDTH, encoder_of, extractor_of, network_of, saved
from tests.support.kill import contents
from tests.support.xlsr import wave, xlsr

ROOT = Path(__file__).parents[2]
INPUT = "preprocessor_config.json"
FORMAT = {"format": "pt"}  # as transformers marks its files
ONE_OF_EACH_INPUT = ["wavlm", "wav2vec2-bert", "whisper"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    return {name: saved(name, root / name) for name in ENCODERS}


def hf(**keys):
    torch.manual_seed(0)
    return HF(**HFConfig.model_validate(keys).model_dump())


def detector(folder, **keys):
    torch.manual_seed(0)
    hf_keys = {"weights": str(folder), **keys}
    return build_detector(ModelConfig.model_validate({"frontend": "hf", "hf": hf_keys, "backend": "asp"}))


def expected_states(name, waves):
    """Hidden states of transformers' network, seen by hooks, for input by its feature extractor."""
    network = encoder_of(network_of(name))
    inputs = extractor_of(name)([w.numpy() for w in waves], sampling_rate=16_000, return_tensors="pt")
    layers, states = getattr(network, "encoder", network).layers, []
    layers[0].register_forward_pre_hook(lambda layer, given: states.append(given[0]))
    for layer in layers:
        layer.register_forward_hook(lambda layer, given, x: states.append(x[0] if isinstance(x, tuple) else x))
    with torch.no_grad():
        last = network(**inputs).last_hidden_state
    return [*states[:-1], last]


def test_every_kind_that_is_read_is_tested():
    assert {name.partition(" ")[0] for name in ENCODERS} == set(KINDS)


@pytest.mark.parametrize("name", ENCODERS)
def test_layers_are_the_hidden_states_of_transformers(name, folders):
    waves = wave(6000)
    expected = expected_states(name, waves)
    assert len(expected) == N_LAYERS + 1
    # NumPy and PyTorch round mean, variance and logarithm differently.
    tolerance = {"atol": 2e-4, "rtol": 1e-4} if name.startswith("wav2vec2-bert") else {"atol": 2e-5, "rtol": 1e-5}
    for layers in ("last", [0], [1, 3], [0, 2]):
        part = hf(weights=str(folders[name]), layers=layers).eval()
        given = part(waves)
        at = part.at or [N_LAYERS]
        assert given.shape[2] == part.dim == WIDTH * len(at)
        cut = [expected[n][:, : given.shape[1]] for n in at]
        torch.testing.assert_close(given, torch.cat(cut, dim=2), **tolerance)


@pytest.mark.parametrize("n_samples", [560, 720, 4000, 4160, 31_999])
def test_log_mel_spectrograms_equal_those_of_the_feature_extractors(n_samples, folders):
    waves = torch.cat([wave(n_samples), 0.001 * wave(n_samples, 1)])
    for name in ("whisper", "wav2vec2-bert"):
        ours = hf(weights=str(folders[name])).inputs(waves)
        found = extractor_of(name)([w.numpy() for w in waves], sampling_rate=16_000, return_tensors="pt")
        theirs = found["input_features"]
        if name == "wav2vec2-bert":
            n_frames = int(found["attention_mask"][0].sum())  # what is left out is what is masked there
            assert ours.shape[1] == n_frames
            theirs = theirs[:, :n_frames]
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)


def test_whisper_gives_the_frames_of_the_recording_and_takes_no_longer_one(folders):
    part = hf(weights=str(folders["whisper"]))
    assert [part(torch.zeros(1, n)).shape[1] for n in (1, 320, 321, 32_000)] == [1, 1, 2, 100]
    assert not any("decoder" in name for name in part.state_dict())
    with pytest.raises(InputError, match=r"waves of 1 to 32000 samples, which this encoder takes, found 32001"):
        part(torch.zeros(1, 32_001))


@pytest.mark.parametrize(("name", "shortest"), [("hubert", 400), ("wav2vec2-bert", 560)])
def test_waves_shorter_than_a_frame_are_an_error(name, shortest, folders):
    part = hf(weights=str(folders[name]))
    assert part(wave(shortest)).isfinite().all()
    with pytest.raises(InputError, match=f"at least {shortest} samples, .* found {shortest - 1}"):
        part(wave(shortest - 1))


@pytest.mark.parametrize("name", ENCODERS)
def test_layers_above_the_highest_are_neither_read_nor_kept(name, folders):
    part = hf(weights=str(folders[name]), layers=[1, 2])
    assert len(getattr(part.transformer, "encoder", part.transformer).layers) == 2


@pytest.mark.parametrize("name", ENCODERS)
def test_a_training_step_reaches_every_weight_and_draws_nothing(name, folders):
    detect = detector(folders[name], freeze=False, layers="weighted").train()
    batch = batch_of(np.random.default_rng(0), 6)
    detect(batch.wave, batch.bonafide, batch.quality).losses["total"].backward()
    assert [n for n, p in detect.named_parameters() if p.requires_grad and p.grad is None] == []
    assert detect.frontend.mix.weights.grad.abs().sum() > 0
    again = [detect.frontend(batch.wave) for _ in range(2)]
    assert torch.equal(*again)
    torch.testing.assert_close(again[0], detect.eval().frontend(batch.wave), atol=1e-5, rtol=1e-5)


def test_a_frozen_encoder_has_no_gradients_and_stays_in_evaluation_mode(folders):
    part = hf(weights=str(folders["wavlm"])).train()
    assert part.frozen
    assert not part.transformer.training
    assert not part(wave().requires_grad_()).requires_grad
    assert not any(p.requires_grad for p in part.parameters())


@pytest.mark.parametrize("name", ONE_OF_EACH_INPUT)
def test_features_of_a_frozen_encoder_are_kept(name, folders, tmp_path):
    part = hf(weights=str(folders[name]), layers=[1, 3], features="float16")
    alone = torch.cat([part(row[None]) for row in wave()])
    cache = FeatureCache(tmp_path, part, identity="", max_bytes=1e9)
    assert torch.equal(cache(part, wave()), alone)
    assert torch.equal(cache(part, wave()), alone)
    assert (cache.hits, cache.misses) == (2, 2)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_detector_comes_back_without_the_folder_of_its_encoder(name, folders, tmp_path):
    folder = shutil.copytree(folders[name], tmp_path / "encoder")
    detect = detector(folder, layers=[0, 2]).eval()
    expected = detect(wave()).score
    write_checkpoint(tmp_path / "model.pt", model_state=detect.state_dict(), model_config=detect.config)
    assert export_folder.export_folder(tmp_path / "model.pt", tmp_path / "exported") == 0
    shutil.rmtree(folder)
    for path in (tmp_path / "model.pt", tmp_path / "exported"):
        loaded = load_detector(path)
        assert torch.equal(loaded(wave()).score, expected)
        for key, buffer in detect.named_buffers():
            assert torch.equal(buffer, loaded.get_buffer(key)), key
    assert str(tmp_path) not in (tmp_path / "exported" / "qamo.json").read_text()


def test_a_run_is_resumed_to_the_same_bytes_and_judges_without_the_folder(corpus, folders, capsys):
    """The real commands, on an encoder that is trained too."""
    encoder = shutil.copytree(folders["wavlm"], corpus / "encoder")
    keys = ["name=r", "model.frontend=hf", f"model.hf.weights={encoder}", "model.hf.freeze=false", "model.backend=asp"]
    command = ["main.py", "--config", str(corpus / "config.yaml"), *keys, "train.max_epochs=8", "train.patience=8"]
    folder = corpus / "exps" / "r"
    started = subprocess.Popen([sys.executable, *command], cwd=ROOT, stderr=subprocess.PIPE)
    while started.poll() is None and not (folder / "metrics.jsonl").exists():
        time.sleep(0.005)
    started.send_signal(signal.SIGTERM)
    said = started.communicate()[1]
    assert started.returncode == 130, said
    assert main.main(command[1:]) == 0
    assert len((folder / "resumed.jsonl").read_text().splitlines()) == 1
    resumed = contents(folder)
    folder.rename(corpus / "exps" / "resumed")
    assert main.main(command[1:]) == 0
    assert contents(folder) == resumed

    shutil.rmtree(encoder)
    capsys.readouterr()
    assert inference.main(["--ckpt_path", str(folder), str(corpus / "wild" / "0.wav")]) == 0
    assert "0.wav" in capsys.readouterr().out
    assert main.main(["--config", command[2], *keys[:2], "--train", "false", f"model.hf.encoder={encoder}"]) == 2
    assert "leave the setting out, or train anew" in capsys.readouterr().err


def test_wav2vec2_equals_the_front_end_xlsr_and_the_log_names_the_faster_one(folders, caplog):
    with caplog.at_level(logging.INFO):
        part = hf(weights=str(folders["wav2vec2 large"]))
    assert "which the front end xlsr computes faster on a CPU" in caplog.text
    same = xlsr(
        **dict.fromkeys(("hidden_size", "n_layers", "n_heads", "ffn_size", "conv_size", "position_kernel")),
        weights=str(folders["wav2vec2 large"]), position_groups=None, normalize_input="utterance",
    ).eval()  # fmt: skip
    loud = 10 * wave()  # so that layer_norm's eps does not matter
    torch.testing.assert_close(part(loud), same(loud), atol=1e-4, rtol=1e-4)


def test_random_weights_are_for_those_who_ask(folders, tmp_path):
    for file in ("config.json", "preprocessor_config.json"):
        shutil.copy(folders["hubert"] / file, tmp_path / file)
    with pytest.raises(InputError, match=r"holds no model\.safetensors; .* set model\.hf\.weights to null"):
        hf(weights=str(tmp_path))
    part = hf(weights=None, encoder=str(tmp_path))
    assert part(wave()).std() > 0.1
    assert part.state_dict().keys() == hf(weights=str(folders["hubert"])).state_dict().keys()
    with pytest.raises(InputError, match=r"model\.hf\.weights: expected a folder or hub name of a speech encoder"):
        hf()


@pytest.mark.parametrize("spelling", ["pytorch_model.bin", "half precision", "a classifier around it"])
def test_other_forms_of_a_folder_are_read(spelling, folders, tmp_path):
    folder = shutil.copytree(folders["wavlm"], tmp_path / "encoder")
    state = load_file(folder / "model.safetensors")
    if spelling == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
        torch.save(state, folder / "pytorch_model.bin")
    elif spelling == "half precision":
        state = {name: tensor.half().float() for name, tensor in state.items()}
        save_file({name: tensor.half() for name, tensor in state.items()}, folder / "model.safetensors", FORMAT)
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**settings, "dtype": "float16"}))
    else:
        state["projector.weight"] = torch.zeros(3, WIDTH)
        named = {n if n.startswith("projector") else f"wavlm.{n}": tensor for n, tensor in state.items()}
        save_file(named, folder / "model.safetensors", FORMAT)
    part = hf(weights=str(folder))
    for name, tensor in part.transformer.state_dict().items():
        assert torch.equal(tensor, state[name]), name


class Evil:
    def __reduce__(self):
        return os.system, ("touch was_run",)


def change(folder, file, **keys):
    settings = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**settings, **keys}))


def without(folder, ending):
    state = load_file(folder / "model.safetensors")
    save_file({n: t for n, t in state.items() if not n.endswith(ending)}, folder / "model.safetensors", FORMAT)


def evil(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"a": Evil()}, folder / "pytorch_model.bin")


def infinite(folder):
    state = load_file(folder / "model.safetensors")
    state["encoder.layer_norm.weight"][0] = float("inf")
    save_file(state, folder / "model.safetensors", FORMAT)


def cut_off(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (shutil.rmtree, r"encoder: no such folder; expected one that transformers wrote, or a hub name"),
        (lambda f: (f / "config.json").unlink(), r"expected a folder that transformers wrote, found no config\.json"),
        (lambda f: (f / "config.json").write_text("{"), r"config\.json"),
        (lambda f: (f / "config.json").write_text("{}"), r"model_type None: expected a speech encoder: wav2vec2, "),
        (lambda f: change(f, "config.json", model_type="bert"), r"model_type bert: expected a speech encoder"),
        (lambda f: change(f, "config.json", model_type="vit"), r"model_type vit: expected a speech encoder"),
        (lambda f: change(f, "config.json", model_type="gpt2"), r"model_type gpt2: expected a speech encoder"),
        (lambda f: change(f, "config.json", model_type=["wavlm"]), r"model_type \['wavlm'\]: expected a speech"),
        (lambda f: change(f, "config.json", add_adapter=True), r"add_adapter: an adapter after the last layer is"),
        (lambda f: change(f, "config.json", hidden_size="wide"), r"transformers cannot make an encoder of it \("),
        (lambda f: change(f, "config.json", hidden_size=64), r"transformers cannot make an encoder of it \("),
        (lambda f: change(f, "config.json", num_hidden_layers=4), r"encoder \(\d+ missing: encoder\.layers\.3"),
        (lambda f: (f / INPUT).unlink(), r"preprocessor_config\.json: no such file; it says what input"),
        (lambda f: (f / INPUT).write_text("?"), r"preprocessor_config\.json: transformers cannot make"),
        (lambda f: change(f, INPUT, sampling_rate=8000), r"sampling_rate 8000: .* at 16000 Hz; take an"),
        (
            lambda f: change(f, INPUT, feature_extractor_type="WhisperFeatureExtractor"),
            r"expected Wav2Vec2FeatureExtractor, which wavlm takes, found WhisperFeatureExtractor",
        ),
        (lambda f: (f / "model.safetensors").unlink(), r"holds no model\.safetensors; copy or download it too"),
        (cut_off, r"transformers cannot make an encoder of it \("),
        (lambda f: without(f, "fc1.bias") or without(f, "layer_norm.bias"), r"do not fit the encoder \(\d+ missing: "),
        (infinite, r"1 of the 32 values of encoder\.layer_norm\.weight are not finite"),
        (evil, r"transformers cannot make an encoder of it \("),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_read_are_said(damage, said, folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(folders["wavlm"], tmp_path / "encoder")
    damage(folder)
    with pytest.raises(InputError, match=said) as found:
        hf(weights=str(folder))
    assert "\n" not in str(found.value)
    assert not (tmp_path / "was_run").exists()


def test_layers_that_are_not_there_and_mel_bands_that_do_not_fit_are_said(folders, tmp_path):
    with pytest.raises(InputError, match=r"model\.hf\.layers: 9 was asked for, but this encoder has 3 layers; take"):
        hf(weights=str(folders["whisper"]), layers=[3, 9])
    folder = shutil.copytree(folders["whisper"], tmp_path / "encoder")
    change(folder, INPUT, feature_size=128)
    with pytest.raises(InputError, match=r"and config\.json do not belong together: 128 and 80"):
        hf(weights=str(folder))


def test_a_description_that_was_tampered_with_is_a_sentence():
    for text in ("{", '{"config": {"model_type": "bert"}}', '{"config": 3}', '{"config": {"model_type": "wavlm"}}'):
        with pytest.raises(InputError, match=r"model\.hf\.encoder: transformers cannot make an encoder of it"):
            hf(encoder=text)


def test_a_hub_name_without_a_network_says_how_to_go_on(tmp_path):
    code = (
        "from qamo.networks.hf import HF;"
        "HF(weights='microsoft/wavlm-base-plus', encoder=None, freeze=True, layers='last', features='float32')"
    )
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "qamo.InputError: model.hf.weights microsoft/wavlm-base-plus: no such file, and the Hugging Face hub cannot"
    )
    assert "download https://huggingface.co/microsoft/wavlm-base-plus, copy it here and give its path" in last


def test_transformers_is_as_loud_as_before(folders, capfd):
    level, bar = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    hf(weights=str(folders["whisper"]))  # whose decoder is left out
    assert capfd.readouterr() == ("", "")
    assert (transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()) == (level, bar)
