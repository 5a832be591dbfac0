"""What a file of wav2vec 2.0 says of its network beside the weights: followed, or refused where XLS-R differs.

fairseq writes the settings of a training into its files (`cfg.model`, of old `args`), transformers writes a
config.json. The sizes of a network are seen from its weights; what is read here are attention heads, what draws in
training, and marks of another function in equal shapes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from qamo import InputError
from qamo.networks.weights import plain

log = logging.getLogger(__name__)

STRIDES = (5, 2, 2, 2, 2, 2, 2)  # of the convolutions, which no weight shows
LAYER_NORM_EPS = 1e-5
OWN_KEY = "qamo_recipe"  # in a config.json that export.py wrote: what draws in training, as fairseq's file said
# fairseq's name of what draws in training -> transformers'. dropout_features is read by pre-training alone.
DRAWS = {
    "dropout": "hidden_dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "dropout_input": "feat_proj_dropout",
    "encoder_layerdrop": "layerdrop",
}
FAIRSEQ_WANTED = {"layer_norm_first": True, "extractor_mode": "layer_norm", "activation_fn": "gelu"}
TRANSFORMERS_WANTED = {
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "layer_norm_eps": LAYER_NORM_EPS,
}


class Recipe(NamedTuple):
    """What a file tells."""

    n_heads: int | None = None
    draws: Mapping[str, float] = {}  # dropouts and layer drop above 0, by transformers' names
    feature_grad_mult: float = 1.0  # of the gradient that reaches the convolutions; 0: they are not trained


def of_fairseq(content: Any, where: object) -> Recipe:
    """The recipe in a fairseq file, with a log line that says what is followed.

    Raises:
        InputError: a network of another kind.
    """
    settings = _fairseq_settings(content)
    if not settings:
        log.info("%s: tells nothing of its network but weights; taken for XLS-R's kind, without dropouts", where)
        return Recipe()
    wrong = [f"{key} {settings[key]!r}" for key, value in FAIRSEQ_WANTED.items() if settings.get(key, value) != value]
    if settings.get("layer_type", "transformer") != "transformer":
        wrong.append(f"layer_type {settings['layer_type']!r}")
    strides = _strides(settings.get("conv_feature_layers"))
    if strides and strides != STRIDES:
        wrong.append(f"strides {strides}")
    _refuse(wrong, f"{where}: cfg.model")
    draws = {ours: _number(settings, theirs, 0.0, where) for theirs, ours in DRAWS.items()}
    recipe = Recipe(
        _whole(settings.get("encoder_attention_heads"), where),
        {name: value for name, value in draws.items() if value},
        _number(settings, "feature_grad_mult", 1.0, where),
    )
    log.info("%s: cfg.model is followed: %s", where, _said(recipe))
    return recipe


def of_transformers(config: Mapping[str, Any], where: object) -> Recipe:
    """The recipe in a config.json, with a log line that says what is followed.

    Its dropouts are transformers' defaults for fine-tuning and not those of the pre-training: they are not followed,
    unless export.py wrote them down.

    Raises:
        InputError: a network of another kind.
    """
    wrong = [f"{key} {config[key]!r}" for key, value in TRANSFORMERS_WANTED.items() if config.get(key, value) != value]
    strides = config.get("conv_stride")
    if strides and tuple(strides) != STRIDES:
        wrong.append(f"conv_stride {strides}")
    _refuse(wrong, str(where))
    own = config.get(OWN_KEY)
    own = own if isinstance(own, Mapping) else {}
    draws = {name: _number(own, name, 0.0, where) for name in DRAWS.values()}
    recipe = Recipe(
        _whole(config.get("num_attention_heads"), where),
        {name: value for name, value in draws.items() if value},
        _number(own, "feature_grad_mult", 1.0, where),
    )
    unread = {name: config[name] for name in DRAWS.values() if config.get(name) and not own}
    passed = f"; not followed, as defaults of transformers: {_listed(unread)}" if unread else ""
    log.info("%s is followed: %s%s", where, _said(recipe), passed)
    return recipe


def own_key(recipe: Recipe) -> dict[str, Any]:
    """What `of_transformers` reads a recipe back from: an entry for config.json."""
    return {OWN_KEY: {**recipe.draws, "feature_grad_mult": recipe.feature_grad_mult}}


def _fairseq_settings(content: Any) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        return {}
    cfg = plain(content.get("cfg"))
    settings = cfg.get("model") if isinstance(cfg, dict) else None
    if not isinstance(settings, dict):
        settings = plain(content.get("args"))
    return settings if isinstance(settings, dict) else {}


def _refuse(wrong: list[str], where: str) -> None:
    if wrong:
        raise InputError(f"{where}: {' and '.join(wrong)}: not a network of the XLS-R kind; take XLS-R 300M")


def _number(settings: Mapping[str, Any], key: str, otherwise: float, where: object) -> float:
    value = settings.get(key, otherwise)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise InputError(f"{where}: {key} is {value!r}; expected a number of at least 0")
    if key != "feature_grad_mult" and value >= 1:
        raise InputError(f"{where}: {key} is {value!r}; expected a probability below 1")
    return float(value)


def _whole(value: Any, where: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise InputError(f"{where}: attention heads {value!r}; expected a positive number")


def _strides(text: Any) -> tuple[int, ...]:
    """Strides of fairseq's `[(512, 10, 5)] + [(512, 3, 2)] * 4 ...`; () of anything else."""
    if not isinstance(text, str):
        return ()
    layers = re.findall(r"\[\((\d+),(\d+),(\d+)\)\](?:\*(\d+))?", re.sub(r"\s", "", text))
    return tuple(int(stride) for _, _, stride, times in layers for _ in range(min(int(times or 1), 99)))


def _said(recipe: Recipe) -> str:
    heads = f"{recipe.n_heads} attention heads, " if recipe.n_heads else ""
    draws = _listed(recipe.draws) if recipe.draws else "no dropout, no layer drop"
    return f"{heads}{draws}, feature_grad_mult {recipe.feature_grad_mult:g}"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )
