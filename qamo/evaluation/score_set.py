"""Scoring: recordings to a score file that is whole, in protocol order, each name once, or not there.

Trials are cut into batches by their place in the list. A finished batch is appended to a part file beside the score
file, as one line that also holds its number; an interrupted run, with any number of processes, looks which batches
the part files hold, computes the missing ones, and then writes the score file in one step. Because the batches are
the same whoever computes them, so are the scores, bit for bit on a CPU.

Of a batch nothing stays in memory but the place of its line in the part files, so memory does not grow with the
number of trials beyond their names.
"""

from __future__ import annotations

import json
import logging
import math
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from qamo import InputError
from qamo.files import replacing, write_json
from qamo.progress import progress
from qamo.training import precision
from qamo.training.signals import Interrupted, StopFlag
from qamo.trials.scores import format_score

log = logging.getLogger(__name__)

Read = Callable[[list[range]], Iterable[tuple[Tensor, list[str]]]]


class Row(NamedTuple):
    """One trial of a batch's line: its score as text, or why there is none."""

    name: str
    score: str | None
    fault: str | None


def score_trials(
    fabric: Fabric,
    detector: nn.Module,
    names: Sequence[str],
    read: Read,
    out: Path,
    *,
    batch_size: int,
    number_format: str,
    identity: dict[str, Any],
    on_bad_audio: str,
    label: str,
    stop: StopFlag,
) -> int:
    """Score all trials into `out`, going on from where an interrupted call stopped.

    Recordings that could not be read the last time are tried again: they may have been replaced.

    Args:
        read: places of trials, batch by batch -> (waves (B, T), fault texts, empty where a recording was read).
        number_format: 32, bf16-mixed or 16-mixed.
        identity: what decides the scores (weights, config, list, number format). It is kept in `out`.json; part
            files of another identity are refused.
        on_bad_audio: fail: stop at the first unreadable recording; skip: leave it out and name it in the result.

    Returns:
        How many recordings could not be read; they have no line in `out`, and stand with the reason in the file
        beside it that ends in .failed.txt.

    Raises:
        InputError: `out` belongs to other scores, a recording cannot be read, or a score is not finite.
        Interrupted: this process was asked to stop; what it scored is kept.
    """
    parts = Parts(out, names, batch_size)
    if fabric.is_global_zero:
        out.parent.mkdir(parents=True, exist_ok=True)
        _claim(parts, identity)
    fabric.barrier()
    if (before := _completed(parts)) is not None:
        log.info("%s: scored before", out)
        return before
    done = parts.find()
    fabric.barrier()  # nobody writes before all have read
    missing = [b for b in range(parts.n_batches) if done.n_faults[b]]
    if len(missing) < parts.n_batches:
        log.info("%s: %d of %d batches were scored before", label, parts.n_batches - len(missing), parts.n_batches)
    mine = missing[fabric.global_rank :: fabric.world_size]
    places = [parts.places(number) for number in mine]
    detector.eval()
    computing = precision.autocast(number_format, fabric.device.type)
    with parts.writer(fabric.global_rank) as write, torch.inference_mode(), computing:
        batches = zip(mine, places, read(places))
        shown = progress(batches, label, total=sum(map(len, places)), unit="clip", count=lambda item: len(item[1]))
        for number, place, (wave, faults) in shown:
            bad = next((fault for fault in faults if fault), None)
            if bad and on_bad_audio == "fail":
                raise InputError(bad)
            scores = detector(wave.to(fabric.device, non_blocking=True)).score.float().tolist()
            write(number, [_row(names[i], fault, value, label) for i, fault, value in zip(place, faults, scores)])
            # Each process looks at its own flag: the others are told by whoever started them.
            if stop.asked:
                raise Interrupted
    fabric.barrier()
    if fabric.is_global_zero:
        _finish(parts, identity)
    fabric.barrier()
    return _completed(parts) or 0


def check_free(out: Path) -> None:
    """Before anything is computed: refuse a score file that no sidecar vouches for."""
    if not _sidecar(out).exists() and (out.exists() or Parts(out, [], 1).paths()):
        raise InputError(f"{out}: exists, but nothing tells which model made it; move it away first")


def _row(name: str, fault: str, value: float, label: str) -> Row:
    if fault:
        return Row(name, None, fault)
    if not math.isfinite(value):
        raise InputError(f"{label}: the score of {name} is {value}; the weights are damaged")
    return Row(name, format_score(name, value).split()[-1], None)


def _sidecar(out: Path) -> Path:
    return out.with_name(out.name + ".json")


def _failures(out: Path) -> Path:
    return out.with_name(out.name.removesuffix(".txt") + ".failed.txt")


def _completed(parts: Parts) -> int | None:
    """How many recordings failed, where the score file is whole; None where it is not."""
    known = json.loads(_sidecar(parts.out).read_text())
    return known["n_failed"] if known["complete"] and parts.out.exists() else None


def _claim(parts: Parts, identity: dict[str, Any]) -> None:
    """Refuse to mix scores of two identities; write down whose they are before the first."""
    out, sidecar = parts.out, _sidecar(parts.out)
    check_free(out)
    if not sidecar.exists():
        write_json(sidecar, {"identity": identity, "complete": False})
        return
    try:
        known = json.loads(sidecar.read_text())
        before = known["identity"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{sidecar}: damaged; move it and {out.name} away, if that is there") from None
    if before != identity:
        differs = [key for key in {**before, **identity} if before.get(key) != identity.get(key)]
        raise InputError(
            f"{out}: holds or awaits scores of another {', '.join(differs)}; "
            "move it away, or give the new scores a name of their own with comment_eval"
        )
    if known["complete"] and out.exists():
        for path in parts.paths():  # a kill came between the last two steps
            path.unlink()
        if known["n_failed"]:
            log.info("%s: %d recordings could not be read; trying them again", out, known["n_failed"])
            _reopen(parts, identity)


def _reopen(parts: Parts, identity: dict[str, Any]) -> None:
    """Turn a finished score file back into a part file without the batches of which a recording failed."""
    out = parts.out
    with replacing(parts.path(0)) as temporary, open(temporary, "wb") as file, open(out, encoding="utf-8") as lines:
        line = next(lines, "")
        for number in range(parts.n_batches):
            rows = []
            for place in parts.places(number):
                name, _, score = line.rstrip("\n").rpartition(" ")
                if name == parts.names[place]:
                    rows.append(Row(name, score, None))
                    line = next(lines, "")
            if len(rows) == len(parts.places(number)):
                file.write(parts.line(number, rows))
    write_json(_sidecar(out), {"identity": identity, "complete": False})
    out.unlink()


def _finish(parts: Parts, identity: dict[str, Any]) -> None:
    """Put the batches together in protocol order, and mark the score file as complete."""
    out = parts.out
    done = parts.find()
    n_scored = n_failed = 0
    first_fault = ""
    with replacing(out) as temporary, replacing(_failures(out)) as temporary_failures:
        with (
            open(temporary, "w", encoding="utf-8") as scores,
            open(temporary_failures, "w", encoding="utf-8") as failed,
        ):
            for rows in parts.read(done):
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
    write_json(_sidecar(out), {"identity": identity, "complete": True, "n_scored": n_scored, "n_failed": n_failed})
    for path in parts.paths():
        path.unlink()


class Parts:
    """The part files of one score file, one of each process.

    A batch is a line of JSON, [number, [[name, score, fault], ...]]. A line that a kill cut short is none, so it is
    passed over, and its batch is computed again.
    """

    def __init__(self, out: Path, names: Sequence[str], batch_size: int):
        self.out = out
        self.names = names
        self.batch_size = batch_size
        self.n_batches = math.ceil(len(names) / batch_size)

    def places(self, number: int) -> range:
        return range(number * self.batch_size, min((number + 1) * self.batch_size, len(self.names)))

    def paths(self) -> list[Path]:
        return sorted(self.out.parent.glob(f"{self.out.name}.part*"))

    def path(self, rank: int) -> Path:
        return self.out.with_name(f"{self.out.name}.part{rank}")

    def line(self, number: int, rows: list[Row]) -> bytes:
        return json.dumps([number, rows]).encode() + b"\n"

    def find(self) -> Found:
        """Where the lines stand that are whole and agree with the list; of several the one with least faults."""
        found = Found(self.n_batches)
        for place, path in enumerate(self.paths()):
            found.paths.append(path)
            with open(path, "rb") as file:
                start = 0
                for line in file:
                    read = self._read_line(line)
                    if read is not None:
                        number, rows = read
                        found.add(number, place, start, sum(row.fault is not None for row in rows))
                    start += len(line)
        return found

    def _read_line(self, line: bytes) -> tuple[int, list[Row]] | None:
        try:
            number, rows = json.loads(line)
            rows = [Row(*row) for row in rows]
        except (ValueError, TypeError):
            return None
        agrees = 0 <= number < self.n_batches and [row.name for row in rows] == [
            self.names[place] for place in self.places(number)
        ]
        return (number, rows) if agrees else None

    def read(self, found: Found) -> Iterator[list[Row]]:
        """The rows of all batches in protocol order."""
        with ExitStack() as stack:
            files: list[BinaryIO] = [stack.enter_context(open(path, "rb")) for path in found.paths]
            for number in range(self.n_batches):
                if found.n_faults[number] == Found.NOWHERE:
                    raise RuntimeError(f"{self.out}: batch {number} was never scored")
                file = files[found.file[number]]
                file.seek(found.start[number])
                read = self._read_line(file.readline())
                assert read is not None
                yield read[1]

    def writer(self, rank: int) -> _PartWriter:
        return _PartWriter(self, self.path(rank))


class Found:
    """For each batch the place of its line in the part files, and how many recordings it lacks: 16 bytes a batch."""

    NOWHERE = 2**31 - 1  # in place of the number of faults of a batch without a line

    def __init__(self, n_batches: int):
        self.paths: list[Path] = []
        self.file = array("i", [0]) * n_batches
        self.start = array("q", [0]) * n_batches
        self.n_faults = array("i", [self.NOWHERE]) * n_batches

    def add(self, number: int, file: int, start: int, n_faults: int) -> None:
        if n_faults < self.n_faults[number]:
            self.file[number], self.start[number], self.n_faults[number] = file, start, n_faults


class _PartWriter:
    def __init__(self, parts: Parts, path: Path):
        self.parts = parts
        self.path = path

    def __enter__(self) -> Callable[[int, list[Row]], None]:
        self.file = open(self.path, "ab")
        if self.file.tell():  # a line that a kill cut short must not swallow the next
            self.file.write(b"\n")
        return self.write

    def write(self, number: int, rows: list[Row]) -> None:
        self.file.write(self.parts.line(number, rows))
        self.file.flush()

    def __exit__(self, *error: object) -> None:
        with self.file:
            self.file.flush()
            os.fsync(self.file.fileno())
