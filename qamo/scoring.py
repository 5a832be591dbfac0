"""Scoring: recordings to a score file that is whole, in protocol order, each name once, or not there.

Trials are cut into batches by their place in the list. A finished batch is appended to a part file beside the score
file, together with its place; an interrupted run, with any number of processes, reads the part files, computes the
batches that are missing, and only then writes the score file in one step. Because the batches are the same whoever
computes them, so are the scores, bit for bit on a CPU.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from qamo import InputError
from qamo.files import write_json, write_text
from qamo.runlog import progress
from qamo.scores import format_score

log = logging.getLogger(__name__)


def score_trials(
    fabric: Fabric,
    detector: nn.Module,
    names: list[str],
    read: Callable[[list[range]], Iterable[tuple[Tensor, list[str]]]],
    out: Path,
    *,
    batch_size: int,
    identity: dict[str, Any],
    on_bad_audio: str,
    label: str,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Score all trials into `out`, going on from where an interrupted call stopped.

    Args:
        read: places of trials, batch by batch -> (waves (B, T), fault texts, empty where a recording was read).
        identity: what decides the scores (weights, list, precision). It is kept in `out`.json; part files of
            another identity are refused.
        on_bad_audio: fail: stop at the first unreadable recording; skip: leave it out and name it in the result.

    Returns:
        How many recordings could not be read; they have no line in `out`, and stand with the reason in the file
        beside it that ends in .failed.txt.
    """
    sidecar = out.with_name(out.name + ".json")
    parts = Parts(out)
    if fabric.is_global_zero:
        out.parent.mkdir(parents=True, exist_ok=True)
        _claim(sidecar, identity, out, parts)
    fabric.barrier()
    if (before := _completed(sidecar, out)) is not None:
        log.info("%s: scored before", out)
        return before
    n_batches = math.ceil(len(names) / batch_size)
    done = parts.read(names, batch_size)
    fabric.barrier()
    missing = [b for b in range(n_batches) if b not in done]
    mine = missing[fabric.global_rank :: fabric.world_size]
    if done:
        log.info("%s: %d of %d batches were scored before", label, len(done), n_batches)
    places = [range(b * batch_size, min((b + 1) * batch_size, len(names))) for b in mine]
    detector.eval()
    with parts.writer(fabric.global_rank) as write, torch.inference_mode(), fabric.autocast():
        batches = zip(mine, places, read(places))
        shown = progress(batches, label, total=sum(map(len, places)), unit="clip", count=lambda item: len(item[1]))
        for number, place, (wave, faults) in shown:
            bad = next((fault for fault in faults if fault), None)
            if bad and on_bad_audio == "fail":
                raise InputError(bad)
            scores = detector(wave.to(fabric.device)).score.float().tolist()
            rows = []
            for i, fault, value in zip(place, faults, scores):
                if not fault and not math.isfinite(value):
                    raise InputError(f"{label}: the score of {names[i]} is {value}; the weights are damaged")
                rows.append(fault or format_score(names[i], value))
            write(number, rows)
            if stop():
                return 0
    fabric.barrier()
    if fabric.is_global_zero:
        _finish(out, parts, names, batch_size, identity, sidecar)
    fabric.barrier()
    return _completed(sidecar, out) or 0


def _completed(sidecar: Path, out: Path) -> int | None:
    """How many recordings failed, where `out` is whole; None where it is not."""
    known = json.loads(sidecar.read_text())
    return known["n_failed"] if known["complete"] and out.exists() else None


def _claim(sidecar: Path, identity: dict[str, Any], out: Path, parts: Parts) -> None:
    """Refuse to mix scores of two identities; write down whose they are before the first."""
    if sidecar.exists():
        try:
            known = json.loads(sidecar.read_text()).get("identity")
        except ValueError:
            known = None
        if known != identity:
            differs = [k for k in identity if not isinstance(known, dict) or known.get(k) != identity[k]]
            raise InputError(
                f"{out}: holds or awaits scores of another {', '.join(differs) or 'run'}; "
                "move it away, or give the new scores a name of their own with comment_eval"
            )
    elif out.exists() or parts.paths():
        raise InputError(f"{out}: exists, but nothing tells which model made it; move it away first")
    else:
        write_json(sidecar, {"identity": identity, "complete": False})


def _finish(
    out: Path, parts: Parts, names: list[str], batch_size: int, identity: dict[str, Any], sidecar: Path
) -> None:
    done = parts.read(names, batch_size)
    lines: list[str] = []
    failed: dict[str, str] = {}
    for number in range(math.ceil(len(names) / batch_size)):
        if number not in done:
            raise RuntimeError(f"{out}: batch {number} was never scored")
        for name, row in zip(names[number * batch_size :], done[number]):
            if row.startswith(f"{name} "):
                lines.append(row)
            else:
                failed[name] = row
    if not lines:
        raise InputError(
            f"{out}: not one of {len(names)} recordings could be read; the first: {next(iter(failed.values()))}"
        )
    failures = out.with_name(out.name.removesuffix(".txt") + ".failed.txt")
    if failed:
        write_text(failures, "".join(f"{name} {fault}\n" for name, fault in failed.items()))
    else:
        failures.unlink(missing_ok=True)
    write_text(out, "".join(line + "\n" for line in lines))
    write_json(sidecar, {"identity": identity, "complete": True, "n_scored": len(lines), "n_failed": len(failed)})
    for path in parts.paths():
        path.unlink()


class Parts:
    """The part files of one score file: a JSON line a batch, [number, [row, ...]], a file a process."""

    def __init__(self, out: Path):
        self.out = out

    def paths(self) -> list[Path]:
        return sorted(self.out.parent.glob(f"{self.out.name}.part*"))

    def read(self, names: list[str], batch_size: int) -> dict[int, list[str]]:
        """Batch number -> its rows. A line cut short by a kill is passed over, and its batch computed again."""
        done: dict[int, list[str]] = {}
        for path in self.paths():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    number, rows = json.loads(line)
                except ValueError:
                    continue
                if len(rows) == len(names[number * batch_size : (number + 1) * batch_size]):
                    done[number] = rows
        return done

    def writer(self, rank: int) -> _PartWriter:
        return _PartWriter(self.out.with_name(f"{self.out.name}.part{rank}"))


class _PartWriter:
    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> Callable[[int, list[str]], None]:
        self.file = open(self.path, "ab")
        if self.file.tell():  # a line that a kill cut short must not swallow the next
            self.file.write(b"\n")
        return self.write

    def write(self, number: int, rows: list[str]) -> None:
        self.file.write(json.dumps([number, rows]).encode() + b"\n")
        self.file.flush()

    def __exit__(self, *error: object) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
