"""The detector: front end -> back end -> head, three plain dicts of them, and ways to build and load one.

    front end   (B, T) -> (B, F, D)    attributes dim, frozen, mixed
    back end    (B, F, D) -> (B, E)    attribute dim
    head        (B, E) -> (B,)         method loss(embedding, bonafide, quality)

The same as types: qamo/networks/contract.py. To add a part: write its class, give it a line in a dict below and a
section of the same name in qamo/config/parts.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from loss import QAMO, WCE, OCSoftmax
from qamo import InputError, hub
from qamo.config.keys import Role, keys_of
from qamo.config.load import with_added
from qamo.config.parts import ModelConfig
from qamo.networks.asp import ASP
from qamo.networks.conformer_tcm import ConformerTCM
from qamo.networks.contract import BackEnd, FrontEnd, Head
from qamo.networks.digests import load_safetensors, meanwhile
from qamo.networks.distillmos import DistillMOS
from qamo.networks.hf import HF
from qamo.networks.lfcc import LFCC
from qamo.networks.mean import Mean
from qamo.networks.nes2net import Nes2Net
from qamo.networks.published import from_published
from qamo.networks.weights import SETTINGS_CLASSES, load_strictly, read_torch, weights_in
from qamo.networks.xlsr import XLSR
from qamo.networks.xlsr_files import is_published
from qamo.published import published_epochs
from qamo.training.checkpoint import (
    EXPORTED_CONFIG,
    EXPORTED_WEIGHTS,
    PARTS,
    average_states,
    averaged,
    checked,
    read_exported,
)
from qamo.training.folder import MODEL

log = logging.getLogger(__name__)

FRONTENDS: dict[str, Callable[..., FrontEnd]] = {"xlsr": XLSR, "lfcc": LFCC, "distillmos": DistillMOS, "hf": HF}
BACKENDS: dict[str, Callable[..., BackEnd]] = {
    "conformer_tcm": ConformerTCM, "nes2net": Nes2Net, "asp": ASP, "mean": Mean,
}  # fmt: skip
HEADS: dict[str, Callable[..., Head]] = {"qamo": QAMO, "oc_softmax": OCSoftmax, "wce": WCE}
FREE = {key for key, about in keys_of(ModelConfig).items() if about.role is Role.SCORING}  # may change after training

UNFILLED = {"weights": None, "uninitialized": True}  # a front end whose weights are loaded into it


class Output(NamedTuple):
    score: Tensor  # (B,), higher means bona fide
    embedding: Tensor  # (B, E)
    losses: dict[str, Tensor] | None  # scalars, "total" among them; None without labels


class Detector(nn.Module):
    """Three parts in a row. The loss is computed in forward, so DDP sees every parameter used.

    Attributes:
        config: the ModelConfig it was built from, as a dict.
        feature_cache: None, or a callable (frontend, wave) -> features that stands in for the front end.
        gather: None, or a callable (features, bonafide, quality) -> the same of all processes together; used in
            training only.
        frontend_chunks: pieces in which a training batch passes the front end. Above 1 each piece is computed again
            in the backward pass: the memory of one piece, and the gradients of the whole batch, since the back end
            with its batch norms and the loss still see the batch as one.
    """

    frontend: FrontEnd
    backend: BackEnd
    head: Head

    def __init__(self, frontend: FrontEnd, backend: BackEnd, head: Head, config: dict[str, Any] | None = None):
        super().__init__()
        self.config = config or {}
        self.frontend = frontend
        self.backend = backend
        self.head = head
        self.feature_cache: Callable[[FrontEnd, Tensor], Tensor] | None = None
        self.gather: Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor, Tensor | None]] | None = None
        self.frontend_chunks = 1

    def forward(self, wave: Tensor, bonafide: Tensor | None = None, quality: Tensor | None = None) -> Output:
        """Score a batch; with labels also its losses.

        Args:
            wave: (B, T) at 16 kHz.
            bonafide: (B,) bool.
            quality: (B,) int64; None on the dev set.
        """
        features = self._features(wave)
        if self.gather and self.training and bonafide is not None:
            features, bonafide, quality = self.gather(features, bonafide, quality)
        embedding = self.backend(features)
        losses = None if bonafide is None else self.head.loss(embedding, bonafide, quality)
        return Output(self.head(embedding), embedding, losses)

    def _features(self, wave: Tensor) -> Tensor:
        if self.feature_cache:
            return self.feature_cache(self.frontend, wave)
        if self.frontend_chunks == 1 or not (self.training and torch.is_grad_enabled()):
            return self.frontend(wave)
        pieces = wave.chunk(self.frontend_chunks)
        return torch.cat([checkpoint(self.frontend, piece, use_reentrant=False) for piece in pieces])


def build_detector(cfg: ModelConfig, *, pretrained: bool = True) -> Detector:
    """Make the three parts that `cfg` names, each from the config section of the same name.

    Args:
        pretrained: False: random weights in place of XLS-R's file, which need not exist.

    Raises:
        InputError: the front end's weights cannot be read, or the parts do not fit together.
    """
    return _assemble(cfg, {} if pretrained or cfg.frontend != "xlsr" else {"weights": None})


@meanwhile()
def load_detector(
    path: Path,
    cfg: ModelConfig | None = None,
    *,
    asked: Mapping[str, Any] = MappingProxyType({}),
    average: str = "mean",
    n_average: int | None = None,
) -> Detector:
    """A trained detector, in evaluation mode, from a checkpoint alone; the front end's own file is not needed.

    Args:
        path: a checkpoint, a run's folder (its model.pt is read), an exported folder, the name of one on the Hugging
            Face hub, a checkpoint of the published code (its oc_center.npy, if any, beside it or a folder up), or the
            published code's folder of its best epochs, best_0.pth and so on, which are averaged.
        cfg: for a published checkpoint, what its weights do not tell: the number of XLS-R attention heads, the
            score rule, and settings that take no weights. For our own checkpoints what is stored in them counts,
            and must name the same three parts.
        asked: settings that someone wants, {"qamo.score": "softmax"}. Those of FREE are followed, others must be
            what the checkpoint holds.
        average, n_average: of the published code's epochs, as train.average and train.n_average.

    Raises:
        InputError: no checkpoint is there, it is damaged, or it holds another network or other settings.
    """
    path = hub.local(path)
    n_heads = asked.get("xlsr.n_heads") or (cfg.xlsr.n_heads if cfg else None)
    epochs = published_epochs(path)
    if epochs:
        chosen = averaged(epochs[:n_average], average)
        raw = {epoch: _weights_of(epoch) for epoch in dict.fromkeys(chosen)}
        log.info("%s: averaged (%s) %s", path, average, ", ".join(epoch.name for epoch in chosen))
        state, config, where = *_from_published(average_states(raw, chosen), epochs[0], cfg, n_heads), path
    else:
        state, config, where = _read_any(path, cfg, n_heads)
    parts = {} if cfg is None else {part: getattr(cfg, part) for part in PARTS}
    config = _with_settings(config, parts | dict(asked), where)
    try:
        stored = ModelConfig.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{where}: its model_config.{key} is not known to this version ({first['msg']})") from None
    detector = _assemble(stored, UNFILLED if hasattr(getattr(stored, stored.frontend), "weights") else {})
    load_strictly(detector, state, where)
    return detector.eval()


def _assemble(cfg: ModelConfig, more: dict[str, Any]) -> Detector:
    frontend = FRONTENDS[cfg.frontend](**getattr(cfg, cfg.frontend).model_dump() | more)
    backend = BACKENDS[cfg.backend](frontend.dim, **getattr(cfg, cfg.backend).model_dump())
    head = HEADS[cfg.head](backend.dim, **getattr(cfg, cfg.head).model_dump())
    config = cfg.model_dump()
    config[cfg.frontend] |= getattr(frontend, "sizes", {})  # those of its file, where the config leaves them to it
    return Detector(frontend, backend, head, config)


def _read_any(
    path: Path, cfg: ModelConfig | None, n_heads: int | None
) -> tuple[dict[str, Tensor], dict[str, Any], Path]:
    """Weights in our names, the model config they belong to, and the file they came from."""
    if path.is_dir():
        if (path / EXPORTED_CONFIG).is_file() and (path / EXPORTED_WEIGHTS).is_file():
            exported, config = read_exported(path)
            return exported, with_added(config), path
        if not (path / MODEL).is_file():
            raise InputError(
                f"{path}: expected a run with {MODEL}, or an exported folder with {EXPORTED_CONFIG} and "
                f"{EXPORTED_WEIGHTS}, found neither; give the path of a checkpoint"
            )
        path = path / MODEL
    content = _content_of(path)
    state = None if isinstance(content, dict) and "format" in content else weights_in(content)
    if state is not None and is_published(state):
        return *_from_published(state, path, cfg, n_heads), path
    content = checked(content, path)
    return content["model"], with_added(content["model_config"]), path


def _from_published(
    content: Mapping[str, Tensor], path: Path, cfg: ModelConfig | None, n_heads: int | None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of the published code that `path` held, in our names, and their model config."""
    state, told = from_published(content, path, n_heads=n_heads)
    base = (cfg or ModelConfig()).model_dump()
    return state, base | {k: base[k] | v if isinstance(v, dict) else v for k, v in told.items()}


def _content_of(path: Path) -> Any:
    return load_safetensors(path) if path.suffix == ".safetensors" else read_torch(path, inert=SETTINGS_CLASSES)


def _weights_of(path: Path) -> Mapping[str, Tensor]:
    """The weights of an epoch of the published code.

    Raises:
        InputError: it holds something else.
    """
    state = weights_in(read_torch(path, inert=SETTINGS_CLASSES))
    if state is None or not is_published(state):
        raise InputError(f"{path}: expected a checkpoint of the published code, found something else")
    return state


def _with_settings(config: dict[str, Any], asked: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """The checkpoint's config with what was asked for; refuses what its weights contradict."""
    sections = {config.get(part) for part in PARTS}
    for key, value in asked.items():
        section, _, setting = key.rpartition(".")
        if section and section not in sections:
            continue  # of a part that is not there
        stored = config.get(section, {}).get(setting) if section else config.get(setting)
        if value is None:
            continue  # as the weights have it
        if key in FREE and stored is not None:
            config = config | {section: config[section] | {setting: value}}
        elif stored is not None and stored != value:
            raise InputError(
                f"model.{key}: {where} was trained with {str(stored)[:200]}, {value} was asked for; "
                "leave the setting out, or train anew"
            )
    return config
