"""A server of the page and the API within this process, and requests to it."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from qamo.inference.api_server import build_app, build_server
from qamo.inference.guard import Access
from qamo.inference.judge import Rule
from qamo.inference.judging import Limits, Settings
from qamo.inference.worker import Worker
from tests.support.stand_in import StandInSettings


class Running:
    """A running server."""

    def __init__(self, port: int, worker: Worker, app: Any):
        self.port, self.worker, self.service = port, worker, app.state.service

    def ask(self, method: str = "GET", path: str = "/", body: bytes | None = None, **headers: str):
        """(status, answer as bytes, headers)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        try:
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            connection.close()

    def upload(self, body: bytes, path: str = "/judge", **headers: str):
        """(status, answer)."""
        status, answer, _ = self.ask("POST", path, body, **{"X_Qamo": "1", **headers})
        return status, json.loads(answer)


@contextlib.contextmanager
def serving(settings: Settings, limits: Limits, access: Access, *, root_path: str = "", log: bool = False):
    worker = Worker(settings)
    worker.open()
    app = build_app(worker, limits, access, log=log)
    server = build_server(app, root_path=root_path)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield Running(server.servers[0].sockets[0].getsockname()[1], worker, app)
    finally:
        server.should_exit = True
        thread.join(20)
        worker.close()


def stand_in(*, access: Access | None = None, **more: Any) -> Any:
    settings = StandInSettings(Path("stand-in"), Rule(batch_size=2), 30.0)
    return serving(settings, Limits(1_000_000, 4), access or Access(), **more)


def sound(first: float = 0.1, n_windows: int = 2) -> bytes:
    """A WAV whose windows of half a second, and those between, begin with a sample."""
    wave = np.full(8_000 * n_windows, 0.1)
    wave[::4_000] = first
    content = io.BytesIO()
    soundfile.write(content, wave, 16_000, format="WAV")
    return content.getvalue()


def stereo(left: float = 0.1, right: float = 0.3) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, np.tile([left, right], (16_000, 1)), 16_000, format="WAV")
    return content.getvalue()


def wait_until(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def in_threads(tasks: list[Any]) -> Iterator[Any]:
    """What each task returns, all at once."""
    found: list[Any] = [None] * len(tasks)

    def run(k: int) -> None:
        found[k] = tasks[k]()

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return iter(found)
