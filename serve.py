"""A page on this computer to try a detector: drop or record a clip, see the verdict and what to doubt.

    python serve.py exps/NAME
    python serve.py model.onnx --port 8000

The page is served by Python's own http.server, so it needs no package beyond those of inference.py, loads nothing
from the network, and starts as fast as the detector loads. It listens on this computer only, unless --host says
otherwise. Recordings stay in memory, are never written to disk, and are forgotten once judged; no path of this
computer can be named in a request. There is no password: whoever reaches the port can use it.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import socket
import sys
import threading
import time
import urllib.parse
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from qamo import InputError
from qamo.evaluation import calibration

if TYPE_CHECKING:
    from qamo.inference.judge import Rule
    from qamo.inference.scorer import Scorer

ASSETS = Path(__file__).parent / "qamo" / "inference" / "assets"
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
DRAINED = 8  # times the largest upload: what is larger still is cut off without being read
N_COLUMNS = 600  # of the waveform that the page draws


class Limits(NamedTuple):
    n_bytes: int
    seconds: float


class Studio:
    """Judges one upload at a time, in memory."""

    def __init__(self, scorer: Scorer, rule: Rule, limits: Limits, predict_mos: Callable[..., Any] | None):
        self.scorer, self.rule, self.limits, self.predict_mos = scorer, rule, limits, predict_mos
        self.places = threading.BoundedSemaphore(N_WAITING)
        self.busy = threading.Lock()

    def about(self) -> dict[str, Any]:
        """What the page says before the first clip."""
        from qamo.inference.judge import meaning

        return {
            "meaning": meaning(self.scorer, self.rule),
            "max_bytes": self.limits.n_bytes,
            "max_seconds": self.limits.seconds,
            "window_seconds": self.scorer.window_samples / 16_000,
            "threshold": self.rule.centre(self.scorer.calibration),
            "band": self.rule.band(self.scorer.calibration),
            "prior": self.rule.prior,
        }

    def judge(self, body: bytes, name: str) -> dict[str, Any]:
        """Judgement of an uploaded recording, with its waveform's envelope.

        Raises:
            InputError: it cannot be read, or is too long.
        """
        from qamo.audio import load
        from qamo.inference import judge as judging
        from qamo.inference import timeline

        heard = load.read(body, name=name, max_s=self.limits.seconds)
        with self.busy:
            found = judging.judge(heard, self.scorer, self.rule, path=name, predict_mos=self.predict_mos)
        low, high = timeline.envelope(heard.wave, N_COLUMNS)
        return found.as_dict() | {"low": np.round(low, 3).tolist(), "high": np.round(high, 3).tolist()}


def server(studio: Studio, host: str, port: int) -> ThreadingHTTPServer:
    """A server bound to `host` and `port` (0: any free one), not yet serving."""
    pages = {path: ((ASSETS / file).read_bytes(), kind) for path, (file, kind) in PAGES.items()}

    class Handler(BaseHTTPRequestHandler):
        timeout = SOCKET_TIMEOUT_S
        server_version, sys_version = "qamo", ""

        def do_GET(self) -> None:
            if not self.is_addressed():
                return
            path = self.path.split("?", 1)[0]
            if path == "/about":
                self.answer(HTTPStatus.OK, studio.about())
            elif path in pages:
                self.send(HTTPStatus.OK, *pages[path])
            else:
                self.answer(HTTPStatus.NOT_FOUND, {"error": "no such page"})

        def do_POST(self) -> None:
            if not self.is_addressed():
                return
            origin = self.headers.get("Origin")
            if self.headers.get(TOKEN) is None or (origin and origin != f"http://{self.headers['Host']}"):
                self.refuse(HTTPStatus.FORBIDDEN, "only the page itself may upload")
            elif self.path != "/judge":
                self.refuse(HTTPStatus.NOT_FOUND, "no such page")
            elif not (length := self.headers.get("Content-Length", "")).isdigit():
                self.refuse(HTTPStatus.LENGTH_REQUIRED, "the size of the recording must be said")
            elif int(length) > studio.limits.n_bytes:
                megabytes = studio.limits.n_bytes / 1e6
                if int(length) <= DRAINED * studio.limits.n_bytes:  # a browser reads no answer before it has sent all
                    for _ in self.pieces(int(length)):
                        pass
                self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"larger than {megabytes:g} MB; cut the recording")
            elif not studio.places.acquire(blocking=False):
                self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, "busy with other recordings; try again")
            else:
                try:
                    self.judge(int(length))
                finally:
                    studio.places.release()

        def judge(self, n_bytes: int) -> None:
            body = b"".join(self.pieces(n_bytes))
            if len(body) < n_bytes:
                self.refuse(HTTPStatus.BAD_REQUEST, "the upload was cut off or too slow")
                return
            name = Path(urllib.parse.unquote(self.headers.get("X-Name", ""))).name[:200] or "recording"
            try:
                self.answer(HTTPStatus.OK, studio.judge(body, name))
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
            host_header = self.headers.get("Host", "")
            name = urllib.parse.urlsplit(f"//{host_header}").hostname or ""
            if is_loopback(host) and not is_loopback(name):
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

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
                super().handle_error(request, client_address)

    return Server((host, port), Handler)


def is_loopback(host: str) -> bool:
    """Whether a name or address means this computer only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="serve.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="run, checkpoint, exported folder or .onnx file")
    add("--host", default="127.0.0.1", help="address to listen on [%(default)s: this computer only]")
    add("--port", type=int, default=7860, help="0: any free one [%(default)s]")
    add("--max-mb", type=float, default=30.0, help="largest upload [%(default)g]")
    add("--max-minutes", type=float, default=10.0, help="longest recording [%(default)g]")
    add(
        "--threshold", type=float, metavar="T", help="bona fide from this score on; default: from calibration and prior"
    )
    add("--prior", type=float, default=calibration.PRIOR, help="share of bona fide speech to expect [%(default)s]")
    add("--confidence", type=float, default=calibration.CONFIDENCE, help="least probability of a verdict [%(default)s]")
    add("--overlap", type=float, default=0.5, help="share of a window that the next covers too [%(default)s]")
    add("--keep-pauses", action="store_true", help="judge windows too that are mostly pauses")
    add("--no-mos", action="store_true", help="do not predict the speech quality, which takes longer than the verdict")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="[%(default)s]")
    add("--threads", type=int, default=0, help="CPU threads; 0: as the library chooses")
    add("--open", action="store_true", help="open the page in a browser")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        web = server(studio_of(args), args.host, args.port)
    except (InputError, OSError, OverflowError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    shown = f"[{args.host}]" if ":" in args.host else args.host
    url = f"http://{shown}:{web.server_address[1]}/"
    print(f"{url}  (Ctrl-C ends it)", flush=True)
    if not is_loopback(args.host):
        print("serve.py: open to everyone who reaches this address; there is no password", file=sys.stderr)
    if args.open:
        webbrowser.open(url)
    try:
        web.serve_forever()
    except KeyboardInterrupt:
        print(file=sys.stderr)
    finally:
        web.server_close()
    return 0


def studio_of(args: argparse.Namespace) -> Studio:
    """The detector with all that the arguments say about it."""
    from qamo.inference.judge import Rule
    from qamo.inference.scorer import open_scorer
    from qamo.networks.cpu import malloc as memory
    from qamo.quality.predictors import build_predictor

    if not args.max_mb > 0 or not args.max_minutes > 0:
        raise InputError("--max-mb and --max-minutes: expected more than 0")
    rule = Rule(
        threshold=args.threshold,
        prior=args.prior,
        confidence=args.confidence,
        overlap=args.overlap,
        skip_pauses=not args.keep_pauses,
    )
    memory.keep_freed()
    scorer = open_scorer(args.run, load_detector, device=args.device, n_threads=args.threads)
    predict_mos = None
    if not args.no_mos:
        try:
            predict_mos = build_predictor("distillmos")
        except (InputError, ImportError) as error:
            print(f"serve.py: no quality prediction: {error}", file=sys.stderr)
    return Studio(scorer, rule, Limits(int(args.max_mb * 1e6), args.max_minutes * 60), predict_mos)


def load_detector(path: Path) -> Any:
    """PyTorch is imported here and only here: an ONNX file does not need it."""
    from model import load_detector

    return load_detector(path)


if __name__ == "__main__":
    sys.exit(main())
