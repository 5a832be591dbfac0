"""Run folders: what they are called, and whether one holds the training that is asked for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from qamo import InputError
from qamo.config.keys import Role, keys_of
from qamo.config.load import RENAMED, flat, load_config
from qamo.config.parts import ModelConfig
from qamo.config.schema import Config

MODEL = "model.pt"  # the weights that a finished run is known by
CONFIG = "config.yaml"  # the resolved config of its training


def run_folder(cfg: Config) -> Path:
    """The folder of a run: its name, or one made of its parts and a digest of all that decides its weights."""
    if cfg.name:
        return cfg.run.runs / cfg.name
    if not cfg.train.enabled and cfg.score.weights:
        weights = cfg.score.weights.resolve()
        return cfg.run.runs / f"score_{weights.parent.name}_{weights.stem}"
    first_names = {new: old for old, new in RENAMED.items()}  # so that a key's new name makes no new folder
    identity = {first_names.get(key, key): value for key, value in training_identity(cfg).items()}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    parts = [cfg.model.frontend, cfg.model.backend, cfg.model.head, f"seed{cfg.seed}", cfg.comment, digest]
    return cfg.run.runs / "_".join(part for part in parts if part)


def training_identity(cfg: Config) -> dict[str, Any]:
    """What decides the trained weights, as dotted keys; settings of parts that are not used are left out."""
    tree = cfg.model_dump(mode="json", include={"seed", "data", "model", "train"})
    tree["model"] = used_sections(tree["model"])
    return {key: value for key, value in flat(tree).items() if keys_of(Config)[key].role is not Role.FREE}


def scoring_digest(model_config: dict[str, Any]) -> str:
    """Hexadecimal digest of what decides the scores beside the weights: the settings of the three parts."""
    roles = {key: about.role for key, about in keys_of(ModelConfig).items()}
    outside = (Role.TRAINING, Role.FREE)  # Role.LOSS is inside: digests that were written down hold it
    keys = {key: value for key, value in flat(used_sections(model_config)).items() if roles.get(key) not in outside}
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:16]


def used_sections(model_config: dict[str, Any]) -> dict[str, Any]:
    """A model config without the sections of parts that it does not choose."""
    used = {model_config[part] for part in ("frontend", "backend", "head")}
    return {key: value for key, value in model_config.items() if not isinstance(value, dict) or key in used}


def same_training(cfg: Config, folder: Path) -> bool:
    """Whether `folder` holds this very training already, finished or not.

    Raises:
        InputError: it holds another one; the keys that differ are named.
    """
    path = folder / CONFIG
    if not path.exists():
        return False
    before, now = training_identity(load_config(path)), training_identity(cfg)
    # Keys of one side only are settings of a part that the other side does not choose: the choice itself differs.
    common = sorted(before.keys() & now.keys())
    differing = [f"{key} is {now[key]!r} but was {before[key]!r}" for key in common if before[key] != now[key]]
    if differing:
        raise InputError(
            f"{folder}: holds a run of another config: {'; '.join(differing)}; give this one another --name"
        )
    return True
