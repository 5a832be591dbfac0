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
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
if str(HERE.parents[1]) not in sys.path:
    sys.path.insert(0, str(HERE.parents[1]))  # the official package is run from its own folder, so ours is too
if str(HERE) not in sys.path:
    sys.path.append(str(HERE))  # at the end: there is another main.py in it

import numpy as np  # noqa: E402
import official_output  # noqa: E402
from conditions import COLUMNS, POOLED, ROWS, Condition, key_columns, passing  # noqa: E402

from eval_metrics import EER, det_of_sorted, eer_of_det, score_warnings, tdcf_of_det  # noqa: E402
from qamo import InputError, files  # noqa: E402
from qamo.command import STDOUT, Parser, add_form, deliver, run_command  # noqa: E402
from qamo.evaluation import tdcf  # noqa: E402
from qamo.evaluation.intervals import LEVEL, N_RESAMPLES, SEED, UNITS, Interval, Units, eer_interval, units_of  # noqa: E402
from qamo.trials import asv, tables  # noqa: E402
from qamo.trials.keys import ARCHIVES, ARCHIVES_URL, PA_HIDDEN, Keys, in_subset, read_keys  # noqa: E402
from qamo.trials.scores import read_scores  # noqa: E402
from qamo.trials.tables import Columns  # noqa: E402

SUBSETS = ["progress", "eval", "hidden", "hidden1_PA", "hidden2_PA"]


class Trials(NamedTuple):
    """The scored trials of a subset in the order of `det_curve`, and who counts in which row and column."""

    scores: np.ndarray  # (N,) float64
    is_bonafide: np.ndarray  # (N,) bool
    rows: list[np.ndarray]  # (N,) bool each
    columns: list[np.ndarray]
    units: Units  # what the interval of the pooled EER resamples


def sort_trials(
    track: str, scores: np.ndarray, is_bonafide: np.ndarray, columns: dict[str, np.ndarray], units: Units
) -> Trials:
    """Sort once; every cell is then a choice from the sorted trials, and needs no sort of its own."""
    order = np.lexsort((~is_bonafide, scores))
    is_bonafide = is_bonafide[order]
    units = units if units.codes is None else units._replace(codes=units.codes[order])
    columns = {column: texts[order] for column, texts in columns.items()}
    rows, columns_ = (passing(axis[track], columns, is_bonafide) for axis in (ROWS, COLUMNS))
    return Trials(scores[order], is_bonafide, rows, columns_, units)


class Tables(NamedTuple):
    """R rows of C cells, `Pooled` last in both; NaN where a cell has nothing to compute."""

    eer: np.ndarray  # (R, C) in [0, 1]
    min_tdcf: np.ndarray | None  # (R, C); None on DF, which has no ASV system
    pooled: EER
    odd: list[str]  # cells that were left blank for want of three distinct scores


def compute_tables(track: str, trials: Trials, c012: tdcf.C012 | None) -> Tables:
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
        coefficients = None if c012 is None else c012.get(row.level, {}).get(column.level)
        if coefficients is not None:
            min_tdcf[i, j] = np.min(tdcf_of_det(det, coefficients))
    return Tables(eer, None if c012 is None else min_tdcf, pooled, odd)


def compute_c012(track: str, trials: asv.ASVTrials) -> tdcf.C012:
    """The t-DCF coefficients of every cell, from the ASV trials of the subset."""
    is_genuine = trials.kinds != asv.SPOOF  # targets and nontargets are bona fide speech
    rows, columns = (passing(axis[track], trials.columns, is_genuine) for axis in (ROWS, COLUMNS))
    thresholds: dict[tuple[Condition, Condition], float] = {}
    c012: tdcf.C012 = {row.level: {} for row in ROWS[track]}
    for column, in_column in zip(COLUMNS[track], columns):
        indices = np.flatnonzero(in_column)
        part = asv.ASVTrials(trials.scores[indices], trials.kinds[indices], {})
        for row, in_row in zip(ROWS[track], rows):
            chosen = in_row[indices]
            # A condition on spoofed trials alone changes no target or nontarget, and so not their threshold.
            genuine = (row if row.bonafide else POOLED, column if column.bonafide else POOLED)
            if genuine not in thresholds:
                thresholds[genuine] = part.threshold(chosen)
            c012[row.level][column.level] = part.coefficients(chosen, thresholds[genuine])
    return c012


# The command


def build_parser() -> Parser:
    parser = Parser("main.py", __doc__)
    parser.add_argument("--cm-score-file", required=True, type=Path, help="scores of the countermeasure")
    parser.add_argument("--track", required=True, choices=["LA", "DF", "PA"])
    parser.add_argument("--subset", default="eval", choices=SUBSETS)
    parser.add_argument("--metadata", default="keys", help="folder of the keys (default: keys)")
    parser.add_argument("--recompute-c012", action="store_true", help="make the t-DCF coefficients from ASV scores")
    parser.add_argument(
        "--asv-score-file", type=Path, help="ASV scores for --recompute-c012, instead of the organisers'"
    )
    parser.add_argument("--c012-path", help="file of t-DCF coefficients to read, or to write with --recompute-c012")
    add_form(parser, "json", "all digits, and the pooled EER's interval")
    add_form(parser, "csv", "the same, a line for each cell")
    parser.add_argument("--unit", choices=UNITS, help="what that interval resamples (default: speakers, or trials)")
    return parser


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), command, argv)


def command(args: argparse.Namespace) -> int:
    """Compute and print the tables of one score file.

    Raises:
        InputError: anything about the files or flags that would make the tables wrong.
    """
    track, folder = args.track, Path(args.metadata) / args.track
    c012_path, keys, scores = read_inputs(args, folder)
    trials = choose_trials(args, keys, scores)
    c012 = None
    if c012_path is not None:
        if args.recompute_c012:
            asv_trials = asv.read_asv_trials(
                folder, track, args.subset, score_path=args.asv_score_file, columns=tuple(key_columns(track))
            )
            tdcf.write_c012(Path(c012_path), compute_c012(track, asv_trials))
        c012 = read_c012(Path(c012_path), args, folder)

    result = compute_tables(track, trials, c012)
    for warning in warnings_of(trials, result):
        note(warning)
    if STDOUT not in (args.json, args.csv):
        report = official_output.report(track, result.eer, result.min_tdcf, c012_path, recomputed=args.recompute_c012)
        print(report, end="")
    interval = pooled_interval(trials) if args.json or args.csv else None
    if args.json:
        deliver(files.json_text(as_json(args, trials, result, interval)), args.json)
    if args.csv:
        deliver(as_csv(track, result, interval), args.csv)
    return 0


def note(text: str) -> None:
    """Tell what is odd, but no reason to stop."""
    print(f"main.py: {text}", file=sys.stderr)


def read_inputs(args: argparse.Namespace, folder: Path) -> tuple[str | None, Keys, np.ndarray]:
    """Where the t-DCF coefficients are (None on DF), the keys, and the score of each trial of the keys.

    Raises:
        InputError: they are not there, or do not belong together.
    """
    track, subset = args.track, args.subset
    key_path = folder / "CM" / "trial_metadata.txt"
    if not key_path.is_file():
        raise InputError(f"{key_path}: not there; {where_to_get(track, args.metadata)}")
    if subset in PA_HIDDEN and track != "PA" and (track == "DF" or args.c012_path is None):
        raise InputError(f"--subset {subset} is a subset of the track PA; {track} has progress, eval and hidden")
    c012_path = None if track == "DF" else choose_c012_path(args, folder)
    of_interval = ["speaker", "attack"] if args.json or args.csv or args.unit else []
    keys = read_keys(key_path, columns=[*key_columns(track), *of_interval])
    if keys.track != track:
        raise InputError(f"{key_path}: this is the key of {keys.track}, not of {track}; check --metadata")
    return c012_path, keys, keys.align(read_scores(args.cm_score_file, finite=False, tabs=False), exact=True)


def where_to_get(track: str, metadata: str) -> str:
    archive, md5 = ARCHIVES[track]
    return (
        f"run `python download.py {track}` in 2021/eval-package, or get {ARCHIVES_URL}{archive} (md5 {md5}) "
        f"and unpack it so that {Path(metadata) / track} is a folder, or give --metadata"
    )


def choose_c012_path(args: argparse.Namespace, folder: Path) -> str:
    """Where the t-DCF coefficients are, or will be written.

    Raises:
        InputError: there is no such place, or writing would overwrite the organisers' file.
    """
    own = tdcf.c012_path(folder, args.track, args.subset)
    if args.recompute_c012:
        organisers = [folder / f"{args.track}-C012-{tag}.npy" for tag in tdcf.C012_TAGS[args.track].values()]
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
            f"--subset {args.subset}: {args.track} has two hidden sets with coefficients of their own; choose "
            f"hidden1_PA or hidden2_PA, or pool them with --recompute-c012 --c012-path FILE"
        )
    if not own.is_file():
        raise InputError(f"{own}: not there; {where_to_get(args.track, args.metadata)}")
    return str(own)


def choose_trials(args: argparse.Namespace, keys: Keys, scores: np.ndarray) -> Trials:
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
    columns = {column: texts[chosen] for column, texts in keys.columns.raw.items()}
    is_bonafide = keys.bonafide[chosen]
    units = units_of(Columns(columns), is_bonafide, args.unit, path=keys.path)
    return sort_trials(args.track, scores[chosen], is_bonafide, columns, units)


def read_c012(path: Path, args: argparse.Namespace, folder: Path) -> tdcf.C012:
    """Read the t-DCF coefficients, and see that they are not those of another subset or track.

    Raises:
        InputError: the file is damaged, is of another track, or is the organisers' of another subset.
    """
    c012 = tdcf.read_c012(path)
    if not any(c.level in c012 for c in ROWS[args.track] if c is not POOLED):
        raise InputError(f"{path}: holds no coefficients of the track {args.track}; check --c012-path")
    others = {s: tag for s, tag in tdcf.C012_TAGS[args.track].items() if s != args.subset}
    for other, tag in others.items():
        organisers = folder / f"{args.track}-C012-{tag}.npy"
        copied = organisers.is_file() and organisers.read_bytes() == path.read_bytes()
        if copied or path.name == organisers.name:
            raise InputError(
                f"{path}: these are the organisers' t-DCF coefficients of the subset {other}, not {args.subset}"
            )
        if organisers.is_file() and tdcf.same_c012(tdcf.read_c012(organisers), c012):
            held = f"the t-DCF coefficients of the subset {other}, not {args.subset}"
            note(f"{path}: holds {held}: min t-DCF will be wrong")
    return c012


def warnings_of(trials: Trials, result: Tables) -> list[str]:
    warnings = []
    if not math.isnan(result.pooled.eer) and result.pooled.eer > 0.5:
        warnings += score_warnings(trials.scores[trials.is_bonafide], trials.scores[~trials.is_bonafide])
    if result.odd:
        cells = ", ".join(result.odd[: tables.N_SHOWN]) + (", ..." if len(result.odd) > tables.N_SHOWN else "")
        warnings.append(f"{len(result.odd)} cells with fewer than 3 distinct scores are left blank ({cells})")
    return warnings


# --json and --csv


def pooled_interval(trials: Trials) -> Interval | None:
    bonafide, spoof = trials.scores[trials.is_bonafide], trials.scores[~trials.is_bonafide]
    if not len(bonafide) or not len(spoof):
        return None
    groups = trials.units.groups(trials.is_bonafide, ~trials.is_bonafide)
    return eer_interval(bonafide, spoof, unit=trials.units.unit, groups=groups)


def as_json(args: argparse.Namespace, trials: Trials, result: Tables, interval: Interval | None) -> dict[str, Any]:
    """Fractions, not percent; null where a cell is blank."""

    def nulled(values: np.ndarray) -> list[list[float | None]]:
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
            "eer_interval": interval and interval[:2],
            "interval": interval and {**interval.facts, "level": LEVEL, "n_resamples": N_RESAMPLES, "seed": SEED},
            "min_tdcf": None if result.min_tdcf is None else nulled(result.min_tdcf)[-1][-1],
        },
        "rows": [row.level for row in ROWS[args.track]],
        "columns": [column.level for column in COLUMNS[args.track]],
        "eer": nulled(result.eer),
        "min_tdcf": None if result.min_tdcf is None else nulled(result.min_tdcf),
    }


def as_csv(track: str, result: Tables, interval: Interval | None) -> str:
    """A line for each cell: fractions, empty where blank; the interval stands on the pooled line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["row", "column", "eer", "min_tdcf", "eer_low", "eer_high"])
    for (i, row), (j, column) in itertools.product(enumerate(ROWS[track]), enumerate(COLUMNS[track])):
        cells = [result.eer[i, j], math.nan if result.min_tdcf is None else result.min_tdcf[i, j]]
        pooled = row is POOLED and column is POOLED
        bounds = interval[:2] if interval and pooled else (None, None)
        texts = ["" if value is None or math.isnan(value) else repr(float(value)) for value in (*cells, *bounds)]
        writer.writerow([row.level, column.level, *texts])
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
