"""How the server holds under parallel clients: answers a second, latency, memory; beside a plain http.server.

    python benchmarks/serving.py detector.onnx --seconds 120

Several clients (8) send a four-second clip again and again over the loopback address, first to serve.py, then to one
of Python's own http.server that judges under a lock, in turn. 429 counts as an answer, and its client waits as long as
it is told; anything else but 200 is an error, and ends the benchmark with status 1.
"""

from __future__ import annotations

import argparse
import http.client
import http.server
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import table
from qamo import InputError
from qamo.command import Parser, run_command
from qamo.inference.api import open_judge

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 2
HEADINGS = ["server", "answers a second", "median ms", "p95 ms", "429", "memory MB, first and last"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser("serving.py", __doc__)
    parser.add_argument("run", type=Path, help="an .onnx file, or anything else that serve.py takes")
    parser.add_argument("--clients", type=int, default=8, help="at once [%(default)s]")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each server and round [%(default)g]")
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)  # the process of the other server
    return run_command(parser, command, argv)


def command(args: argparse.Namespace) -> int:
    if args.plain:
        serve_plainly(args.run)
        return 0
    if not 1 <= args.clients <= 64 or not 0 < args.seconds <= 600:
        raise InputError("--clients: expected 1 to 64; --seconds: up to 600")
    starts = {
        "serve.py": [sys.executable, "serve.py", str(args.run.resolve()), "--no-mos", "--port", "0"],
        "http.server": [sys.executable, "benchmarks/serving.py", str(args.run.resolve()), "--plain"],
    }
    body, rows, n_errors = clip(), [], 0
    for _ in range(ROUNDS):  # in turn, so that neither has the quiet hour
        for name, start in starts.items():
            with started(start) as (port, process):
                load(port, body, args.clients, args.seconds / 4)  # what is loaded at first use counts for neither
                first = memory_mb(process.pid)
                seconds, n_busy, errors, wall = load(port, body, args.clients, args.seconds)
                last = memory_mb(process.pid)
            n_errors += len(errors)
            for error in errors[:3]:
                print(f"{name}: {error}", file=sys.stderr)
            middle, late = 1000 * np.quantile(seconds or [np.nan], [0.5, 0.95])
            rate = f"{len(seconds) / wall:.1f}"
            rows.append([name, rate, f"{middle:.0f}", f"{late:.0f}", str(n_busy), f"{first:.0f} to {last:.0f}"])
    print("\n".join(table(HEADINGS, rows, rule="---:")))
    return int(n_errors > 0)


def clip() -> bytes:
    """Four seconds of noise as a FLAC file."""
    content = io.BytesIO()
    soundfile.write(content, 0.1 * np.random.default_rng(0).normal(size=64_000), 16_000, format="FLAC")
    return content.getvalue()


@contextmanager
def started(command: list[str]) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A server of its own process, that says its address first; ends with the block."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        if not said.startswith("http://127.0.0.1:"):
            raise InputError(f"{command[1]}: did not start")
        yield int(said.split(":")[2].split("/")[0]), process
    finally:
        process.terminate()
        process.wait(30)


def load(port: int, body: bytes, n_clients: int, seconds: float) -> tuple[list[float], int, list[str], float]:
    """Send until the time is over; (latency of each answer in s, number of 429, errors, seconds that it took)."""
    latencies: list[float] = []
    errors: list[str] = []
    busy: list[int] = []
    began = time.monotonic()

    def client() -> None:
        while (sent := time.monotonic()) < began + seconds and len(errors) < 20:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            try:
                connection.request("POST", "/v1/judge", body)
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    latencies.append(time.monotonic() - sent)
                elif answer.status == 429:
                    busy.append(1)
                    time.sleep(min(5.0, float(answer.headers["Retry-After"])))
                else:
                    errors.append(f"status {answer.status}")
            except (OSError, http.client.HTTPException) as error:
                errors.append(f"{type(error).__name__}: {error}")
            finally:
                connection.close()

    threads = [threading.Thread(target=client) for _ in range(n_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies, len(busy), errors, time.monotonic() - began


def memory_mb(process_id: int) -> float:
    """Resident memory of a process and its children."""
    total = 0.0
    tasks = Path(f"/proc/{process_id}/task")
    for path in tasks.glob("*/children"):
        total += sum(memory_mb(int(child)) for child in path.read_text().split())
    status = Path(f"/proc/{process_id}/status").read_text()
    return total + float(status.split("VmRSS:")[1].split()[0]) / 1000


def serve_plainly(run: Path) -> None:
    """The yardstick: one process, a thread a connection, a lock around the detector."""
    judge, busy = open_judge(run), threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with busy:
                answer = json.dumps(judge(body).as_dict()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
