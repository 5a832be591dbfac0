"""How fast this program is beside a plain version (yardstick.py), and how its cost grows.

    python benchmarks/speed.py                          everything; about 20 minutes and 12 GB on two quiet cores
    python benchmarks/speed.py --only data startup      some of it
    python benchmarks/speed.py --rounds 1               roughly

Both versions run in turns in one process on the same input, and their results are compared; a ratio is one of medians.
Written: benchmarks/results/speed.json, the table in benchmarks/README.md, and growth.svg beside it. Parts that are not
run keep their last figures.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from qamo.networks.cpu import malloc as memory  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "speed.json"
README = ROOT / "benchmarks" / "README.md"
PLOT = ROOT / "benchmarks" / "results" / "growth.svg"
WINDOW_SAMPLES = 66_800
GFLOP_A_WINDOW = 154.1  # of XLS-R 300M: 125.6 linear, 20.5 stem, 4.3 attention, 3.5 position, 0.2 projection
TRIALS = {"LA": 181_566, "DF": 611_829, "In-the-Wild": 31_779, "FoR": 4_634}
COMMANDS = ["main", "inference", "report", "predict_mos", "export", "serve", "score_ood_dataset"]
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
N_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_turns(
    versions: dict[str, Callable[[], Any]], rounds: int, warm_up: Callable[[], Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Median wall and CPU seconds of each version, run in turns; the one named "yardstick" has malloc's defaults.

    Beside the medians stand the lowest and highest ratio to the yardstick of the same round. `warm_up` follows the
    yardstick, untimed: memory that it gave back is then at hand again, as it is in the middle of a long run.
    """
    import yardstick

    wall: dict[str, list[float]] = {name: [] for name in versions}
    cpu: dict[str, list[float]] = {name: [] for name in versions}
    for _ in range(rounds):
        for name, run in versions.items():
            gc.collect()
            yardstick.default_malloc() if name == "yardstick" else memory.keep_freed()
            started, started_cpu = time.perf_counter(), time.process_time()
            run()
            wall[name].append(time.perf_counter() - started)
            cpu[name].append(time.process_time() - started_cpu)
            if name == "yardstick" and warm_up is not None:
                memory.keep_freed()
                warm_up()
    found: dict[str, dict[str, Any]] = {}
    for name in versions:
        ratios = [plain / ours for plain, ours in zip(wall.get("yardstick", wall[name]), wall[name])]
        found[name] = {
            "wall_s": statistics.median(wall[name]),
            "cpu_s": statistics.median(cpu[name]),
            "ratios": [min(ratios), max(ratios)],
            "rounds": rounds,
        }
    return found


def make_clips(folder: Path, n: int, seconds: float = 4.0) -> list[Path]:
    """FLAC files of noise with the slope of speech, some shorter than the window."""
    import numpy as np
    import soundfile

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(n):
        wave = rng.normal(size=int(16_000 * seconds * (1 + 0.1 * (i % 3))))
        wave = np.convolve(wave, 0.9 ** np.arange(60), mode="same")
        path = folder / f"clip_{i:05d}.flac"
        soundfile.write(path, 0.3 * wave / np.abs(wave).max(), 16_000)
        paths.append(path)
    return paths


def full_detector(**xlsr: Any) -> Any:
    """XLS-R 300M with random weights, and the Conformer-TCM."""
    import torch

    import model
    from qamo.config.schema import ModelConfig

    torch.manual_seed(0)
    return model.build_detector(ModelConfig.model_validate({"xlsr": {"weights": None, **xlsr}}))


def machine() -> dict[str, Any]:
    """Where this runs: processor, versions, load, and the matrix products it reaches."""
    import torch
    import transformers

    model_name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model_name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model_name)
    return {
        "processor": model_name,
        "cores": N_CORES,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": date.today().isoformat(),
        "load": os.getloadavg()[0],
        "gflops_peak": {name: 2 * 2048**3 / median_s(product, 30) / 1e9 for name, product in products().items()},
    }


def products() -> dict[str, Callable[[], Any]]:
    """Matrix products of 2048 by each library and in each format: what this machine can do at most."""
    import torch

    from qamo.networks.cpu import onednn as parts

    made: dict[str, Callable[[], Any]] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
        if name == "fp32":
            made["fp32 MKL"] = functools.partial(torch.matmul, a, b)
        if parts.has_onednn(dtype):
            made[f"{name} oneDNN"] = functools.partial(parts._product, a, b, None)
    return made


def median_s(run: Callable[[], Any], times: int) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


# ---- scoring


def _score_ours(detector: Any, paths: list[Path], out: Path, batch_size: int, precision: str) -> None:
    from lightning_fabric import Fabric

    import data_utils
    from qamo.config.schema import ScoreConfig
    from qamo.evaluation.score_set import score_trials
    from qamo.training.loader import read_by_threads
    from qamo.training.signals import StopFlag

    source = data_utils.ScoreSet(paths, window_samples=WINDOW_SAMPLES)
    out.unlink(missing_ok=True)
    out.with_name(out.name + ".json").unlink(missing_ok=True)
    score_trials(
        Fabric(accelerator="cpu", devices=1),
        detector,
        [path.stem for path in paths],
        functools.partial(read_by_threads, source.__getitem__, n_workers=1),
        out,
        ScoreConfig.model_validate({"batch_size": batch_size, "precision": precision, "on_bad_audio": "fail"}),
        identity={},
        stop=StopFlag(),
    )


def scoring(rounds: int, batch_size: int) -> dict[str, Any]:
    """Files to score file, full-size network: the peak memory of a process of each version, then time."""
    peaks = {}
    for name in ("yardstick", "32", "bf16-mixed"):
        n = batch_size if name == "yardstick" else 10
        if name != "yardstick" or _available_gb() > 2 + 1.6 * n:  # do not take what others need
            peaks[f"{name} (batch {n})"] = _in_child(f"speed.peak_of_scoring({name!r}, {n})")
    return {**_timed_scoring(rounds, batch_size), "peak_mb": peaks}


def _timed_scoring(rounds: int, batch_size: int) -> dict[str, Any]:
    import yardstick

    from qamo.trials.scores import read_scores

    memory.keep_freed()
    detector = full_detector().eval()
    with tempfile.TemporaryDirectory() as folder:
        paths = make_clips(Path(folder) / "clips", 4 * batch_size)
        outs = {name: Path(folder) / f"{name}.txt" for name in ("yardstick", "32", "bf16-mixed")}
        versions: dict[str, Callable[[], Any]] = {
            "yardstick": lambda: yardstick.score(
                detector, paths, outs["yardstick"], batch_size=batch_size, n_samples=WINDOW_SAMPLES
            ),
            "32": lambda: _score_ours(detector, paths, outs["32"], batch_size, "32"),
            "bf16-mixed": lambda: _score_ours(detector, paths, outs["bf16-mixed"], batch_size, "bf16-mixed"),
        }
        # The machine's own speed drifts: its matrix products are timed in the same turns.
        peaks = {f"peak {name}": functools.partial(median_s, run, 30) for name, run in products().items()}
        for name in ("32", "bf16-mixed"):
            versions[name]()
        warm_up = functools.partial(_score_ours, detector, paths[:batch_size], outs["32"], batch_size, "32")
        timed = in_turns(versions | peaks, rounds, warm_up)
        gflops = {name: 30 * 2 * 2048**3 / timed.pop(name)["wall_s"] / 1e9 for name in peaks}
        scores = {name: read_scores(out) for name, out in outs.items()}
        assert all(found.names == scores["yardstick"].names for found in scores.values())
    found: dict[str, Any] = {"n_clips": len(paths), "batch_size": batch_size, "versions": timed, "gflops_peak": gflops}
    for name in ("32", "bf16-mixed"):
        timed[name]["largest_difference"] = float(abs(scores[name].values - scores["yardstick"].values).max())
    for row in timed.values():
        row["gflops"] = GFLOP_A_WINDOW * len(paths) / row["wall_s"]
    return found


def _available_gb() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []:
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) / 1e6
    return float("inf")


def peak_of_scoring(version: str, batch_size: int) -> float:
    """Peak memory of a process that scores two batches, MB."""
    import yardstick

    if version != "yardstick":
        memory.keep_freed()
    detector = full_detector().eval()
    with tempfile.TemporaryDirectory() as folder:
        paths = make_clips(Path(folder) / "clips", 2 * batch_size)
        out = Path(folder) / "scores.txt"
        if version == "yardstick":
            yardstick.score(detector, paths, out, batch_size=batch_size, n_samples=WINDOW_SAMPLES)
        else:
            _score_ours(detector, paths, out, batch_size, version)
    return peak_mb()


def peak_mb() -> float:
    """Peak memory of this process. Not ru_maxrss, where Linux counts the parent's memory before the exec too."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return float(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


def _in_child(expression: str, **environment: str) -> Any:
    """Evaluate in a process of its own, so that its memory is its own."""
    code = f"import json, speed; print('RESULT', json.dumps({expression}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    line = next((x for x in done.stdout.splitlines() if x.startswith("RESULT ")), None)
    if line is None:
        raise RuntimeError(f"{expression} failed:\n{done.stderr[-2000:]}")
    return json.loads(line.removeprefix("RESULT "))


# ---- training


def training(rounds: int, batch_size: int) -> dict[str, Any]:
    """A step of training the full-size network: forward, backward and Adam."""
    import torch
    import yardstick

    from qamo.training import precision
    from qamo.training.loop import build_optimizer

    memory.keep_freed()
    detector = full_detector()
    optimizer = build_optimizer(detector, lr=1e-6, head_lr=1e-3, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(1)
    wave = 0.1 * torch.randn(batch_size, WINDOW_SAMPLES, generator=generator)
    bonafide, quality = torch.arange(batch_size) % 2 == 0, torch.zeros(batch_size, dtype=torch.int64)
    losses: dict[str, float] = {}

    def ours(number_format: str, *, checkpointing: bool = False, chunks: int = 1) -> None:
        detector.train()
        network = detector.frontend.network
        if checkpointing:
            network.activation_checkpointing_enable({"use_reentrant": False})
        detector.frontend_chunks = chunks
        with precision.autocast(number_format, "cpu"):
            loss = detector(wave, bonafide, quality).losses["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if checkpointing:
            network.activation_checkpointing_disable()
        losses[number_format] = loss.item()

    # Equal results, before any weight has moved.
    gradients = []
    for plain in (True, False):
        detector.zero_grad()
        if plain:
            with yardstick.plainly(detector):
                detector.train()(wave, bonafide, quality).losses["total"].backward()
        else:
            detector.train()(wave, bonafide, quality).losses["total"].backward()
        gradients.append([p.grad for p in detector.parameters() if p.grad is not None])
    squares = sum((a - b).double().square().sum() for a, b in zip(*gradients))
    difference = float((squares / sum(a.double().square().sum() for a in gradients[0])).sqrt())
    del gradients
    timed = in_turns(
        {
            "yardstick": lambda: yardstick.step(detector, optimizer, wave, bonafide, quality),
            "32": lambda: ours("32"),
            "bf16-mixed": lambda: ours("bf16-mixed"),
            "32, gradient_checkpointing": lambda: ours("32", checkpointing=True),
            f"32, frontend_chunks {batch_size}": lambda: ours("32", chunks=batch_size),
        },
        rounds,
    )
    return {"batch_size": batch_size, "versions": timed, "gradient_difference": difference}


# ---- data


def data(rounds: int, n_clips: int = 40) -> dict[str, Any]:
    """Decode, RawBoost 4, window: one core; then the loader's first batch and its workers."""
    import numpy as np
    import yardstick

    from qamo.audio import load as audio
    from qamo.audio.rawboost import rawboost
    from qamo.config.schema import RawBoostConfig

    options = RawBoostConfig().model_dump(exclude={"probability"})
    with tempfile.TemporaryDirectory() as folder:
        paths = make_clips(Path(folder), n_clips)

        def ours(path: Path, seed: int) -> np.ndarray:
            wave = rawboost(audio.load(path), np.random.default_rng(seed), **options)
            return audio.fit_length(wave, WINDOW_SAMPLES)

        gaps = [
            float(np.abs(ours(p, i) - yardstick.augmented(p, WINDOW_SAMPLES, i)).max()) for i, p in enumerate(paths[:6])
        ]
        timed = in_turns(
            {
                "yardstick": lambda: [yardstick.augmented(p, WINDOW_SAMPLES, i) for i, p in enumerate(paths)],
                "ours": lambda: [ours(p, i) for i, p in enumerate(paths)],
                "ours, decode and window only": lambda: [audio.fit_length(audio.load(p)) for p in paths],
            },
            rounds,
        )
    return {
        "n_clips": n_clips,
        "versions": timed,
        "largest_difference": max(gaps),
        "loader": _in_child("speed.loader_start()"),
    }


def loader_start(n_workers: int = 2, n_clips: int = 200) -> dict[str, float]:
    """Seconds from asking for a training epoch to its first batch of 20, and the memory of a worker, MB."""
    import numpy as np

    import data_utils
    from qamo.config.schema import RawBoostConfig
    from qamo.quality.classes import QualityRule
    from qamo.training.loader import read_by_processes

    with tempfile.TemporaryDirectory() as folder:
        paths = make_clips(Path(folder), n_clips)
        trials = data_utils.Trials(Path("list"), [p.stem for p in paths], np.ones(n_clips, bool), np.full(n_clips, 4.0))
        rule = QualityRule(np.array([2.5]), "lower")
        source = data_utils.TrainSet(
            trials, Path(folder), window_samples=WINDOW_SAMPLES, rule=rule, boost=RawBoostConfig()
        )
        keys = data_utils.epoch_batches(n_clips, 20, seed=0, epoch=0)
        started = time.perf_counter()
        batches = read_by_processes(source, keys, data_utils.collate, n_workers=n_workers)
        next(batches)
        first_s = time.perf_counter() - started
        for _ in range(3):
            next(batches)
        found = {"first_batch_s": first_s}
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
        if children.exists():
            own, pss = [], []
            for pid in children.read_text().split():
                rows = dict(line.split(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
                own.append(sum(float(rows[k].split()[0]) for k in ("Private_Clean", "Private_Dirty")) / 1024)
                pss.append(float(rows["Pss"].split()[0]) / 1024)
            found |= {"worker_private_mb": max(own), "worker_pss_mb": max(pss)}
    return found


# ---- features kept


def cache(rounds: int, n_files: int = 60) -> dict[str, Any]:
    """Scoring with a frozen DistillMOS front end: the first pass, which fills the cache, and the second."""
    import torch

    import model
    from qamo.config.schema import ModelConfig
    from qamo.networks import feature_cache as features

    corpus = sorted((ROOT / "database" / "mini").rglob("*.flac"))
    with tempfile.TemporaryDirectory() as folder:
        where = "the mini corpus"
        if len(corpus) < n_files:
            corpus, where = make_clips(Path(folder) / "clips", n_files), "made-up clips"
        paths = corpus[:: max(1, len(corpus) // n_files)][:n_files]
        torch.manual_seed(0)
        detector = model.build_detector(ModelConfig.model_validate({"frontend": "distillmos"})).eval()
        kept = features.FeatureCache(Path(folder) / "maps", detector.frontend, identity="", max_bytes=4e9)
        detector.feature_cache = kept
        seconds, scores = [], []
        for number in range(1 + rounds):
            out = Path(folder) / f"scores_{number}.txt"
            started = time.perf_counter()
            _score_ours(detector, paths, out, 20, "32")
            seconds.append(time.perf_counter() - started)
            scores.append(out.read_text())
        assert kept.misses == len(paths)
    return {
        "n_files": len(paths),
        "of": where,
        "first_s": seconds[0],
        "second_s": statistics.median(seconds[1:]),
        "identical": len(set(scores)) == 1,
    }


# ---- quality labels


def mos(rounds: int, n_files: int = 400) -> dict[str, Any]:
    """predict_mos.py on files of 4 s with a process a core, and DistillMOS's package called file by file, in turns."""
    seconds: dict[str, list[float]] = {"package": [], "distillmos": [], "distillmos:bf16": []}
    gaps = {}
    with tempfile.TemporaryDirectory() as folder:
        make_clips(Path(folder) / "clips", n_files)
        few = make_clips(Path(folder) / "few", n_files // 8)
        for number in range(min(rounds, 3)):
            package = _in_child(f"speed.mos_by_package({str(few[0].parent)!r})")
            seconds["package"].append(package["seconds"] / len(few))
            for predictor in ("distillmos", "distillmos:bf16"):
                out = Path(folder) / f"mos_{predictor}_{number}.txt"
                words = [str(Path(folder) / "clips"), "-o", str(out), "--predictor", predictor]
                subprocess.run([sys.executable, "predict_mos.py", *words], cwd=ROOT, capture_output=True, check=True)
                seconds[predictor].append(
                    json.loads(out.with_name(out.name + ".json").read_text())["seconds"] / n_files
                )
                known = {Path(name).stem: float(value) for name, value in map(str.split, out.read_text().splitlines())}
                gaps[predictor] = max(abs(known[name] - value) for name, value in package["scores"].items())
    found: dict[str, Any] = {"n_files": n_files, "n_by_package": len(few), "rounds": len(seconds["package"])}
    for name, taken in seconds.items():
        ratios = [plain / ours for plain, ours in zip(seconds["package"], taken)]
        found[name] = {"s": statistics.median(taken), "ratios": [min(ratios), max(ratios)]}
        if name in gaps:
            found[name]["largest_difference"] = gaps[name]
    return found


def mos_by_package(folder: str) -> dict[str, Any]:
    """Each recording by itself through the forward pass of DistillMOS's own package, without gradients."""
    import soundfile
    import torch

    from qamo.networks import distillmos

    network: Any = distillmos.load_network()
    scores = {}
    started = time.perf_counter()
    with torch.no_grad():
        for path in sorted(Path(folder).iterdir()):
            wave, _ = soundfile.read(path, dtype="float32")
            scores[path.stem] = float(network(torch.from_numpy(wave)[None]))
    return {"seconds": time.perf_counter() - started, "scores": scores}


# ---- growth


def growth(rounds: int) -> dict[str, Any]:
    """Cost against clip length and batch size (full-size network, per clip), and against the number of trials."""
    found = _growth_of_network(rounds)
    gc.collect()
    for row in found["batch"]:
        row["peak_mb"] = _in_child(f"speed.peak_of_forward({row['batch_size']}, {WINDOW_SAMPLES})")
    found["trials"] = [_in_child(f"speed.many_trials({n})") for n in (1_000, 5_000, 20_000, 50_000)]
    return found


def _growth_of_network(rounds: int) -> dict[str, Any]:
    import torch

    from qamo.training import precision

    memory.keep_freed()
    detector = full_detector().eval()
    found: dict[str, Any] = {"length": [], "batch": []}

    def seconds(n_waves: int, n_samples: int, number_format: str) -> float:
        wave = 0.1 * torch.randn(n_waves, n_samples)
        times = []
        with torch.inference_mode(), precision.autocast(number_format, "cpu"):
            for _ in range(rounds):
                started = time.perf_counter()
                detector(wave)
                times.append(time.perf_counter() - started)
        return statistics.median(times)

    seconds(1, 16_000, "32"), seconds(1, 16_000, "bf16-mixed")
    for length_s in (1, 2, 4, 8, 16, 32):
        row: dict[str, float] = {"length_s": length_s}
        for number_format in ("32", "bf16-mixed"):
            row[number_format] = seconds(1, 16_000 * length_s, number_format)
        found["length"].append(row)
    for n_waves in (1, 2, 5, 10, 20):
        row = {"batch_size": n_waves}
        for number_format in ("32", "bf16-mixed"):
            row[number_format] = seconds(n_waves, WINDOW_SAMPLES, number_format) / n_waves
        found["batch"].append(row)
    return found


def peak_of_forward(n_waves: int, n_samples: int) -> float:
    """Peak memory of a process that scores one batch in float32, MB."""
    import torch

    memory.keep_freed()
    detector = full_detector().eval()
    with torch.inference_mode():
        detector(0.1 * torch.randn(n_waves, n_samples))
    return peak_mb()


def many_trials(n: int) -> dict[str, float]:
    """Score `n` names, files of a quarter of a second, with a tiny detector: CPU seconds and peak MB."""
    import torch

    import model
    from qamo.config.schema import ModelConfig

    torch.set_num_threads(1)
    small = {"embedding_size": 8, "n_heads": 2, "kernel_size": 3, "n_blocks": 1}
    torch.manual_seed(0)
    detector = model.build_detector(ModelConfig.model_validate({"frontend": "lfcc", "conformer_tcm": small})).eval()
    global WINDOW_SAMPLES
    WINDOW_SAMPLES = 2_000
    with tempfile.TemporaryDirectory() as folder:
        originals = make_clips(Path(folder), 10, seconds=0.25)
        paths = []
        for i in range(n):
            path = Path(folder) / f"t{i:07d}.flac"
            path.symlink_to(originals[i % 10])
            paths.append(path)
        started = sum(os.times()[:4])  # CPU seconds with those of the loader's process
        _score_ours(detector, paths, Path(folder) / "scores.txt", 100, "32")
        seconds = sum(os.times()[:4]) - started
    return {"n": n, "s": seconds, "peak_mb": peak_mb()}


def startup(rounds: int) -> dict[str, float]:
    """Seconds until a command has printed its help."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS if (ROOT / f"{name}.py").exists()}
    for _ in range(rounds):
        for name, taken in times.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, f"{name}.py", "--help"], cwd=ROOT, capture_output=True, check=True)
            taken.append(time.perf_counter() - started)
    return {name: statistics.median(taken) for name, taken in times.items()}


# ---- what is written


def plot(found: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "qamo"
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    for axis, rows, x in ((axes[0, 0], found["length"], "length_s"), (axes[0, 1], found["batch"], "batch_size")):
        for number_format in ("32", "bf16-mixed"):
            axis.plot([r[x] for r in rows], [r[number_format] for r in rows], marker="o", label=number_format)
        axis.legend()
    axes[0, 0].set(xlabel="clip length, s", ylabel="s a clip, batch 1", xscale="log", yscale="log")
    axes[0, 1].set(xlabel="batch size", ylabel="s a clip of 4.175 s", ylim=(0, None))
    axes[1, 0].plot([r["n"] for r in found["trials"]], [r["s"] for r in found["trials"]], marker="o")
    axes[1, 0].set(xlabel="trials (tiny model, tiny files)", ylabel="CPU s", ylim=(0, None))
    sizes = [r["batch_size"] for r in found["batch"]], [r["peak_mb"] / 1000 for r in found["batch"]]
    axes[1, 1].plot(*sizes, marker="o", label="XLS-R: against batch size")
    memory_axis = axes[1, 1].twiny()
    trials = [r["n"] for r in found["trials"]], [r["peak_mb"] / 1000 for r in found["trials"]]
    memory_axis.plot(*trials, marker="s", color="C2", label="tiny model: against trials")
    memory_axis.set_xlabel("trials")
    axes[1, 1].set(xlabel="batch size", ylabel="peak memory, GB", ylim=(0, None))
    handles = [*axes[1, 1].lines, *memory_axis.lines]
    axes[1, 1].legend(handles, [h.get_label() for h in handles], loc="center right")
    figure.savefig(path, metadata={"Date": None})


def tables(found: dict[str, Any]) -> str:
    """The measured part of the README, from what is known."""
    lines: list[str] = []
    about = found["machine"]
    peaks = about["gflops_peak"]
    lines += [
        f"{about['date']}, {about['processor']}, {about['cores']} cores, {about['threads']} threads, "
        f"Python {about['python']}, torch {about['torch']}, transformers {about['transformers']}. Medians of rounds in "
        "which the versions take turns; the lowest and highest ratio of a round in brackets. Each part names the load "
        "average at its start.",
        "",
        f"Matrix products of 2048 on {about['threads']} threads, GFLOP/s: "
        + ", ".join(f"{k} {v:.0f}" for k, v in peaks.items())
        + ".",
        "",
    ]

    def ratios(title: str, part: dict[str, Any], n: int, unit: str) -> None:
        base = part["versions"]["yardstick"]
        lines.extend([f"**{title}** (load {part['load']:.1f}, {base['rounds']} rounds)", ""])
        lines.extend(
            [f"| | s a {unit} | CPU s a {unit} | ratio, wall | ratio, CPU |", "| --- | --- | --- | --- | --- |"]
        )
        for name, row in part["versions"].items():
            wall, cpu = base["wall_s"] / row["wall_s"], base["cpu_s"] / row["cpu_s"]
            spread = "" if name == "yardstick" else f" ({row['ratios'][0]:.2f} - {row['ratios'][1]:.2f})"
            lines.append(
                f"| {name} | {row['wall_s'] / n:.3g} | {row['cpu_s'] / n:.3g} | {wall:.2f}{spread} | {cpu:.2f} |"
            )
        lines.append("")

    if part := found.get("scoring"):
        ratios(
            f"Scoring, files to score file, XLS-R 300M, batches of {part['batch_size']}", part, part["n_clips"], "clip"
        )
        best = max(v for k, v in part["gflops_peak"].items() if k.startswith("peak fp32"))
        bf16 = max(v for k, v in part["gflops_peak"].items() if k.startswith("peak bf16"))
        rows = part["versions"]
        lines.append(
            f"Largest score difference to the yardstick: {rows['32']['largest_difference']:.1e} (32), "
            f"{rows['bf16-mixed']['largest_difference']:.1e} (bf16-mixed; random weights). "
            f"{rows['32']['gflops']:.0f} and {rows['bf16-mixed']['gflops']:.0f} GFLOP/s end to end: "
            f"{rows['32']['gflops'] / best:.0%} and {rows['bf16-mixed']['gflops'] / bf16:.0%} of what matrix products "
            f"alone reached in the same turns ({best:.0f} and {bf16:.0f}). "
            "Peak memory: " + ", ".join(f"{k} {v / 1000:.1f} GB" for k, v in part["peak_mb"].items()) + "."
        )
        lines.append("")
    if part := found.get("training"):
        ratios(f"A training step, XLS-R 300M, batch {part['batch_size']}, Adam included", part, 1, "step")
        lines += [f"Gradients differ from the yardstick's by {part['gradient_difference']:.1e} of their norm (32).", ""]
    if part := found.get("data"):
        ratios("Data: decode, RawBoost 4, window, one core, clips of 4 to 4.8 s", part, part["n_clips"], "clip")
        loader = part["loader"]
        rate = part["n_clips"] / part["versions"]["ours"]["cpu_s"]
        lines += [
            f"{rate:.0f} clips a second of one core, all of them augmented. Largest difference of a sample: "
            f"{part['largest_difference']:.1e}. First batch of 20 after {loader['first_batch_s']:.2f} s"
            + (
                f"; a worker has {loader['worker_private_mb']:.0f} MB of its own "
                f"({loader['worker_pss_mb']:.0f} MB with its share of what is common)."
                if "worker_pss_mb" in loader
                else "."
            ),
            "",
        ]
    if part := found.get("cache"):
        lines += [
            f"**Features kept** (load {part['load']:.1f}): {part['n_files']} files of {part['of']}, DistillMOS front "
            f"end: {part['first_s']:.2f} s, then {part['second_s']:.2f} s, {part['first_s'] / part['second_s']:.0f} "
            f"times faster; score files {'identical' if part['identical'] else 'DIFFERENT'}.",
            "",
        ]
    if part := found.get("mos"):
        lines += [
            f"**MOS**, {part['n_files']} files of 4 to 4.8 s, a process a core, start included; the package is called "
            f"file by file on {part['n_by_package']} of them (load {part['load']:.1f}, {part['rounds']} rounds)",
            "",
            "| | s a file | ratio | largest difference | 10,000 files |",
            "| --- | --- | --- | --- | --- |",
        ]
        for name in ("package", "distillmos", "distillmos:bf16"):
            row = part[name]
            spread = f" ({row['ratios'][0]:.2f} - {row['ratios'][1]:.2f})" if name != "package" else ""
            gap = f"{row['largest_difference']:.1e}" if name != "package" else ""
            lines.append(
                f"| {name} | {row['s']:.3f} | {part['package']['s'] / row['s']:.2f}{spread} | {gap} "
                f"| {10_000 * row['s'] / 60:.0f} min |"
            )
        lines.append("")
    if part := found.get("growth"):
        lines += [f"**Growth** (load {part['load']:.1f})", "", "![growth](results/growth.svg)", ""]
        first, last = part["trials"][0], part["trials"][-1]
        lines += [
            f"{first['n']:,} to {last['n']:,} trials: {1000 * first['s'] / first['n']:.2f} to "
            f"{1000 * last['s'] / last['n']:.2f} CPU ms a trial (a tiny model), "
            f"peak {first['peak_mb']:.0f} to {last['peak_mb']:.0f} MB.",
            "",
        ]
    if part := found.get("startup"):
        lines += ["**Start**, seconds until `--help` is printed: "]
        lines += [", ".join(f"{k} {v:.2f}" for k, v in part.items() if k != "load") + f" (load {part['load']:.1f})."]
        lines.append("")
    if (part := found.get("scoring")) and (data := found.get("data")):
        decode_s = data["versions"]["ours, decode and window only"]["cpu_s"] / data["n_clips"]
        lines += [projection(part, decode_s), ""]
    return "\n".join(lines)


def projection(part: dict[str, Any], decode_s: float) -> str:
    """What a full run would cost, from the seconds a clip that were measured."""
    total = sum(TRIALS.values())
    costs = {name: row["cpu_s"] / part["n_clips"] for name, row in part["versions"].items()}
    days = {name: total * cost / 86_400 for name, cost in costs.items()}
    return (
        f"**What a full run costs** (a projection, not a measurement): LA, DF, In-the-Wild and FoR are {total:,} "
        f"trials. At the CPU seconds a clip above that is {days['yardstick']:.0f} core-days plainly, {days['32']:.1f} "
        f"in float32 and {days['bf16-mixed']:.1f} in bf16; divide by the cores. No GPU was at hand: at a quarter of an "
        f"H100's nominal 990 bf16 TFLOP/s, {total * GFLOP_A_WINDOW / 250_000 / 60:.0f} minutes on one and "
        f"{total * GFLOP_A_WINDOW / 250_000 / 60 / 8:.0f} on eight, if the data keep up: "
        f"{250_000 / GFLOP_A_WINDOW:.0f} clips a second take {250_000 / GFLOP_A_WINDOW * decode_s:.1f} cores to decode."
    )


def main(argv: list[str] | None = None) -> int:
    import torch

    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "data": lambda: _in_child(f"speed.data({args.rounds})", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
        "startup": lambda: dict(startup(args.rounds)),
        "cache": lambda: cache(args.rounds),
        "mos": lambda: mos(args.rounds),
        "scoring": lambda: scoring(args.rounds, args.batch_size),
        "training": lambda: training(args.rounds, args.train_batch_size),
        "growth": lambda: growth(args.rounds),
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--rounds", type=int, default=5, help="times that each version runs")
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--train-batch-size", type=int, default=2)
    parser.add_argument("--threads", type=int, default=N_CORES)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    from qamo.files import write_json, write_text

    RESULTS.parent.mkdir(exist_ok=True)
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in args.only:
        load = os.getloadavg()[0]
        print(f"{name} (load {load:.1f}) ...", flush=True)
        found[name] = {**parts[name](), "load": load}
        found["machine"] = machine()
        write_json(RESULTS, found)
        print(json.dumps(found[name], indent=1), flush=True)
    if "growth" in args.only:
        plot(found["growth"], PLOT)
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    write_text(README, f"{before}{BEGIN}\n\n{tables(found)}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
