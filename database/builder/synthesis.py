"""Clips from their plans to files: one clip, a block of clips in a fresh process, and all blocks."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import soundfile

from builder import engines, fairness
from builder.recipe import Clip
from qamo import InputError
from qamo.audio import SAMPLE_RATE
from qamo.files import replacing

FOLDERS = [str(Path(__file__).resolve().parents[n]) for n in (2, 1)]  # that the other processes import from

GO_ON = "lower --jobs, or make room in memory; the same command goes on where this one stopped"

Work = tuple[Path, list[Clip], str | None]  # corpus folder, clips, folders of flite


def make_blocks(work: Iterable[Work], jobs: int) -> Iterator[int]:
    """Make blocks of clips, each in a process of its own and `jobs` at a time; yields how many clips are done.

    Raises:
        InputError: a process could not be started or was lost; what is whole stays, and the others are stopped.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join(FOLDERS)  # for the fork server
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # one thread a process: faster here, and sums do not depend on the cores
    yield from in_processes(make_block, work, jobs, preload=["__main__", __name__])


def in_processes(
    function: Callable[[Work], int], work: Iterable[Work], jobs: int, *, preload: list[str]
) -> Iterator[int]:
    """`function` of each piece of work, in any order. A pool would wait for ever for a process that is lost."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preload)
    waiting = deque(work)
    running: dict[Connection, BaseProcess] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                try:
                    receiver, sender = context.Pipe(duplex=False)
                    process: BaseProcess = context.Process(target=_answer, args=(sender, function, waiting.popleft()))
                    process.start()
                except (OSError, EOFError) as error:  # EOFError: it was the fork server that could not
                    why = error.strerror if isinstance(error, OSError) else "the system refuses another one"
                    raise InputError(f"a process that makes clips cannot be started ({why}); {GO_ON}") from None
                sender.close()
                running[receiver] = process
            ready = wait(list(running))
            for receiver in [receiver for receiver in running if receiver in ready]:
                yield _result(receiver, running.pop(receiver))
    finally:
        for process in running.values():
            process.terminate()
            process.join()


def _answer(sender: Connection, function: Callable[[Work], int], work: Work) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits
    try:
        sender.send(function(work))
    except Exception as error:
        sender.send(error)


def _result(receiver: Connection, process: BaseProcess) -> int:
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        code = process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"status {code}"
        raise InputError(f"a process that makes clips was lost ({how}); {GO_ON}") from None
    process.join()
    if isinstance(answer, Exception):
        raise answer
    return answer


def make_block(work: Work) -> int:
    """Make a block of clips in order -> how many; runs in a fresh process."""
    out, block, flite = work
    for clip in block:
        pcm = make(clip, flite)
        path = out / clip.path
        kind = "WAV" if path.suffix == ".wav" else "FLAC"
        with replacing(path) as temporary:
            soundfile.write(temporary, pcm, SAMPLE_RATE, subtype="PCM_16", format=kind)
    return len(block)


def make(clip: Clip, flite: str | None = None) -> np.ndarray:
    """A clip -> (T,) int16 at 16 kHz. Draws depend on `clip.stream` alone."""
    rng = np.random.default_rng(clip.stream)
    if clip.texts:
        speaking = engines.Speaking(clip.language, clip.codec, clip.n_samples, flite)
        wave = engines.speak(str(clip.engine), list(clip.texts), speaking, rng)
    else:
        wave = fairness.joined(
            [fairness.tidied(fairness.decode(path))[start:stop] for path, start, stop in clip.pieces]
        )
        if clip.engine:
            wave = engines.VOCODERS[clip.engine](wave, rng)
    return fairness.finished(wave, clip.codec, clip.channel, clip.n_samples, rng)
