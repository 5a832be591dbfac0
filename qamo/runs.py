"""Run folders: what they are called, and whether one holds the training that is asked for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from qamo import InputError
from qamo.config import Config, load_config

MODEL = "model.pt"  # the weights that a finished run is known by
CONFIG = "config.yaml"  # the resolved config of its training

# Keys that may differ between two calls of one training: they decide where and when, not what.
INDIFFERENT = {
    "data": ("database_path", "protocols_path", "n_workers"),
    "train": ("enabled", "save_every_s"),
}


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
    """What decides the trained weights, section by section; settings of parts that are not used are left out."""
    keys = cfg.model_dump(mode="json", include={"seed", "data", "model", "train"})
    for section, names in INDIFFERENT.items():
        for name in names:
            del keys[section][name]
    used = {cfg.model.frontend, cfg.model.backend, cfg.model.head}
    keys["model"] = {k: v for k, v in keys["model"].items() if not isinstance(v, dict) or k in used}
    return keys


def same_training(cfg: Config, folder: Path) -> bool:
    """Whether `folder` holds this very training already, finished or not.

    Raises:
        InputError: it holds another one; the keys that differ are named.
    """
    path = folder / CONFIG
    if not path.exists():
        return False
    before, now = flat(training_identity(load_config(path))), flat(training_identity(cfg))
    differing = [
        f"{key} is {now.get(key)!r} but was {before.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
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
