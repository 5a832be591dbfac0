"""Who may ask the server: its name (Host), the page it comes from (Origin), its token; and what every answer carries.

Against other pages (their Origin), foreign names made to point here (the Host), and strangers (the token). An ASGI
middleware, so that it stands before every route.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
import sys
import time
import urllib.parse
from http import HTTPStatus
from typing import NamedTuple

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
    "Server": "qamo",
}
DRAIN_S = 30.0  # to read what a refused client is still sending, so that it hears why


class Access(NamedTuple):
    """Who may ask."""

    is_local: bool = True  # the server listens on this computer only
    hosts: tuple[str, ...] = ()  # further names that it is reached by, such as a proxy's
    token: str | None = None
    n_drained_bytes: int = 0  # of a refused upload, read and discarded; larger ones are cut off


class Guard:
    """The middleware; `log`: a line of JSON for each request on standard error, without names and contents."""

    def __init__(self, app: ASGIApp, access: Access, open_paths: frozenset[str], log: bool):
        self.app, self.access, self.open_paths, self.log = app, access, open_paths, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, n_received = time.monotonic(), 0, 0

        async def counting() -> Message:
            nonlocal n_received
            message = await receive()
            n_received += len(message.get("body", b""))
            return message

        async def marking(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            await self.answer(scope, counting, marking)
        finally:
            if self.log:
                path, routes = path_of(scope), {getattr(route, "path", None) for route in scope["app"].routes}
                line = {
                    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "method": scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other",
                    "route": path if path in routes else None,
                    "status": status,  # 0: the client went away
                    "received_bytes": n_received,
                    "ms": round(1000 * (time.monotonic() - began)),
                }
                print(json.dumps(line), file=sys.stderr, flush=True)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        status, why = self.refusal(scope, headers)
        if status is None:
            if scope["method"] == "HEAD":  # a GET to the routes; uvicorn, by its own scope, leaves out the body
                scope = {**scope, "method": "GET"}
            await self.app(scope, receive, send)
            return
        if int(headers.get("Content-Length", "0")) <= self.access.n_drained_bytes:
            await drain(receive)
        more = {"WWW-Authenticate": "Bearer"} if status is HTTPStatus.UNAUTHORIZED else {}
        await JSONResponse({"error": why}, status, {**more, "Connection": "close"})(scope, receive, send)

    def refusal(self, scope: Scope, headers: Headers) -> tuple[HTTPStatus | None, str]:
        """Why a request is refused; None: it is not."""
        host = host_of(headers.getlist("Host"))
        if host is None:
            return HTTPStatus.BAD_REQUEST, "the Host header is malformed"
        if self.access.is_local and not is_loopback(host) and host not in self.access.hosts:
            return HTTPStatus.FORBIDDEN, "this page is for this computer; open it as http://127.0.0.1"
        origin, reads = headers.get("Origin"), scope["method"] in ("GET", "HEAD")
        if origin and urllib.parse.urlsplit(origin).netloc != headers["Host"] and not reads:
            return HTTPStatus.FORBIDDEN, "another page may not upload"
        if self.access.token is not None and path_of(scope) not in self.open_paths:
            kind, _, given = headers.get("Authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(given.encode(), self.access.token.encode()):
                return HTTPStatus.UNAUTHORIZED, "a token is needed: Authorization: Bearer TOKEN"
        return None, ""


def path_of(scope: Scope) -> str:
    """The path that is asked for, without that of a proxy in front."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


async def drain(receive: Receive) -> None:
    """Read and discard the rest of a body: a client that is still sending would not hear the answer."""

    async def rest() -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                return

    with contextlib.suppress(asyncio.TimeoutError):  # another class than TimeoutError before Python 3.11
        await asyncio.wait_for(rest(), DRAIN_S)


def host_of(values: list[str]) -> str | None:
    """The name in a Host header; None where it is missing, there twice, or malformed."""
    if len(values) != 1 or not values[0] or any(c in values[0] for c in "/\\?#@ \t,"):
        return None
    try:
        split = urllib.parse.urlsplit(f"//{values[0]}")
        return split.hostname if split.port is None or split.port > 0 else None
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a name or address means this computer only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
