"""Where XLS-R's weights come from, and their names in fairseq and in transformers.

`read_xlsr` takes a fairseq file (`xlsr2_300m.pt`), a transformers folder, a .safetensors file or a hub name, and gives
the weights in transformers' names, with either spelling of weight norm. Maps of names are lists of (pattern,
replacement) pairs, which a test checks to be one to one.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from qamo import InputError, hub
from qamo.networks.weights import read_torch

log = logging.getLogger(__name__)

XLSR_URL = "https://dl.fbaipublicfiles.com/fairseq/wav2vec/xlsr2_300m.pt"
PUBLISHED_XLSR = "ssl_model.model."  # starts the names of XLS-R's weights in a detector of the published code
HEADS_OF_WIDTH = {768: 12, 1024: 16, 1280: 16, 1920: 16}  # of the published wav2vec 2.0 networks

Rules = list[tuple[str, str]]
Compiled = list[tuple[re.Pattern[str], str]]

# Classes that fairseq files may mention besides tensors and plain types: training arguments in several guises.
# Their objects are read as empty ones; no code of theirs, or of anybody's, runs.
FAIRSEQ_CLASSES = (
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "String", "Integer", "Float", "Boolean", "Enum")),
    *(f"omegaconf.{name}" for name in ("dictconfig.DictConfig", "listconfig.ListConfig")),
    *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata")),
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("dict", "list", "int", "str", "float")),
    *("argparse.Namespace", "fairseq.data.dictionary.Dictionary", "typing.Any", "_codecs.encode"),
    *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype"),
)

# ---- files


def read_xlsr(weights: str, sizes: Mapping[str, int] | None = None) -> dict[str, Tensor]:
    """Weights of a wav2vec 2.0 network in transformers' names, from wherever `weights` points to.

    Args:
        sizes: of the network that is to hold them, by config key; checked so that a message can say what differs.

    Raises:
        InputError: nothing is there, it cannot be read, or it holds another network.
    """
    path = Path(weights).expanduser()
    if path.is_dir():
        raw = _read_folder(path)
    elif path.suffix == ".safetensors" and path.is_file():
        raw = _read_safetensors(path)
    elif path.is_file():
        raw = read_fairseq(path)
        if is_published(raw):
            raise InputError(
                f"model.xlsr.weights {path}: holds a whole detector, not a front end; score with it "
                "(--train false with its path), or set model.xlsr.weights to xlsr2_300m.pt"
            )
    elif hub.is_name(weights):
        try:
            raw = _read_folder(hub.fetch(weights, ("config.json",), ("model.safetensors", "pytorch_model.bin")))
        except InputError as error:
            raise InputError(f"model.xlsr.weights {error}, or download {XLSR_URL}") from None
    else:
        raise InputError(
            f"model.xlsr.weights {path}: no such file; download {XLSR_URL} (3.8 GB) to that place, "
            "or set it to facebook/wav2vec2-xls-r-300m, a local copy, or null for random weights"
        )
    state = xlsr_to_transformers(raw, weights)
    found = xlsr_sizes(state)
    differing = [f"{key} {found[key]} (expected {sizes[key]})" for key in found if sizes and found[key] != sizes[key]]
    if differing:
        raise InputError(
            f"model.xlsr.weights {weights}: holds another network than model.xlsr describes: {', '.join(differing)}; "
            "take XLS-R 300M, or set these keys of model.xlsr to what was found"
        )
    return state


def _read_folder(folder: Path) -> dict[str, Tensor]:
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise InputError(f"model.xlsr.weights {folder}: expected a transformers folder, found no config.json in it")
    try:
        config: dict[str, Any] = json.loads(config_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{config_path}: not JSON ({error})") from None
    wanted = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}
    # Of the same shapes but another function, as wav2vec 2.0 large is: no shape check would tell.
    wrong = [f"{key} {config[key]!r}" for key, value in wanted.items() if config.get(key, value) != value]
    if wrong:
        raise InputError(f"{config_path}: {' and '.join(wrong)}: not a network of the XLS-R kind; take XLS-R 300M")
    if (folder / "model.safetensors").is_file():
        return _read_safetensors(folder / "model.safetensors")
    if (folder / "pytorch_model.bin").is_file():
        return read_torch(folder / "pytorch_model.bin")
    raise InputError(f"{folder}: expected model.safetensors or pytorch_model.bin beside config.json, found neither")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)  # maps the file
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file, or one that ends too early ({error})") from None


def read_fairseq(path: Path) -> dict[str, Tensor]:
    """The weights of a fairseq wav2vec 2.0 file, under fairseq's names, left in the file until used.

    Optimiser moments and the rest of the file are never read into memory, nothing in it is executed.

    Raises:
        InputError: the file is unreadable, mentions a class that is not allowed, or holds no weights.
    """
    content = read_torch(path, inert=FAIRSEQ_CLASSES)
    state = content.get("model") if isinstance(content, dict) and "model" in content else content
    if not isinstance(state, dict) or not state or not all(isinstance(t, Tensor) for t in state.values()):
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
FAIRSEQ_UNUSED = ("mask_emb", "quantizer.", "project_q.", "final_proj.")
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
    of_fairseq = "post_extract_proj.weight" in state
    own = state
    if any(name.startswith("wav2vec2.") for name in state):  # a network with a task's head on top
        own = {n.removeprefix("wav2vec2."): t for n, t in state.items() if n.startswith("wav2vec2.")}
    unused = FAIRSEQ_UNUSED if of_fairseq else _TRANSFORMERS_UNUSED
    kept = {n: t for n, t in own.items() if not n.startswith(unused)}
    if dropped := [n for n in state if n.removeprefix("wav2vec2.") not in kept]:
        log.info("%s: %d weights that only pre-training reads are left out: %s", where, len(dropped), dropped)
    if of_fairseq:
        return {renamed(n, TO_TRANSFORMERS): t for n, t in kept.items()}
    old, new = "encoder.pos_conv_embed.conv.weight_", _WEIGHT_NORM
    return {n.replace(f"{old}g", f"{new}0").replace(f"{old}v", f"{new}1"): t for n, t in kept.items()}


def is_published(state: Mapping[str, Any]) -> bool:
    """Whether a state dict uses the names of the published QAMO code or of its parent project."""
    return any(name.removeprefix("module.").startswith(PUBLISHED_XLSR) for name in state)


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
            "published one; give them: --n-heads of export.py, or cfg.xlsr.n_heads of model.load_detector"
        )
    return HEADS_OF_WIDTH[width]
