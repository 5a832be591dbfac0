"""Where XLS-R's weights come from, and their names in fairseq and in transformers.

`read_xlsr` takes a fairseq file (`xlsr2_300m.pt`), a transformers folder, a .safetensors file or a hub name, and gives
the weights in transformers' names, with either spelling of weight norm. Maps of names are lists of (pattern,
replacement) pairs, which a test checks to be one to one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor

from qamo import InputError, hub
from qamo.files import read_json
from qamo.networks.digests import load_safetensors
from qamo.networks.weights import SETTINGS_CLASSES, read_torch, weights_in, without_wrappers
from qamo.networks.xlsr_recipe import Recipe, of_fairseq, of_transformers

log = logging.getLogger(__name__)

XLSR_URL = "https://dl.fbaipublicfiles.com/fairseq/wav2vec/xlsr2_300m.pt"
PUBLISHED_XLSR = "ssl_model.model."  # starts the names of XLS-R's weights in a detector of the published code
FOLDER_FILES = (  # where transformers puts weights, the first that is there counts
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
WEIGHT_FILES = (".pt", ".pth", ".bin", ".safetensors")
DIGESTS_FILE = "digests.json"  # in a folder that export.py wrote, the digests of model.safetensors
HEADS_OF_WIDTH = {768: 12, 1024: 16, 1280: 16, 1920: 16}  # of the published wav2vec 2.0 networks

Rules = list[tuple[str, str]]
Compiled = list[tuple[re.Pattern[str], str]]

_PROJECTION = "post_extract_proj.weight"
XLSR_MARKS = ("post_extract_proj.", "feature_projection.projection.")  # of fairseq's and of transformers' names

# ---- files


class Pretrained(NamedTuple):
    """A front end's file: weights in transformers' names, sizes by config key, and what else it tells."""

    state: dict[str, Tensor]
    sizes: dict[str, int]
    recipe: Recipe


def read_xlsr(weights: str, asked: Mapping[str, int | None] = MappingProxyType({})) -> Pretrained:
    """A wav2vec 2.0 network of the XLS-R kind from wherever `weights` points to.

    Args:
        asked: sizes that someone wants, by config key; n_layers may be fewer than the file's: the first ones are taken.

    Raises:
        InputError: nothing is there, it cannot be read, or it holds another network.
    """
    path = Path(weights).expanduser()
    if path.is_dir():
        raw, recipe = _read_folder(path)
    elif path.suffix == ".safetensors" and path.is_file():
        raw, recipe = load_safetensors(path), _recipe_beside(path)
    elif path.is_file():
        raw, recipe = _read_fairseq(path)
    elif hub.is_name(weights):
        raw, recipe = _fetched(weights)
    else:
        raise InputError(
            f"model.xlsr.weights {path}: no such file; download {XLSR_URL} (3.8 GB) to that place, "
            "or set it to facebook/wav2vec2-xls-r-300m, a local copy, or null for random weights"
        )
    state = xlsr_to_transformers(raw, weights)
    return _fitted(Pretrained(state, xlsr_sizes(state), recipe), {k: v for k, v in asked.items() if v}, weights)


def _fitted(found: Pretrained, asked: Mapping[str, int], weights: str) -> Pretrained:
    """What was found, with as many layers as asked for, and with the number of attention heads."""
    state, sizes, recipe = found
    told = sizes | ({"n_heads": recipe.n_heads} if recipe.n_heads else {})
    fewer = asked.get("n_layers", 0) if 0 < asked.get("n_layers", 0) < sizes.get("n_layers", 0) else 0
    differing = [
        f"{key} {value} (expected {asked[key]})"
        for key, value in told.items()
        if key in asked and asked[key] != value and not (key == "n_layers" and fewer)
    ]
    if differing:
        raise InputError(
            f"model.xlsr.weights {weights}: holds another network than model.xlsr describes: {', '.join(differing)}; "
            "leave these keys of model.xlsr out, or set them to what was found"
        )
    if fewer:
        log.info("%s: the first %d of its %d layers are taken", weights, fewer, sizes["n_layers"])
        left_out = tuple(f"encoder.layers.{n}." for n in range(fewer, sizes["n_layers"]))
        state = {name: tensor for name, tensor in state.items() if not name.startswith(left_out)}
        sizes = sizes | {"n_layers": fewer}
    heads = asked.get("n_heads") or recipe.n_heads
    return Pretrained(state, sizes | {"n_heads": attention_heads(state, heads, weights)}, recipe)


def _read_folder(folder: Path) -> tuple[Mapping[str, Tensor], Recipe]:
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise InputError(f"model.xlsr.weights {folder}: expected a transformers folder, found no config.json in it")
    recipe = of_transformers(read_json(config_path, dict), config_path)
    for name in FOLDER_FILES:
        path = folder / name
        if path.is_file() and name.endswith(".index.json"):
            shards = [_read_weights(folder / shard) for shard in shards_of(path)]
            return {key: tensor for shard in shards for key, tensor in shard.items()}, recipe
        if path.is_file():
            return _read_weights(path), recipe
    raise InputError(f"{folder}: expected model.safetensors or pytorch_model.bin beside config.json, found neither")


def shards_of(index: Path) -> list[str]:
    """The files that hold the weights of an index.

    Raises:
        InputError: it names none, or one outside its folder.
    """
    named = read_json(index, dict).get("weight_map")
    shards = sorted(set(named.values()), key=str) if isinstance(named, dict) else []
    if not shards or not all(isinstance(s, str) and s.endswith(WEIGHT_FILES) and s == Path(s).name for s in shards):
        raise InputError(f"{index}: expected a weight_map that names files of this folder, found {str(shards)[:80]}")
    return shards


def _read_weights(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path}: no such file, but its folder's index names it; copy or download it too")
    if path.suffix == ".safetensors":
        kept = path.with_name(DIGESTS_FILE)  # export.py writes it beside the one file of its folder
        return load_safetensors(path, read_json(kept, dict) if kept.is_file() else None)
    state = weights_in(read_torch(path))
    if state is None:
        raise InputError(f"{path}: expected weights by name, found something else")
    return state


def _recipe_beside(path: Path) -> Recipe:
    config = path.with_name("config.json")
    return of_transformers(read_json(config, dict), config) if config.is_file() else of_fairseq(None, path)


def _fetched(name: str) -> tuple[Mapping[str, Tensor], Recipe]:
    """The network of a hub repository."""
    try:
        folder = fetched_folder(name)
    except InputError as error:
        raise InputError(f"model.xlsr.weights {error}, or download {XLSR_URL}") from None
    return _read_folder(folder)


def fetched_folder(name: str, *choices: tuple[str, ...]) -> Path:
    """The folder with config.json, weights and more files, as `hub.fetch` takes them, of a hub repository.

    Raises:
        InputError: as for `hub.fetch`.
    """
    folder = hub.fetch(name, ("config.json",), *choices, FOLDER_FILES, optional=(DIGESTS_FILE,))
    found = next(folder / file for file in FOLDER_FILES if (folder / file).is_file())
    if found.name.endswith(".index.json"):
        hub.fetch(name, *((shard,) for shard in shards_of(found)))
    return folder


def read_fairseq(path: Path) -> Mapping[str, Tensor]:
    """The weights of a fairseq wav2vec 2.0 file, under fairseq's names, left in the file until used.

    Optimiser moments and the rest of the file are never read into memory, nothing in it is executed.

    Raises:
        InputError: the file is unreadable, mentions a class that is not allowed, or holds no weights.
    """
    return _weights_of(read_torch(path, inert=SETTINGS_CLASSES), path)


def _read_fairseq(path: Path) -> tuple[Mapping[str, Tensor], Recipe]:
    content = read_torch(path, inert=SETTINGS_CLASSES)
    state = _weights_of(content, path)
    if is_published(state):
        raise InputError(
            f"model.xlsr.weights {path}: holds a whole detector, not a front end; score with it "
            "(--train false with its path), or set model.xlsr.weights to xlsr2_300m.pt"
        )
    return state, of_fairseq(content, path)


def _weights_of(content: Any, path: Path) -> Mapping[str, Tensor]:
    state = weights_in(content)
    if state is None:
        keys = ", ".join(list(map(str, content))[:6]) if isinstance(content, dict) else type(content).__name__
        raise InputError(f"{path}: expected a wav2vec 2.0 file with weights under 'model', found {keys}")
    return state


# ---- names

_WEIGHT_NORM = "encoder.pos_conv_embed.conv.parametrizations.weight.original"

# (fairseq, transformers), as templates: * stands for a layer number, and a trailing dot for any ending.
XLSR_NAMES: Rules = [
    ("feature_extractor.conv_layers.*.0.", "feature_extractor.conv_layers.*.conv."),
    ("feature_extractor.conv_layers.*.2.1.", "feature_extractor.conv_layers.*.layer_norm."),
    ("layer_norm.", "feature_projection.layer_norm."),
    ("post_extract_proj.", "feature_projection.projection."),
    ("encoder.pos_conv.0.bias", "encoder.pos_conv_embed.conv.bias"),
    ("encoder.pos_conv.0.weight_g", f"{_WEIGHT_NORM}0"),
    ("encoder.pos_conv.0.weight_v", f"{_WEIGHT_NORM}1"),
    ("encoder.layers.*.self_attn.k_proj.", "encoder.layers.*.attention.k_proj."),
    ("encoder.layers.*.self_attn.v_proj.", "encoder.layers.*.attention.v_proj."),
    ("encoder.layers.*.self_attn.q_proj.", "encoder.layers.*.attention.q_proj."),
    ("encoder.layers.*.self_attn.out_proj.", "encoder.layers.*.attention.out_proj."),
    ("encoder.layers.*.self_attn_layer_norm.", "encoder.layers.*.layer_norm."),
    ("encoder.layers.*.fc1.", "encoder.layers.*.feed_forward.intermediate_dense."),
    ("encoder.layers.*.fc2.", "encoder.layers.*.feed_forward.output_dense."),
    ("encoder.layers.*.final_layer_norm.", "encoder.layers.*.final_layer_norm."),
    ("encoder.layer_norm.", "encoder.layer_norm."),
]

# Weights that only pre-training and other tasks read; a detector drops them.
FAIRSEQ_UNUSED = ("mask_emb", "quantizer.", "project_q.", "final_proj.", "label_embs_concat")
_TRANSFORMERS_UNUSED = ("masked_spec_embed", "quantizer.", "project_hid.", "project_q.", "lm_head.")


def compiled(rules: Rules, *, backwards: bool = False) -> Compiled:
    """Rules as regular expressions and what to expand matches to; `backwards`: from the right names to the left."""
    pairs = []
    for left, right in rules:
        left, right = (right, left) if backwards else (left, right)
        pattern = re.escape(left).replace(r"\*", r"(\d+)")
        ending = "(.+)" if left.endswith(".") else ""
        groups = iter(range(1, 9))
        template = re.sub(r"\*", lambda _: rf"\{next(groups)}", right)  # noqa: B023
        pairs.append((re.compile(pattern + ending), template + (rf"\{next(groups)}" if ending else "")))
    return pairs


def renamed(name: str, rules: Compiled) -> str:
    """`name` by the first rule that fits it whole, or as it is."""
    for pattern, template in rules:
        if match := pattern.fullmatch(name):
            return match.expand(template)
    return name


TO_TRANSFORMERS = compiled(XLSR_NAMES)
TO_FAIRSEQ = compiled(XLSR_NAMES, backwards=True)


def xlsr_to_transformers(state: Mapping[str, Tensor], where: object) -> dict[str, Tensor]:
    """A wav2vec 2.0 state dict in fairseq's or transformers' names -> transformers' names; the log names what goes.

    A name that no rule knows is kept as it is, so that a strict load reports it.

    Args:
        where: names the file in the log.
    """
    own = without_wrappers(state, XLSR_MARKS)
    of_fairseq = "post_extract_proj.weight" in own
    unused = FAIRSEQ_UNUSED if of_fairseq else _TRANSFORMERS_UNUSED
    kept = {n: t for n, t in own.items() if not n.startswith(unused)}
    if dropped := [n for n in own if n not in kept]:
        log.info("%s: %d weights that only pre-training reads are left out: %s", where, len(dropped), dropped)
    if of_fairseq:
        return {renamed(n, TO_TRANSFORMERS): t for n, t in kept.items()}
    old, new = "encoder.pos_conv_embed.conv.weight_", _WEIGHT_NORM
    return {n.replace(f"{old}g", f"{new}0").replace(f"{old}v", f"{new}1"): t for n, t in kept.items()}


def is_published(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is a whole detector in names of other programs, as `published.from_published` reads it."""
    if any(name.startswith(PUBLISHED_XLSR) or f".{PUBLISHED_XLSR}" in name for name in state):
        return True
    prefix = network_prefix(state)
    return bool(prefix) and is_two_logits({name: t for name, t in state.items() if not name.startswith(prefix)})


def network_prefix(state: Iterable[str]) -> str:
    """What stands before the names of a detector's fairseq network; "" where there is nothing or no network."""
    names = list(state)
    if any(name.startswith(PUBLISHED_XLSR) for name in names):
        return PUBLISHED_XLSR
    return next((name.removesuffix(_PROJECTION) for name in names if name.endswith(_PROJECTION)), "")


def is_two_logits(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are the weight and the bias of one linear layer of two logits."""
    of = {name.rpartition(".")[2]: tensor for name, tensor in weights.items()}
    return len(weights) == 2 and set(of) == {"weight", "bias"} and of["weight"].ndim == 2 and len(of["weight"]) == 2


def xlsr_sizes(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Sizes of a wav2vec 2.0 network, read off its weights (transformers' names); those it can tell, by config key."""
    layers = [int(m[1]) for name in state if (m := re.match(r"encoder\.layers\.(\d+)\.", name))]
    sizes = {"n_layers": max(layers) + 1} if layers else {}
    for key, name, axis in (
        ("hidden_size", "feature_projection.projection.weight", 0),
        ("conv_size", "feature_projection.projection.weight", 1),
        ("ffn_size", "encoder.layers.0.feed_forward.intermediate_dense.weight", 0),
        ("position_kernel", f"{_WEIGHT_NORM}1", 2),
    ):
        if name in state:
            sizes[key] = state[name].shape[axis]
    if "hidden_size" in sizes and f"{_WEIGHT_NORM}1" in state:
        sizes["position_groups"] = sizes["hidden_size"] // state[f"{_WEIGHT_NORM}1"].shape[1]
    return sizes


def attention_heads(xlsr: Mapping[str, Tensor], given: int | None, where: object) -> int:
    """Attention heads of a wav2vec 2.0 network: as given, else those of the published network of its width.

    Raises:
        InputError: nothing is given, and no published network is as wide.
    """
    width = xlsr_sizes(xlsr).get("hidden_size", 0)
    if given is not None:
        return given
    if width not in HEADS_OF_WIDTH:
        raise InputError(
            f"{where}: weights do not tell the attention heads of a front end of width {width}, which is not a "
            "published one; give them: --n-heads of export.py, model.xlsr.n_heads, or cfg.xlsr.n_heads of load_detector"
        )
    return HEADS_OF_WIDTH[width]
