"""Predicted MOS kept in a file by content: of many recordings, and of augmented speech during training.

A line of the file is `DIGEST MOS IDENTITY`. DIGEST is 32 hexadecimal digits, of the bytes of a recording (SHA-256) or
the samples of a wave (BLAKE2b); IDENTITY names the predictor and its weights. Lines are appended as soon as they are
known, so work that was cut off continues where it was. Any number of processes may share a file.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from qamo import InputError, files
from qamo.audio import load as audio
from qamo.networks.cpu import malloc
from qamo.progress import progress
from qamo.quality.predictors import DistillMOSPredictor, build_predictor

TASK_FILES = 8  # recordings that a thread takes at a time


class MOSCache:
    """The predictions of one predictor, digest -> MOS, in memory and in a file.

    Args:
        path: made with its folder when missing; None keeps predictions in memory alone.
        identity: of the predictor; lines of other predictors are passed over.
    """

    def __init__(self, path: Path | None, identity: str) -> None:
        self.path, self.identity = path, identity
        self.known: dict[str, float] = {} if path is None else self._read(path)

    def add(self, predictions: Sequence[tuple[str, float]]) -> None:
        self.known.update(predictions)
        if self.path is not None:
            text = "".join(f"{digest} {mos!r} {self.identity}\n" for digest, mos in predictions)
            with open(self.path, "ab", buffering=0) as file:
                file.write(text.encode())  # in one go, so that lines of several processes do not mix

    def _read(self, path: Path) -> dict[str, float]:
        """What the file holds; a line that a kill cut short is removed at the end and passed over elsewhere."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return {}
        content = path.read_bytes()
        n_whole = content.rfind(b"\n") + 1
        if n_whole < len(content):
            os.truncate(path, n_whole)
        # Training used to write DistillMOS without the hash of its weights.
        shorter = re.sub(r"^distillmos (\S+) weights [0-9a-f]+$", r"distillmos-\1", self.identity)
        number = r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
        line = re.compile(rf"([0-9a-f]{{32}}) ({number}) (?:{re.escape(self.identity)}|{re.escape(shorter)})")
        rows = map(line.fullmatch, content[:n_whole].decode("utf-8", errors="replace").splitlines())
        return {row[1]: float(row[2]) for row in rows if row}


# ---- many recordings


def predict_files(paths: Sequence[Path], spec: str, *, jobs: int = 1, cache: Path | None = None) -> np.ndarray:
    """MOS of recordings, in order: n paths -> (n,) float64. Content that occurs twice is predicted once.

    Args:
        spec: of the predictor, see `qamo.quality.predictors`.
        jobs: threads that share the predictor, each with a recording of its own: networks run outside Python's lock,
            and processes would each take a predictor's memory and start. 1: this thread.
        cache: file of earlier predictions.

    Raises:
        InputError: a recording that cannot be decoded, or a predictor that cannot be had.
    """
    kept = MOSCache(cache, build_predictor(spec).identity)
    digests = [digest_of_file(path) for path in paths]
    todo = list({digest: path for digest, path in zip(digests, paths) if digest not in kept.known}.items())
    tasks = [todo[i : i + TASK_FILES] for i in range(0, len(todo), TASK_FILES)]
    with _predicted(tasks, spec, jobs) as results:
        for predictions in progress(results, "MOS", total=len(todo), unit="recording", count=len):
            kept.add(predictions)
    return np.array([kept.known[digest] for digest in digests])


def digest_of_file(path: Path) -> str:
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; check the audio folder and the protocol")
    return files.sha256(path)[:32]


@contextlib.contextmanager
def _predicted(
    tasks: list[list[tuple[str, Path]]], spec: str, jobs: int
) -> Iterator[Iterable[list[tuple[str, float]]]]:
    """The predictions of each task, by this thread or by `jobs` others."""
    predict = functools.partial(_predict_task, spec)
    if jobs == 1 or len(tasks) < 2:
        yield map(predict, tasks)
        return
    malloc.keep_freed()
    pool = ThreadPoolExecutor(min(jobs, len(tasks)), thread_name_prefix="MOS", initializer=_prepare_thread)
    try:
        yield pool.map(predict, tasks)
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_thread() -> None:
    import torch

    torch.set_num_threads(1)  # of this thread


def _predict_task(spec: str, task: list[tuple[str, Path]]) -> list[tuple[str, float]]:
    found = build_predictor(spec)([audio.load(path) for _, path in task]).tolist()
    for (_, path), mos in zip(task, found):
        if not np.isfinite(mos):
            raise InputError(f"{path}: the predictor {spec} gives {mos}; replace the recording or the predictor")
    return [(digest, mos) for (digest, _), mos in zip(task, found)]


# ---- waves


class AugmentedMOS:
    """DistillMOS of waves that training made: (T,) at 16 kHz -> MOS, about 1 to 5; 0.12 s of CPU for 4 s of speech.

    On the CPU and on one thread, so that loading processes and the main one predict the same bits.

    Args:
        cache: file of earlier predictions; None: each wave is predicted anew.

    Raises:
        InputError: DistillMOS is not installed.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._predictor = DistillMOSPredictor(device="cpu")
        self._cache = None if cache is None else MOSCache(cache, self._predictor.identity)
        self.n_predicted = 0

    @property
    def known(self) -> dict[str, float]:
        return {} if self._cache is None else self._cache.known

    def __call__(self, wave: np.ndarray) -> float:
        if self._cache is None:
            return self._predict(wave)
        digest = hashlib.blake2b(np.ascontiguousarray(wave).tobytes(), digest_size=16).hexdigest()
        if digest not in self._cache.known:
            self._cache.add([(digest, self._predict(wave))])
        return self._cache.known[digest]

    def _predict(self, wave: np.ndarray) -> float:
        self.n_predicted += 1
        with _one_thread():
            return float(self._predictor([wave])[0])


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """A sum over several threads would be rounded otherwise than in a loading process, which has one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
