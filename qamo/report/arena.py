"""The files of the Speech Anti-Spoofing Arena: its folder of results as read, its submission as written.

The benchmark, speech-spoof-bench, leaves `scores.txt` and `result.yaml` in results/DATASET/. A submission is one YAML a
dataset: what the system is, where its scores lie, and their figures.

Source: lab260ru/speech_spoof_bench @ce049d7, docs/architecture/submission-lifecycle.md and package.md.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from qamo import InputError, files
from qamo.config.load import flat
from qamo.config.yaml_text import parse
from qamo.evaluation.breakdown import System
from qamo.trials.scores import read_scores

VERSION = 4  # of its submissions
SCORES, RESULT = "scores.txt", "result.yaml"

_TEXT, _URL = r"(?s).*\S.*", r"https?://\S+"
NEEDED = {  # what a person says, or result.yaml beside the scores
    "system.name": _TEXT,
    "system.slug": r"[a-z0-9][a-z0-9-]*",
    "system.description": _TEXT,
    "system.code": _URL,
    "system.checkpoint": _URL,
    "dataset.id": r"[^/\s]+/[^/\s]+",
    "dataset.revision": r"[0-9a-f]{7,40}",
    "dataset.split": _TEXT,
    "artifact.scores_url": r"https://huggingface\.co/[^/\s]+/[^/\s]+/resolve/[0-9a-f]{7,40}/\S+",
    "artifact.bench_version": _TEXT,
    "submitter.hf_username": _TEXT,
    "submitter.contact": _TEXT,
    "submitted_at": r"\d{4}-\d\d-\d\d",
}
PAPER = {"system.paper.arxiv_id": _TEXT, "system.paper.url": _URL, "system.paper.bibtex": _TEXT}  # all or none
OPTIONAL = {"system.params_millions": r"\d+(\.\d*)?", "notes": _TEXT}


def score_file(path: Path) -> Path:
    """The scores in a folder of the benchmark's results, or the file itself."""
    return path / SCORES if (path / SCORES).is_file() else path


def submission(meta: Path, system: System) -> dict[str, Any]:
    """What is submitted for one system on one set: the benchmark's fields, in its order.

    What `result.yaml` beside the scores says of the dataset and of the benchmark's version is taken over, unless the
    meta file says it too.

    Raises:
        InputError: a field is missing or is not what the benchmark takes; or the file has scores of other trials too.
    """
    if (n_scores := len(read_scores(system.path))) != (n_trials := len(system.values)):
        raise InputError(
            f"{system.path}: {n_scores} scores, but the set has {n_trials} trials; the benchmark counts them all, so "
            "leave the others out"
        )
    result = system.path.parent / RESULT
    taken = ("dataset.", "artifact.bench_version")
    fields = {key: text for key, text in _fields(result).items() if key.startswith(taken)} if result.is_file() else {}
    fields |= _fields(meta)
    rules = NEEDED | OPTIONAL | (PAPER if PAPER.keys() & fields.keys() else {})
    if unknown := sorted(fields.keys() - rules.keys()):
        raise InputError(f"{meta}: {unknown[0]} is no field that a submission takes from here; {', '.join(rules)} are")
    if missing := [key for key in rules if key not in fields and key not in OPTIONAL]:
        raise InputError(f"{meta}: a submission needs {', '.join(missing)} too")
    for key, text in fields.items():
        if not re.fullmatch(rules[key], text):
            raise InputError(f"{meta}: {key}: expected text like {rules[key]}, found {files.shown(text)}")
    try:
        date.fromisoformat(day := fields["submitted_at"])
    except ValueError:
        raise InputError(f"{meta}: submitted_at: expected a day like 2026-11-26, found {day}") from None
    figures = {"eer_percent": eer_percent(system.bonafide, system.spoof), "n_trials": n_trials, "n_skipped": 0}
    tree: dict[str, Any] = {"schema_version": VERSION, "system": {}, "dataset": {}, "scores": figures}
    tree |= {"artifact": {"scores_sha256": files.sha256(system.path)}, "reproduction": {}, "submitter": {}}
    for key, text in ((key, fields[key]) for key in rules if key in fields):
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = float(text) if key == "system.params_millions" else text
    return tree


def write_submission(out: Path, tree: dict[str, Any]) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(out, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=120))
    return out


def eer_percent(bonafide: np.ndarray, spoof: np.ndarray) -> float:
    """The benchmark's EER, in per cent: where the two rates cross between neighbouring scores, by interpolation.

    A trial whose score equals the threshold is accepted; ASVspoof's EER takes the nearest threshold instead.
    """
    thresholds = np.unique(np.concatenate([bonafide, spoof]))
    miss = np.searchsorted(np.sort(bonafide), thresholds) / len(bonafide)
    false_alarm = 1 - np.searchsorted(np.sort(spoof), thresholds) / len(spoof)
    gap = false_alarm - miss  # 1 at the lowest score, then falling
    crossed = np.flatnonzero(gap <= 0)
    if not len(crossed):
        nearest = int(np.argmin(np.abs(gap)))
        return float(50 * (miss[nearest] + false_alarm[nearest]))
    after = int(crossed[0])
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(100 * (miss[after - 1] + share * (miss[after] - miss[after - 1])))


def _fields(path: Path) -> dict[str, str]:
    """Texts of a YAML file by dotted key, without those that are empty."""
    tree = parse(files.read_text(path), path)
    if not isinstance(tree, dict):
        raise InputError(f"{path}: expected `system:` and other sections with `key: value` lines")
    rows = {key: value for key, value in flat(tree).items() if value and getattr(value, "value", value) is not None}
    if lists := [key for key, value in rows.items() if not isinstance(value, str)]:
        raise InputError(f"{path}: {lists[0]}: expected a text, found a list")
    return {key: str(value) for key, value in rows.items()}
