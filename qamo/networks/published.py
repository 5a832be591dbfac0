"""Detectors of published code: their names and files <-> ours.

Read are the checkpoints of QAMO (both back ends) and of its parent project, each of which holds a whole detector, and
any wav2vec 2.0 network with a linear layer of two logits over its mean feature, whatever their names; written is
QAMO's form.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qamo import InputError
from qamo.files import read_arrays
from qamo.networks.conformer_tcm import N_POSITIONS, sinusoids
from qamo.networks.weights import check_finite, without_wrappers
from qamo.networks.xlsr_files import (
    FAIRSEQ_UNUSED,
    PUBLISHED_XLSR,
    TO_FAIRSEQ,
    Rules,
    attention_heads,
    compiled,
    is_two_logits,
    network_prefix,
    renamed,
    xlsr_sizes,
    xlsr_to_transformers,
)

log = logging.getLogger(__name__)

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
_OURS_XLSR = "frontend.network."

_TO_OURS = {backend: compiled(rules) for backend, rules in DETECTOR_NAMES.items()}
_TO_THEIRS = {backend: compiled(rules, backwards=True) for backend, rules in DETECTOR_NAMES.items()}


def from_published(
    state: Mapping[str, Tensor], path: Path, *, n_heads: int | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A published checkpoint -> our state dict, and the model config its shapes tell of.

    Reads the detectors of QAMO (both back ends) and those of the parent project, whose head is a linear layer
    with two logits. Prefixes of wrappers (`module.`, `_orig_mod.`, Lightning's) are taken off; weights that only
    pre-training reads are dropped. What is a wav2vec 2.0 network and one such layer averages over time, as the
    AntiDeepfake models do (Ge et al. 2025, arXiv:2506.21090; logits of fake and real, says their model card).

    Args:
        path: the file that `state` was read from; its centroids may be in oc_center.npy beside it or a folder up.
        n_heads: attention heads of XLS-R; None: those of the published network of that width.

    Raises:
        InputError: no back end of ours, weights missing or unknown, or a width whose heads cannot be told.
    """
    state = without_wrappers(state, (PUBLISHED_XLSR,))
    prefix = network_prefix(state)
    of_xlsr = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    others = {n: t for n, t in state.items() if not n.startswith(prefix)}
    backend = _backend_of(others, path)
    center = _center_beside(path)
    check_finite(state, path)
    xlsr = xlsr_to_transformers(of_xlsr, path)
    others.pop(_POSITIONS, None)  # a formula
    new_names = {name: renamed(name, _TO_OURS.get(backend, [])) for name in others}
    ours = {f"{_OURS_XLSR}{name}": tensor for name, tensor in xlsr.items()}
    ours |= {new: others[name] for name, new in new_names.items() if new != name}
    head = {name: others[name] for name, new in new_names.items() if new == name}
    if not head and center is not None:
        head[_CENTER] = center
    config: dict[str, Any] = {
        "frontend": "xlsr",
        "backend": backend,
        "xlsr": {"weights": None, **xlsr_sizes(xlsr), "n_heads": attention_heads(xlsr, n_heads, path)},
        backend: _backend_sizes(backend, ours),
    }
    if backend == "mean":  # none of the published code's, which leaves waves as they are
        config["xlsr"]["normalize_input"] = "utterance"
    return ours | _head_weights(head, config, path), config


def _backend_of(others: Mapping[str, Tensor], path: Path) -> str:
    for backend, mark in (("conformer_tcm", "LL.weight"), ("nes2net", f"{_NEST}.bn.weight")):
        if mark in others:
            return backend
    if is_two_logits(others):
        log.info(
            "%s: a network, its mean feature and two logits, taken for spoof and bona fide; waves are normalised "
            "as they were in the network's pre-training (model.xlsr.normalize_input), which no weights tell",
            path,
        )
        return "mean"
    raise InputError(
        f"{path}: expected a back end of Conformer-TCM (LL.weight) or Nes2Net ({_NEST}.bn.weight), or nothing but a "
        f"linear layer of two logits, found {', '.join(list(others)[:3]) or 'none'}"
    )


def _center_beside(path: Path) -> Tensor | None:
    """Centroids (K, E) in the oc_center.npy beside a checkpoint or a folder up, if there is one."""
    places = (folder / "oc_center.npy" for folder in (path.parent, path.parent.parent))
    beside = next((place for place in places if place.is_file()), None)
    if beside is None:
        return None
    try:
        center = read_arrays(beside)
        if not isinstance(center, np.ndarray):
            raise ValueError("an archive of arrays")
    except ValueError as error:
        raise InputError(f"{beside}: not an array that NumPy reads ({error})") from None
    if center.ndim != 2 or not np.isfinite(center).all():
        raise InputError(f"{beside}: expected finite centroids of shape (K, E), found shape {center.shape}")
    return torch.from_numpy(np.asarray(center, dtype=np.float32))


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
    of_centroids = "head.centroids" in state and "head.linear.weight" not in state
    of_xlsr = f"{_OURS_XLSR}feature_projection.projection.weight" in state
    if not of_centroids or not of_xlsr or backend not in DETECTOR_NAMES:
        raise InputError(
            f"the published format holds an XLS-R front end, a back end {' or '.join(DETECTOR_NAMES)} and a head of "
            "centroids; this detector differs"
        )
    names = published_names(state, backend)
    theirs = {theirs: state[ours] for theirs, ours in names.items()}
    unused = _pretraining_zeros(theirs) if pretraining is None else pretraining
    theirs |= {f"{PUBLISHED_XLSR}{name}": unused[name] for name in unused if name.startswith(FAIRSEQ_UNUSED)}
    if backend == "conformer_tcm":
        theirs[_POSITIONS] = sinusoids(N_POSITIONS, state["backend.project.weight"].shape[0])[None]
    return theirs


def published_names(names: Iterable[str], backend: str) -> dict[str, str]:
    """The published code's name of each weight of ours: {theirs: ours}, in the order of `names`."""
    mapped = {}
    for name in names:
        if name.startswith(_OURS_XLSR):
            mapped[PUBLISHED_XLSR + renamed(name.removeprefix(_OURS_XLSR), TO_FAIRSEQ)] = name
        elif name.startswith("head."):
            mapped[_CENTER if name == "head.centroids" else name] = name
        else:
            mapped[renamed(name, _TO_THEIRS[backend])] = name
    return mapped


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
    if backend == "mean":
        return {}
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
    if is_two_logits(head):
        config["head"] = "wce"
        return {f"head.linear.{name.rsplit('.', 1)[-1]}": tensor for name, tensor in head.items()}
    raise InputError(
        f"{where}: expected centroids ({_CENTER}, or oc_center.npy beside the file) or one linear layer of two "
        f"logits as the head, found {', '.join(list(head)[:4]) or 'neither'}"
    )


def _pretraining_zeros(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    width, conv = theirs[f"{PUBLISHED_XLSR}post_extract_proj.weight"].shape
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
