"""Run folders: what they are called, and whether one holds the training that is asked for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from qamo import InputError
from qamo.config.schema import Config, load_config

MODEL = "model.pt"  # the weights that a finished run is known by
CONFIG = "config.yaml"  # the resolved config of its training

# Keys that may differ between two calls of one training: they decide where and when, or how much memory it takes.
INDIFFERENT = (
    "data.database_path",
    "data.protocols_path",
    "data.n_workers",
    "data.quality.cache",
    "train.enabled",
    "train.save_every_s",
    "train.frontend_chunks",
    "model.xlsr.gradient_checkpointing",
)
# Keys of the model that do not decide what a checkpoint's scores are.
OF_TRAINING = ("xlsr.weights", "xlsr.freeze", "xlsr.gradient_checkpointing", "distillmos.freeze")

# Settings of heads that shape the loss and no score.
OF_LOSS = (
    "radius_bonafide",
    "radius_spoof",
    "alpha",
    "scale",
    "margin",
    "quality_weight",
    "weight_spoof",
    "weight_bonafide",
)


def run_folder(cfg: Config) -> Path:
    """The folder of a run: its name, or one made of its parts and a digest of all that decides its weights."""
    if cfg.name:
        return cfg.run.runs / cfg.name
    if not cfg.train.enabled and cfg.score.weights:
        weights = cfg.score.weights.resolve()
        return cfg.run.runs / f"score_{weights.parent.name}_{weights.stem}"
    identity = json.dumps(training_identity(cfg), sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    parts = [cfg.model.frontend, cfg.model.backend, cfg.model.head, f"seed{cfg.seed}", cfg.comment, digest]
    return cfg.run.runs / "_".join(part for part in parts if part)


def training_identity(cfg: Config) -> dict[str, Any]:
    """What decides the trained weights, as dotted keys; settings of parts that are not used are left out."""
    tree = cfg.model_dump(mode="json", include={"seed", "data", "model", "train"})
    tree["model"] = used_sections(tree["model"])
    return {key: value for key, value in flat(tree).items() if key not in INDIFFERENT}


def scoring_digest(model_config: dict[str, Any]) -> str:
    """Hexadecimal digest of what decides the scores beside the weights: the settings of the three parts."""
    keys = {key: value for key, value in flat(used_sections(model_config)).items() if key not in OF_TRAINING}
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:16]


def asked_of_weights(cfg: Config) -> dict[str, Any]:
    """Model settings given on the command line for weights that are there already, as far as they decide scores."""
    given = {} if cfg.train.enabled else cfg.given("model")
    return {key: value for key, value in given.items() if key not in OF_TRAINING and key.split(".")[-1] not in OF_LOSS}


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


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys."""
    rows: dict[str, Any] = {}
    for key, value in tree.items():
        rows.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return rows
