"""How long the scoring commands take and how much memory, at the official sizes.

    python benchmarks/bench_evaluation.py [--repeats 5] [--official PATH/TO/2021/eval-package/main.py]

Keys and scores are made up, in the official layout and with the official numbers of trials: LA 181,566 (and 785,281 ASV
trials), DF 611,829, In-the-Wild 31,779. With --official the organisers' package runs on the same files, in turns with
ours, and the outputs are compared; it needs pandas and matplotlib. Without it ours stands beside figures of theirs that
were recorded on a machine of the same kind. Times are medians of whole processes, imports included; memory is the peak.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The official package under NumPy 2.4 and pandas 3.1: median seconds, imports included, and peak MB. Recorded once, on
# other made-up keys of this size.
RECORDED = {"LA": (6.1, 170.0), "DF": (13.2, 409.0)}
ATTACKS = [f"A{i:02d}" for i in range(7, 20)]
CODECS = ["none", "alaw", "pstn", "g722", "ulaw", "gsm", "opus"]
VOCODERS = ["traditional_vocoder", "waveform_concatenation", "neural_vocoder_autoregressive"]
VOCODERS += ["neural_vocoder_nonautoregressive", "unknown"]
COMPRESSIONS = ["nocodec", "low_mp3", "high_mp3", "low_m4a", "high_m4a", "low_ogg", "high_ogg", "mp3m4a", "oggm4a"]
SUBSETS = {  # bona fide and spoofed trials
    "LA": {"eval": (14_816, 133_360), "progress": (1_676, 14_788), "hidden": (1_960, 14_966)},
    "DF": {"eval": (14_869, 519_059), "progress": (5_768, 53_557), "hidden": (1_980, 16_596)},
}
ASV_TRIALS = {
    "eval": (14_816, 333_360, 286_000),
    "progress": (1_676, 37_040, 31_760),
    "hidden": (1_960, 43_325, 35_344),
}


def make_files(folder: Path) -> None:
    """Write keys and scores; in a process of its own, so that its memory is not counted."""
    import numpy as np

    rng = np.random.default_rng(0)

    def write(path: Path, lines: list[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")

    for track, subsets in SUBSETS.items():
        rows = []
        for subset, counts in subsets.items():
            for label, count in zip(("bonafide", "spoof"), counts):
                for i, speaker in zip(range(count), rng.integers(0, 67, count).tolist()):
                    rows.append((label, subset, i, f"LA_{speaker:04d}"))
        order = rng.permutation(len(rows)).tolist()
        scores = rng.normal(size=len(rows)).tolist()
        key, score_lines = [], []
        for number, at in enumerate(order):
            label, subset, i, speaker = rows[at]
            name = f"{track}_E_{1_000_000 + 13 * number}"
            if track == "LA":
                attack = "bonafide" if label == "bonafide" else ATTACKS[i % 13]
                key.append(f"{speaker} {name} {CODECS[i % 7]} ita_tx {attack} {label} notrim {subset}")
            else:
                vocoder = "bonafide" if label == "bonafide" else VOCODERS[i % 5]
                middle = f"{COMPRESSIONS[i % 9]} asvspoof A14 {label} notrim {subset}"
                key.append(f"{speaker} {name} {middle} {vocoder} - - - -")
            shift = 2.0 if label == "bonafide" else -1.0
            score_lines.append(f"{name} {float(np.float32(scores[number] + shift))!r}")
        write(folder / "keys" / track / "CM" / "trial_metadata.txt", key)
        write(folder / f"{track}.txt", [score_lines[i] for i in rng.permutation(len(score_lines)).tolist()])

    key, score_lines = [], []
    for subset, asv_counts in ASV_TRIALS.items():
        for (label, mean), count in zip((("target", 9), ("nontarget", -9), ("spoof", 2)), asv_counts):
            draws = rng.normal(mean, 5, count).tolist()
            for i, (draw, trial) in enumerate(zip(draws, rng.integers(1_000_000, 10_000_000, count).tolist())):
                codec, attack = CODECS[i % 7], "bonafide" if label != "spoof" else ATTACKS[i % 13]
                pair = f"LA_{i % 67:04d}-{codec}-ita_tx LA_E_{trial}-{codec}-ita_tx"
                key.append(f"{pair} {codec} ita_tx {attack} {label} notrim {subset}")
                score_lines.append(f"{pair} {draw:.6f}")
    write(folder / "keys" / "LA" / "ASV" / "trial_metadata.txt", key)
    write(folder / "keys" / "LA" / "ASV" / "ASVTorch_Kaldi" / "score.txt", score_lines)
    (folder / "keys" / "PA").mkdir()  # the official package wants all three folders

    labels = ["bona-fide" if i < 19_963 else "spoof" for i in rng.permutation(31_779).tolist()]
    draws = rng.normal(size=31_779).tolist()
    write(
        folder / "itw" / "meta.csv",
        ["file,speaker,label"] + [f"{i}.wav,Speaker {i % 54},{x}" for i, x in enumerate(labels)],
    )
    write(folder / "itw.txt", [f"{i}.wav {x + 2 * (y != 'spoof')!r}" for i, (x, y) in enumerate(zip(draws, labels))])


class Measured(NamedTuple):
    seconds: float
    megabytes: float
    output: str


def measure(command: list[str], folder: Path) -> Measured:
    """Run a command once; its peak memory comes from the kernel."""
    with tempfile.TemporaryFile("w+") as out:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.PIPE, text=True)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.stderr is not None
        errors = process.stderr.read()
        process.stderr.close()
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: status {process.returncode}: {errors.strip()[-500:]}")
        out.seek(0)
        return Measured(seconds, usage.ru_maxrss / 1024, out.read())


def compare(label: str, ours: list[str], official: list[str] | None, folder: Path, repeats: int, recorded: str) -> None:
    runs: list[Measured] = []
    theirs: list[Measured] = []
    for _ in range(repeats):
        runs.append(measure(ours, folder))
        if official is not None:
            theirs.append(measure(official, folder))
    seconds, megabytes = (statistics.median(values) for values in list(zip(*runs))[:2])
    line = f"{label:28}  {seconds:6.2f} s  {megabytes:4.0f} MB"
    reference = RECORDED.get(recorded)
    if theirs:
        reference = tuple(statistics.median(values) for values in list(zip(*theirs))[:2])
        line += "  same output" if theirs[0].output == runs[0].output else "  OUTPUT DIFFERS"
    if reference:
        kind = "official" if theirs else "official, recorded"
        line += f"  {kind}: {reference[0]:.1f} s, {reference[1]:.0f} MB"
        line += f"  -> {reference[0] / seconds:.0f}x as fast, {megabytes / reference[1]:.0%} of the memory"
    print(line, flush=True)


def compute_times(repeats: int) -> None:
    """Cost of the metrics themselves, without files."""
    import numpy as np

    sys.path.insert(0, str(ROOT))
    from eval_metrics import equal_error_rate
    from qamo.evaluation.percentile import bootstrap_difference, bootstrap_eer

    rng = np.random.default_rng(0)

    def best(function, *args, **options) -> float:  # type: ignore[no-untyped-def]
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            function(*args, **options)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    print("\nEER of n trials, in ns for each n log2(n):")
    for n in (100_000, 200_000, 400_000, 800_000, 1_600_000, 3_200_000):
        seconds = best(equal_error_rate, rng.normal(1, 1, n // 2), rng.normal(-1, 1, n // 2))
        print(f"{n:28,}  {seconds:6.3f} s  {1e9 * seconds / n / np.log2(n):5.1f}")

    bonafide, spoof = rng.normal(2, 1, 14_869), rng.normal(-2, 1, 519_059)
    speakers = rng.integers(0, 93, len(bonafide)), rng.integers(0, 93, len(spoof))
    other = bonafide + rng.normal(0, 0.5, len(bonafide)), spoof + rng.normal(0, 0.5, len(spoof))
    print("\n1,000 resamples of the 533,928 trials of DF eval:")
    print(f"{'interval, by trial':28}  {best(bootstrap_eer, bonafide, spoof):6.2f} s")
    print(f"{'interval, by speaker':28}  {best(bootstrap_eer, bonafide, spoof, groups=speakers):6.2f} s")
    start = time.perf_counter()
    bootstrap_difference(bonafide, spoof, *other)
    print(f"{'two systems, by trial':28}  {time.perf_counter() - start:6.2f} s")
    start = time.perf_counter()
    bootstrap_difference(bonafide, spoof, *other, groups=speakers)
    print(f"{'two systems, by speaker':28}  {time.perf_counter() - start:6.2f} s", flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--official", type=Path, help="main.py of the organisers' evaluation package")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.make:
        make_files(args.make)
        return 0
    package = ROOT / "2021" / "eval-package" / "main.py"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subprocess.run([sys.executable, __file__, "--make", folder], check=True)

        def case(label: str, recorded: str, *flags: str) -> None:
            ours = [sys.executable, str(package), *flags]
            official = [sys.executable, str(args.official.resolve()), *flags] if args.official else None
            compare(label, ours, official, folder, args.repeats, recorded)

        la = ["--cm-score-file", "LA.txt", "--track", "LA", "--subset", "eval", "--metadata", "keys"]
        case("LA eval, C012 recomputed", "", *la, "--recompute-c012", "--c012-path", "c012.npy")
        case("LA eval", "LA", *la, "--c012-path", "c012.npy")
        case("DF eval", "DF", *la[:1], "DF.txt", "--track", "DF", *la[4:])
        scorer = [sys.executable, str(ROOT / "score_ood_dataset.py"), "itw.txt", "itw"]
        compare("In-the-Wild, with interval", scorer, None, folder, args.repeats, "")
    compute_times(min(args.repeats, 3))
    return 0


if __name__ == "__main__":
    sys.exit(main())
