"""XLS-R: hidden states, frames and layers, tiny and at its full size."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.parity_checks.goldens import GOLDENS, check, detector, difference, golden, relative, waves
from qamo import InputError
from qamo.config.parts import ModelConfig
from qamo.networks.published import published_names
from qamo.networks.xlsr import XLSR


@check("XLS-R hidden states, frames and layers (tiny network)", 1e-5)
def tiny() -> Iterator[float]:
    arrays = golden("frontend_tiny.npz")
    frontend: Any = detector("conformer_tcm").frontend
    network = frontend.network
    layers = {  # golden -> module, and the axes that its output is turned to
        "int_conv_out_BxCxT": (network.feature_extractor, (0, 1, 2)),
        "int_post_extract_proj": (network.feature_projection, (0, 1, 2)),
        "int_layer0_out_TxBxC": (network.encoder.layers[0], (1, 0, 2)),
        "int_layer1_out_TxBxC": (network.encoder.layers[1], (1, 0, 2)),
    }
    seen: dict[str, Tensor] = {}

    def keep(key: str, module: Any, args: Any, output: Any) -> None:
        seen[key] = output[0] if isinstance(output, tuple) else output

    hooks = [module.register_forward_hook(functools.partial(keep, key)) for key, (module, _) in layers.items()]
    with torch.inference_mode():
        for plain in (False, True):  # the faster way to the same features has no layers to look into
            frontend.plain = plain
            yield difference(frontend(waves("eval")), arrays["eval_feats"])
            yield difference(frontend(waves("train")[:2]), arrays["int_x"])
        for hook in hooks:
            hook.remove()
        for key, (_, axes) in layers.items():
            yield difference(seen[key].permute(axes), arrays[key])
        for n_samples, n_frames in zip(arrays["in_len"].tolist(), arrays["n_frames"].tolist()):
            found = 0
            with contextlib.suppress(InputError):  # the published code fails as well, with a RuntimeError
                found = frontend(torch.zeros(1, n_samples)).shape[1]
            yield abs(found - max(n_frames, 0))


@check("full size (317 M weights): XLS-R hidden states (relative)", 1e-5, full=True)
def full_size() -> Iterator[float]:
    arrays, x = golden("full_recipe.npz"), full_features()
    yield relative(x[:, ::13, ::8], arrays["x_sub"])
    yield abs(float(x.double().sum()) - float(arrays["x_sum"])) / float(arrays["x_sumsq"])
    yield abs(float(x.double().square().sum()) / float(arrays["x_sumsq"]) - 1)


@functools.cache
def full_features() -> Tensor:
    cfg = ModelConfig()
    frontend = XLSR(**cfg.xlsr.model_dump() | {"weights": None, "uninitialized": True}).eval()
    names = [f"frontend.{name}" for name in frontend.state_dict()]
    published = {k: v.removeprefix("frontend.") for k, v in published_names(names, "conformer_tcm").items()}
    fill(frontend, published)
    with torch.inference_mode():
        return frontend(waves("eval")[:2])


def fill(module: nn.Module, published: dict[str, str]) -> None:
    """Give every weight the value that the goldens' recipe draws from its published name."""
    spec = importlib.util.spec_from_file_location("recipe", GOLDENS / "recipe.py")
    assert spec
    assert spec.loader
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    state = module.state_dict()
    for theirs, ours in published.items():
        key = theirs.removeprefix("ssl_model.model.")
        value = torch.from_numpy(np.ascontiguousarray(recipe.fill_value(key, tuple(state[ours].shape))))
        state[ours].copy_(value.reshape(state[ours].shape))
