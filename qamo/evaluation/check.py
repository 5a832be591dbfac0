"""Dry run: look at everything that a run would read or need, and report all that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from data_utils import check_training
from model import build_detector, load_detector
from qamo import InputError
from qamo.command import DONE, INPUT_ERROR, note, sentence
from qamo.config.schema import Config
from qamo.evaluation.leakage import overlaps
from qamo.evaluation.score_set import check_free
from qamo.evaluation.sets import all_lists, check_evaluation
from qamo.files import check_writable, size_text
from qamo.training import device, loggers
from qamo.training.folder import RunFolder


def check(cfg: Config, asked: Mapping[str, Any], how: str) -> int:
    """Print what was found of each input, and a sentence for each fault; nothing is written. Returns the exit status.

    Args:
        asked: as for `load_detector`.
        how: "header" opens each recording, "full" decodes it.
    """
    looks: list[Callable[[], str]] = []
    try:
        cfg = device.resolved(cfg)
    except InputError:
        looks.append(partial(_check_device, cfg))  # says it again, among the other faults
    folder = RunFolder.of(cfg)
    if cfg.train.enabled:
        needs = {"needs_mos": cfg.model.reads_quality}
        looks += [partial(check_training, cfg.data, part, how, **needs) for part in ("train", "dev")]
    looks += [partial(check_evaluation, cfg.data, cfg.eval, name, how) for name in cfg.eval.sets]
    looks += [partial(_check_leakage, cfg)]
    looks += [partial(_check_model, cfg, asked, folder), partial(_check_folder, cfg, folder)]
    n_faults = 0
    for look in looks:
        try:
            print(look(), flush=True)
        except (InputError, OSError) as error:
            n_faults += 1
            note("main.py", sentence(error))
    print(f"{n_faults} of {len(looks)} checks failed" if n_faults else "all that the run needs is there")
    return INPUT_ERROR if n_faults else DONE


def check_writable_scores(cfg: Config, folder: RunFolder) -> None:
    """See that score files can be written, and that none is there of which nothing tells where it came from.

    Raises:
        InputError: they cannot, or one is.
    """
    check_writable(folder.scores)
    for name in cfg.eval.sets:
        check_free(folder.score_file(name, cfg.comment_eval))


def _check_device(cfg: Config) -> str:
    """See that the device and its number formats are there."""
    return f"device: {device.accelerator_of(device.resolved(cfg).run)}"


def _check_model(cfg: Config, asked: Mapping[str, Any], folder: RunFolder) -> str:
    """See that the weights load, and that the disk holds what training with them writes."""
    if not cfg.train.enabled:
        weights = cfg.score.weights or folder.model
        load_detector(weights, asked=asked, average=cfg.train.average, n_average=cfg.train.n_average)
        return f"model: {weights} loads"
    needed = folder.check_disk(cfg, build_detector(cfg.model))
    parts = f"{cfg.model.frontend}, {cfg.model.backend}, {cfg.model.head}"
    return f"model: {parts} built and loaded; checkpoints take {size_text(needed)}, and there is room"


def _check_leakage(cfg: Config) -> str:
    """See that no recording is in two of the lists: for training, for dev, and of each evaluation set.

    Raises:
        InputError: some are.
    """
    try:
        lists = all_lists(cfg.data, cfg.eval, ("train", "dev") if cfg.train.enabled else ())
    except (InputError, OSError):  # said by the checks of the lists
        return "lists: not compared, as some cannot be read"
    if found := overlaps(lists):
        raise InputError("leakage: " + "; ".join(found))
    return f"lists: no recording is in two of {', '.join(name for name, *_ in lists)}"


def _check_folder(cfg: Config, folder: RunFolder) -> str:
    """See that the run's folder can be written, holds no other run or foreign score file, and has its loggers."""
    if cfg.train.enabled:
        loggers.check_installed(cfg.run.loggers)
        folder.holds_training(cfg)
    check_writable_scores(cfg, folder)
    return f"folder: {folder} can be written"
