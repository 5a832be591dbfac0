"""Add a MOS column to a protocol, or hold two sets of MOS against each other.

    python predict_mos.py PROTOCOL AUDIO_FOLDER -o OUT
    python predict_mos.py AUDIO_FOLDER -o OUT
    python predict_mos.py compare A B [--plot scatter.png]

PROTOCOL      an ASVspoof 2019, 2021 or 5 protocol, a list of names, or a meta.csv
OUT           SPEAKER NAME - ATTACK LABEL MOS, as training reads it; `file,speaker,label,mos` for a meta.csv;
              `NAME MOS` where there are no labels. OUT.json says which predictor wrote it.
--predictor   distillmos      offline, MIT, 1 to 5, any length (the default); distillmos:bf16 is faster and coarser
              scoreq:PATH     ONNX file of SCOREQ, no-reference mode, 16 kHz
              onnx:PATH@RATE  any ONNX model from a wave (1, T) to a score, at RATE Hz

Scores are kept in OUT.cache by the content of the recordings: a run that was cut off goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qamo import InputError, __version__, files, progress
from qamo.trials.keys import BONAFIDE, LAYOUTS, read_keys
from qamo.trials.names import check_name
from qamo.trials.protocol import read_trial_list
from qamo.trials.recordings import ENDINGS, Recordings, check_recordings, recordings_in
from qamo.trials.scores import read_scores
from qamo.trials.tables import first_fields

ASVSPOOF5_COLUMNS = 10  # SPEAKER NAME GENDER CODEC CODEC_Q CODEC_SEED ATTACK_GROUP ATTACK LABEL -


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    comparing = argv[:1] == ["compare"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    if comparing:
        parser.prog += " compare"
        parser.add_argument("a", type=Path, metavar="A", help="MOS of the one, in any form that this command writes")
        parser.add_argument("b", type=Path, metavar="B", help="MOS of the other")
        parser.add_argument("--thresholds", type=float, nargs="+", default=[2.5], help="quality class borders (2.5)")
        parser.add_argument("--plot", type=Path, help="scatter plot: a .png, .svg or .pdf file")
    else:
        parser.add_argument("protocol", type=Path, help="protocol, list or meta.csv; or just the audio folder")
        parser.add_argument("audio", type=Path, nargs="?", help="folder of the recordings")
        parser.add_argument("-o", "--out", type=Path, required=True)
        parser.add_argument("--predictor", default="distillmos")
        parser.add_argument("--extension", help="of the files, such as .flac; found out where not given")
        parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (one a core)")
    args = parser.parse_args(argv[comparing:])
    try:
        if comparing:
            print("\n".join(compare(args.a, args.b, args.thresholds, args.plot)))
        else:
            progress.start_log()
            print(predict(args.protocol, args.audio, args.out, args.predictor, args.extension, args.jobs))
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


# ---- predicting


@dataclass(frozen=True)
class Listing:
    """Names, and how they are written down with their MOS."""

    names: list[str]
    written: Callable[[Sequence[str]], str]  # MOS texts -> the whole file


def predict(protocol: Path, folder: Path | None, out: Path, predictor: str, extension: str | None, jobs: int) -> str:
    """Write `out`, its sidecar and its cache -> a sentence on what was done.

    Raises:
        InputError: something is missing or unreadable, or `out` was not written by this command.
    """
    from qamo.quality import predictors as mos

    if jobs < 1:
        raise InputError(f"--jobs {jobs}: expected at least 1")
    sidecar, cache = _beside(out, ".json"), _beside(out, ".cache")
    if out.exists() and not sidecar.exists():
        raise InputError(f"{out}: exists and was not written by this command; give another -o or remove it")
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out.parent}: no such folder; make it before")
    if protocol.is_dir() and folder is None:
        listing, folder, extension = read_folder(protocol), protocol, ""
    elif folder is None:
        raise InputError(f"{protocol}: expected the folder of its recordings as second argument")
    else:
        listing = read_listing(protocol)
    paths = Recordings(folder, listing.names, _extension(folder, listing.names[0], extension))
    check_recordings(paths, what=str(protocol))

    identity = mos.build_predictor(predictor).identity
    started = time.monotonic()
    scores = mos.predict_files(list(paths), predictor, jobs=jobs, cache=cache)
    seconds = time.monotonic() - started
    files.write_text(out, listing.written([f"{score:.4f}" for score in scores]))
    files.write_json(
        sidecar,
        {
            "predictor": identity,
            "spec": predictor,
            "qamo": __version__,
            "protocol": str(protocol),
            "protocol_sha256": None if protocol.is_dir() else files.sha256(protocol),
            "n": len(scores),
            "median": round(float(np.median(scores)), 4),
            "below_2.5": round(float(np.mean(scores < 2.5)), 4),
            "seconds": round(seconds, 1),
            "jobs": jobs,
        },
    )
    return (
        f"{out}: MOS of {len(scores)} recordings in {seconds:.0f} s, median {np.median(scores):.2f}, "
        f"{100 * np.mean(scores < 2.5):.0f} % below 2.5"
    )


def read_folder(folder: Path) -> Listing:
    """All recordings below a folder, by their path in it."""
    names = [path.relative_to(folder).as_posix() for path in recordings_in(folder)]
    if not names:
        raise InputError(f"{folder}: expected recordings ({' '.join(ENDINGS)}), found none")
    return Listing(names, lambda texts: _lines(f"{name} {text}" for name, text in zip(names, texts)))


def read_listing(path: Path) -> Listing:
    """Read a protocol, a list of names or a meta.csv.

    Raises:
        InputError: naming file and line.
    """
    fields = first_fields(path)
    if not fields:
        raise InputError(f"{path}: expected a protocol or list, but the file is empty")
    if "," in " ".join(fields):
        return _read_csv(path)
    if len(fields) == ASVSPOOF5_COLUMNS and fields[8] in BONAFIDE:
        rows = _asvspoof5(path)
    elif len(fields) in LAYOUTS:
        keys = read_keys(path)
        blank = ["-"] * len(keys)
        speakers, attacks = keys.columns.get("speaker", blank), keys.columns.get("attack", blank)
        labels = ["bonafide" if label else "spoof" for label in keys.bonafide]
        rows = list(zip(speakers, keys.names, attacks, labels))
    else:
        names = read_trial_list(path)
        return Listing(names, lambda texts: _lines(f"{name} {text}" for name, text in zip(names, texts)))
    for _, name, _, _ in rows:
        check_name(name, path)
    return Listing(
        [name for _, name, _, _ in rows],
        lambda texts: _lines(
            f"{speaker} {name} - {attack} {label} {text}" for (speaker, name, attack, label), text in zip(rows, texts)
        ),
    )


def _asvspoof5(path: Path) -> list[tuple[str, str, str, str]]:
    rows = []
    seen: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != ASVSPOOF5_COLUMNS or parts[8] not in BONAFIDE:
            raise InputError(f"{path}:{number}: expected ten columns, the ninth bonafide or spoof, found {line!r}")
        if parts[1] in seen:
            raise InputError(f"{path}:{number}: {parts[1]} stands in line {seen[parts[1]]} already; keep one of them")
        seen[parts[1]] = number
        rows.append((parts[0], parts[1], parts[7], parts[8]))
    return rows


def _read_csv(path: Path) -> Listing:
    keys = read_keys(path)
    labels = ["bona-fide" if label else "spoof" for label in keys.bonafide]
    for name in keys.names:
        check_name(name, path)
    if "speaker" in keys.columns:  # as the published MOS file of In-the-Wild: no header
        rows = [list(row) for row in zip(keys.names, keys.columns["speaker"], labels)]
        header = None
    else:
        rows = [list(row) for row in zip(keys.names, labels)]
        header = ["file", "label", "mos"]

    def written(texts: Sequence[str]) -> str:
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        if header:
            writer.writerow(header)
        writer.writerows([*row, text] for row, text in zip(rows, texts))
        return file.getvalue()

    return Listing(keys.names, written)


def _extension(folder: Path, name: str, given: str | None) -> str:
    if given is not None:
        return given if not given or given.startswith(".") else f".{given}"
    for extension in ("", *ENDINGS):
        if (folder / f"{name}{extension}").is_file():
            return extension
    raise InputError(
        f"{folder / name}: no such recording, nor with any of {' '.join(ENDINGS)}; check the folder or --extension"
    )


def _lines(lines: object) -> str:
    return "".join(f"{line}\n" for line in lines)  # type: ignore[attr-defined]


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


# ---- comparing


@dataclass(frozen=True)
class Rated:
    """MOS by name, and the group of each name where it is known: `bona fide`, `spoof`, `spoof A07`."""

    mos: dict[str, float]
    groups: dict[str, list[str]]


def read_rated(path: Path) -> Rated:
    """Read MOS in any form that this command writes.

    Raises:
        InputError: naming file and line, or what the file lacks.
    """
    fields = first_fields(path)
    if not fields:
        raise InputError(f"{path}: expected MOS lines, but the file is empty")
    if len(fields) == 2 and "," not in " ".join(fields):
        scores = read_scores(path)
        return Rated(dict(zip(scores.names, scores.values.tolist())), {})
    keys = read_keys(path)
    if "mos" not in keys.columns:
        raise InputError(f"{path}: expected a MOS column, found none; add it with predict_mos.py first")
    try:
        values = [float(text) for text in keys.columns["mos"]]
    except ValueError as error:
        raise InputError(f"{path}: expected numbers in the MOS column: {error}") from None
    attacks = keys.columns.get("attack", ["-"] * len(keys))
    groups = {}
    for name, bonafide, attack in zip(keys.names, keys.bonafide, attacks):
        groups[name] = ["bona fide"] if bonafide else ["spoof", *([f"spoof {attack}"] if attack != "-" else [])]
    return Rated(dict(zip(keys.names, values)), groups)


def compare(a: Path, b: Path, thresholds: Sequence[float], plot: Path | None = None) -> list[str]:
    """How far two sets of MOS agree: overall, per class and per attack -> lines of a table.

    Raises:
        InputError: the files share fewer than two names.
    """
    one, other = read_rated(a), read_rated(b)
    names = [name for name in one.mos if name in other.mos]
    if len(names) < 2:
        raise InputError(f"{a} and {b}: expected at least two names in common, found {len(names)}")
    x = np.array([one.mos[name] for name in names])
    y = np.array([other.mos[name] for name in names])
    known = {**other.groups, **one.groups}
    members: dict[str, list[int]] = {"all": list(range(len(names)))}
    for index, name in enumerate(names):
        for group in known.get(name, []):
            members.setdefault(group, []).append(index)
    rows = [["", "n", "Spearman", "Pearson", "mean A", "mean B", *(f"agree at {t:g}" for t in thresholds)]]
    for group in sorted(members, key=lambda key: (key != "all", key)):
        u, v = x[members[group]], y[members[group]]
        rows.append(
            [
                *(group, str(len(u)), _correlation(u, v, ranks=True), _correlation(u, v, ranks=False)),
                *(f"{u.mean():.2f}", f"{v.mean():.2f}"),
                *(f"{100 * np.mean((u >= t) == (v >= t)):.1f} %" for t in thresholds),
            ]
        )
    left_out = len(one.mos) + len(other.mos) - 2 * len(names)
    if plot is not None:
        _scatter(plot, x, y, thresholds, a, b)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    table = [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))) for row in rows
    ]
    return [f"A: {a}", f"B: {b}", *([f"{left_out} names stand in one file only"] if left_out else []), "", *table]


def _correlation(u: np.ndarray, v: np.ndarray, *, ranks: bool) -> str:
    from scipy import stats

    if len(u) < 3 or np.ptp(u) == 0 or np.ptp(v) == 0:
        return "-"
    return f"{(stats.spearmanr if ranks else stats.pearsonr)(u, v).statistic:.3f}"


def _scatter(path: Path, x: np.ndarray, y: np.ndarray, thresholds: Sequence[float], a: Path, b: Path) -> None:
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(x, y, s=6, alpha=max(0.05, min(0.6, 300 / len(x))), linewidths=0, rasterized=True)
    for threshold in thresholds:
        axes.axvline(threshold, color="0.6", linewidth=0.8)
        axes.axhline(threshold, color="0.6", linewidth=0.8)
    axes.plot((1, 5), (1, 5), color="0.4", linewidth=0.8, linestyle="--")
    axes.set(xlim=(1, 5), ylim=(1, 5), xlabel=f"MOS, {a.name}", ylabel=f"MOS, {b.name}", aspect="equal")
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("png", "svg", "pdf"):
        raise InputError(f"{path}: expected a .png, .svg or .pdf file")
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
