"""Weights as other programs write them, by those programs: wrappers, nested dicts, settings, shards, other networks.

`omegaconf_2.0.6.pt` was written by OmegaConf 2.0.6 itself, which today's Python tools no longer install.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import pytest
import torch
import transformers
from lightning_fabric import Fabric
from lightning_fabric.utilities.data import AttributeDict

import model
from qamo import InputError
from qamo.export.folder import convert_xlsr
from qamo.networks.published import to_published
from qamo.networks.weights import SETTINGS_CLASSES, plain, read_torch
from qamo.networks.xlsr_files import read_xlsr
from qamo.networks.xlsr_recipe import of_fairseq
from tests.support.detectors import config, detector
from tests.support.xlsr import TINY, fairseq_state, wave, xlsr

OLD_OMEGACONF = Path(__file__).parents[1] / "support" / "files" / "omegaconf_2.0.6.pt"
NO_SIZES = dict.fromkeys(TINY)
SETTINGS = {
    "_name": "wav2vec2",
    "extractor_mode": "layer_norm",
    "layer_norm_first": True,
    "activation_fn": "gelu",
    "encoder_attention_heads": 4,
    "dropout": 0.0,
    "attention_dropout": 0.1,
    "activation_dropout": 0.0,
    "dropout_input": 0.2,
    "dropout_features": 0.3,
    "encoder_layerdrop": 0.05,
    "feature_grad_mult": 0.5,
    "conv_feature_layers": "[(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16,2,2)] * 2",
    "latent_temp": [2.0, 0.1, 0.999995],
}
DRAWS = {"attention_dropout": 0.1, "feat_proj_dropout": 0.2, "layerdrop": 0.05}


def written(path: Path, network, **content) -> Path:
    torch.save({"args": None, "model": fairseq_state(network), **content}, path)
    return path


def omegaconf_settings():
    omegaconf = pytest.importorskip("omegaconf")
    cfg = omegaconf.OmegaConf.create({"model": SETTINGS, "task": {"normalize": True}})
    omegaconf.OmegaConf.set_struct(cfg, True)
    return {"cfg": cfg}


# ---- fairseq


@pytest.mark.parametrize(
    "settings",
    [
        omegaconf_settings,
        lambda: {"cfg": {"model": SETTINGS}},
        lambda: {"cfg": {"model": argparse.Namespace(**SETTINGS)}},
        lambda: {"args": argparse.Namespace(**SETTINGS), "cfg": None},
    ],
    ids=["OmegaConf", "dict", "Namespace in cfg", "args"],
)
def test_the_settings_of_a_fairseq_file_are_followed_and_said(tmp_path, caplog, settings):
    caplog.set_level(logging.INFO)
    original = xlsr()
    path = written(tmp_path / "x.pt", original.network, **settings())
    frontend = xlsr(**NO_SIZES | {"weights": str(path)})
    assert frontend.sizes == TINY
    assert frontend.recipe == (4, DRAWS, 0.5)
    found = frontend.network.config
    assert {name: getattr(found, name) for name in DRAWS} == DRAWS
    assert (found.hidden_dropout, found.activation_dropout, found.apply_spec_augment) == (0, 0, False)
    assert (
        "cfg.model is followed: 4 attention heads, attention_dropout 0.1, feat_proj_dropout 0.2, layerdrop"
        in caplog.text
    )
    with torch.inference_mode():
        assert torch.equal(frontend.eval()(wave()), original.eval()(wave()))


def test_a_file_by_omegaconf_2_0_tells_the_same():
    content = read_torch(OLD_OMEGACONF, inert=SETTINGS_CLASSES)
    assert of_fairseq(content, "x") == (4, DRAWS, 0.5)
    assert plain(content["cfg"])["task"] == {"normalize": True}
    with pytest.raises(InputError, match=r"mentions .*, which no checkpoint needs"):
        read_torch(OLD_OMEGACONF)


def test_a_file_without_settings_is_taken_for_xlsr_without_dropouts(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    frontend = xlsr(weights=str(written(tmp_path / "x.pt", xlsr().network)))
    assert frontend.recipe == (None, {}, 1.0)
    assert "tells nothing of its network but weights; taken for XLS-R's kind, without dropouts" in caplog.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer_norm_first": False}, "cfg.model: layer_norm_first False: not a network of the XLS-R kind"),
        ({"extractor_mode": "default"}, "extractor_mode 'default'"),
        ({"activation_fn": "relu", "layer_norm_first": False}, "layer_norm_first False and activation_fn 'relu'"),
        ({"layer_type": "conformer"}, "layer_type 'conformer'"),
        (
            {"conv_feature_layers": "[(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16,2,1)] * 2"},
            r"strides \(5, 2, 2, 2, 2, 1, 1",
        ),
        ({"dropout": 1.0}, "dropout is 1.0; expected a probability below 1"),
        ({"attention_dropout": float("nan")}, "attention_dropout is nan; expected a number"),
        ({"feature_grad_mult": "${x}"}, "feature_grad_mult is '"),
        ({"encoder_attention_heads": 0}, "attention heads 0; expected a positive number"),
        ({"encoder_attention_heads": 5}, "hidden_size 32 is not divisible by n_heads 5"),
    ],
)
def test_a_fairseq_file_of_another_network_is_refused(tmp_path, change, said):
    path = written(tmp_path / "x.pt", xlsr().network, cfg={"model": SETTINGS | change})
    with pytest.raises(InputError, match=said):
        xlsr(**NO_SIZES | {"weights": str(path)})


def gradients_of(frontend) -> dict[str, torch.Tensor | None]:
    frontend.train()(wave()).square().sum().backward()
    return {name: p.grad for name, p in frontend.network.named_parameters()}


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0])
def test_the_gradient_of_the_convolutions_is_scaled_as_the_file_says(tmp_path, factor):
    still = SETTINGS | dict.fromkeys(("attention_dropout", "dropout_input", "encoder_layerdrop"), 0.0)
    path = written(tmp_path / "x.pt", xlsr().network, cfg={"model": still | {"feature_grad_mult": factor}})
    found, plainly = gradients_of(xlsr(weights=str(path))), gradients_of(xlsr(attention="eager"))
    for name, gradient in found.items():
        if factor == 0 and name.startswith("feature_extractor"):
            assert gradient is None, name
            continue
        expected = plainly[name] * (factor if name.startswith("feature_extractor") else 1)
        torch.testing.assert_close(gradient, expected, atol=2e-4, rtol=1e-3)


def test_dropouts_of_the_file_draw_in_training_alone_and_by_the_seed(tmp_path):
    path = written(tmp_path / "x.pt", xlsr().network, cfg={"model": SETTINGS})
    frontend = xlsr(weights=str(path)).train()
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(frontend(wave()).detach())
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])
    frozen = xlsr(weights=str(path), freeze=True).train()
    assert torch.equal(frozen(wave()), frozen(wave()))


def test_a_converted_front_end_keeps_what_its_file_said(tmp_path):
    path = written(tmp_path / "x.pt", xlsr().network, cfg={"model": SETTINGS})
    convert_xlsr(str(path), tmp_path / "out")
    frontend = xlsr(**NO_SIZES | {"weights": str(tmp_path / "out")})
    assert frontend.recipe == (4, DRAWS, 0.5)
    assert frontend.sizes == TINY


def test_fewer_layers_are_the_first_ones(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    original = xlsr(n_layers=3).eval()
    path = written(tmp_path / "x.pt", original.network)
    first = xlsr(weights=str(path), n_layers=2).eval()
    assert first.sizes["n_layers"] == 2
    assert "the first 2 of its 3 layers are taken" in caplog.text
    original.network.encoder.layers = original.network.encoder.layers[:2]
    with torch.inference_mode():
        assert torch.equal(first(wave()), original(wave()))
    with pytest.raises(InputError, match=r"n_layers 3 \(expected 4\)"):
        xlsr(weights=str(path), n_layers=4)


def test_a_detector_stores_the_sizes_that_its_file_had(tmp_path):
    path = written(tmp_path / "x.pt", detector("nes2net").frontend.network, cfg={"model": SETTINGS})
    left = config("nes2net", xlsr={"weights": str(path)})
    assert left.xlsr.hidden_size is None
    built = model.build_detector(left)
    assert {key: built.config["xlsr"][key] for key in ("hidden_size", "n_layers", "n_heads")} == {
        "hidden_size": 64, "n_layers": 2, "n_heads": 4
    }  # fmt: skip


# ---- transformers


def saved(folder: Path, cls, **more) -> transformers.PreTrainedModel:
    sizes = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
        "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
        "do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True,
    }  # fmt: skip
    torch.manual_seed(0)
    shard = more.pop("max_shard_size", "1GB")
    network = cls(cls.config_class(**sizes | more)).eval()
    network.save_pretrained(folder, max_shard_size=shard)
    return network


@pytest.mark.parametrize("shard", ["1GB", "20KB"])
def test_a_folder_of_transformers_needs_no_sizes_whole_or_in_shards(tmp_path, caplog, shard):
    caplog.set_level(logging.INFO)
    network = saved(tmp_path, transformers.Wav2Vec2Model, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "20KB")
    frontend = xlsr(**NO_SIZES | {"weights": str(tmp_path), "attention": "eager"}).eval()
    assert frontend.sizes == TINY
    with torch.inference_mode():
        torch.testing.assert_close(frontend(wave()), network(wave()).last_hidden_state, atol=1e-5, rtol=1e-5)
    assert frontend.network.config.hidden_dropout == 0
    assert "not followed, as defaults of transformers: hidden_dropout 0.1, attention_dropout 0.1" in caplog.text


def test_a_shard_that_lacks_or_lies_outside_is_told(tmp_path):
    saved(tmp_path, transformers.Wav2Vec2Model, max_shard_size="20KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[0]
    shard.rename(tmp_path / "away")
    with pytest.raises(InputError, match=rf"{shard.name}: no such file, but its folder's index names it"):
        read_xlsr(str(tmp_path))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../away.safetensors"}}))
    with pytest.raises(InputError, match="expected a weight_map that names files of this folder"):
        read_xlsr(str(tmp_path))


def test_hubert_large_loads_and_its_absent_biases_stay_zero(tmp_path):
    network = saved(tmp_path, transformers.HubertModel, conv_bias=False)
    frontend = xlsr(**NO_SIZES | {"weights": str(tmp_path)})
    with torch.inference_mode():
        found = frontend.eval()(wave())
        torch.testing.assert_close(found, network(wave()).last_hidden_state, atol=1e-5, rtol=1e-5)
    biases = [
        p for name, p in frontend.network.named_parameters() if "conv_layers" in name and name.endswith("conv.bias")
    ]
    assert len(biases) == 7
    assert not any(bias.requires_grad or bias.any() for bias in biases)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"do_stable_layer_norm": False}, "do_stable_layer_norm False: not a network of the XLS-R kind"),
        ({"feat_extract_norm": "group"}, "feat_extract_norm 'group'"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"feat_extract_activation": "silu"}, "feat_extract_activation 'silu'"),
        ({"layer_norm_eps": 1e-3}, "layer_norm_eps 0.001"),
        ({"conv_stride": (5, 2, 2, 2, 2, 2, 1)}, r"conv_stride \[5, 2, 2, 2, 2, 2, 1\]"),
    ],
)
def test_a_folder_of_another_function_is_refused(tmp_path, change, said):
    saved(tmp_path, transformers.Wav2Vec2Model, **change)
    with pytest.raises(InputError, match=said):
        xlsr(**NO_SIZES | {"weights": str(tmp_path)})


def test_another_number_of_heads_than_the_file_tells_is_refused(tmp_path):
    saved(tmp_path, transformers.Wav2Vec2Model)
    with pytest.raises(InputError, match=r"n_heads 4 \(expected 8\)"):
        xlsr(weights=str(tmp_path), n_heads=8)


# ---- wrappers and nested dicts


def by_lightning(module: torch.nn.Module, path: Path) -> None:
    lightning = pytest.importorskip("pytorch_lightning")

    class Trained(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.save_hyperparameters({"lr": 1e-6, "paths": [path]})
            self.net = module

    trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(Trained())
    trainer.save_checkpoint(path)


def by_fabric(module: torch.nn.Module, path: Path) -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.save(path, {"model": fabric.setup(module), "hparams": AttributeDict(lr=1e-6), "epoch": 3})


PROGRAMS = {
    "DataParallel": lambda m, path: torch.save(torch.nn.DataParallel(m).state_dict(), path),
    "compile": lambda m, path: torch.save(torch.compile(m).state_dict(), path),
    "compile in DataParallel": lambda m, path: torch.save(torch.nn.DataParallel(torch.compile(m)).state_dict(), path),
    "DataParallel in compile": lambda m, path: torch.save(torch.compile(torch.nn.DataParallel(m)).state_dict(), path),
    "model_state_dict": lambda m, path: torch.save({"epoch": 1, "model_state_dict": m.state_dict()}, path),
    "state_dict": lambda m, path: torch.save({"state_dict": torch.nn.DataParallel(m).state_dict(), "args": 1}, path),
    "net in model": lambda m, path: torch.save({"model": {"net": m.state_dict()}, "optimizer": {"state": {}}}, path),
    "old format": lambda m, path: torch.save({"model": m.state_dict()}, path, _use_new_zipfile_serialization=False),
    "Fabric": by_fabric,
    "Lightning": by_lightning,
}


class Named(torch.nn.Module):
    """A module whose weights have the given names, in a tree as the names tell."""

    def __init__(self, state: dict[str, torch.Tensor]):
        super().__init__()
        for name, tensor in state.items():
            place: torch.nn.Module = self
            *path, leaf = name.split(".")
            for part in path:
                if part not in dict(place.named_children()):
                    place.add_module(part, torch.nn.Module())
                place = place.get_submodule(part)
            place.register_buffer(leaf, tensor.clone())


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_published_detector_loads_however_it_was_wrapped(tmp_path, program):
    detect = detector("conformer_tcm")
    theirs = Named(to_published(detect.state_dict(), "conformer_tcm"))
    PROGRAMS[program](theirs, tmp_path / "best.pth")
    loaded = model.load_detector(tmp_path / "best.pth", config("conformer_tcm"))
    with torch.inference_mode():
        assert torch.equal(loaded(wave()).score, detect(wave()).score)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_front_end_loads_however_it_was_wrapped(tmp_path, program):
    original = xlsr().eval()
    PROGRAMS[program](Named(fairseq_state(original.network)), tmp_path / "x.pt")
    frontend = xlsr(weights=str(tmp_path / "x.pt")).eval()
    with torch.inference_mode():
        assert torch.equal(frontend(wave()), original(wave()))


class Runs:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["cfg", "model", "args"])
def test_nothing_runs_wherever_it_hides(tmp_path, place):
    content = {"cfg": {"model": SETTINGS}, "model": fairseq_state(xlsr().network), place: Runs(tmp_path / "ran")}
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(InputError):
        xlsr(weights=str(tmp_path / "x.pt"))
    torch.save(content, tmp_path / "best.pth")
    with pytest.raises(InputError):
        model.load_detector(tmp_path / "best.pth")
    assert not (tmp_path / "ran").exists()
