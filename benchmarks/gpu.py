"""How fast one GPU is, and whether it computes what the CPU does: at most 8 minutes, one command.

    python benchmarks/gpu.py              on a machine with a CUDA GPU; writes the table into benchmarks/README.md
    python benchmarks/gpu.py --smoke      a tiny network on whatever is there, also a CPU; writes nothing

Checked: scores of each precision beside the CPU's. Measured: scoring, files to score file, and training steps with
Adam, at several batches, as they are written, recorded as a CUDA graph, and compiled too, with the share of the card's
peak, the memory taken, operations that Python launches and waits for the device. Yardstick, in the same run: each batch
of 20 copied, computed by transformers' own steps and read in turn, convolutions in TF32 and products in float32, Adam
unfused; that is what the program did before.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import deque
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
from qamo.training import launch, precision
from qamo.training.compiling import compile_steps
from qamo.training.cuda_graph import Passes
from qamo.training.loader import Batch, read_by_processes, read_by_threads, read_to_score, with_faults
from qamo.training.loop import build_optimizer
from qamo.training.signals import StopFlag

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- gpu: begin -->", "<!-- gpu: end -->"
PEAK_TFLOPS = {  # dense, of the SXM cards, by part of the name and precision
    "H100": {"32": 66.9, "tf32": 494.7, "bf16-mixed": 989.4, "16-mixed": 989.4},
    "H200": {"32": 66.9, "tf32": 494.7, "bf16-mixed": 989.4, "16-mixed": 989.4},
    "A100": {"32": 19.5, "tf32": 156.0, "bf16-mixed": 312.0, "16-mixed": 312.0},
}
TINY = {"hidden_size": 64, "n_layers": 2, "n_heads": 4, "ffn_size": 64, "conv_size": 32}
TINY |= {"position_kernel": 16, "position_groups": 4}
WORKERS = 16
GRAPH, FASTEST = "graph", "compiled, graph"
WAYS = {"": 0, GRAPH: 10_000, FASTEST: 1_000_000}  # recordings to come, by which `ScoringPass.prepare` decides
SCORED = {  # clips, and (batch, way) of each row, by precision
    "32": (2_048, ((128, GRAPH),)),
    "tf32": (8_192, ((20, GRAPH), (128, ""), (128, GRAPH), (128, FASTEST))),
    "bf16-mixed": (16_384, ((20, GRAPH), (128, ""), (128, GRAPH), (128, FASTEST))),
    "16-mixed": (8_192, ((128, GRAPH),)),
}
TRAINED = {  # (batch, way) of each row, by precision
    "32": ((20, GRAPH),),
    "tf32": ((20, ""), (20, GRAPH), (20, FASTEST), (64, FASTEST)),
    "bf16-mixed": ((20, ""), (20, GRAPH), (20, FASTEST), (64, FASTEST)),
    "16-mixed": ((20, ""),),
}
WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "bincount")


def build_parser() -> Parser:
    parser = Parser("gpu.py", __doc__)
    parser.add_argument("--smoke", action="store_true", help="a tiny network, also without a GPU; nothing is written")
    parser.add_argument("--minutes", type=float, default=7.5, help="parts that begin later are left out")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), command, argv)


def command(args: argparse.Namespace) -> int:
    if not args.smoke and not torch.cuda.is_available():
        raise InputError("PyTorch sees no CUDA GPU here; --smoke tries the script itself on a tiny network")
    bench = Bench(smoke=args.smoke, minutes=args.minutes)
    lines = bench.run()
    print("\n".join(lines))
    if not args.smoke:
        before, rest = README.read_text(encoding="utf-8").split(BEGIN)
        write_text(README, f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{rest.split(END)[1]}")
    return DONE


def named(precision_name: str, way: str) -> str:
    return f"{precision_name}, {way}" if way else precision_name


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

    def __init__(self, *, smoke: bool, minutes: float = 7.5):
        self.smoke = smoke
        self.seconds = 60 * minutes
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.card = torch.cuda.get_device_name() if self.device.type == "cuda" else "no GPU (a CPU)"
        self.samples = 4_000 if smoke else WINDOW_SAMPLES
        self.rounds = 1 if smoke else 10
        self.formats = [name for name in ("32", "tf32", "bf16-mixed", "16-mixed") if self._has(name)]
        self.started = time.monotonic()
        if self.device.type == "cuda":
            launch.set_deterministic(True)  # as runs do by default
        self.float32 = self.detector(self.device)

    def _has(self, name: str) -> bool:
        return precision.is_native(name, self.device.type)

    def detector(self, device: torch.device | str) -> Any:
        return subjects.detector(xlsr={"weights": None, **(TINY if self.smoke else {})}).to(device)

    def run(self) -> list[str]:
        lines = [f"{self.card}, torch {torch.__version__}, XLS-R 300M" + " in miniature" * self.smoke, ""]
        with tempfile.TemporaryDirectory() as folder:
            self.folder = Path(folder)
            self.clips = subjects.make_clips(self.folder / "clips", 4 if self.smoke else 256)
            for part in (self.equality, self.training, self.reading, self.scoring):
                lines += [*part(), ""]
        return lines[:-1]

    def left(self) -> bool:
        return time.monotonic() - self.started < self.seconds

    def row(self, rows: list[list[str]], label: str, size: int, measure: Callable[[], list[str]]) -> None:
        """Add what is measured, if there is time, or why it could not be."""
        if not self.left():
            return
        try:
            rows.append([label, f"{size}", *measure()])
        except Exception as error:  # a part that this machine has not; the others are measured all the same
            rows.append([label, f"{size}", f"failed: {str(error).strip().splitlines()[0][:80]}"])
        print(*rows[-1], f"({time.monotonic() - self.started:.0f} s)", file=sys.stderr, flush=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def equality(self) -> list[str]:
        wave = 0.1 * torch.randn(2, self.samples, generator=torch.Generator().manual_seed(1))
        detector = self.float32.cpu().eval()
        with torch.inference_mode():
            expected = detector(wave).score
        rows = []
        detector = detector.to(self.device)
        for name in self.formats:
            with torch.inference_mode(), precision.computing(name, self.device.type):
                scores = detector(wave.to(self.device)).score.cpu()
            rows.append([name, f"{(scores - expected).abs().max().item():.1e}"])
        return table(["precision", "largest difference of a score from the CPU's in float32"], rows)

    def reading(self) -> list[str]:
        """How fast recordings are decoded, with nothing computed."""
        rows = []
        for what, n_clips in (("processes", 16_384), ("threads", 4_096)):
            source = ScoreSet(self._clips(n_clips), window_samples=self.samples)
            batches = [range(i, min(i + 128, len(source))) for i in range(0, len(source), 128)]
            started = time.perf_counter()
            if what == "processes":
                deque(read_by_processes(source, batches, with_faults, n_workers=WORKERS), maxlen=0)
            else:
                deque(read_by_threads(source.__getitem__, batches, n_workers=WORKERS), maxlen=0)
            rows.append([f"{WORKERS} {what}", f"{len(source) / (time.perf_counter() - started):.0f}"])
        return table(["reading FLAC clips of 4 s", "clips/s"], rows)

    def _clips(self, n: int) -> list[Path]:
        return self.clips if self.smoke else self.clips * (n // len(self.clips))

    def scoring(self) -> list[str]:
        rows: list[list[str]] = []
        size = 2 if self.smoke else 20
        self.row(rows, "yardstick", size, lambda: self._plain_scoring(self._clips(1_024), size))
        for name in self.formats:
            n_clips, wanted = (4, ((2, ""), (4, ""))) if self.smoke else SCORED[name]
            if not (wanted and self.left()):
                continue
            detector = (self.float32 if name in ("32", "tf32") else self.detector(self.device)).eval()
            for size, way in wanted:
                measure = partial(self._files_to_scores, detector, name, self._clips(n_clips), size, way)
                self.row(rows, named(name, way), size, measure)
        header = ["scoring, files to score file", "batch", "clips/s", "share of peak", "peak GB", "operations", "waits"]
        return table(header, rows)

    def _files_to_scores(self, detector: Any, name: str, paths: list[Path], size: int, way: str) -> list[str]:
        ready = ScoringPass(detector, self.device, name, batch_size=size, window=self.samples)
        self._forget_compiled(detector)
        ready.prepare(self.samples, WAYS[way])
        if way and not ready.recorded:
            raise RuntimeError("not recorded")
        n_workers = 0 if self.smoke else WORKERS
        cfg = ScoreConfig(batch_size=size, precision=name, on_bad_audio="fail")
        fabric = Fabric(accelerator=self.device.type, devices=1)

        def score(paths: list[Path]) -> None:
            for path in self.folder.glob("s.txt*"):
                path.unlink()
            source = ScoreSet(paths, window_samples=self.samples)
            read = partial(read_to_score, source, n_workers=n_workers, fabric=fabric)
            names = [f"{i}" for i in range(len(paths))]
            score_trials(fabric, ready, names, read, self.folder / "s.txt", cfg, identity={}, stop=StopFlag())

        score(paths[: 2 * size])
        seconds, peak = self._timed(lambda: score(paths), 1)
        operations = self._counted(lambda: ready(torch.zeros(size, self.samples)), name)
        return [*self._rate(name, len(paths) / seconds, 1), peak, *operations]

    def _plain_scoring(self, paths: list[Path], size: int) -> list[str]:
        """A batch at a time: decoded, copied, computed by transformers' own steps, read."""
        detector = self.float32.eval()
        detector.frontend.plain = True

        def score(paths: list[Path]) -> None:
            source = ScoreSet(paths, window_samples=self.samples)
            batches = [range(i, min(i + size, len(paths))) for i in range(0, len(paths), size)]
            with torch.inference_mode():
                for wave, _ in read_by_threads(source.__getitem__, batches, n_workers=0 if self.smoke else 4):
                    assert isinstance(wave, torch.Tensor)
                    detector(wave.to(self.device)).score.float().tolist()

        score(paths[: 2 * size])
        seconds, peak = self._timed(lambda: score(paths), 1)
        operations = self._counted(lambda: detector(torch.zeros(size, self.samples, device=self.device)), "")
        detector.frontend.plain = False
        return [*self._rate("", len(paths) / seconds, 1), peak, *operations]

    def training(self) -> list[str]:
        rows: list[list[str]] = []
        size = 2 if self.smoke else 20
        self.row(rows, "yardstick", size, lambda: self._plain_steps(size))
        for name in self.formats:
            for size, way in ((2, ""),) if self.smoke else TRAINED[name]:
                self.row(rows, named(name, way), size, partial(self._steps, name, size, way))
        header = ["training step, Adam included", "batch", "utterances/s", "share of peak", "peak GB"]
        return table([*header, "operations", "waits"], rows)

    def _plain_steps(self, size: int) -> list[str]:
        """Adam one by one, and the losses read in each step."""
        detector = self.float32.train()
        detector.frontend.plain = True
        optimizer = build_optimizer(detector, lr=1e-6, head_lr=1e-3, weight_decay=1e-4)
        for group in optimizer.param_groups:
            group["fused"] = None
        batch = self._batch(size)

        def step() -> None:
            losses = detector(batch.wave, batch.bonafide, batch.quality).losses
            assert torch.isfinite(losses["total"])
            optimizer.zero_grad()
            losses["total"].backward()
            optimizer.step()
            [loss.item() for loss in losses.values()]

        row = self._measured("", size, step)
        detector.frontend.plain = False
        return row

    def _steps(self, name: str, size: int, way: str) -> list[str]:
        fabric = Fabric(accelerator=self.device.type, devices=1, plugins=[precision.plugin(name, self.device.type)])
        detector = self.float32.train()
        batch = self._batch(size)
        self._forget_compiled(detector)
        if way == FASTEST:
            with precision.computing(name, self.device.type):
                compile_steps(detector, batch.wave, backward=True)
        optimizer = build_optimizer(detector, lr=1e-6, head_lr=1e-3, weight_decay=1e-4)
        model, optimizer = fabric.setup(detector, optimizer)
        passes = Passes(fabric, detector, model, record=bool(way))

        def step() -> None:
            losses = passes.forward(batch)
            passes.backward(losses, optimizer)
            optimizer.step()

        with precision.float32_products(name):
            row = self._measured(name, size, step)
        if way and not passes.recorded:
            raise RuntimeError("not recorded")
        return row

    def _forget_compiled(self, detector: Any) -> None:
        """What is compiled for one row is not to use up the number of shapes that PyTorch compiles."""
        detector.frontend.gpu_pass.compiled_for = None
        torch.compiler.reset()

    def _batch(self, size: int) -> Batch:
        wave = 0.1 * torch.randn(size, self.samples, device=self.device)
        numbers = torch.arange(size, device=self.device)
        return Batch(wave, numbers % 2 == 0, 0 * numbers, numbers, numbers < 0)

    def _measured(self, name: str, size: int, step: Callable[[], Any]) -> list[str]:
        step()
        step()
        seconds, peak = self._timed(step, self.rounds)
        operations = self._counted(step, name, inference=False)
        return [*self._rate(name, size * self.rounds / seconds, 3), peak, *operations]

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
        peak = f"{torch.cuda.max_memory_reserved() / 1e9:.1f}" if cuda else "-"
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
