"""Scoring: recordings to a score file that is whole, in protocol order, each name once, or not there.

Trials are cut into batches by their index in the list. A finished batch is appended to a part file beside the score
file, as one line that also holds its number; an interrupted run, with any number of processes, looks which batches
the part files hold, computes the missing ones, and then writes the score file in one step. Because the batches are
the same whoever computes them, so are the scores, bit for bit on a CPU.

Only the file offset of a finished batch stays in memory, so memory does not grow with the number of trials beyond
their names.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from qamo import InputError
from qamo.config.schema import ScoreConfig
from qamo.evaluation.part_files import Parts, Row
from qamo.evaluation.scoring_pass import WINDOW, ScoringPass
from qamo.files import read_json, replacing, write_json
from qamo.progress import progress
from qamo.training import precision
from qamo.training.device import score_batch
from qamo.training.peers import meet
from qamo.training.signals import Interrupted, StopFlag
from qamo.trials.scores import format_score, sidecar_of

log = logging.getLogger(__name__)

# Indices of trials, batch by batch -> (waves (B, T), or [(n, T), ...], fault texts, empty where one was read).
Read = Callable[[list[range]], Iterable[tuple[Tensor | list[Tensor], list[str]]]]


def score_trials(
    fabric: Fabric,
    detector: nn.Module | ScoringPass,
    names: Sequence[str],
    read: Read,
    out: Path,
    score: ScoreConfig,
    *,
    identity: dict[str, Any],
    stop: StopFlag,
) -> int:
    """Score all trials into `out`, going on from where an interrupted call stopped.

    Recordings that could not be read the last time are tried again: they may have been replaced.

    Args:
        detector: a detector, or one that is made ready for several calls.
        score: its batch size, precision, and on_bad_audio: whether the first unreadable recording is an error.
        identity: what decides the scores, kept in `out`.json; part files of another identity are refused.

    Returns:
        How many recordings could not be read; they have no line in `out`, and are listed with the reason in the file
        beside it that ends in .failed.txt.

    Raises:
        InputError: `out` belongs to other scores, a recording cannot be read, or a score is not finite.
        Interrupted: this process was asked to stop; what it scored is kept.
    """
    parts = Parts(out, names, score_batch(score.batch_size, fabric.device.type))
    if fabric.is_global_zero:
        out.parent.mkdir(parents=True, exist_ok=True)
        _claim(parts, identity)
    fabric.barrier()
    if (n_failed := _completed(parts)) is not None:
        log.info("%s: scored before", out)
        return n_failed
    missing = parts.missing()
    fabric.barrier()  # nobody writes before all have read
    n_at_once = _score_batches(fabric, detector, parts, read, missing, score, stop)
    meet(fabric, f"scoring {out.stem}")  # some have slower machines, or longer recordings
    if fabric.is_global_zero:
        _finish(parts, identity, n_at_once)
    fabric.barrier()
    return _completed(parts) or 0


def _score_batches(
    fabric: Fabric,
    detector: nn.Module | ScoringPass,
    parts: Parts,
    read: Read,
    missing: list[int],
    score: ScoreConfig,
    stop: StopFlag,
) -> int:
    """Score this process's batches into its part file; how many recordings passed the detector at a time."""
    label = f"scoring {parts.out.stem}"
    numbers = missing[fabric.global_rank :: fabric.world_size]
    indices = [parts.indices(number) for number in numbers]
    if not isinstance(detector, ScoringPass):
        detector = ScoringPass(detector, fabric.device, score.precision, batch_size=parts.batch_size, window=WINDOW)
    computing = precision.computing(score.precision, fabric.device.type)
    late = fabric.device.type == "cuda"  # a batch's scores are read once the next one is under way
    with parts.writer(fabric.global_rank) as write, torch.inference_mode(), computing:

        def keep(number: int, batch: range, faults: list[str], scores: Tensor) -> None:
            rows = zip((parts.names[i] for i in batch), faults, scores.tolist())
            write(number, [_row(name, fault, value, label) for name, fault, value in rows])

        batches = zip(numbers, indices, read(indices))
        shown = progress(batches, label, total=sum(map(len, indices)), unit="clip", count=lambda item: len(item[1]))
        waiting: list[tuple[int, range, list[str], Tensor]] = []
        for number, batch, (wave, faults) in shown:
            bad = next((fault for fault in faults if fault), None)
            if bad and score.on_bad_audio == "fail":
                raise InputError(bad)
            waiting.append((number, batch, faults, detector(wave)))
            if len(waiting) > late:
                keep(*waiting.pop(0))
            # Each process looks at its own flag: the others are told by whoever started them.
            if stop.asked:
                break
        for batch_scored in waiting:
            keep(*batch_scored)
        if stop.asked:
            raise Interrupted
    return detector.n_at_once


def check_free(out: Path) -> None:
    """Before anything is computed: refuse a score file that no sidecar vouches for."""
    if not sidecar_of(out).exists() and (out.exists() or Parts(out, [], 1).paths()):
        raise InputError(f"{out}: exists, but nothing tells which model made it; move it away first")


def _row(name: str, fault: str, value: float, label: str) -> Row:
    if fault:
        return Row(name, None, fault)
    if not math.isfinite(value):
        raise InputError(f"{label}: the score of {name} is {value}; the weights are damaged")
    return Row(name, format_score(name, value).split()[-1], None)


def _failures(out: Path) -> Path:
    return out.with_name(out.name.removesuffix(".txt") + ".failed.txt")


def _completed(parts: Parts) -> int | None:
    """How many recordings failed, where the score file is whole; None where it is not."""
    about = _read_sidecar(parts.out)
    return about["n_failed"] if about["complete"] and parts.out.exists() else None


def _read_sidecar(out: Path) -> dict[str, Any]:
    """What stands beside a score file: `identity`, `complete`, and once complete `n_failed`."""
    sidecar = sidecar_of(out)
    about = read_json(sidecar, dict)
    good = isinstance(about.get("identity"), dict) and isinstance(about.get("complete"), bool)
    if not good or (about["complete"] and type(about.get("n_failed")) is not int):
        raise InputError(f"{sidecar}: damaged; move it and {out.name} away, if that is there")
    return about


def _claim(parts: Parts, identity: dict[str, Any]) -> None:
    """Refuse to mix scores of different models; record the model before its first score."""
    out, sidecar = parts.out, sidecar_of(parts.out)
    check_free(out)
    if not sidecar.exists():
        write_json(sidecar, {"identity": identity, "complete": False})
        return
    about = _read_sidecar(out)
    before = about["identity"]
    older = {"device": identity.get("device"), "windows": "first"}  # of files that do not say
    before = {**{key: value for key, value in older.items() if key in identity}, **before}
    if before != identity:
        differs = [key for key in {**before, **identity} if before.get(key) != identity.get(key)]
        raise InputError(
            f"{out}: holds or awaits scores of another {', '.join(differs)}; "
            "move it away, or give the new scores a name of their own with comment_eval"
        )
    if about["complete"] and out.exists():
        for path in parts.paths():  # a kill came between the last two steps
            path.unlink()
        if about["n_failed"]:
            log.info("%s: %d recordings could not be read; trying them again", out, about["n_failed"])
            _reopen(parts, identity)


def _reopen(parts: Parts, identity: dict[str, Any]) -> None:
    """Turn a finished score file back into a part file without the batches of which a recording failed."""
    out = parts.out
    with replacing(parts.path(0)) as temporary, open(temporary, "wb") as file, open(out, encoding="utf-8") as lines:
        line = next(lines, "")
        for number in range(parts.n_batches):
            rows = []
            for index in parts.indices(number):
                name, _, score = line.rstrip("\n").rpartition(" ")
                if name == parts.names[index]:
                    rows.append(Row(name, score, None))
                    line = next(lines, "")
            if len(rows) == len(parts.indices(number)):
                file.write(parts.line(number, rows))
    write_json(sidecar_of(out), {"identity": identity, "complete": False})
    out.unlink()


def _finish(parts: Parts, identity: dict[str, Any], n_at_once: int) -> None:
    """Put the batches together in protocol order, and mark the score file as complete."""
    out = parts.out
    n_scored = n_failed = 0
    first_fault = ""
    with replacing(out) as temporary, replacing(_failures(out)) as temporary_failures:
        with (
            open(temporary, "w", encoding="utf-8") as scores,
            open(temporary_failures, "w", encoding="utf-8") as failed,
        ):
            for rows in parts.read():
                for row in rows:
                    if row.fault is None:
                        scores.write(f"{row.name} {row.score}\n")
                        n_scored += 1
                    else:
                        failed.write(f"{row.name} {row.fault}\n")
                        n_failed += 1
                        first_fault = first_fault or row.fault
        if n_scored + n_failed != len(parts.names):
            raise RuntimeError(f"{out}: {len(parts.names)} trials, {n_scored} scores and {n_failed} failures")
        if not n_scored:
            raise InputError(f"{out}: not one of {n_failed} recordings could be read; the first: {first_fault}")
    if not n_failed:
        _failures(out).unlink()
    counts = {"n_scored": n_scored, "n_failed": n_failed}
    if n_at_once < parts.batch_size:  # the batch was computed in pieces
        counts["n_at_once"] = n_at_once
    write_json(sidecar_of(out), {"identity": identity, "complete": True, **counts})
    for path in parts.paths():
        path.unlink()
