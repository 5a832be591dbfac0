"""The server: the page, and an API beside it, on FastAPI and uvicorn. See docs/serving.md.

Uploads stay in memory; no request can name a path of this computer. Who may ask: `guard.py`; who judges: `worker.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import h11
import uvicorn
from fastapi import FastAPI, Header, HTTPException, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from uvicorn.protocols.http.h11_impl import H11Protocol

from qamo import InputError, __version__
from qamo.audio.mixing import Channel
from qamo.inference.answers import ERRORS, NOT_HERE, Channels, Detector
from qamo.inference.guard import Access, Guard, drain, is_loopback
from qamo.inference.judge import Judgement
from qamo.inference.judging import Limits
from qamo.inference.worker import Down, Report, Worker

ASSETS = Path(__file__).parent / "assets"
# All that can be read through the server: fixed names, read once at the start.
PAGES = {
    "/": ("serve.html", "text/html; charset=utf-8"),
    "/serve.css": ("serve.css", "text/css; charset=utf-8"),
    "/serve.js": ("serve.js", "text/javascript; charset=utf-8"),
    "/token.js": ("token.js", "text/javascript; charset=utf-8"),
    "/recorder.js": ("recorder.js", "text/javascript; charset=utf-8"),
}
OPEN_PATHS = frozenset({*PAGES, "/healthz"})  # what may be read without the token
TOKEN = "X-Qamo"  # a header that no form and no foreign page can send without asking first, which is never granted
NDJSON = "application/x-ndjson"  # asked for, an answer is lines of JSON: progress, and at last the judgement
HEAD_S = 15.0  # for the line and the headers of a request
UPLOAD_S = 120.0  # for its body
MAX_DRAIN_FACTOR = 8  # refused uploads up to this many times the limit are read and discarded; larger ones are cut off
MAX_CONNECTIONS = 256
PAGE_ONLY = ("low", "high")  # the envelope that the page draws


class Service:
    """Places for recordings, and the worker that judges them."""

    def __init__(self, worker: Worker, limits: Limits):
        self.worker, self.limits = worker, limits
        self.taken: list[str] = []  # the client of each recording in work
        self.n_uploading = 0  # bytes in memory
        self.mean_s = 2.0  # that a recording took, lately

    def check_place(self, client: str) -> None:
        """Refuse when all places are taken, half of them by this client, or too much memory by uploads."""
        n_own = 0 if is_loopback(client) else self.taken.count(client)
        is_full = len(self.taken) >= self.limits.n_places or n_own >= max(1, self.limits.n_places // 2)
        if is_full or self.n_uploading > 2 * self.limits.n_places * self.limits.n_bytes:
            after = {"Retry-After": str(max(1, round(self.mean_s)))}
            raise HTTPException(429, "busy with other recordings; try again", after)

    async def body(self, request: Request) -> bytes:
        """The body of a request, in memory. No place is taken until it is whole: a slow client holds none.

        Raises:
            HTTPException: too large, too slow, cut off, or no place.
        """
        limit, length = self.limits.n_bytes, request.headers.get("Content-Length")
        if length is None:
            raise HTTPException(411, "the size of the recording must be said: Content-Length")
        body = bytearray()
        try:
            if int(length) > limit:
                raise HTTPException(413, f"larger than {limit / 1e6:g} MB; cut the recording")
            self.check_place(_client(request))
            await asyncio.wait_for(self._receive(request, body), UPLOAD_S)
            return bytes(body)
        except asyncio.TimeoutError:
            raise HTTPException(408, "the upload was too slow", {"Connection": "close"}) from None
        except HTTPException:
            if int(length) <= MAX_DRAIN_FACTOR * limit:  # a client first sends all, then reads
                await drain(request.receive)
            raise
        finally:
            self.n_uploading -= len(body)

    async def _receive(self, request: Request, body: bytearray) -> None:
        more = True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise HTTPException(400, "the upload was cut off")
            body += message.get("body", b"")
            self.n_uploading += len(message.get("body", b""))
            more = message.get("more_body", False)
            if more and self.n_uploading > 2 * self.limits.n_places * self.limits.n_bytes:
                self.check_place(_client(request))

    async def judge(
        self, body: bytes, name: str, client: str, report: Report | None = None, channel: Channel = "mix"
    ) -> dict[str, Any]:
        """The judgement, in a place of its own."""
        self.check_place(client)
        self.taken.append(client)
        began = asyncio.get_running_loop().time()
        try:
            found = await self.worker.judge(body, name, report, channel)
            self.mean_s += 0.2 * (asyncio.get_running_loop().time() - began - self.mean_s)
            return found
        except InputError as error:
            raise HTTPException(422, str(error)) from None
        except Down as error:
            raise HTTPException(503, str(error), {"Retry-After": "60"}) from None
        finally:
            self.taken.remove(client)

    async def judge_for(self, request: Request, body: bytes, name: str, channel: Channel = "mix") -> dict[str, Any]:
        """The same, given up when the client goes away."""
        work = asyncio.ensure_future(self.judge(body, name, _client(request), channel=channel))
        gone = asyncio.ensure_future(request.receive())  # the body is read, so what comes is the end
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            raise HTTPException(499, "the client went away")
        finally:
            for task in (work, gone):
                task.cancel()

    async def lines(self, body: bytes, name: str, client: str) -> Response:
        """Progress as lines of JSON, and at last the judgement or what was wrong."""
        said: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        work = asyncio.ensure_future(self.judge(body, name, client, said.put_nowait))
        work.add_done_callback(lambda _: said.put_nowait(None))
        if (first := await said.get()) is None:  # over before it began: an error has its status then
            return JSONResponse(work.result())

        async def each() -> AsyncIterator[bytes]:
            content: dict[str, Any] | None = first
            try:
                while content is not None:
                    yield json.dumps(content).encode() + b"\n"
                    content = await said.get()
                error = work.exception()
                last = {"error": error.detail} if isinstance(error, HTTPException) else work.result()
                yield json.dumps(last).encode() + b"\n"
            finally:
                work.cancel()

        return StreamingResponse(each(), media_type=NDJSON)


def build_app(worker: Worker, limits: Limits, access: Access, *, log: bool = False) -> FastAPI:
    """The application; `worker` is open."""
    service = Service(worker, limits)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await worker.attach()
        yield
        worker.close()

    app = FastAPI(
        title="QAMO", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan, redirect_slashes=False,
        description="Is a recording of speech bona fide or spoofed?",
    )  # fmt: skip
    app.state.service = service
    app.add_middleware(
        Guard,
        access=access._replace(n_drained_bytes=MAX_DRAIN_FACTOR * limits.n_bytes),
        open_paths=OPEN_PATHS,
        log=log,
    )

    @app.exception_handler(StarletteHTTPException)
    async def refuse(request: Request, error: StarletteHTTPException) -> Response:
        said = NOT_HERE.get(error.status_code, error.detail)
        return JSONResponse({"error": said}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        await drain(request.receive)
        return JSONResponse({"error": f"{first['loc'][-1]}: {first['msg']}"}, 422)

    _add_pages(app, service)
    _add_api(app, service, needs_token=access.token is not None)
    return app


def _add_pages(app: FastAPI, service: Service) -> None:
    """The page and what its script asks for."""
    for path, (file, kind) in PAGES.items():
        answer = Response((ASSETS / file).read_bytes(), headers={"Content-Type": kind})
        app.add_api_route(path, _constant(answer), include_in_schema=False)

    @app.get("/about", include_in_schema=False)
    async def about() -> dict[str, Any]:
        return {**service.worker.about, "max_bytes": service.limits.n_bytes}

    @app.post("/judge", include_in_schema=False)
    async def judge(request: Request) -> Response:
        if TOKEN not in request.headers:
            await drain(request.receive)
            raise HTTPException(403, "only the page itself may upload")
        body, name = await service.body(request), _name(request.headers.get("X-Name"))
        if NDJSON not in request.headers.get("Accept", ""):
            return JSONResponse(await service.judge_for(request, body, name))
        return await service.lines(body, name, _client(request))


def _add_api(app: FastAPI, service: Service, *, needs_token: bool) -> None:
    """What programs ask for. The guard asks for the token; here the description says that it does."""
    bearer = [Security(HTTPBearer(auto_error=False))] if needs_token else []
    binary = {"schema": {"type": "string", "format": "binary"}}
    form = {"schema": {"type": "object", "required": ["file"], "properties": {"file": binary["schema"]}}}
    content = {"application/octet-stream": binary, "audio/*": binary, "multipart/form-data": form}

    @app.post(
        "/v1/judge",
        summary="Judge one recording",
        dependencies=bearer,
        responses={200: {"model": Judgement | Channels}, **ERRORS},
        openapi_extra={"requestBody": {"required": True, "content": content}},
    )
    async def judge_v1(
        request: Request,
        x_name: Annotated[str | None, Header(description="what to call a raw body")] = None,
        channel: Annotated[Channel, Query(description="each: a list `channels` with a judgement for each")] = "mix",
    ) -> Response:
        """A file of sound, as the whole body or as the part `file` of a form; nothing of it is kept."""
        body, name = await service.body(request), _name(x_name)
        if request.headers.get("Content-Type", "").lower().startswith("multipart/form-data"):
            body, name = await _part(request, body)
        found = await service.judge_for(request, body, name, channel)
        if "channels" in found:
            return JSONResponse({"channels": [_plain(each) for each in found["channels"]]})
        return JSONResponse(_plain(found))

    @app.get("/v1/detector", summary="Which detector this is, and what its scores mean", dependencies=bearer)
    async def detector() -> Detector:
        return Detector(**service.worker.about, max_bytes=service.limits.n_bytes, version=__version__)

    @app.get("/healthz", summary="Whether recordings are judged now", responses={503: {}})
    async def healthz() -> Response:
        is_ready = service.worker.ready.is_set()
        return JSONResponse({"status": "ok" if is_ready else "starting"}, 200 if is_ready else 503)


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in PAGE_ONLY}


async def _part(request: Request, body: bytes) -> tuple[bytes, str]:
    """The file in a form, and its name."""

    async def stream() -> AsyncIterator[bytes]:
        yield body

    parser = MultiPartParser(request.headers, stream(), max_files=1, max_fields=8)  # type: ignore[arg-type]
    parser.spool_max_size = len(body) + 1  # never to disk
    try:
        parts = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"the form is malformed: {error.message}") from None
    file = parts.get("file")
    if file is None or isinstance(file, str):
        raise HTTPException(400, "the form has no file in its field `file`")
    return await file.read(), _name(urllib.parse.quote(file.filename or ""))


def _name(quoted: str | None) -> str:
    return Path(urllib.parse.unquote(quoted or "")).name[:200] or "recording"


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


def _constant(answer: Response) -> Any:
    async def get() -> Response:
        return answer

    return get


class Protocol(H11Protocol):
    """uvicorn's, with a deadline for the head of a request and an answer to one that is cut off."""

    head_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.head_deadline:
            self.head_deadline.cancel()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        if self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.SEND_RESPONSE:
            self.send_400_response("the upload was cut off")

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            if self.head_deadline:
                self.head_deadline.cancel()
            self.head_deadline = None
        elif self.head_deadline is None:
            self.head_deadline = self.loop.call_later(HEAD_S, self.transport.abort)


def build_server(app: FastAPI, *, root_path: str = "", port: int = 0, host: str = "127.0.0.1") -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app, host=host, port=port, root_path=root_path, http=Protocol, ws="none", log_level="error",
            access_log=False, server_header=False, limit_concurrency=MAX_CONNECTIONS, timeout_keep_alive=15,
            timeout_graceful_shutdown=3, h11_max_incomplete_event_size=32_768,
        )
    )  # fmt: skip
