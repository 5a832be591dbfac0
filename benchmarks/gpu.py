"""How fast one GPU is, and whether it computes what the CPU does: at most 8 minutes, one command.

    python benchmarks/gpu.py              on a machine with a CUDA GPU; writes the table into benchmarks/README.md
    python benchmarks/gpu.py --smoke      a tiny network on whatever is there, also a CPU; writes nothing

Checked: scores of each precision beside the CPU's. Measured: scoring, files to score file, and training steps with
Adam, at several batches, layer by layer and compiled, with the share of the card's peak, peak memory, operations that
are launched and waits for the device. Yardstick, in the same run: each batch of 20 copied, computed and read in turn,
convolutions in TF32 and products in float32, Adam unfused; that is what the program did before.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from lightning_fabric import Fabric
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import subjects
from benchmarks.measure import table
from benchmarks.parts.scoring import GFLOP_A_WINDOW
from data_utils import ScoreSet
from qamo import InputError
from qamo.audio import WINDOW_SAMPLES
from qamo.command import DONE, Parser, run_command
from qamo.config.schema import ScoreConfig
from qamo.evaluation.score_set import score_trials
from qamo.evaluation.scoring_pass import ScoringPass
from qamo.files import write_text
from qamo.training import precision
from qamo.training.compiling import compile_layers
from qamo.training.loader import read_by_threads
from qamo.training.loop import build_optimizer
from qamo.training.signals import StopFlag

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- gpu: begin -->", "<!-- gpu: end -->"
BUDGET_S = 450.0
PEAK_TFLOPS = {  # dense, of the SXM cards, by part of the name and precision
    "H100": {"32": 66.9, "tf32": 494.7, "bf16-mixed": 989.4, "16-mixed": 989.4},
    "H200": {"32": 66.9, "tf32": 494.7, "bf16-mixed": 989.4, "16-mixed": 989.4},
    "A100": {"32": 19.5, "tf32": 156.0, "bf16-mixed": 312.0, "16-mixed": 312.0},
}
TINY = {"hidden_size": 64, "n_layers": 2, "n_heads": 4, "ffn_size": 64, "conv_size": 32}
TINY |= {"position_kernel": 16, "position_groups": 4}
WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "bincount")


def build_parser() -> Parser:
    parser = Parser("gpu.py", __doc__)
    parser.add_argument("--smoke", action="store_true", help="a tiny network, also without a GPU; nothing is written")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), command, argv)


def command(args: argparse.Namespace) -> int:
    if not args.smoke and not torch.cuda.is_available():
        raise InputError("PyTorch sees no CUDA GPU here; --smoke tries the script itself on a tiny network")
    bench = Bench(smoke=args.smoke)
    lines = bench.run()
    print("\n".join(lines))
    if not args.smoke:
        before, rest = README.read_text(encoding="utf-8").split(BEGIN)
        write_text(README, f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{rest.split(END)[1]}")
    return DONE


class Operations(TorchDispatchMode):
    """How many operations are launched, and how many of them wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.n = self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += 1
        self.waits += func.name().removeprefix("aten::").partition(".")[0] in WAITS
        return func(*args, **(kwargs or {}))


class Bench:
    """The parts of the benchmark on one device; each stops at what is left of the time."""

    def __init__(self, *, smoke: bool):
        self.smoke = smoke
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.card = torch.cuda.get_device_name() if self.device.type == "cuda" else "no GPU (a CPU)"
        self.samples = 4_000 if smoke else WINDOW_SAMPLES
        self.rounds = 1 if smoke else 10
        self.formats = [name for name in ("32", "tf32", "bf16-mixed", "16-mixed") if self._has(name)]
        self.started = time.monotonic()

    def _has(self, name: str) -> bool:
        return precision.is_native(name, self.device.type)

    def detector(self, device: torch.device | str) -> Any:
        return subjects.detector(xlsr={"weights": None, **(TINY if self.smoke else {})}).to(device)

    def run(self) -> list[str]:
        lines = [f"{self.card}, torch {torch.__version__}, XLS-R 300M" + " in miniature" * self.smoke, ""]
        for part in (self.equality, self.scoring, self.training):
            lines += [*part(), ""]
        return lines[:-1]

    def left(self) -> bool:
        return time.monotonic() - self.started < BUDGET_S

    def equality(self) -> list[str]:
        wave = 0.1 * torch.randn(2, self.samples, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            expected = self.detector("cpu").eval()(wave).score
        rows = []
        for name in self.formats:
            with torch.inference_mode(), precision.computing(name, self.device.type):
                scores = self.detector(self.device).eval()(wave.to(self.device)).score.cpu()
            rows.append([name, f"{(scores - expected).abs().max().item():.1e}"])
        return table(["precision", "largest difference of a score from the CPU's in float32"], rows)

    def scoring(self) -> list[str]:
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            sizes = (2, 4) if self.smoke else (20, 128, 256)
            paths = subjects.make_clips(Path(folder) / "clips", sizes[-1])
            many = paths * (1 if self.smoke else 8)
            rows.append(self._plain_scoring(many, sizes[0]))
            for name in self.formats:
                for size in sizes:
                    for compiled in (False, True):
                        if self.left() and not (compiled and self.device.type == "cpu"):
                            rows.append(self._files_to_scores(name, many, size, Path(folder), compiled=compiled))
        header = ["scoring, files to score file", "batch", "clips/s", "share of peak", "peak GB", "operations", "waits"]
        return table(header, rows)

    def _files_to_scores(self, name: str, paths: list[Path], size: int, folder: Path, *, compiled: bool) -> list[str]:
        detector = self.detector(self.device).eval()
        ready = ScoringPass(detector, self.device, name, batch_size=size, window=self.samples)
        source = ScoreSet(paths, window_samples=self.samples)
        if compiled:
            ready.compile(self.samples, name)
        names = [f"{i}" for i in range(len(paths))]
        read = partial(read_by_threads, source.__getitem__, n_workers=0 if self.smoke else 16)
        cfg = ScoreConfig(batch_size=size, precision=name, on_bad_audio="fail")
        fabric = Fabric(accelerator=self.device.type, devices=1)

        def score() -> None:
            for path in folder.glob("s.txt*"):
                path.unlink()
            score_trials(fabric, ready, names, read, folder / "s.txt", cfg, identity={}, stop=StopFlag())

        score()
        seconds, peak = self._timed(score, 1)
        operations = self._counted(lambda: ready(torch.zeros(size, self.samples)), name)
        label = f"{name}{', compiled' * compiled}"
        return [label, f"{size}", *self._rate(name, len(paths) / seconds, 1), peak, *operations]

    def _plain_scoring(self, paths: list[Path], size: int) -> list[str]:
        """A batch at a time: decoded, copied, computed, read."""
        detector = self.detector(self.device).eval()
        source = ScoreSet(paths, window_samples=self.samples)

        def score() -> None:
            batches = [range(i, min(i + size, len(paths))) for i in range(0, len(paths), size)]
            with torch.inference_mode():
                for wave, _ in read_by_threads(source.__getitem__, batches, n_workers=0 if self.smoke else 4):
                    assert isinstance(wave, torch.Tensor)
                    detector(wave.to(self.device)).score.float().tolist()

        score()
        seconds, peak = self._timed(score, 1)
        operations = self._counted(lambda: detector(torch.zeros(size, self.samples, device=self.device)), "")
        return ["yardstick", f"{size}", *self._rate("", len(paths) / seconds, 1), peak, *operations]

    def training(self) -> list[str]:
        rows = [self._steps("yardstick", 2 if self.smoke else 20, compiled=False)]
        for name in self.formats:
            for size in (2,) if self.smoke else (20, 64):
                for compiled in (False, True):
                    if self.left() and not (compiled and self.device.type == "cpu"):
                        rows.append(self._steps(name, size, compiled=compiled))
        header = ["training step, Adam included", "batch", "utterances/s", "share of peak", "peak GB"]
        return table([*header, "operations", "waits"], rows)

    def _steps(self, name: str, size: int, *, compiled: bool) -> list[str]:
        detector = self.detector(self.device).train()
        plain = name == "yardstick"
        optimizer = build_optimizer(detector, lr=1e-6, head_lr=1e-3, weight_decay=1e-4)
        for group in optimizer.param_groups:
            group["fused"] = None if plain else group["fused"]
        wave = 0.1 * torch.randn(size, self.samples, device=self.device)
        labels = (
            torch.arange(size, device=self.device) % 2 == 0,
            torch.zeros(size, dtype=torch.int64, device=self.device),
        )
        if compiled:
            with precision.computing(name, self.device.type):
                compile_layers(detector, wave, backward=True)

        def step() -> None:
            with precision.autocast(name, self.device.type):
                losses = detector(wave, *labels).losses
            if plain:
                assert torch.isfinite(losses["total"])
            optimizer.zero_grad()
            losses["total"].backward()
            optimizer.step()
            if plain:
                [loss.item() for loss in losses.values()]

        with contextlib.nullcontext() if plain else precision.float32_products(name):
            step()
            seconds, peak = self._timed(step, self.rounds)
            operations = self._counted(step, name, inference=False)
        label = f"{name}{', compiled' * compiled}"
        return [label, f"{size}", *self._rate(name, size * self.rounds / seconds, 3), peak, *operations]

    def _timed(self, run: Callable[[], Any], times: int) -> tuple[float, str]:
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(times):
            run()
        if cuda:
            torch.cuda.synchronize()
        peak = f"{torch.cuda.max_memory_allocated() / 1e9:.1f}" if cuda else "-"
        return time.perf_counter() - started, peak

    def _counted(self, run: Callable[[], Any], name: str, *, inference: bool = True) -> list[str]:
        kind = self.device.type
        with torch.inference_mode(inference), precision.autocast(name, kind), Operations() as counted:
            run()
        return [f"{counted.n}", f"{counted.waits}"]

    def _rate(self, name: str, per_second: float, passes: int) -> list[str]:
        """Items a second, and the share of the card's peak; a training step is three passes."""
        peaks = next((peaks for card, peaks in PEAK_TFLOPS.items() if card in self.card), {})
        share = ""
        if name in peaks and not self.smoke:
            share = f"{per_second * passes * GFLOP_A_WINDOW / 1000 / peaks[name]:.0%}"
        return [f"{per_second:.0f}", share]


if __name__ == "__main__":
    sys.exit(main())
