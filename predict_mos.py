"""Add a MOS column to a protocol, or compare two MOS files.

    python predict_mos.py PROTOCOL AUDIO_FOLDER -o OUT
    python predict_mos.py AUDIO_FOLDER -o OUT
    python predict_mos.py compare A B [--plot scatter.png]

PROTOCOL      an ASVspoof 2019, 2021 or 5 protocol, a list of names, or a meta.csv
OUT           SPEAKER NAME - ATTACK LABEL MOS, as training reads it; `file,speaker,label,mos` for a meta.csv;
              `NAME MOS` where there are no labels. OUT.json says which predictor wrote it.
--predictor   distillmos      offline, MIT, 1 to 5, any length (the default); distillmos:bf16 is faster and coarser
              scoreq:PATH     ONNX file of SCOREQ, no-reference mode, 16 kHz
              onnx:PATH@RATE  any ONNX model from a wave (1, T) to a score, at RATE Hz

MOS are kept in OUT.cache by the content of the recordings: the same command continues a run that was cut off.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qamo import InputError, __version__, cores, files, progress
from qamo.command import Parser, number, output, run_command, say_saved, typed
from qamo.quality.agreement import compare, scatter
from qamo.trials.protocol import Listing, list_folder, read_listing, read_protocol
from qamo.trials.ratings import read_ratings
from qamo.trials.recordings import ENDINGS, Recordings, check_recordings, find_extension, recordings_in


def build_parser() -> Parser:
    parser = Parser("predict_mos.py", __doc__)
    parser.add_argument("protocol", type=Path, help="protocol, list or meta.csv; or just the audio folder")
    parser.add_argument("audio", type=Path, nargs="?", help="folder of the recordings")
    parser.add_argument(
        "-o", "--output", "--out", type=output, required=True, metavar="OUT", help="the file with the MOS"
    )
    parser.add_argument("--predictor", default="distillmos")
    parser.add_argument("--extension", help="of the files, such as .flac; found out where not given")
    parser.add_argument("--jobs", type=number(int, 1, 1024), default=cores.usable(), help="threads (one a core)")
    return parser


def build_compare_parser() -> Parser:
    parser = Parser("predict_mos.py compare", __doc__)
    parser.add_argument("a", type=Path, metavar="A", help="a MOS file in any form that this command writes")
    parser.add_argument("b", type=Path, metavar="B", help="another")
    parser.add_argument(
        "--thresholds", type=number(float, -100, 100), nargs="+", default=[2.5], help="quality class borders (2.5)"
    )
    parser.add_argument("--plot", type=output, help="scatter plot: a .png, .svg or .pdf file")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["compare"]:
        return run_command(build_compare_parser(), compare_command, argv[1:])
    return run_command(build_parser(), predict_command, argv)


def compare_command(args: argparse.Namespace) -> int:
    a, b = read_ratings(args.a), read_ratings(args.b)
    lines = compare(a, b, args.thresholds)
    if args.plot is not None:
        scatter(a, b, args.thresholds, args.plot)
    print("\n".join(lines))
    say_saved(*[args.plot] * (args.plot is not None))
    return 0


def predict_command(args: argparse.Namespace) -> int:
    progress.start_log()
    out: Path = args.output
    sidecar, cache = (out.with_name(out.name + ending) for ending in (".json", ".cache"))
    if out.exists() and not sidecar.exists():
        raise InputError(f"{out}: exists and was not written by this command; give another -o or remove it")
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out.parent}: no such folder; make it before")
    listing, paths = recordings_of(args.protocol, args.audio, args.extension)

    # PyTorch is imported from here on: a mistake above is told at once.
    from qamo.quality.cache import predict_files
    from qamo.quality.predictors import build_predictor

    identity = build_predictor(args.predictor).identity
    started = time.monotonic()
    mos = predict_files(list(paths), args.predictor, jobs=args.jobs, cache=cache)
    seconds = time.monotonic() - started
    files.write_text(out, listing.with_mos(mos))
    about = {
        "predictor": identity,
        "spec": args.predictor,
        "qamo": __version__,
        "protocol": str(args.protocol),
        "protocol_sha256": None if args.protocol.is_dir() else files.sha256(args.protocol),
        "n": len(mos),
        "median": round(float(np.median(mos)), 4),
        "below_2.5": round(float(np.mean(mos < 2.5)), 4),
        "seconds": round(seconds, 1),
        "jobs": args.jobs,
    }
    files.write_json(sidecar, about)
    print(
        f"{out}: MOS of {len(mos)} recordings in {seconds:.0f} s, median {np.median(mos):.2f}, "
        f"{100 * np.mean(mos < 2.5):.0f} % below 2.5"
    )
    say_saved(out, then=dry_run(out, args.audio))
    return 0


def dry_run(out: Path, audio: Path | None) -> str:
    """The command that looks whether a training could begin with what was written; "" where it is no protocol."""
    try:
        read_protocol(out)
    except InputError:
        return ""
    part = "dev" if "dev" in out.name.lower() else "train"
    places = [f"data.{part}_protocol={out.absolute()}", f"data.{part}_audio={audio.absolute() if audio else ''}"]
    return typed("main", "--check", *places)


def recordings_of(protocol: Path, folder: Path | None, extension: str | None) -> tuple[Listing, Recordings]:
    """What is listed, and its recordings, which are there.

    Raises:
        InputError: something is missing or cannot be read.
    """
    if protocol.is_dir() and folder is None:
        listing, folder, extension = list_folder(protocol, recordings_in(protocol)), protocol, ""
    elif folder is None:
        raise InputError(f"{protocol}: expected the folder of its recordings as second argument")
    else:
        listing = read_listing(protocol)
        extension = _extension(folder, listing.names[0], extension)
    paths = Recordings(folder, listing.names, extension)
    check_recordings(paths, what=str(protocol), where="the folder of recordings")
    return listing, paths


def _extension(folder: Path, name: str, given: str | None) -> str:
    if given is not None:
        return given if not given or given.startswith(".") else f".{given}"
    found = find_extension(folder, [name])
    if found is not None:
        return found
    raise InputError(
        f"{folder / name}: no such recording, nor with any of {' '.join(ENDINGS)}; check the folder or --extension"
    )


if __name__ == "__main__":
    sys.exit(main())
