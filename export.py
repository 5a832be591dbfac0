"""Turn weights into the form that another program, or another machine, wants; checked after writing.

    python export.py --convert-xlsr xlsr2_300m.pt -o pretrained/xlsr2_300m    front end: 3.8 GB once -> 1.3 GB
    python export.py exps/NAME -o DIR                                         detector: safetensors, JSON, a card
    python export.py exps/NAME -o model.onnx --format onnx                    detector: to score without PyTorch
    python export.py exps/NAME -o best.pth --format reference                 detector: as the published code saves it

The first takes what model.xlsr.weights takes and writes a transformers folder, to be given as model.xlsr.weights.
The second writes a folder that inference.py and main.py read like a run, with a model card and the calibration, fit
for the Hugging Face hub (hf upload NAME DIR). The third writes a file for inference.py that says itself what it is;
--format onnx-int8 makes it smaller, at some cost that only an evaluation tells. The last writes a file for the
published code; weights in it that only pre-training reads are zeros unless --xlsr names the fairseq file that has
them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from qamo import InputError

PROBE_SAMPLES = 16_000  # of the noise that both forms of a detector must score alike


def convert_xlsr(weights: str, folder: Path, n_heads: int | None = None) -> Path:
    """Write the front end that `weights` names as a transformers folder, and return the file of its weights.

    Args:
        n_heads: attention heads; None: those of the published network of that width.

    Raises:
        InputError: the weights cannot be read, or the folder holds something already.
    """
    import torch
    from transformers.utils.logging import disable_progress_bar

    from qamo.config.schema import XLSRConfig
    from qamo.networks.xlsr import XLSR
    from qamo.networks.xlsr_files import attention_heads, read_xlsr, xlsr_sizes
    from qamo.training.checkpoint import share

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: expected a new or an empty folder to write to; choose another with -o")
    state = read_xlsr(weights)
    sizes = {**xlsr_sizes(state), "n_heads": attention_heads(state, n_heads, weights)}
    frontend = XLSR(**XLSRConfig.model_validate({**sizes, "weights": weights}).model_dump())
    folder.mkdir(parents=True, exist_ok=True)
    network: Any = frontend.network
    disable_progress_bar()
    with tempfile.TemporaryDirectory(dir=folder) as staging:
        network.save_pretrained(staging)
        for name in ("model.safetensors", "config.json"):  # the config last: without it the folder is refused
            share(Path(staging) / name)
            os.replace(Path(staging) / name, folder / name)
    written = read_xlsr(str(folder))
    expected = network.state_dict()
    if written.keys() != expected.keys() or not all(torch.equal(written[k], t) for k, t in expected.items()):
        raise RuntimeError(f"{folder}: what was written does not read back equal")
    return folder / "model.safetensors"


def export_folder(run: Path, folder: Path) -> float:
    """Write a detector as safetensors and JSON, with its calibration and a card; largest difference of its scores.

    Raises:
        InputError: the run cannot be read, or the folder holds something already.
    """
    from model import load_detector
    from qamo.evaluation import calibration
    from qamo.export.model_card import write_card
    from qamo.inference import scorer as scorers
    from qamo.training.checkpoint import write_exported

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: expected a new or an empty folder to write to; choose another with -o")
    detector = load_detector(run)
    weights = scorers.digest_of(detector)
    known, _ = scorers.calibration_beside(run, weights)
    about: dict[str, Any] = {
        "model_config": _config(detector),
        "window_samples": scorers.window_of(run),
        "weights": weights,
        "source": run.resolve().name,
    }
    write_exported(folder, model_state=detector.state_dict(), **about)
    if known:
        calibration.write(folder / calibration.FILE, known.portable())
    write_card(folder, name=folder.resolve().name, about=about, known=known, run=run if run.is_dir() else None)
    return _score_difference(detector, load_detector(folder))


def export_onnx(run: Path, path: Path, *, int8: bool) -> str:
    """Write a detector as an ONNX file, and say how well it agrees with the original.

    Raises:
        InputError: the run cannot be read, packages are missing, or a part has no form in ONNX.
    """
    from model import load_detector
    from qamo.export import onnx as onnx_export
    from qamo.inference import scorer as scorers

    if path.suffix != ".onnx":
        raise InputError(f"-o {path}: expected a name that ends in .onnx, by which inference.py knows the format")
    detector = load_detector(run)
    known, _ = scorers.calibration_beside(run, scorers.digest_of(detector))
    written = onnx_export.export_onnx(
        detector, path, window_samples=scorers.window_of(run), known=known, source=run.resolve().name
    )
    lengths = ", ".join(str(n) for n in written.lengths)
    said = f"{path}: {written.n_bytes / 1e6:.1f} MB; scores within {written.difference:.1e} at {lengths} samples"
    if int8:
        n_bytes = onnx_export.quantize(path, path)
        said += f"; int8: {n_bytes / 1e6:.1f} MB, compare its EER with the original's before you rely on it"
    return said


def export_reference(run: Path, path: Path, xlsr: Path | None) -> float:
    """Write a detector as the published code saves it; largest difference of its scores when read back.

    Raises:
        InputError: the run cannot be read, or its detector has no place in a published file.
    """
    import torch

    from model import load_detector
    from qamo.config.schema import ModelConfig
    from qamo.files import replacing
    from qamo.networks.published import to_published
    from qamo.networks.xlsr_files import read_fairseq

    detector = load_detector(run)
    config = _config(detector)
    pretraining = None if xlsr is None else read_fairseq(xlsr)
    state = to_published(detector.state_dict(), config["backend"], pretraining=pretraining)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.save(state, file)
    return _score_difference(detector, load_detector(path, ModelConfig.model_validate(config)))


def _config(detector: Any) -> dict[str, Any]:
    """The detector's config, without the place of a front end's file: its weights are in the export."""
    config: dict[str, Any] = detector.config
    return {**config, "xlsr": {**config["xlsr"], "weights": None}}


def _score_difference(one: Any, other: Any) -> float:
    import torch

    noise = torch.randn(2, PROBE_SAMPLES, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        difference = (one(noise).score - other(noise).score).abs().max().item()
    if not difference < 1e-6:
        raise RuntimeError(f"the exported detector scores differ by {difference}")
    return difference


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="a run's folder, or a checkpoint")
    parser.add_argument("--convert-xlsr", metavar="WEIGHTS", help="fairseq file, folder or hub name of the front end")
    parser.add_argument("--format", choices=("safetensors", "onnx", "onnx-int8", "reference"), default="safetensors")
    parser.add_argument("--xlsr", type=Path, help="with --format reference: the fairseq file xlsr2_300m.pt")
    parser.add_argument("--n-heads", type=int, help="with --convert-xlsr: attention heads of an unpublished width")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder, or file for onnx and reference")
    args = parser.parse_args(argv)
    if (args.run is None) == (args.convert_xlsr is None):
        parser.error("give either a run or --convert-xlsr")
    try:
        if args.convert_xlsr is not None:
            written = convert_xlsr(args.convert_xlsr, args.output, args.n_heads)
            print(f"{written}: {written.stat().st_size / 1e9:.2f} GB; set model.xlsr.weights={args.output}")
        elif args.format == "reference":
            difference = export_reference(args.run, args.output, args.xlsr)
            print(f"{args.output}: reads back with scores within {difference:.1e}")
        elif args.format.startswith("onnx"):
            print(export_onnx(args.run, args.output, int8=args.format == "onnx-int8"))
        else:
            difference = export_folder(args.run, args.output)
            print(f"{args.output}: reads back with scores within {difference:.1e}")
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
