"""Where a training starts: ties between weights, their distributions, buffers, constants, groups of the optimiser.

The goldens load weights, so they do not see the start. What is expected here is what the published code does: layers
begin as PyTorch draws them by default, but the class token from U(0, 1), head positions at 0, stack weights at the
mean, centroids from N(0, 1), and all Conformer blocks as copies of one. Names and kinds of tensors, and the position
table, are the goldens'.

A check yields differences; the largest counts.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import model
from benchmarks.parity_checks.goldens import BACKENDS, GOLDENS, check
from qamo.config.parts import ModelConfig
from qamo.config.schema import TrainConfig
from qamo.networks.published import published_names, to_published
from qamo.training.loop import build_optimizer

SEEDS = (0, 1, 2, 1234)
XLSR_WIDTH = 1024
NEVER = math.inf  # the difference of things that must be equal and are not
TINY_XLSR = {
    "weights": None, "hidden_size": 64, "n_layers": 2, "n_heads": 4, "ffn_size": 48, "conv_size": 16,
    "position_kernel": 16, "position_groups": 4,
}  # fmt: skip
XLSR_DRAWS = (  # of transformers' config: what would draw in training
    "layerdrop", "hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "apply_spec_augment"
)  # fmt: skip
STANDARD_ERRORS = 5.0  # of some 1,500 statistics with fixed seeds, the largest is about 3.5


def back_end_and_head(backend: str, seed: int) -> nn.Module:
    """The back end at its full size and the QAMO head, as `main.py` draws them."""
    cfg = ModelConfig()
    torch.manual_seed(seed)
    back = model.BACKENDS[backend](XLSR_WIDTH, **getattr(cfg, backend).model_dump())
    head = model.HEADS["qamo"](back.dim, **cfg.qamo.model_dump())
    parts: dict[str, Any] = {"backend": back, "head": head}
    return nn.ModuleDict(parts)


def whole_detector(backend: str) -> model.Detector:
    return model.build_detector(ModelConfig.model_validate({"backend": backend, "xlsr": TINY_XLSR}))


def ties(backend: str) -> Iterator[float]:
    """Tensors that begin equal are those of the Conformer's blocks, and those only; no two are one tensor."""
    states = [back_end_and_head(backend, seed).state_dict(keep_vars=True) for seed in SEEDS]
    for state in states:
        yield 0.0 if len({tensor.data_ptr() for tensor in state.values()}) == len(state) else NEVER
        drawn = {name: tensor.detach() for name, tensor in state.items() if _expected(name, state)[0] != "constant"}
        own = {re.sub(r"blocks\.\d+", "blocks.0", name) for name in drawn}
        for name, tensor in drawn.items():
            yield float((tensor - drawn[re.sub(r"blocks\.\d+", "blocks.0", name)]).abs().max())
        for one, other in itertools.combinations(sorted(own), 2):
            yield NEVER if torch.equal(drawn[one], drawn[other]) else 0.0
        for name in own if state is not states[0] else ():  # another seed draws other weights
            yield NEVER if torch.equal(drawn[name], states[0][name]) else 0.0


def distributions(backend: str) -> Iterator[float]:
    """Mean, spread and range of each tensor over the seeds, in standard errors; constants must be met exactly."""
    states = [back_end_and_head(backend, seed).state_dict() for seed in SEEDS]
    for name in states[0]:
        kind, low, high = _expected(name, states[0])
        values = torch.cat([state[name].reshape(-1) for state in states]).double()
        if kind == "constant":
            yield 0.0 if bool((values == torch.tensor(low, dtype=states[0][name].dtype)).all()) else NEVER
            continue
        n = len(values)
        mean, std, kurtosis = (
            ((low + high) / 2, (high - low) / math.sqrt(12), 1.8) if kind == "uniform" else (low, high, 3.0)
        )
        yield float(abs(values.mean() - mean)) / (std / math.sqrt(n))
        yield float(abs(((values - mean) / std).square().mean() - 1)) / math.sqrt((kurtosis - 1) / n)
        if kind == "uniform":
            edge = 1e-6 * (high - low)
            yield 0.0 if low - edge <= values.min() and values.max() <= high + edge else NEVER


def _expected(name: str, state: dict[str, Tensor]) -> tuple[str, float, float]:
    """(kind, low, high) of a uniform tensor, (kind, mean, standard deviation) of a normal one, or a constant."""
    owner, _, leaf = name.rpartition(".")
    if name == "head.centroids":
        return "normal", 0.0, 1.0
    if leaf == "class_token":
        return "uniform", 0.0, 1.0
    if "stack_weights" in name:
        return "constant", 1 / state[name].numel(), 0.0
    if leaf in ("head_position", "running_mean", "num_batches_tracked"):
        return "constant", 0.0, 0.0
    if leaf == "running_var":
        return "constant", 1.0, 0.0
    weight = state[f"{owner}.weight"]
    if weight.dim() == 1:  # of a norm
        return "constant", float(leaf == "weight"), 0.0
    bound = 1 / math.sqrt(weight[0].numel())  # PyTorch's default for linear layers and convolutions
    return "uniform", -bound, bound


def constants(backend: str) -> Iterator[float]:
    """No dropout anywhere in training mode, momentum .1 and epsilon 1e-5 of every norm."""
    for module in whole_detector(backend).train().modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            yield module.p
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            yield abs((module.momentum or 0.0) - 0.1) if module.affine and module.track_running_stats else NEVER
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)):
            yield abs(module.eps - 1e-5)
        config: Any = getattr(module, "config", None)
        for name in XLSR_DRAWS:
            yield float(getattr(config, name, 0.0))


def buffers(backend: str) -> Iterator[float]:
    """What is a parameter and what is a buffer, by the goldens; and the position table to the bit."""
    with torch.device("meta"):
        detect = model.build_detector(ModelConfig.model_validate({"backend": backend}), pretrained=False)
    state = detect.state_dict()
    trained = {name for name, _ in detect.named_parameters()}
    kinds = dict(line.split("\t")[::3] for line in (GOLDENS / f"keys_{backend}_full.txt").read_text().splitlines())
    for theirs, ours in published_names(state, backend).items():
        yield 0.0 if kinds[theirs].startswith("param") == (ours in trained) else NEVER
    if backend == "conformer_tcm":
        stored = torch.load(GOLDENS / "tiny_conformer_tcm.pth", weights_only=True)["conformer.positional_emb"]
        tiny = whole_detector(backend).state_dict()
        narrow = {**tiny, "backend.project.weight": torch.zeros(stored.shape[-1], 1)}
        yield float((to_published(narrow, backend)["conformer.positional_emb"] - stored).abs().max())


def optimiser(backend: str) -> Iterator[float]:
    """The centroids at 1e-3, all other weights at 1e-6, coupled decay 1e-4 on both, Adam's own constants."""
    detect, train = whole_detector(backend), TrainConfig()
    adam = build_optimizer(detect, lr=train.lr, head_lr=train.head_lr, weight_decay=train.weight_decay)
    of_head = {id(p) for p in detect.head.parameters()}
    groups = {group["lr"]: {id(p) for p in group["params"]} for group in adam.param_groups}
    expected = {1e-6: {id(p) for p in detect.parameters()} - of_head, 1e-3: of_head}
    yield 0.0 if groups == expected else NEVER
    for group in adam.param_groups:
        yield abs(group["weight_decay"] - 1e-4)
        yield max(abs(found - wanted) for found, wanted in zip(group["betas"], (0.9, 0.999)))
        yield abs(group["eps"] - 1e-8)
        plain = type(adam) is torch.optim.Adam and not group["amsgrad"] and not group.get("decoupled_weight_decay")
        yield 0.0 if plain else NEVER


PARTS: list[tuple[str, float, Callable[[str], Iterator[float]]]] = [
    ("ties between weights (four seeds)", 0.0, ties),
    ("mean, spread and range of each weight (four seeds; standard errors)", STANDARD_ERRORS, distributions),
    ("buffers and position table", 0.0, buffers),
    ("dropouts, momentum and epsilon of every module", 0.0, constants),
    ("groups of the optimiser, with learning rate and weight decay", 0.0, optimiser),
]
for _backend, _title in BACKENDS.items():
    for _what, _allowed, _function in PARTS:
        check(f"initial state, {_title}: {_what}", _allowed, _backend)(_function)
