"""The page's server: Python's own http.server, four fixed files, one question (/about) and one upload (/judge).

What it is safe against: other pages (a header that they cannot send, the Origin), foreign names made to point here
(the Host), large and slow uploads, and paths (a request cannot name one). Uploads stay in memory.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qamo import InputError
from qamo.audio import SAMPLE_RATE
from qamo.inference import recording
from qamo.inference.judge import PredictMOS, Rule, judge, meaning
from qamo.inference.scorer import Scorer
from qamo.inference.show import envelope

ASSETS = Path(__file__).parent / "assets"
# All that can be read through the server: fixed names, read once at the start.
PAGES = {
    "/": ("serve.html", "text/html; charset=utf-8"),
    "/serve.css": ("serve.css", "text/css; charset=utf-8"),
    "/serve.js": ("serve.js", "text/javascript; charset=utf-8"),
    "/recorder.js": ("recorder.js", "text/javascript; charset=utf-8"),
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-store",
}
TOKEN = "X-Qamo"  # a header that no form and no foreign page can send without asking first, which is never granted
N_WAITING = 4  # recordings being judged or waiting; more are turned away
SOCKET_TIMEOUT_S = 30  # between two pieces of a request
UPLOAD_TIMEOUT_S = 120  # for the whole of one
MAX_DRAIN_FACTOR = 8  # refused uploads up to this many times the limit are read and discarded; larger ones are cut off
N_COLUMNS = 600  # of the waveform that the page draws


class Limits(NamedTuple):
    n_bytes: int
    seconds: float


class Studio:
    """Judges one upload at a time, in memory."""

    def __init__(self, scorer: Scorer, rule: Rule, limits: Limits, predict_mos: PredictMOS | None):
        self.scorer, self.rule, self.limits, self.predict_mos = scorer, rule, limits, predict_mos
        self.waiting = threading.BoundedSemaphore(N_WAITING)
        self.busy = threading.Lock()

    def about(self) -> dict[str, Any]:
        """What the page says before the first clip; null for a threshold that no score reaches."""
        calibration = self.scorer.calibration
        band = self.rule.band(calibration)
        return {
            "meaning": meaning(self.scorer, self.rule),
            "max_bytes": self.limits.n_bytes,
            "max_seconds": self.limits.seconds,
            "window_seconds": self.scorer.window_samples / SAMPLE_RATE,
            "detector": self.scorer.name,
            "threshold": _finite(self.rule.threshold_with(calibration)),
            "band": None if band is None else [_finite(end) for end in band],
            "prior": self.rule.prior,
        }

    def judge(self, body: bytes, name: str) -> dict[str, Any]:
        """Judgement of an uploaded recording, with its waveform's envelope.

        Raises:
            InputError: it cannot be read, or is too long.
        """
        heard = recording.read(body, name=name, max_s=self.limits.seconds)
        with self.busy:
            judgement = judge(heard, self.scorer, self.rule, path=name, predict_mos=self.predict_mos)
        low, high = envelope(heard.wave, N_COLUMNS)
        return judgement.as_dict() | {"low": np.round(low, 3).tolist(), "high": np.round(high, 3).tolist()}


class Server(ThreadingHTTPServer):
    """A server bound to `host` and `port` (0: any free one), not yet serving."""

    daemon_threads = True

    def __init__(self, studio: Studio, host: str, port: int):
        self.studio, self.is_local = studio, is_loopback(host)
        self.pages = {path: ((ASSETS / file).read_bytes(), kind) for path, (file, kind) in PAGES.items()}
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    timeout = SOCKET_TIMEOUT_S
    server_version, sys_version = "qamo", ""

    def do_GET(self) -> None:
        if not self.is_addressed():
            return
        path = self.path.split("?", 1)[0]
        if path == "/about":
            self.answer(HTTPStatus.OK, self.server.studio.about())
        elif path in self.server.pages:
            self.send(HTTPStatus.OK, *self.server.pages[path])
        else:
            self.answer(HTTPStatus.NOT_FOUND, {"error": "no such page"})

    def do_POST(self) -> None:
        if not self.is_addressed():
            return
        studio = self.server.studio
        origin = self.headers.get("Origin")
        if self.headers.get(TOKEN) is None or (origin and origin != f"http://{self.headers['Host']}"):
            self.refuse(HTTPStatus.FORBIDDEN, "only the page itself may upload")
        elif self.path != "/judge":
            self.refuse(HTTPStatus.NOT_FOUND, "no such page")
        elif (length := self.headers.get("Content-Length", "")) and not re.fullmatch("[0-9]{1,18}", length):
            self.refuse(HTTPStatus.BAD_REQUEST, "the header Content-Length is no number")
        elif not length:
            self.refuse(HTTPStatus.LENGTH_REQUIRED, "the size of the recording must be said")
        elif int(length) > studio.limits.n_bytes:
            megabytes = studio.limits.n_bytes / 1e6
            if int(length) <= MAX_DRAIN_FACTOR * studio.limits.n_bytes:  # a browser first sends all, then reads
                for _ in self.pieces(int(length)):
                    pass
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"larger than {megabytes:g} MB; cut the recording")
        elif not studio.waiting.acquire(blocking=False):
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, "busy with other recordings; try again")
        else:
            try:
                self.judge(int(length))
            finally:
                studio.waiting.release()

    def judge(self, n_bytes: int) -> None:
        body = b"".join(self.pieces(n_bytes))
        if len(body) < n_bytes:
            self.refuse(HTTPStatus.BAD_REQUEST, "the upload was cut off or too slow")
            return
        name = Path(urllib.parse.unquote(self.headers.get("X-Name", ""))).name[:200] or "recording"
        try:
            self.answer(HTTPStatus.OK, self.server.studio.judge(body, name))
        except InputError as error:
            self.answer(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})

    def pieces(self, n_bytes: int) -> Iterator[bytes]:
        """The body, until its end, or until it has taken too long: a trickle must not hold a place for ever."""
        deadline = time.monotonic() + UPLOAD_TIMEOUT_S
        while n_bytes > 0 and time.monotonic() < deadline and (piece := self.rfile.read1(min(n_bytes, 1 << 16))):
            n_bytes -= len(piece)
            yield piece

    def is_addressed(self) -> bool:
        """Whether the request names this server; a foreign name that was made to point here does not."""
        try:
            name = urllib.parse.urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        except ValueError:
            self.refuse(HTTPStatus.BAD_REQUEST, "the header Host is no name")
            return False
        if self.server.is_local and not is_loopback(name):
            self.refuse(HTTPStatus.FORBIDDEN, "this page is for this computer; open it as http://127.0.0.1")
            return False
        return True

    def answer(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self.send(status, json.dumps(content).encode(), "application/json")

    def refuse(self, status: HTTPStatus, why: str) -> None:
        self.close_connection = True  # the body was not read
        self.answer(status, {"error": why})

    def send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for key, value in HEADERS.items():
            self.send_header(key, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what people upload is theirs."""


def _finite(number: float | None) -> float | None:  # JSON has no infinity
    return number if number is not None and math.isfinite(number) else None


def is_loopback(host: str) -> bool:
    """Whether a name or address means this computer only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
