"""Checkpoints: written whole or not at all, read without running anything that a file asks to run.

A checkpoint is a `torch.save` file of plain types: `format`, `convention` (what a score means), `model` (weights),
`model_config` (a dict that `qamo.config.schema.ModelConfig` accepts), and what the writer adds, such as the epoch. It
holds all that is needed to score with it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qamo import InputError
from qamo.files import read_json, replacing, write_json
from qamo.networks.digests import DIGESTS, digests_of, load_safetensors, saving_safetensors
from qamo.networks.weights import check_finite, first_of, read_torch

log = logging.getLogger(__name__)

FORMAT = "qamo checkpoint 1"
CONVENTION = "bonafide=1, higher=bona fide"

PARTS = ("frontend", "backend", "head")
EXPORTED_WEIGHTS = "model.safetensors"
EXPORTED_CONFIG = "qamo.json"


def write_checkpoint(path: Path, *, model_state: Mapping[str, Tensor], model_config: dict, **provenance: Any) -> None:
    """Write a checkpoint in one step.

    Args:
        model_config: `ModelConfig.model_dump()`: the shape of the network, so that the file loads by itself.
        provenance: anything else worth keeping; plain types and tensors only.
    """
    content = {"format": FORMAT, "convention": CONVENTION, "model": dict(model_state), "model_config": model_config}
    if clash := content.keys() & provenance.keys():
        raise ValueError(f"provenance repeats {sorted(clash)}")
    content = _plain({**content, **provenance})
    content[DIGESTS] = digests_of(content)
    # Into an open file: given a path, torch writes its name into the archive, and equal runs would differ in bytes.
    with replacing(Path(path)) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)


def _plain(value: Any) -> Any:
    """`value` with equal texts made one object and containers made anew.

    pickle writes an object that it has met before as a reference, so what a resumed run took from a file would be
    written in other bytes than the same things made by the program.
    """
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return sys.intern(value) if type(value) is str else value


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint as `write_checkpoint` was given it; its tensors stay in the file until they are used.

    Raises:
        InputError: the file is missing, cut off, damaged, no checkpoint of ours, asks to run code, scores the other way
            round, or holds weights that are not finite.
    """
    return checked(read_torch(path), path)


def checked(content: Any, path: Path) -> dict[str, Any]:
    """`content` of the file `path` if it is a checkpoint of ours with finite weights; InputError otherwise."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(
            f"{path}: expected a checkpoint of this program ({FORMAT!r}), one of the published code, or a wav2vec 2.0 "
            f"network with a linear layer of two logits, found {_kind(content)}"
        )
    if content.get("convention") != CONVENTION:
        raise InputError(f"{path}: its scores mean {content.get('convention')!r}, expected {CONVENTION!r}")
    state, config = content.get("model"), content.get("model_config")
    names_parts = isinstance(config, dict) and all(isinstance(config.get(part, ""), str) for part in PARTS)
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()) or not names_parts:
        raise InputError(f"{path}: damaged: its weights or its model_config are of another kind; copy it again")
    check_finite(state, path)
    return content


def write_exported(folder: Path, *, model_state: Mapping[str, Tensor], model_config: dict, **provenance: Any) -> None:
    """Write the weights as safetensors and the rest as JSON into `folder`: the form for passing a detector on."""
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model_state.items()}
    path = folder / EXPORTED_WEIGHTS
    with replacing(path) as temporary, saving_safetensors(path):
        save_file(tensors, temporary, metadata={"format": "pt"})
        share(temporary)
    about = {"format": FORMAT, "convention": CONVENTION, "model_config": model_config, **provenance}
    about[DIGESTS] = digests_of(tensors)
    write_json(folder / EXPORTED_CONFIG, {**about, "checksum": _checksum(about)})


def _checksum(about: Mapping[str, Any]) -> int:
    """CRC-32 of what an exported folder says of itself: a setting that was damaged would change the scores."""
    return zlib.crc32(json.dumps(about, sort_keys=True).encode())


def share(path: Path) -> None:
    """Give a file the permissions of an ordinary new one; safetensors writes files that only their owner may read."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def read_exported(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and model config of a folder that `write_exported` wrote.

    Raises:
        InputError: a file is missing, damaged, or not ours.
    """
    folder = Path(folder)
    about = read_json(folder / EXPORTED_CONFIG, dict)
    if (own := about.pop("checksum", None)) is not None and own != _checksum(about):
        raise InputError(f"{folder / EXPORTED_CONFIG}: damaged, or changed by hand; export the detector again")
    state = load_safetensors(folder / EXPORTED_WEIGHTS, about.pop(DIGESTS, None))
    content = checked(about | {"model": state}, folder)
    return state, content["model_config"]


def write_average(
    path: Path, epochs: Sequence[Path], how: str, *, model_config: dict[str, Any], **provenance: Any
) -> None:
    """Write the average of the best epochs as one checkpoint.

    Args:
        epochs: best first.
        how: as for `average`.
        model_config, provenance: as for `write_checkpoint`.
    """
    weights = average(epochs, how)
    names = [epoch.name for epoch in (epochs[:1] if how == "none" else epochs)]
    write_checkpoint(path, model_state=weights, model_config=model_config, epochs=names, **provenance)
    log.info("averaged (%s) the best epochs: %s", how, ", ".join(names))


def average(paths: Sequence[Path], how: str = "mean") -> dict[str, Tensor]:
    """Average the weights of checkpoints of one network, given best first.

    Args:
        how: "mean", or "reference" for what the published code really computes: it adds onto the second-best
            epoch's tensors while it means to add to the best's, so for n epochs b0 (best) to b(n-1) it yields
            (2 b1 + b2 + ... + b(n-1)) / n, and of a single epoch that epoch; "none": the best epoch alone.

    Counters (integer buffers, as those of batch norm) are those of the first checkpoint that enters, not averages.
    The files are mapped, so memory holds one network, not n.

    Raises:
        InputError: a file is unreadable, or the files hold different networks.
    """
    order = averaged(paths, how)
    return average_states({path: read_checkpoint(path)["model"] for path in dict.fromkeys(order)}, order)


def averaged(paths: Sequence[Path], how: str) -> list[Path]:
    """The checkpoints whose mean an average is, given best first; "none": the best alone.

    Raises:
        InputError: there are none.
    """
    if how not in ("mean", "reference", "none"):
        raise ValueError(f"average: {how!r} is none of mean, reference and none")
    if not paths:
        raise InputError("average: no checkpoint to average; expected at least one")
    if how == "none":
        return list(paths[:1])
    # The published code starts from b1 and never adds b0 to it: b1 twice, b0 not at all.
    return [paths[1], *paths[1:]] if how == "reference" and len(paths) > 1 else list(paths)


def average_states(states: Mapping[Path, Mapping[str, Tensor]], order: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights of the files in `order`, one of which may count twice.

    Raises:
        InputError: they hold different networks.
    """
    first = states[order[0]]
    shapes = {name: tensor.shape for name, tensor in first.items()}
    for path, state in states.items():
        if {name: tensor.shape for name, tensor in state.items()} != shapes:
            raise InputError(f"{path}: holds another network than {order[0]}; average epochs of one run only")
    return {name: _mean([states[path][name] for path in order]) for name in shapes}


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    first = tensors[0]
    if not first.is_floating_point():
        return first.clone()
    total = first.to(torch.float64, copy=True)
    for tensor in tensors[1:]:
        total += tensor
    return (total / len(tensors)).to(first.dtype)


def _kind(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dict with {first_of([str(key) for key in content])}" if content else "an empty dict"
    return type(content).__name__
