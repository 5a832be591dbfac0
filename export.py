"""Turn weights into the form that another program, or another machine, wants; checked after writing.

    python export.py --convert-xlsr xlsr2_300m.pt -o pretrained/xlsr2_300m    front end: 3.8 GB once -> 1.3 GB
    python export.py exps/NAME -o DIR                                         detector: safetensors, JSON, a card
    python export.py exps/NAME -o model.onnx --format onnx                    detector: to score without PyTorch
    python export.py exps/NAME -o best.pth --format reference                 detector: as the published code saves it
    python export.py best/ -o DIR --average reference                         its five epochs as one detector

The first takes what model.xlsr.weights takes and writes a transformers folder, to be given as model.xlsr.weights.
The second writes a folder that inference.py and main.py read like a run, with a model card and the calibration, fit
for the Hugging Face hub (hf upload NAME DIR). The third writes a file for inference.py that says itself what it is;
--format onnx-int8 makes it smaller, at some cost that only an evaluation tells. The last writes a file for the
published code; weights in it that only pre-training reads are zeros unless --xlsr names the fairseq file that has
them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from qamo import InputError
from qamo.command import Parser, number, output, run_command, say_saved, typed
from qamo.published import published_epochs


def build_parser() -> Parser:
    parser = Parser("export.py", __doc__)
    parser.add_argument("run", type=Path, nargs="?", help="a run's folder, a checkpoint, or a folder of best_0.pth ...")
    parser.add_argument("--convert-xlsr", metavar="WEIGHTS", help="fairseq file, folder or hub name of the front end")
    parser.add_argument("--format", choices=("safetensors", "onnx", "onnx-int8", "reference"), default="safetensors")
    parser.add_argument("--xlsr", type=Path, help="with --format reference: the fairseq file xlsr2_300m.pt")
    parser.add_argument(
        "--n-heads", type=number(int, 1, 65_536), help="with --convert-xlsr: attention heads of an unpublished width"
    )
    parser.add_argument(
        "--average",
        choices=("mean", "reference", "none"),
        help="of best_0.pth ...: their mean (default), what the published code computes, or best_0.pth alone",
    )
    parser.add_argument("-o", "--output", type=output, required=True, help="folder, or file for onnx and reference")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), command, argv)


def command(args: argparse.Namespace) -> int:
    if (args.run is None) == (args.convert_xlsr is None):
        raise InputError("give either a run or --convert-xlsr")
    if args.average and not published_epochs(args.run):
        raise InputError(
            "--average has no effect: what is given is no folder of best_0.pth, best_1.pth ...; leave it out"
        )
    average = args.average or "mean"
    # PyTorch is imported from here on: --help does not wait for it.
    from qamo.export import folder

    if args.convert_xlsr is not None:
        written = folder.convert_xlsr(args.convert_xlsr, args.output, args.n_heads)
        print(f"{written}: {written.stat().st_size / 1e9:.2f} GB; set model.xlsr.weights={args.output}")
        then = typed("main", "--check", f"model.xlsr.weights={args.output}")
    elif args.format.startswith("onnx"):
        print(export_onnx(args.run, args.output, average, int8=args.format == "onnx-int8"))
        then = typed("serve", args.output)
    else:
        if args.format == "reference":
            difference = folder.export_reference(args.run, args.output, args.xlsr, average)
        else:
            difference = folder.export_folder(args.run, args.output, average)
        print(f"{args.output}: reads back with scores within {difference:.1e}")
        then = typed("serve", args.output)
    say_saved(args.output, then=then)
    return 0


def export_onnx(run: Path, path: Path, average: str = "mean", *, int8: bool) -> str:
    """Write a detector as an ONNX file, and say how well it agrees with the original.

    Raises:
        InputError: the run cannot be read, packages are missing, or a part has no form in ONNX.
    """
    if path.suffix != ".onnx":
        raise InputError(f"-o {path}: expected a name that ends in .onnx, by which inference.py knows the format")
    from qamo.export import folder, onnx

    detector, about, calibration = folder.read_source(run, average)
    options = {"window_samples": about["window_samples"], "source": about["source"]}
    written = onnx.export_onnx(detector, path, calibration=calibration, **options)
    lengths = ", ".join(map(str, written.lengths))
    text = f"{path}: {written.n_bytes / 1e6:.1f} MB; scores within {written.difference:.1e} at {lengths} samples"
    if int8:
        n_bytes = onnx.quantize(path, path)
        text += f"; int8: {n_bytes / 1e6:.1f} MB, compare its EER with the original's before you rely on it"
    return text


if __name__ == "__main__":
    sys.exit(main())
