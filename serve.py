"""A page and an API to judge recordings with a detector: drop or record a clip, see the verdict and what to doubt.

    python serve.py exps/NAME
    python serve.py model.onnx --port 8000
    curl --data-binary @clip.wav http://127.0.0.1:7860/v1/judge

It loads nothing from the network, and listens on this computer only, unless --host says otherwise: then clients need
the token that stands in the variable QAMO_TOKEN or in --token-file. Recordings stay in memory, are never written to
disk, and are forgotten once judged; no path of this computer can be named in a request. More: docs/serving.md.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from qamo import InputError
from qamo.command import Parser, note, number, run_command
from qamo.inference.flags import add_flags, rule_of
from qamo.inference.judging import Limits, Settings
from qamo.inference.worker import Worker

FEW_CHARACTERS = 16  # a token with less can be guessed


def build_parser() -> Parser:
    parser = Parser("serve.py", __doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="run, checkpoint, exported folder or .onnx file")
    add("--host", default="127.0.0.1", help="address to listen on [%(default)s: this computer only]")
    add("--port", type=number(int, 0, 65_535), default=7860, help="0: any free one [%(default)s]")
    add("--max-mb", type=number(float, 0.001, 100_000), default=30.0, help="largest upload [%(default)g]")
    add("--max-minutes", type=number(float, 0.001, 10_000), default=10.0, help="longest recording [%(default)g]")
    add("--places", type=number(int, 1, 128), default=8, help="recordings in work; more are turned away [%(default)s]")
    add(
        "--batch-size",
        type=number(int, 1, 4096),
        default=4,
        help="windows scored at a time; then others have their turn [%(default)s]",
    )
    add("--keep-pauses", action="store_true", help="judge windows too that are mostly pauses")
    add("--no-mos", action="store_true", help="do not predict the speech quality, which takes longer than the verdict")
    add("--open", action="store_true", help="open the page in a browser")
    add("--token-file", type=Path, metavar="FILE", help="holds the token that clients must send")
    add("--no-token", action="store_true", help="let everyone who reaches the address use it")
    add("--allow-host", action="append", default=[], metavar="NAME", help="name of a proxy in front; may be repeated")
    add("--root-path", default="", metavar="/PATH", help="path at which a proxy in front has it")
    add("--log", action="store_true", help="a line of JSON for each request on standard error; no names, no contents")
    add_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), command, argv)


def command(args: argparse.Namespace) -> int:
    try:
        from qamo.inference import api_server  # FastAPI, which is an extra
    except ImportError as error:
        raise InputError(f"the server needs FastAPI and uvicorn ({error}); pip install 'qamo[serve]'") from None
    limits, worker, is_local = limits_of(args), Worker(settings_of(args)), api_server.is_loopback(args.host)
    token = token_of(args, is_needed=not is_local or bool(args.allow_host))
    access = api_server.Access(is_local, hosts_of(args), token)
    listening = listen(args.host, args.port)
    try:
        worker.open()
        app = api_server.build_app(worker, limits, access, log=args.log)
        listening.listen()
        tell(args, listening.getsockname()[1], token, is_local=is_local)
        api_server.build_server(app, root_path=args.root_path).run(sockets=[listening])
    except KeyboardInterrupt:  # the way to end it, so not a failure
        print(file=sys.stderr)
    finally:
        worker.close()
        listening.close()
    return 0


def tell(args: argparse.Namespace, port: int, token: str | None, *, is_local: bool) -> None:
    """Say where the page is, and who may use it."""
    url = f"http://{f'[{args.host}]' if ':' in args.host else args.host}:{port}/"
    print(f"{url}  (Ctrl-C ends it)", flush=True)
    if token:
        note("serve.py", f"clients need the token; the page takes it from {url}#token=TOKEN")
    elif not is_local:
        note("serve.py", "open to everyone who reaches this address; there is no password")
    if args.open:
        webbrowser.open(url)  # without the token: other users see how the browser is started


def limits_of(args: argparse.Namespace) -> Limits:
    """How much is taken at a time."""
    if not 0 < args.max_mb < 1e6 or not 0 < args.max_minutes < 1e6:
        raise InputError("--max-mb and --max-minutes: expected more than 0")
    if not 1 <= args.places <= 128:
        raise InputError(f"--places: expected 1 to 128, found {args.places}")
    if args.root_path and (not args.root_path.startswith("/") or args.root_path.endswith("/")):
        raise InputError(f"--root-path: expected a path like /detector, found {args.root_path!r}")
    return Limits(int(args.max_mb * 1e6), args.places)


def hosts_of(args: argparse.Namespace) -> tuple[str, ...]:
    """The names of proxies, as a Host header has them: without the port, in small letters."""
    from qamo.inference.guard import host_of  # the extra again

    names = [host_of([text]) for text in args.allow_host]
    for text, name in zip(args.allow_host, names):
        if name is None:
            raise InputError(f"--allow-host: expected a name like speech.example.org, found {text!r}")
    return tuple(name for name in names if name)


def settings_of(args: argparse.Namespace) -> Settings:
    """The detector with all that the arguments say about it."""
    rule = rule_of(args, skip_pauses=not args.keep_pauses, batch_size=args.batch_size)
    return Settings(args.run, rule, args.max_minutes * 60, args.device, args.threads, mos=not args.no_mos)


def token_of(args: argparse.Namespace, *, is_needed: bool) -> str | None:
    """The token that clients must send; None: there is none."""
    if args.no_token:
        return None
    token = args.token_file.read_text().strip() if args.token_file else os.environ.get("QAMO_TOKEN", "").strip()
    if not token:
        if is_needed or args.token_file:
            raise InputError(
                "beyond this computer clients need a token; put one into a file for --token-file or into the variable "
                "QAMO_TOKEN (python -c 'import secrets; print(secrets.token_urlsafe())'), or say --no-token"
            )
        return None
    if len(token) < FEW_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(f"the token: expected at least {FEW_CHARACTERS} letters and digits")
    return token


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address; taken before the detector is loaded, so that a port in use is said at once."""
    if not 0 <= port < 1 << 16:
        raise InputError(f"--port: expected 0 to 65535, found {port}")
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    return listening


if __name__ == "__main__":
    sys.exit(main())
