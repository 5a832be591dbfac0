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
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from qamo import InputError
from qamo.command import Parser, number, run_command
from qamo.inference.api import quality_predictor
from qamo.inference.flags import add_flags, rule_of
from qamo.inference.scorer import open_scorer
from qamo.inference.web import Limits, Server, Studio, is_loopback
from qamo.networks.cpu import malloc


def build_parser() -> Parser:
    parser = Parser("serve.py", __doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="run, checkpoint, exported folder or .onnx file")
    add("--host", default="127.0.0.1", help="address to listen on [%(default)s: this computer only]")
    add("--port", type=number(int, 0, 65_535), default=7860, help="0: any free one [%(default)s]")
    add("--max-mb", type=number(float, 0.001, 100_000), default=30.0, help="largest upload [%(default)g]")
    add("--max-minutes", type=number(float, 0.001, 10_000), default=10.0, help="longest recording [%(default)g]")
    add("--keep-pauses", action="store_true", help="judge windows too that are mostly pauses")
    add("--no-mos", action="store_true", help="do not predict the speech quality, which takes longer than the verdict")
    add("--open", action="store_true", help="open the page in a browser")
    add_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), command, argv)


def command(args: argparse.Namespace) -> int:
    server = Server(studio_of(args), args.host, args.port)
    shown = f"[{args.host}]" if ":" in args.host else args.host
    url = f"http://{shown}:{server.server_address[1]}/"
    print(f"{url}  (Ctrl-C ends it)", flush=True)
    if not is_loopback(args.host):
        print("serve.py: open to everyone who reaches this address; there is no password", file=sys.stderr)
    if args.open:
        webbrowser.open(url)
    try:
        server.serve_forever()
    except KeyboardInterrupt:  # the way to end it, so not a failure
        print(file=sys.stderr)
    finally:
        server.server_close()
    return 0


def studio_of(args: argparse.Namespace) -> Studio:
    """The detector with all that the arguments say about it."""
    rule = rule_of(args, skip_pauses=not args.keep_pauses)
    malloc.keep_freed()
    scorer = open_scorer(args.run, device=args.device, n_threads=args.threads)
    predict_mos = None
    if not args.no_mos:
        try:
            predict_mos = quality_predictor()
        except InputError as error:
            print(f"serve.py: no quality prediction: {error}", file=sys.stderr)
    return Studio(scorer, rule, Limits(int(args.max_mb * 1e6), args.max_minutes * 60), predict_mos)


if __name__ == "__main__":
    sys.exit(main())
