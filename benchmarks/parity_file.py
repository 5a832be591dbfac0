"""Hold this program against a file of benchmarks/parity_original.py, which the published code wrote with real weights.

    python benchmarks/parity_file.py original.npz --xlsr pretrained/xlsr2_300m.pt
    python benchmarks/parity_file.py original.npz --detector best_0.pth

Computes the same from the waves in the file and the same weights, prints the largest difference of each kind, and ends
with status 1 where one is larger than allowed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import model
from benchmarks import parity_original
from qamo import InputError
from qamo.command import Parser, run_command
from qamo.config.parts import XLSRConfig
from qamo.files import sha256
from qamo.networks.xlsr import XLSR
from qamo.networks.xlsr_files import TO_FAIRSEQ, renamed

# At the head of docs/parity.md, which benchmarks/parity.py writes.
FIRST_STEP = """\
**Where the real weights are, do this first.** The figures below are of tiny or made-up weights. In the environment of
the published code (Python 3.7, torch 1.8.1, fairseq), on any recordings at 16 kHz, `benchmarks/parity_original.py`
records hidden states and one training step of the real `xlsr2_300m.pt`, or what a published detector returns. It is one
file that imports nothing of this project:

```sh
python parity_original.py clip1.wav clip2.wav --xlsr xlsr2_300m.pt -o original.npz
```

Then, here, with the same weights in `pretrained/` (`ARGS="--detector best_0.pth"` for a detector):

```sh
make parity-original FILE=original.npz
```
"""
Row = tuple[str, float, float]  # what, the largest difference in proportion to the largest value, what is allowed


def build_parser() -> Parser:
    parser = Parser("parity_file.py", __doc__)
    parser.add_argument("file", type=Path, help="what parity_original.py wrote")
    parser.add_argument("--xlsr", type=Path, help="the same fairseq file")
    parser.add_argument("--detector", type=Path, help="the same checkpoint")
    parser.add_argument("--n-heads", type=int, help="attention heads of a front end of an unpublished width")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), command, argv)


def command(args: argparse.Namespace) -> int:
    try:
        with np.load(args.file, allow_pickle=False) as stored:
            arrays = dict(stored)
        about = json.loads(str(arrays["about"]))
    except (ValueError, KeyError, EOFError) as error:
        raise InputError(f"{args.file}: no file of parity_original.py ({error})") from None
    rows: list[Row] = []
    for name, path, check in (("xlsr", args.xlsr, front_end), ("detector", args.detector, detector)):
        if (f"{name}_sha256" in about) != (path is not None):
            raise InputError(
                f"--{name}: {args.file} has {'figures of one; give the same' if path is None else 'none; leave it out'}"
            )
        if path is not None:
            if sha256(path) != about[f"{name}_sha256"]:
                raise InputError(f"--{name} {path}: not the weights that {args.file} was made with (SHA-256)")
            rows += check(arrays, path, args.n_heads)
    print(f"original: {', '.join(f'{key} {value}' for key, value in about.items())}; here: torch {torch.__version__}")
    print("| what was held against the original | largest difference | allowed |\n| --- | --- | --- |")
    print("\n".join(f"| {what} | {found:.1e} | {allowed:.0e} |" for what, found, allowed in rows))
    return 0 if all(found <= allowed for _, found, allowed in rows) else 1


def front_end(arrays: dict[str, np.ndarray], path: Path, n_heads: int | None) -> Iterator[Row]:
    waves = torch.from_numpy(arrays["waves"])
    frontend: Any = XLSR(**XLSRConfig(weights=str(path), n_heads=n_heads).model_dump())
    with torch.inference_mode():
        yield "XLS-R hidden states", relative(frontend.eval()(waves).numpy(), arrays["hidden"]), 1e-5
    if "step/loss" not in arrays:
        return
    if frontend.recipe.draws:
        print("the training step is passed over: the file asks for dropouts, whose draws differ", file=sys.stderr)
        return
    hidden = frontend.train()(waves)
    loss = (hidden * parity_original.probe(hidden)).mean()
    loss.backward()
    trained = {renamed(n, TO_FAIRSEQ): p for n, p in frontend.network.named_parameters() if p.grad is not None}
    before = {name: p.detach().clone() for name, p in trained.items()}
    gradients = {name: p.grad.clone() for name, p in trained.items()}
    rates: dict[str, Any] = {"lr": parity_original.LEARNING_RATE, "weight_decay": parity_original.WEIGHT_DECAY}
    torch.optim.Adam(trained.values(), **rates).step()
    names = arrays["step/names"].tolist()
    yield "one step: trained weights (missing or more)", float(len(set(names) ^ trained.keys())), 0.0
    names = [name for name in names if name in trained]
    index = [i for i, name in enumerate(arrays["step/names"].tolist()) if name in trained]
    norms = arrays["step/gradient_norms"][index]
    yield "one step: loss", relative(loss.detach().numpy(), arrays["step/loss"]), 1e-4
    found = np.array([gradients[name].double().norm().item() for name in names])
    yield "one step: norm of each gradient", relative(found, norms), 1e-4
    dots = np.array([parity_original.dot(gradients[name]) for name in names])
    yield "one step: each gradient", relative_to(dots, arrays["step/gradient_dots"][index], norms.max()), 1e-4
    # As a share of the way that Adam can go; where a gradient is rounding alone, its sign is chance.
    sizes = np.array([before[name].numel() for name in names])
    change = np.array([parity_original.dot(trained[name].detach() - before[name]) for name in names])
    sound = norms / np.sqrt(sizes) > 1e-4 * (norms / np.sqrt(sizes)).max()
    way = parity_original.LEARNING_RATE * np.sqrt(sizes)
    differences = np.abs(change - arrays["step/change_dots"][index]) / way
    yield "one step: change of each weight", float(differences[sound].max(initial=0)), 5e-2


def detector(arrays: dict[str, np.ndarray], path: Path, n_heads: int | None) -> Iterator[Row]:
    detect: Any = model.load_detector(path, asked={"xlsr.n_heads": n_heads})
    with torch.inference_mode():
        output = detect(torch.from_numpy(arrays["waves"]))
        ours = {"embeddings": output.embedding.numpy(), "scores": output.score.numpy()}
        if hasattr(detect.head, "cosines"):
            ours["cosines"] = detect.head.cosines(output.embedding).numpy()
    for name, theirs in sorted((n, a) for n, a in arrays.items() if n.startswith("detector")):
        alike = {what: relative(mine, theirs) for what, mine in ours.items() if mine.shape == theirs.squeeze().shape}
        if alike:
            what = min(alike, key=lambda what: alike[what])
            yield f"{name}: {what}", alike[what], 1e-5
        else:
            print(f"{name}: of shape {theirs.shape}, which nothing of this program has", file=sys.stderr)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return relative_to(found, np.squeeze(expected), float(np.abs(expected).max(initial=0)) or 1.0)


def relative_to(found: np.ndarray, expected: np.ndarray, scale: float) -> float:
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max(initial=0)) / scale


if __name__ == "__main__":
    sys.exit(main())
