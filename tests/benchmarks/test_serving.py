"""benchmarks/serving.py: a table of both servers, and the status of a server that fails."""

from __future__ import annotations

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import soundfile

from benchmarks import serving


def test_both_servers_are_measured(capsys, trained_run, monkeypatch):
    monkeypatch.setattr(serving, "ROUNDS", 1)
    assert serving.main([str(trained_run), "--clients", "3", "--seconds", "1"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in said] == ["server", "---", "serve.py", "http.server"]
    for line in said[2:]:
        rate, middle, late, busy = (float(cell) for cell in line.split("|")[2:6])
        assert rate > 0
        assert late >= middle > 0
        assert busy == 0


def test_errors_of_a_server_are_counted():
    class Broken(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(500)

        def log_message(self, *args): ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        latencies, busy, errors, _ = serving.load(server.server_address[1], serving.clip(), 2, 0.2)
    finally:
        server.shutdown()
        server.server_close()
    assert (latencies, busy) == ([], 0)
    assert set(errors) == {"status 500"}


def test_the_clip_is_four_seconds():
    wave, rate = soundfile.read(io.BytesIO(serving.clip()))
    assert len(wave) / rate == 4
