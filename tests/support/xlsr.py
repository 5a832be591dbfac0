"""A tiny XLS-R, and its weights in the files that other programs write."""

from __future__ import annotations

import json

import torch
from safetensors.torch import save_file

from qamo.config.parts import XLSRConfig
from qamo.networks.xlsr import XLSR
from qamo.networks.xlsr_files import TO_FAIRSEQ, renamed

TINY = {
    "hidden_size": 32,
    "n_layers": 2,
    "n_heads": 4,
    "ffn_size": 48,
    "conv_size": 16,
    "position_kernel": 16,
    "position_groups": 4,
}


PRETRAINING = {
    "mask_emb": (32,),
    "quantizer.vars": (1, 4, 2),
    "project_q.weight": (4, 4),
    "final_proj.weight": (4, 32),
}


def xlsr(**changes):
    torch.manual_seed(0)
    return XLSR(**XLSRConfig.model_validate({"weights": None, **TINY, **changes}).model_dump())


def fairseq_state(network):
    extra = {name: torch.randn(shape) for name, shape in PRETRAINING.items()}
    return {**extra, **{renamed(name, TO_FAIRSEQ): tensor for name, tensor in network.state_dict().items()}}


def with_two_logits(network, linear, prefix, layer):
    """A detector of another program: a network, and a linear layer over its mean feature, under these names."""
    head = {f"{layer}.{name}": tensor for name, tensor in linear.state_dict().items()}
    return {**{prefix + name: tensor for name, tensor in fairseq_state(network).items()}, **head}


def wave(n_samples=4000, n=2):
    return torch.randn(n, n_samples, generator=torch.Generator().manual_seed(1)) / 10


def as_fairseq(network, folder):
    path = folder / "xlsr.pt"
    moments = {"state": {0: {"exp_avg": torch.randn(1000)}}}
    torch.save({"args": None, "cfg": {"a": 1}, "model": fairseq_state(network), "last_optimizer_state": moments}, path)
    return path


def as_folder(network, folder, *, spelling="new", prefix="", name="model.safetensors"):
    state = {}
    for key, tensor in network.state_dict().items():
        if spelling == "old":
            key = key.replace("parametrizations.weight.original0", "weight_g")
            key = key.replace("parametrizations.weight.original1", "weight_v")
        state[prefix + key] = tensor.clone()
    if prefix:
        state["quantizer.codevectors"] = torch.randn(1, 4, 2)
        state["project_hid.weight"] = torch.randn(4, 32)
    (folder / "config.json").write_text(json.dumps({"do_stable_layer_norm": True, "feat_extract_norm": "layer"}))
    if name.endswith(".bin"):
        torch.save(state, folder / name)
    else:
        save_file(state, folder / name)
    return folder


def as_file(network, folder):
    save_file({k: v.clone() for k, v in network.state_dict().items()}, folder / "w.safetensors")
    return folder / "w.safetensors"
