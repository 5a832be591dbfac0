"""A proxy in front of the server, as the nginx block of docs/serving.md has it: /detector/PATH there is /PATH here."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PREFIX = "/detector"


@contextlib.contextmanager
def proxy_to(port: int) -> Iterator[int]:
    """The port of a proxy to a port of this computer."""

    class Proxy(BaseHTTPRequestHandler):
        def answer(self) -> None:
            there = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {key: value for key, value in self.headers.items() if key.lower() != "connection"}
            headers["X-Forwarded-For"] = "203.0.113.7"
            if not self.path.startswith(f"{PREFIX}/"):
                self.send_error(404)
                return
            there.request(self.command, self.path.removeprefix(PREFIX), body or None, headers)
            found = there.getresponse()
            self.send_response_only(found.status)
            for key, value in found.getheaders():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(found.read())
            there.close()

        do_GET = do_HEAD = do_POST = answer

        def log_message(self, *words: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
