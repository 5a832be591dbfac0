"""The sets that a run scores: lists, recordings and keys, all looked at before anything is computed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data_utils import CORPORA_PAGE, labelled
from qamo import InputError
from qamo.config.schema import DataConfig, EvalConfig
from qamo.trials.authors import how_to_get
from qamo.trials.keys import read_keys
from qamo.trials.protocol import read_listing, read_trial_list
from qamo.trials.recordings import Recordings, check_recordings

log = logging.getLogger(__name__)


class EvaluationSet(NamedTuple):
    names: list[str]
    paths: Recordings
    list: Path
    keys: Path | None
    subset: str | None


def evaluation_sets(data: DataConfig, evaluation: EvalConfig, how: str = "exist") -> dict[str, EvaluationSet]:
    """Lists, recordings and keys of the chosen sets, all looked at before anything is computed.

    Raises:
        InputError: a set cannot be scored; the message says which key to set, or how to leave the set out.
    """
    return {name: _evaluation_set(data, evaluation, name, how) for name in evaluation.sets}


def dev_set(data: DataConfig) -> EvaluationSet:
    """The dev set as a set to score, with its protocol as list and keys."""
    trials, paths = labelled(data, "dev", "exist", needs_mos=False)
    return EvaluationSet(trials.names, paths, trials.path, trials.path, None)


def check_evaluation(data: DataConfig, evaluation: EvalConfig, name: str, how: str) -> str:
    """Look at list, keys and recordings of one set as `check_recordings` does; says what is there."""
    chosen = _evaluation_set(data, evaluation, name, how)
    return f"{name}: {len(chosen.names)} trials, {'keys ' + str(chosen.keys) if chosen.keys else 'no keys'}"


def _evaluation_set(data: DataConfig, evaluation: EvalConfig, name: str, how: str) -> EvaluationSet:
    entry = evaluation.catalogue[name]
    where, otherwise = f"eval.catalogue.{name}", f"or leave {name} out of eval.sets"
    listed = data.protocols_path / entry.trials
    folder = data.database_path / entry.audio
    if not listed.exists():
        raise InputError(f"{listed}: no such list; set {where}.trials, {otherwise}{how_to_get(listed)}{CORPORA_PAGE}")
    names = read_trial_list(listed)
    if not names[0].startswith("/") and not folder.is_dir():
        raise InputError(f"{folder}: no such folder of recordings; set {where}.audio, {otherwise}")
    paths = Recordings(folder, names, entry.extension)
    check_recordings(paths, what=name, where=f"data.database_path and {where}.audio", how=how)
    keys = data.protocols_path / entry.keys if entry.keys else None
    if keys is not None and keys.exists():
        read_keys(keys, subset=entry.subset)  # a fault in the keys should not wait until all is scored
    elif keys is not None:
        log.warning("%s: no such keys; %s is scored, but its EER is not computed%s", keys, name, how_to_get(keys))
        keys = None
    return EvaluationSet(names, paths, listed, keys, entry.subset)


def all_lists(
    data: DataConfig, evaluation: EvalConfig, parts: Sequence[str]
) -> list[tuple[str, list[str], Recordings]]:
    """What each list is called, its names and recordings: of some of "train" and "dev", and of the evaluation sets.

    Raises:
        InputError: a list cannot be read; the files of its recordings are not looked at.
    """
    entries = [
        (part, getattr(data, f"{part}_protocol"), getattr(data, f"{part}_audio"), data.extension) for part in parts
    ]
    for name in evaluation.sets:
        entry = evaluation.catalogue[name]
        entries.append((name, entry.trials, entry.audio, entry.extension))
    lists = []
    for called, listed, folder, extension in entries:
        names = read_listing(data.protocols_path / listed).names
        lists.append((called, names, Recordings(data.database_path / folder, names, extension)))
    return lists
