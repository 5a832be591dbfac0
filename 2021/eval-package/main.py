"""EER and min t-DCF of ASVspoof 2021, pooled and by condition, with the output of the organisers' package.

    cd 2021/eval-package
    python main.py --cm-score-file score.txt --track LA --subset eval

score.txt   one `trial score` a line for every trial of the track, whatever the subset; higher means more bona fide
keys/       what `python download.py` unpacks; another place is given by --metadata
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # the official package is run from its own folder, so ours is too

import numpy as np  # noqa: E402

from eval_metrics import (  # noqa: E402
    EER,
    Interval,
    bootstrap_eer,
    det_of_sorted,
    eer_of_det,
    remarks,
    tdcf_of_det,
)
from qamo import InputError, files  # noqa: E402
from qamo.trials import asv, tables  # noqa: E402
from qamo.trials.keys import ARCHIVES, ARCHIVES_URL, PA_HIDDEN, Keys, in_subset, read_keys  # noqa: E402
from qamo.trials.scores import read_scores  # noqa: E402

SUBSETS = ["progress", "eval", "hidden", "hidden1_PA", "hidden2_PA"]
N_RESAMPLES, SEED, LEVEL = 1000, 0, 0.95  # of the interval of the pooled EER in --json and --csv


# The tables


class Condition(NamedTuple):
    """A row or a column of the result tables: the trials that have `level` in a column of the key."""

    column: str
    level: str
    shown: str
    bonafide: bool  # whether bona fide trials must have the level
    spoof: bool  # whether spoofed trials must; an attack, for one, says nothing of bona fide trials

    def passes(self, texts: np.ndarray, is_bonafide: np.ndarray) -> np.ndarray:
        """Which trials count: the column and the class of each, (N,) and (N,) -> (N,) bool."""
        has = texts == self.level.encode()
        return has | np.where(is_bonafide, not self.bonafide, not self.spoof)


POOLED = Condition("", "Pooled", "Pooled", False, False)
BOTH, ONLY_SPOOF, ONLY_BONAFIDE = (True, True), (False, True), (True, False)


def conditions(column: str, levels: dict[str, str], classes: tuple[bool, bool]) -> list[Condition]:
    return [Condition(column, level, shown, *classes) for level, shown in levels.items()]


def same(*levels: str) -> dict[str, str]:
    return {level: level for level in levels}


def numbered(*levels: str) -> dict[str, str]:
    return {level: f"C{i}" for i, level in enumerate(levels, start=1)}


def series(letter: str, first: int, last: int) -> dict[str, str]:
    return same(*(f"{letter}{i}" for i in range(first, last + 1)))


ROWS = {
    "LA": conditions("attack", same(*(f"A{i:02d}" for i in range(7, 20))), ONLY_SPOOF),
    "DF": conditions(
        "vocoder",
        {
            "traditional_vocoder": "Traditional",
            "waveform_concatenation": "Wav.Concat.",
            "neural_vocoder_autoregressive": "Neural AR",
            "neural_vocoder_nonautoregressive": "Neural non-AR",
            "unknown": "Unknown",
        },
        ONLY_SPOOF,
    ),
    "PA": [
        *conditions("asv_room", series("R", 1, 9), BOTH),
        *conditions("asv_mic", series("M", 1, 3), BOTH),
        *conditions("dis_to_asv", series("D", 1, 6), ONLY_BONAFIDE),
    ],
}
COLUMNS = {
    "LA": conditions("codec", numbered("none", "alaw", "pstn", "g722", "ulaw", "gsm", "opus"), BOTH),
    "DF": conditions(
        "compr",
        numbered("nocodec", "low_mp3", "high_mp3", "low_m4a", "high_m4a", "low_ogg", "high_ogg", "mp3m4a", "oggm4a"),
        BOTH,
    ),
    "PA": [
        *conditions("att_room", series("r", 1, 9), ONLY_SPOOF),
        *conditions("att_mic", series("m", 1, 3), ONLY_SPOOF),
        *conditions("att_to_spk", series("c", 2, 4), ONLY_SPOOF),
        *conditions("att_d", series("s", 2, 4), ONLY_SPOOF),
        *conditions("dis_to_asv", series("d", 1, 6), ONLY_SPOOF),
    ],
}
for _axis in (*ROWS.values(), *COLUMNS.values()):
    _axis.append(POOLED)


def key_columns(track: str) -> list[str]:
    """The columns of the key that the tables of a track need."""
    return list(dict.fromkeys(c.column for c in (*ROWS[track], *COLUMNS[track]) if c.column))


class Trials(NamedTuple):
    """The scored trials of a subset in the order of `det_curve`, and who counts in which row and column."""

    scores: np.ndarray  # (N,) float64
    is_bonafide: np.ndarray  # (N,) bool
    rows: list[np.ndarray]  # (N,) bool each
    columns: list[np.ndarray]


def sort_trials(track: str, scores: np.ndarray, is_bonafide: np.ndarray, columns: dict[str, np.ndarray]) -> Trials:
    """Sort once; every cell is then a choice from the sorted trials, and needs no sort of its own."""
    order = np.lexsort((~is_bonafide, scores))
    is_bonafide = is_bonafide[order]

    everyone = np.ones(len(order), bool)
    columns = {column: texts[order] for column, texts in columns.items()}

    def passes(axis: list[Condition]) -> list[np.ndarray]:
        return [c.passes(columns[c.column], is_bonafide) if c.column else everyone for c in axis]

    return Trials(scores[order], is_bonafide, passes(ROWS[track]), passes(COLUMNS[track]))


class Tables(NamedTuple):
    """R rows of C cells, `Pooled` last in both; NaN where a cell has nothing to compute."""

    eer: np.ndarray  # (R, C) in [0, 1]
    min_tdcf: np.ndarray | None  # (R, C); None on DF, which has no ASV system
    pooled: EER
    odd: list[str]  # cells that were left blank for want of three distinct scores


def compute_tables(track: str, trials: Trials, c012: asv.C012 | None) -> Tables:
    shape = len(ROWS[track]), len(COLUMNS[track])
    eer, min_tdcf = np.full(shape, np.nan), np.full(shape, np.nan)
    odd, pooled = [], EER(math.nan, math.nan)
    for (i, row), (j, column) in itertools.product(enumerate(ROWS[track]), enumerate(COLUMNS[track])):
        chosen = np.flatnonzero(trials.rows[i] & trials.columns[j])
        scores, is_bonafide = trials.scores[chosen], trials.is_bonafide[chosen]
        if is_bonafide.all() or not is_bonafide.any():
            continue
        if not ((scores > scores[0]) & (scores < scores[-1])).any():
            if row is POOLED and column is POOLED:
                raise InputError("fewer than 3 distinct scores: give scores, not decisions")
            odd.append(f"{row.shown}/{column.shown}")
            continue
        det = det_of_sorted(is_bonafide, scores)
        pooled = eer_of_det(det)  # the last cell is the pooled one
        eer[i, j] = pooled.eer
        weights = None if c012 is None else c012.get(row.level, {}).get(column.level)
        if weights is not None:
            min_tdcf[i, j] = np.min(tdcf_of_det(det, weights))
    return Tables(eer, None if c012 is None else min_tdcf, pooled, odd)


def compute_c012(track: str, trials: asv.ASVTrials) -> asv.C012:
    """The t-DCF weights of every cell, from the ASV trials of the subset."""
    is_genuine = trials.kinds != asv.SPOOF  # targets and nontargets are bona fide speech
    everyone = np.ones(len(is_genuine), bool)

    def passes(axis: list[Condition]) -> list[np.ndarray]:
        return [c.passes(trials.columns[c.column], is_genuine) if c.column else everyone for c in axis]

    rows = passes(ROWS[track])
    thresholds: dict[tuple[Condition, Condition], float] = {}
    c012: asv.C012 = {row.level: {} for row in ROWS[track]}
    for column, passing in zip(COLUMNS[track], passes(COLUMNS[track])):
        here = np.flatnonzero(passing)
        part = asv.ASVTrials(trials.scores[here], trials.kinds[here], {})
        for row, row_passing in zip(ROWS[track], rows):
            chosen = row_passing[here]
            # A condition on spoofed trials alone changes no target or nontarget, and so not their threshold.
            genuine = (row if row.bonafide else POOLED, column if column.bonafide else POOLED)
            if genuine not in thresholds:
                thresholds[genuine] = part.threshold(chosen)
            c012[row.level][column.level] = part.weights(chosen, thresholds[genuine])
    return c012


# What the official package prints


def shades(values: np.ndarray) -> np.ndarray:
    """Grey of each cell between white at the least and mid-grey at the greatest value: (R, C) -> (R, C)."""
    known = values[~np.isnan(values)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    if low == high:
        return np.zeros(values.shape)  # 0 / 0 is black in the official package
    place = 0.5 * (values - low) / (high - low)
    steps = np.where(np.isnan(place), 0, place * 256).astype(int)  # of matplotlib's map `Greys`, which has 256 steps
    return np.interp(steps / 255, np.linspace(0, 1, len(GREYS)), GREYS)


GREYS = np.array([255, 240, 217, 189, 150, 115, 82, 37, 0]) / 255  # ColorBrewer, 9-class Greys


def render(values: np.ndarray, track: str, number: str) -> str:
    """A table as LaTeX and as text; `number` formats a cell, NaN is blank."""
    texts = [["" if math.isnan(v) else format(v, number) for v in row] for row in values.tolist()]
    tags, heads = [row.shown for row in ROWS[track]], [column.shown for column in COLUMNS[track]]
    tag_width = max(map(len, tags))
    width = max(len(text) for text in itertools.chain(heads, *texts))

    def line(first: str, cells: list[str], between: str) -> str:
        return between.join([f"{first:^{tag_width}}", *cells])

    latex = [rf"\begin{{tabular}}{{{'c' * (len(heads) + 1)}}}", r"\toprule"]
    latex += [line("", [f"{head:^{width}}" for head in heads], " & ") + r"\\ ", r"\midrule"]
    plain = [line("", [f"{head:^{width}}" for head in heads], " ")]
    for tag, row, greys in zip(tags, texts, shades(values).tolist()):
        colored = [
            rf"\cellcolor[rgb]{{{grey:.2f}, {grey:.2f}, {grey:.2f}}} {text}" if text else " " * width
            for text, grey in zip(row, greys)
        ]
        latex.append(line(tag, colored, " & ") + r"\\ ")
        plain.append(line(tag, [f"{text:^{width}}" for text in row], " "))
    latex += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*latex, "", *plain, "", ""])


def banner(title: str, *, blank: str = "") -> str:
    rule = "=" * (10 if title == "Compute EERs" else 15)
    return f"{rule}{blank}\n{title}\n{rule}\n"


def progress(track: str, what: str) -> str:
    n_rows = len(ROWS[track])
    return f"\n{'-' * (n_rows - 1)}>| computing {what}\n{'.' * n_rows}\n"


def report(track: str, result: Tables, c012_path: str | None, *, recomputed: bool) -> str:
    """Standard output of the official package, as it is on success."""
    out = []
    if result.min_tdcf is None:
        out += [banner("Compute EERs", blank=" "), "Track without considering ASV\n", progress(track, "EERs")]
    else:
        if recomputed:
            out += [banner("Compute C012 coef"), progress(track, "C012 for tDCF"), f"Save C012 coef to {c012_path}\n"]
        out += [banner("Compute EERs, min tDCFs", blank=" "), f"Load C012 coeffs from {c012_path}\n"]
        out += [progress(track, "EERs and min tDCF")]
    out.append("\n\n\n\n")
    if result.min_tdcf is not None:
        out += [banner("Table for min tDCFs"), "\n", render(result.min_tdcf, track, "1.4f"), "\n"]
    out += [banner("Table for EERs"), "\n", render(100 * result.eer, track, "1.2f")]
    return "".join(out) + "Please scroll up and check the results.\n"


# The command


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cm-score-file", required=True, type=Path, help="scores of the countermeasure")
    parser.add_argument("--track", required=True, choices=["LA", "DF", "PA"])
    parser.add_argument("--subset", default="eval", choices=SUBSETS)
    parser.add_argument("--metadata", default="keys", help="folder of the keys (default: keys)")
    parser.add_argument("--recompute-c012", action="store_true", help="make the t-DCF weights from ASV scores")
    parser.add_argument(
        "--asv-score-file", type=Path, help="ASV scores for --recompute-c012, instead of the organisers'"
    )
    parser.add_argument("--c012-path", help="file of t-DCF weights to read, or to write with --recompute-c012")
    parser.add_argument("--json", type=Path, help="write the tables with full precision, and the pooled EER's interval")
    parser.add_argument("--csv", type=Path, help="the same, a line for each cell")
    args = parser.parse_args(argv)
    try:
        evaluate(args, note=lambda text: print(f"{parser.prog}: {text}", file=sys.stderr))
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


def evaluate(args: argparse.Namespace, note: Callable[[str], None]) -> None:
    """Compute and print the tables of one score file; `note` tells what is odd but no reason to stop.

    Raises:
        InputError: anything about the files or flags that would make the tables wrong.
    """
    track, subset, folder = args.track, args.subset, Path(args.metadata) / args.track
    key_path = folder / "CM" / "trial_metadata.txt"
    if not key_path.is_file():
        raise InputError(f"{key_path}: not there; {where_to_get(track, args.metadata)}")
    if subset in PA_HIDDEN and track != "PA" and (track == "DF" or args.c012_path is None):
        raise InputError(f"--subset {subset} is a subset of the track PA; {track} has progress, eval and hidden")
    c012_path = None if track == "DF" else choose_c012_path(args, folder)

    keys = read_keys(key_path, columns=key_columns(track))
    if keys.track != track:
        raise InputError(f"{key_path}: this is the key of {keys.track}, not of {track}; check --metadata")
    scores = keys.align(read_scores(args.cm_score_file, finite=False, tabs=False))
    trials = choose_trials(args, keys, scores, note)

    c012 = None
    if c012_path is not None:
        if args.recompute_c012:
            asv_trials = asv.read_asv_trials(
                folder, track, subset, score_path=args.asv_score_file, columns=tuple(key_columns(track))
            )
            asv.write_c012(Path(c012_path), compute_c012(track, asv_trials))
        c012 = read_c012(Path(c012_path), args, folder, note)

    result = compute_tables(track, trials, c012)
    for remark in remarks_on(trials, result):
        note(remark)
    print(report(track, result, c012_path, recomputed=args.recompute_c012), end="")
    if args.json or args.csv:
        interval = pooled_interval(trials)
        if args.json:
            files.write_json(args.json, as_json(args, trials, result, interval))
        if args.csv:
            files.write_text(args.csv, as_csv(track, result, interval))


def where_to_get(track: str, metadata: str) -> str:
    archive, md5 = ARCHIVES[track]
    return (
        f"run `python download.py {track}` in 2021/eval-package, or get {ARCHIVES_URL}{archive} (md5 {md5}) "
        f"and unpack it so that {Path(metadata) / track} is a folder, or give --metadata"
    )


def choose_c012_path(args: argparse.Namespace, folder: Path) -> str:
    """Where the t-DCF weights are, or will be written.

    Raises:
        InputError: there is no such place, or writing would overwrite the organisers' file.
    """
    own = asv.c012_path(folder, args.track, args.subset)
    if args.recompute_c012:
        organisers = [folder / f"{args.track}-C012-{tag}.npy" for tag in asv.C012_TAGS[args.track].values()]
        if args.c012_path is None or Path(args.c012_path).resolve() in [path.resolve() for path in organisers]:
            raise InputError(
                f"--recompute-c012 would overwrite the organisers' {own or folder}; "
                f"give another file to write with --c012-path"
            )
        if not Path(args.c012_path).parent.is_dir():
            raise InputError(f"--c012-path {args.c012_path}: its folder is not there; make it first")
        return str(args.c012_path)
    if args.c012_path is not None:
        if not Path(args.c012_path).is_file():
            raise InputError(f"--c012-path {args.c012_path}: not there; add --recompute-c012 to make it")
        return str(args.c012_path)
    if own is None:
        raise InputError(
            f"--subset {args.subset}: {args.track} has two hidden sets with weights of their own; choose hidden1_PA or "
            f"hidden2_PA, or pool them with --recompute-c012 --c012-path FILE"
        )
    if not own.is_file():
        raise InputError(f"{own}: not there; {where_to_get(args.track, args.metadata)}")
    return str(own)


def choose_trials(args: argparse.Namespace, keys: Keys, scores: np.ndarray, note: Callable[[str], None]) -> Trials:
    """The trials of the subset, sorted.

    Raises:
        InputError: no trial is in the subset, or some of its scores are not finite.
    """
    if args.subset in PA_HIDDEN and args.track != "PA":
        chosen = np.zeros(len(keys), bool)
        note(f"no trial of {args.track} is in the subset {args.subset}, so every cell is blank")
    else:
        chosen = in_subset(keys.columns.raw, args.subset, keys.path)
    finite = np.isfinite(scores)
    bad = np.flatnonzero(chosen & ~finite)
    if len(bad):
        raise InputError(
            f"{args.cm_score_file}: {len(bad)} scores of the subset {args.subset} are NaN or infinite "
            f"({tables.some_of(keys.name_bytes[bad])}); score those trials again"
        )
    if not finite.all():
        note(f"{int((~finite).sum())} scores outside the subset {args.subset} are NaN or infinite")
    columns = {column: keys.columns.raw[column][chosen] for column in key_columns(args.track)}
    return sort_trials(args.track, scores[chosen], keys.bonafide[chosen], columns)


def read_c012(path: Path, args: argparse.Namespace, folder: Path, note: Callable[[str], None]) -> asv.C012:
    """Read the t-DCF weights, and see that they are not those of another subset or track.

    Raises:
        InputError: the file is damaged, is of another track, or is the organisers' of another subset.
    """
    c012 = asv.read_c012(path)
    if not any(c.level in c012 for c in ROWS[args.track] if c is not POOLED):
        raise InputError(f"{path}: holds no weights of the track {args.track}; check --c012-path")
    others = {s: tag for s, tag in asv.C012_TAGS[args.track].items() if s != args.subset}
    for other, tag in others.items():
        organisers = folder / f"{args.track}-C012-{tag}.npy"
        copied = organisers.is_file() and organisers.read_bytes() == path.read_bytes()
        if copied or path.name == organisers.name:
            raise InputError(
                f"{path}: these are the organisers' t-DCF weights of the subset {other}, not {args.subset}"
            )
        if organisers.is_file() and asv.same_c012(asv.read_c012(organisers), c012):
            note(f"{path}: holds the t-DCF weights of the subset {other}, not {args.subset}: min t-DCF will be wrong")
    return c012


def remarks_on(trials: Trials, result: Tables) -> list[str]:
    found = []
    if not math.isnan(result.pooled.eer) and result.pooled.eer > 0.5:
        found += remarks(trials.scores[trials.is_bonafide], trials.scores[~trials.is_bonafide])
    if result.odd:
        cells = ", ".join(result.odd[: tables.N_SHOWN]) + (", ..." if len(result.odd) > tables.N_SHOWN else "")
        found.append(f"{len(result.odd)} cells with fewer than 3 distinct scores are left blank ({cells})")
    return found


# --json and --csv


def pooled_interval(trials: Trials) -> Interval | None:
    bonafide, spoof = trials.scores[trials.is_bonafide], trials.scores[~trials.is_bonafide]
    if not len(bonafide) or not len(spoof):
        return None
    return bootstrap_eer(bonafide, spoof, n_resamples=N_RESAMPLES, seed=SEED, level=LEVEL)


def as_json(args: argparse.Namespace, trials: Trials, result: Tables, interval: Interval | None) -> dict[str, Any]:
    """Fractions, not percent; null where a cell is blank."""

    def known(values: np.ndarray) -> list[list[float | None]]:
        return [[None if math.isnan(v) else v for v in row] for row in values.tolist()]

    n_bonafide = int(trials.is_bonafide.sum())
    blank = math.isnan(result.pooled.eer)
    return {
        "cm_score_file": str(args.cm_score_file),
        "track": args.track,
        "subset": args.subset,
        "n_bonafide": n_bonafide,
        "n_spoof": len(trials.scores) - n_bonafide,
        "pooled": {
            "eer": None if blank else result.pooled.eer,
            "threshold": None if blank else result.pooled.threshold,
            "eer_interval": interval,
            "interval": {"level": LEVEL, "method": "bootstrap by trial", "n_resamples": N_RESAMPLES, "seed": SEED},
            "min_tdcf": None if result.min_tdcf is None else known(result.min_tdcf)[-1][-1],
        },
        "rows": [row.level for row in ROWS[args.track]],
        "columns": [column.level for column in COLUMNS[args.track]],
        "eer": known(result.eer),
        "min_tdcf": None if result.min_tdcf is None else known(result.min_tdcf),
    }


def as_csv(track: str, result: Tables, interval: Interval | None) -> str:
    """A line for each cell: fractions, empty where blank; the interval stands on the pooled line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["row", "column", "eer", "min_tdcf", "eer_low", "eer_high"])
    for (i, row), (j, column) in itertools.product(enumerate(ROWS[track]), enumerate(COLUMNS[track])):
        cells = [result.eer[i, j], math.nan if result.min_tdcf is None else result.min_tdcf[i, j]]
        bounds = interval if interval and row is POOLED and column is POOLED else (math.nan, math.nan)
        texts = ["" if math.isnan(value) else repr(float(value)) for value in (*cells, *bounds)]
        writer.writerow([row.level, column.level, *texts])
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
