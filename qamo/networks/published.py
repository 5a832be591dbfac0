"""Names that other programs gave to the same weights, and the reading of their files.

Three dialects are known: fairseq's wav2vec 2.0 (`xlsr2_300m.pt`), transformers' (with either spelling of weight
norm), and the published checkpoints of QAMO and of its parent project, which hold a whole detector. Every map is a
list of (pattern, replacement) pairs that a test checks to be one to one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qamo import InputError
from qamo.networks.weights import check_finite, read_torch

log = logging.getLogger(__name__)

Rules = list[tuple[str, str]]

# ---- wav2vec 2.0: fairseq <-> transformers

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
_FAIRSEQ_UNUSED = ("mask_emb", "quantizer.", "project_q.", "final_proj.")
_TRANSFORMERS_UNUSED = ("masked_spec_embed", "quantizer.", "project_hid.", "project_q.", "lm_head.")

# Classes that fairseq files may mention besides tensors and plain types: training arguments in several guises.
# Their objects are read as empty ones; no code of theirs, or of anybody's, runs.
FAIRSEQ_CLASSES = (
    "argparse.Namespace",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.nodes.AnyNode",
    "omegaconf.nodes.StringNode",
    "omegaconf.nodes.IntegerNode",
    "omegaconf.nodes.FloatNode",
    "omegaconf.nodes.BooleanNode",
    "omegaconf.nodes.EnumNode",
    "fairseq.data.dictionary.Dictionary",
    "typing.Any",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("dict", "list", "int", "str", "float")),
)


def xlsr_to_transformers(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """A wav2vec 2.0 state dict in fairseq's or transformers' names -> transformers' names, and the names dropped.

    A name that no rule knows is kept as it is, so that a strict load reports it.
    """
    if "post_extract_proj.weight" in state:
        dropped = [name for name in state if name.startswith(_FAIRSEQ_UNUSED)]
        return {_renamed(n, _FORWARD): t for n, t in state.items() if not n.startswith(_FAIRSEQ_UNUSED)}, dropped
    if any(name.startswith("wav2vec2.") for name in state):  # a network with a task's head on top
        bare = {n.removeprefix("wav2vec2."): n for n in state if n.startswith("wav2vec2.")}
        dropped = [name for name in state if not name.startswith("wav2vec2.")]
        state = {name: state[full] for name, full in bare.items()}
    else:
        dropped = []
    kept = {n: t for n, t in state.items() if not n.startswith(_TRANSFORMERS_UNUSED)}
    dropped += [name for name in state if name not in kept]
    old, new = "encoder.pos_conv_embed.conv.weight_", _WEIGHT_NORM
    return {n.replace(f"{old}g", f"{new}0").replace(f"{old}v", f"{new}1"): t for n, t in kept.items()}, dropped


def xlsr_to_fairseq(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names of transformers -> those of fairseq."""
    return {_renamed(name, _BACKWARD): tensor for name, tensor in state.items()}


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


# ---- whole detectors: the published code <-> ours

_TCM = "conformer.encoder_blocks.*"
_NEST = "Nested_Res2Net_TDNN"

DETECTOR_NAMES: dict[str, Rules] = {
    "conformer_tcm": [
        ("LL.", "backend.project."),
        ("first_bn.", "backend.norm."),
        ("conformer.class_token", "backend.class_token"),
        *(
            (f"{_TCM}.{ff}.fn.{theirs}.", f"backend.blocks.*.{ours_ff}.{ours}.")
            for ff, ours_ff in (("ff1", "feed_forward_1"), ("ff2", "feed_forward_2"))
            for theirs, ours in (("norm", "norm"), ("fn.net.0", "expand"), ("fn.net.3", "contract"))
        ),
        (f"{_TCM}.attn.norm.", "backend.blocks.*.attention.norm."),
        (f"{_TCM}.attn.fn.pos_embed", "backend.blocks.*.attention.head_position"),
        (f"{_TCM}.attn.fn.qkv.", "backend.blocks.*.attention.qkv."),
        (f"{_TCM}.attn.fn.proj.", "backend.blocks.*.attention.output."),
        (f"{_TCM}.attn.fn.ht_proj.", "backend.blocks.*.attention.summary."),
        (f"{_TCM}.attn.fn.ht_norm.", "backend.blocks.*.attention.summary_norm."),
        (f"{_TCM}.conv.net.0.", "backend.blocks.*.convolution.norm."),
        (f"{_TCM}.conv.net.2.", "backend.blocks.*.convolution.expand."),
        (f"{_TCM}.conv.net.4.conv.", "backend.blocks.*.convolution.depthwise."),
        (f"{_TCM}.conv.net.5.", "backend.blocks.*.convolution.batch_norm."),
        (f"{_TCM}.conv.net.7.", "backend.blocks.*.convolution.contract."),
        (f"{_TCM}.post_norm.", "backend.blocks.*.norm."),
    ],
    "nes2net": [
        *(
            (f"{_NEST}.Build_in_Res2Nets.*.{theirs}", f"backend.nests.*.{ours}")
            for theirs, ours in (
                ("conv1.", "conv_in."),
                ("bn1.", "norm_in."),
                ("convs.", "convs."),
                ("bns.", "norms."),
                ("weighted_sum.", "stack_weights."),
                ("conv3.", "conv_out."),
                ("bn3.", "norm_out."),
                ("se.se.1.", "squeeze_excitation.squeeze."),
                ("se.se.3.", "squeeze_excitation.excite."),
            )
        ),
        (f"{_NEST}.bns.", "backend.norms."),
        (f"{_NEST}.bn.", "backend.norm."),
    ],
}

_CENTER = "ocsoftmax.center"
_POSITIONS = "conformer.positional_emb"
_SSL = "ssl_model.model."
_OURS_XLSR = "frontend.network."
_HEADS_OF_WIDTH = {768: 12, 1024: 16, 1280: 16, 1920: 16}  # of the published wav2vec 2.0 networks


def _compiled(rules: Rules) -> list[tuple[re.Pattern[str], str]]:
    compiled = []
    for left, right in rules:
        pattern = re.escape(left).replace(r"\*", r"(\d+)")
        ending = "(.+)" if left.endswith(".") else ""
        groups = iter(range(1, 9))
        template = re.sub(r"\*", lambda _: rf"\{next(groups)}", right)  # noqa: B023
        compiled.append((re.compile(pattern + ending), template + (rf"\{next(groups)}" if ending else "")))
    return compiled


def _renamed(name: str, rules: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, template in rules:
        if match := pattern.fullmatch(name):
            return match.expand(template)
    return name


_FORWARD = _compiled(XLSR_NAMES)
_BACKWARD = _compiled([(right, left) for left, right in XLSR_NAMES])
_TO_OURS = {backend: _compiled(rules) for backend, rules in DETECTOR_NAMES.items()}
_TO_THEIRS = {backend: _compiled([(right, left) for left, right in rules]) for backend, rules in DETECTOR_NAMES.items()}


def is_published(state: Mapping[str, Any]) -> bool:
    """Whether a state dict uses the names of the published QAMO code or of its parent project."""
    return any(name.removeprefix("module.").startswith(_SSL) for name in state)


def from_published(
    state: Mapping[str, Tensor], where: object, *, center: Tensor | None = None, n_heads: int | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A published checkpoint -> our state dict, and the model config its shapes tell of.

    Reads the detectors of QAMO (both back ends) and those of the parent project, whose head is a linear layer
    with two logits. A prefix `module.` is taken off; weights that only pre-training reads are dropped.

    Args:
        where: names the file in messages.
        center: centroids (K, E) kept apart (`oc_center.npy`), for a state dict without its own.
        n_heads: attention heads of XLS-R; None: those of the published network of that width.

    Raises:
        InputError: no back end of ours, weights missing or unknown, or a width whose heads cannot be told.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    backend = "conformer_tcm" if "LL.weight" in state else "nes2net" if f"{_NEST}.bn.weight" in state else None
    if backend is None:
        others = [name for name in state if not name.startswith(_SSL)]
        raise InputError(
            f"{where}: expected a back end of Conformer-TCM (LL.weight) or Nes2Net ({_NEST}.bn.weight), "
            f"found {', '.join(others[:3]) or 'none'}"
        )
    check_finite(state, where)
    xlsr, dropped = xlsr_to_transformers({n.removeprefix(_SSL): t for n, t in state.items() if n.startswith(_SSL)})
    if dropped:
        log.info("%s: %d weights that only pre-training reads are left out: %s", where, len(dropped), dropped)
    ours = {f"{_OURS_XLSR}{name}": tensor for name, tensor in xlsr.items()}
    head: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith(_SSL) or name == _POSITIONS:
            continue  # the position table is a formula
        renamed = _renamed(name, _TO_OURS[backend])
        if renamed != name:
            ours[renamed] = tensor
        else:
            head[name] = tensor
    if not head and center is not None:
        head[_CENTER] = center
    config: dict[str, Any] = {
        "frontend": "xlsr",
        "backend": backend,
        "xlsr": {"weights": None, **xlsr_sizes(xlsr), "n_heads": attention_heads(xlsr, n_heads, where)},
        backend: _backend_sizes(backend, ours),
    }
    ours |= _head_weights(head, config, where)
    return ours, config


def to_published(
    state: Mapping[str, Tensor], backend: str, *, pretraining: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Our state dict -> the published code's, complete: every name, shape and type that its strict load asks for.

    Args:
        state: of a detector with front end `xlsr` and head `qamo`.
        pretraining: fairseq weights to take those from that only pre-training reads (they stand in every published
            file and are never used); None: zeros in the shapes of XLS-R 300M.

    Raises:
        InputError: the detector's head or front end has no place in a published file.
    """
    from qamo.networks.conformer_tcm import N_POSITIONS, sinusoids

    names = published_names(state, backend)
    if "head.centroids" not in state or "head.linear.weight" in state or f"{_SSL}post_extract_proj.weight" not in names:
        raise InputError("the published format holds an XLS-R front end and a head of centroids; this detector differs")
    theirs = {theirs: state[ours] for theirs, ours in names.items()}
    unused = _pretraining_zeros(theirs) if pretraining is None else pretraining
    theirs |= {f"{_SSL}{name}": unused[name] for name in unused if name.startswith(_FAIRSEQ_UNUSED)}
    if backend == "conformer_tcm":
        theirs[_POSITIONS] = sinusoids(N_POSITIONS, state["backend.project.weight"].shape[0])[None]
    return theirs


def published_names(names: Iterable[str], backend: str) -> dict[str, str]:
    """The published code's name of each weight of ours: {theirs: ours}, in the order of `names`."""
    mapped = {}
    for name in names:
        if name.startswith(_OURS_XLSR):
            mapped[_SSL + _renamed(name.removeprefix(_OURS_XLSR), _BACKWARD)] = name
        elif name.startswith("head."):
            mapped[_CENTER if name == "head.centroids" else name] = name
        else:
            mapped[_renamed(name, _TO_THEIRS[backend])] = name
    return mapped


def attention_heads(xlsr: Mapping[str, Tensor], given: int | None, where: object) -> int:
    """Attention heads of a wav2vec 2.0 network: as given, else those of the published network of its width.

    Raises:
        InputError: nothing is given, and no published network is as wide.
    """
    width = xlsr_sizes(xlsr).get("hidden_size", 0)
    if given is not None:
        return given
    if width not in _HEADS_OF_WIDTH:
        raise InputError(
            f"{where}: weights do not tell the attention heads of a front end of width {width}, which is not a "
            "published one; give them: --n-heads of export.py, or cfg.xlsr.n_heads of model.load_detector"
        )
    return _HEADS_OF_WIDTH[width]


def _backend_sizes(backend: str, ours: Mapping[str, Tensor]) -> dict[str, int]:
    def count(pattern: str) -> int:
        return len({m[1] for name in ours if (m := re.match(pattern, name))})

    if backend == "conformer_tcm":
        block = "backend.blocks.0"
        return {
            "embedding_size": ours["backend.project.weight"].shape[0],
            "n_heads": _shape(ours, f"{block}.attention.head_position", 1, 4),
            "kernel_size": _shape(ours, f"{block}.convolution.depthwise.weight", 2, 31),
            "n_blocks": count(r"backend\.blocks\.(\d+)\."),
        }
    nest = "backend.nests.0"
    squeezed = _shape(ours, f"{nest}.squeeze_excitation.squeeze.weight", 0, 1)
    return {
        "n_groups": count(r"backend\.nests\.(\d+)\.") + 1,
        "scale": count(r"backend\.nests\.0\.convs\.(\d+)\.") + 1,
        "se_ratio": max(_shape(ours, f"{nest}.squeeze_excitation.squeeze.weight", 1, 1) // max(squeezed, 1), 1),
    }


def _shape(state: Mapping[str, Tensor], name: str, axis: int, otherwise: int) -> int:
    # A missing weight is reported by the strict load that follows, by its name.
    return state[name].shape[axis] if name in state else otherwise


def _head_weights(head: dict[str, Tensor], config: dict[str, Any], where: object) -> dict[str, Tensor]:
    """What is left of a published state dict -> our head's weights; completes `config`."""
    if set(head) == {_CENTER}:
        center = head[_CENTER]
        config["head"] = "qamo" if len(center) > 1 else "oc_softmax"
        if len(center) > 1:
            config["qamo"] = {"n_centroids": len(center)}
        return {"head.centroids": center}
    linear = {name.rsplit(".", 1)[-1]: tensor for name, tensor in head.items()}
    if len(head) == 2 and set(linear) == {"weight", "bias"} and linear["weight"].shape[0] == 2:
        config["head"] = "wce"
        return {f"head.linear.{leaf}": tensor for leaf, tensor in linear.items()}
    raise InputError(
        f"{where}: expected centroids ({_CENTER}, or oc_center.npy beside the file) or one linear layer of two "
        f"logits as the head, found {', '.join(list(head)[:4]) or 'neither'}"
    )


def _pretraining_zeros(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    width, conv = theirs[f"{_SSL}post_extract_proj.weight"].shape
    shapes: dict[str, tuple[int, ...]] = {
        "mask_emb": (width,),
        "quantizer.vars": (1, 640, 384),
        "quantizer.weight_proj.weight": (640, conv),
        "quantizer.weight_proj.bias": (640,),
        "project_q.weight": (768, 768),
        "project_q.bias": (768,),
        "final_proj.weight": (768, width),
        "final_proj.bias": (768,),
    }
    return {name: torch.zeros(shape) for name, shape in shapes.items()}
