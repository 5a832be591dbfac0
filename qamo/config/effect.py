"""Settings that a person gave and that nothing would read: refused, so that nobody believes that they took effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qamo import InputError
from qamo.config.keys import Role, keys_of
from qamo.config.load import given_keys
from qamo.config.schema import Config
from qamo.published import published_epochs

AVERAGED = ("train.average", "train.n_average")  # read in scoring too, where such a folder is given


def check_effect(cfg: Config, overrides: Mapping[str, Any], preset: Mapping[str, Any]) -> None:
    """See that each setting of a command line is read by what the command line asks for.

    Args:
        overrides: dotted keys with values or their texts, those of the preset included.
        preset: the same for the preset alone; one that is read in part is as good as read.

    Raises:
        InputError: nothing reads one of them.
    """
    of_preset = {key: why for key in given_keys(preset) if (why := _why_idle(cfg, key))}
    if preset and of_preset.keys() == set(given_keys(preset)):
        raise InputError(f"--preset has no effect: {next(iter(of_preset.values()))}; leave it out")
    for key in given_keys({key: value for key, value in overrides.items() if key not in preset}):
        if why := _why_idle(cfg, key):
            raise InputError(f"{key} has no effect: {why}; leave it out")


def _why_idle(cfg: Config, key: str) -> str:
    """Why nothing reads a key; empty if something does, or where the key is of a kind that is not looked into."""
    section, _, rest = key.partition(".")
    part = rest.partition(".")[0]
    for choice in ("frontend", "backend", "head"):
        chosen = getattr(cfg.model, choice)
        if section == "model" and "." in rest and part in cfg.model.choices(choice) and part != chosen:
            return f"model.{choice} is {chosen}"
    if key.startswith("data.channel.") and not key.endswith(".probability") and not cfg.data.channel.probability:
        return "data.channel.probability is 0"
    if cfg.train.enabled:
        trains = "the run is trained, and its own weights are scored; --train false scores given ones"
        return trains if key == "score.weights" and cfg.score.weights else ""
    if not cfg.score.weights and not cfg.name:
        return ""  # the settings of the training say which run it is
    weights = str(cfg.score.weights or cfg.run.runs / str(cfg.name))
    about = keys_of(Config).get(key) or keys_of(Config).get(key.rpartition(".")[0])
    if key in AVERAGED:
        if published_epochs(cfg.score.weights):
            return ""
        return f"{weights} is no folder of best_0.pth, best_1.pth ..., and one checkpoint is not averaged"
    of_training = section == "train" and key != "train.enabled"
    if of_training or (about and about.role in (Role.TRAINING, Role.LOSS)):
        return f"nothing is trained with --train false, and {weights} keeps what it was trained with"
    return ""
