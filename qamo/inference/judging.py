"""The process that judges for the server: reads jobs from a pipe, answers in lines of JSON.

A process of its own, so that a file that kills a decoder ends this one and not the server. Jobs run side by side and
take turns at the detector, batch by batch: a long recording keeps a short one waiting for a batch, not for its end.

    server -> here   ("judge", number, body, name, channel), ("cancel", number)
    here -> server   {"about": ...} or {"error": ...} once; then of each job {"job": number, "work": ..., "done": ...,
                     "of": ...} and at last {"job": number, "judgement": ...} or {"job": number, "error": ...}
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qamo import InputError
from qamo.audio import SAMPLE_RATE, load
from qamo.command import note, sentence
from qamo.inference.api import failed, quality_predictor
from qamo.inference.judge import PredictMOS, Rule, judge, meaning
from qamo.inference.recording import by_channel
from qamo.inference.scorer import Scorer, open_scorer
from qamo.inference.show import envelope
from qamo.networks.cpu import malloc

N_COLUMNS = 600  # of the waveform that the page draws


class Limits(NamedTuple):
    """What the server takes."""

    n_bytes: int = 30_000_000  # of an upload
    n_places: int = 8  # recordings in work; more are turned away


@dataclass(frozen=True)
class Settings:
    """What the process opens, and how it judges."""

    run: Path
    rule: Rule
    max_seconds: float
    device: str = "auto"
    n_threads: int = 0
    mos: bool = True

    def open(self) -> tuple[Scorer, PredictMOS | None]:
        malloc.keep_freed()
        scorer = open_scorer(self.run, device=self.device, n_threads=self.n_threads)
        if not self.mos:
            return scorer, None
        try:
            return scorer, quality_predictor()
        except InputError as error:
            note("serve.py", f"no quality prediction: {error}")
            return scorer, None


class Gone(Exception):
    """The client of a job went away."""


class Turns:
    """A lock that is given in the order of asking."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._asking: deque[threading.Event] = deque()

    def __enter__(self) -> None:
        mine = threading.Event()
        with self._guard:
            self._asking.append(mine)
            if self._asking[0] is mine:
                mine.set()
        mine.wait()

    def __exit__(self, *error: object) -> None:
        with self._guard:
            self._asking.popleft()
            if self._asking:
                self._asking[0].set()


class Judging:
    """Jobs on one detector, whose answers go through `connection`."""

    def __init__(self, connection: Connection, settings: Settings):
        self.connection, self.settings = connection, settings
        self.scorer, self.predict_mos = settings.open()
        self.turns, self.speaking = Turns(), threading.Lock()
        self.cancelled: dict[int, threading.Event] = {}

    def about(self) -> dict[str, Any]:
        """What is known before the first clip; null for a threshold that no score reaches."""
        calibration, rule = self.scorer.calibration, self.settings.rule
        band = rule.band(calibration)
        return {
            "detector": self.scorer.name,
            "weights": self.scorer.weights_digest,
            "meaning": meaning(self.scorer, rule),
            "window_seconds": self.scorer.window_samples / SAMPLE_RATE,
            "threshold": _finite(rule.threshold_with(calibration)),
            "band": None if band is None else [_finite(end) for end in band],
            "prior": rule.prior,
            "max_seconds": self.settings.max_seconds,
        }

    def say(self, content: dict[str, Any]) -> None:
        with self.speaking:
            self.connection.send_bytes(json.dumps(content).encode())

    def listen(self) -> None:
        """Take jobs until the server is gone."""
        while True:
            try:
                kind, number, *rest = self.connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # the server is gone, and jobs may be in the middle of something
            if kind == "judge":
                self.cancelled[number] = threading.Event()
                threading.Thread(target=self.work, args=(number, *rest), daemon=True).start()
            elif event := self.cancelled.get(number):
                event.set()

    def work(self, number: int, body: bytes, name: str, channel: load.Channel) -> None:
        try:
            self.say({"job": number, "judgement": self.judge(number, body, name, channel)})
        except Gone:
            pass
        except Exception as error:  # whatever went wrong is that recording's fault
            self.say({"job": number, "error": failed(name, error).error})
        finally:
            del self.cancelled[number]

    def judge(self, number: int, body: bytes, name: str, channel: load.Channel) -> dict[str, Any]:
        """Judgement of the bytes of a recording, with its waveform's envelope; of each channel if so asked."""
        heard = load.read(body, name=name, max_s=self.settings.max_seconds, channel=channel)
        job = _Job(self, number)
        if channel != "each":
            return self.judge_wave(job, heard, name)
        return {"channels": [self.judge_wave(job, one, called) for called, one in by_channel(heard, name)]}

    def judge_wave(self, job: _Job, heard: load.Recording, name: str) -> dict[str, Any]:
        predict_mos = job.predict_mos if self.predict_mos else None
        judgement = judge(heard, job, self.settings.rule, path=name, predict_mos=predict_mos, watch=job.watch)
        low, high = envelope(heard.wave, N_COLUMNS)
        return judgement.as_dict() | {"low": np.round(low, 3).tolist(), "high": np.round(high, 3).tolist()}


class _Job:
    """The detector as one job sees it: waits its turn, tells of progress, ends when nobody waits for the answer."""

    def __init__(self, judging: Judging, number: int):
        self.judging, self.number, self.scorer = judging, number, judging.scorer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scorer, name)

    def __call__(self, waves: np.ndarray) -> np.ndarray:
        with self.turn():
            return self.scorer(waves)

    def predict_mos(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        assert self.judging.predict_mos is not None
        with self.turn():
            return self.judging.predict_mos(waves)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        with self.judging.turns:
            if self.judging.cancelled[self.number].is_set():
                raise Gone
            yield

    def watch(self, steps: Iterable[Any], n_steps: int, work: str) -> Iterator[Any]:
        for done, step in enumerate(steps):
            self.judging.say({"job": self.number, "work": work, "done": done, "of": n_steps})
            yield step


def run(connection: Connection, settings: Settings) -> None:
    """What the process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's affair, whose end ends this
    try:
        judging = Judging(connection, settings)
    except (InputError, OSError) as error:
        connection.send_bytes(json.dumps({"error": sentence(error)}).encode())
        return
    judging.say({"about": judging.about()})
    judging.listen()


def _finite(number: float | None) -> float | None:  # JSON has no infinity
    return number if number is not None and math.isfinite(number) else None
