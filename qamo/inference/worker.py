"""The server's side of the judging process: starts it, sends it recordings, starts it anew when it dies.

Where it dies, nobody knows which of the recordings in work it was: each is tried again, one at a time, and the one
that ends the process every time is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import multiprocessing
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from qamo import InputError
from qamo.audio.mixing import Channel
from qamo.command import note
from qamo.inference import judging
from qamo.inference.judging import Settings

N_ATTEMPTS = 3
STALL_S = 300.0  # a job that says nothing for so long hangs; its process is ended
LONGEST_PAUSE_S = 30.0  # between two attempts to start the process
START_S = 60.0  # that a recording waits for it to start anew
Report = Callable[[dict[str, Any]], None]


class Died(Exception):
    """The process ended with a job unanswered."""


class Down(Exception):
    """The process does not start."""


class _Job:
    def __init__(self, report: Report | None):
        self.answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.report, self.heard = report, time.monotonic()


class Worker:
    """One judging process: `open`, then `attach` within the event loop, then any number of `judge`, then `close`."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.about: dict[str, Any] = {}
        self.n_deaths = 0
        self._jobs: dict[int, _Job] = {}
        self._numbers = itertools.count()
        self._sender = ThreadPoolExecutor(1, "sender")  # one: a job's cancellation follows its body
        self._process: BaseProcess | None = None
        self._closing = False

    def open(self) -> None:
        """Start the process and wait until the detector is open.

        Raises:
            InputError: the detector cannot be opened.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = process = context.Process(target=judging.run, args=(theirs, self.settings), daemon=True)
        process.start()
        theirs.close()
        try:
            first = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            process.join()
            raise InputError(
                f"{self.settings.run}: the process that opens it ended with status {process.exitcode}"
            ) from None
        if "error" in first:
            raise InputError(first["error"])
        self.about = first["about"]

    async def attach(self) -> None:
        """Listen to the process from this event loop."""
        self._loop, self._alone, self.ready = asyncio.get_running_loop(), asyncio.Lock(), asyncio.Event()
        self._listen()

    def close(self) -> None:
        self._closing = True
        self._sender.shutdown(wait=False, cancel_futures=True)
        if self._process:
            self._process.kill()
            self._process.join()

    async def judge(
        self, body: bytes, name: str, report: Report | None = None, channel: Channel = "mix"
    ) -> dict[str, Any]:
        """The judgement of a recording's bytes; `report` is told of each batch. Cancelled, it stops the work.

        Raises:
            InputError: it cannot be judged.
            Down: nothing can.
        """
        for attempt in range(N_ATTEMPTS):
            async with self._alone if attempt else contextlib.nullcontext():
                try:
                    await asyncio.wait_for(self.ready.wait(), START_S)
                except asyncio.TimeoutError:
                    raise Down("the process that judges does not start; try again later") from None
                with contextlib.suppress(Died):
                    return await self._judge(body, name, report, channel)
        raise InputError(f"{name}: cannot be judged; the process that tried ended {N_ATTEMPTS} times")

    async def _judge(self, body: bytes, name: str, report: Report | None, channel: Channel) -> dict[str, Any]:
        number, job = next(self._numbers), _Job(report)
        self._jobs[number] = job
        try:
            self._send("judge", number, body, name, channel)
            while True:
                await asyncio.wait({job.answer}, timeout=STALL_S)
                if job.answer.done():
                    return job.answer.result()
                if time.monotonic() - job.heard >= STALL_S and self._process:
                    self._process.kill()
                    raise InputError(f"{name}: took too long and was given up")
        finally:
            del self._jobs[number]
            if not job.answer.done():
                self._send("cancel", number)

    def _send(self, *message: Any) -> None:
        connection = self._connection

        def send() -> None:
            with contextlib.suppress(OSError):  # it died, and the listener notices
                connection.send(message)

        with contextlib.suppress(RuntimeError):  # the server is closing
            self._sender.submit(send)

    def _listen(self) -> None:
        self.ready.set()
        threading.Thread(target=self._read, args=(self._connection,), daemon=True).start()

    def _read(self, connection: Connection) -> None:
        """In a thread: hand what the process says to the event loop."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            try:
                while True:
                    self._loop.call_soon_threadsafe(self._heard, json.loads(connection.recv_bytes()))
            except (EOFError, OSError):
                connection.close()
                self._loop.call_soon_threadsafe(self._died)

    def _heard(self, said: dict[str, Any]) -> None:
        job = self._jobs.get(said.pop("job"))
        if job is None or job.answer.done():
            return
        job.heard = time.monotonic()
        if "judgement" in said:
            job.answer.set_result(said["judgement"])
        elif "error" in said:
            job.answer.set_exception(InputError(said["error"]))
        elif job.report:
            job.report(said)

    def _died(self) -> None:
        if self._closing:
            return
        self.ready.clear()
        self.n_deaths += 1
        for job in self._jobs.values():
            if not job.answer.done():
                job.answer.set_exception(Died())
        self._restarting = self._loop.create_task(self._restart())

    async def _restart(self) -> None:
        pause = 1.0
        while not self._closing:
            try:
                await asyncio.to_thread(self.open)
            except (InputError, OSError) as error:
                note("serve.py", f"the judging process does not start: {error}")
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                self._listen()
                return
