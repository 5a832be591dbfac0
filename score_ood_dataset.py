"""Equal error rate of a score file on a set, such as In-the-Wild or FoR, and with --metrics every other figure.

    python score_ood_dataset.py scores.txt database/ood_ds_keys/ITW
    python score_ood_dataset.py scores.txt keys/LA --metrics --dev dev_scores.txt dev_protocol.txt
    python score_ood_dataset.py itw.txt database/ood_ds_keys/ITW --set for.txt database/ood_ds_keys/FoR

scores.txt   `file score` lines, or another layout of the field; a higher score means more likely bona fide
keys         a folder with meta.csv, or any key or protocol of the field

The first line printed is `eer: 7.46`, in percent. The interval is by speaker where the keys name at least five in each
class, else by trial (docs/statistics.md). A key of ASVspoof 2021 holds three subsets: eval is scored unless --subset
names another, or `all`. For ASVspoof 5 see score_asvspoof5.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval_metrics import equal_error_rate, score_warnings
from qamo import InputError
from qamo.command import Parser, note, number, run_command, say_saved, typed
from qamo.evaluation.breakdown import MISSING, System, mos_bands, mos_results
from qamo.evaluation.intervals import BY_TRIAL, N_RESAMPLES, SEED, UNITS, Units, eer_interval, units_of
from qamo.evaluation.leakage import refuse_shared_trials
from qamo.evaluation.metrics import SetScores, all_metrics, dev_threshold, over_sets
from qamo.quality.agreement import correlation
from qamo.trials.asv import read_legacy_coefficients
from qamo.trials.authors import how_to_get
from qamo.trials.keys import KEY_FILES, TRACKS, Keys, read_keys, refuse_one_class
from qamo.trials.ratings import read_ratings
from qamo.trials.scores import read_scores
from qamo.trials.sniff import sniff

MOS_EDGES = (2.0, 2.5, 3.0, 3.5, 4.0)  # between the bands of --mos; the paper's threshold, 2.5, is one


def build_parser() -> Parser:
    parser = Parser("score_ood_dataset.py", __doc__)
    parser.add_argument("scores", type=Path, help="score file")
    parser.add_argument("keys", type=Path, help="folder holding meta.csv, or a key file")
    parser.add_argument("--by", metavar="COLUMN", help="also print the EER for each value of a column, such as speaker")
    parser.add_argument("--mos", type=Path, metavar="FILE", help="also print results by quality: MOS of each trial")
    parser.add_argument("--subset", help="of an ASVspoof 2021 key (default: eval); all pools its subsets")
    parser.add_argument("--metrics", action="store_true", help="also print every other figure")
    parser.add_argument("--threshold", type=number(float, -1e300, 1e300), help="of decisions, from other data")
    parser.add_argument("--dev", type=Path, nargs=2, metavar=("SCORES", "KEYS"), help="take the threshold from there")
    parser.add_argument("--asv", type=Path, metavar="FILE", help="ASV scores of ASVspoof 2019: its min t-DCF")
    parser.add_argument(
        "--set", type=Path, nargs=2, action="append", default=[], metavar=("SCORES", "KEYS"),
        help="a further set: EER of each, of all trials pooled, and the average (may be repeated)",
    )  # fmt: skip
    parser.add_argument("--unit", choices=UNITS, help="what the interval resamples (default: speakers, or trials)")
    parser.add_argument(
        "--resamples",
        type=number(int, 0, 1_000_000),
        default=N_RESAMPLES,
        help="of the interval; 0 leaves it out (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=number(int, 0, 2**63 - 1), default=SEED, help="of the resamples (default: %(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), command, argv)


def command(args: argparse.Namespace) -> int:
    keys, subset = read_set_keys(args.keys, args.subset)
    scores = keys.align(read_scores(args.scores))
    asks = args.resamples or args.unit
    units = units_of(keys.columns, keys.bonafide, args.unit, path=keys.path) if asks else BY_TRIAL
    options = {"n_resamples": args.resamples, "seed": args.seed}
    lines = summary(keys, scores, units, **options)
    if subset is not None or len(keys.outside):
        lines.append(f"subset: {subset} ({len(keys)} of {len(keys) + len(keys.outside)} trials; --subset all has all)")
    if args.metrics or args.asv or args.dev or args.threshold is not None:
        lines += figures(args, keys, scores, subset)
    if args.set:
        lines += over_sets(
            [SetScores(args.scores.stem, keys, scores), *further_sets([[args.scores, args.keys], *args.set])[1:]]
        )
    if args.by is not None:
        lines += by_column(keys, scores, args.by)
    if args.mos is not None:
        lines += by_quality(keys, scores, read_ratings(args.mos).of(keys), units, **options)
    for text in score_warnings(scores[keys.bonafide], scores[~keys.bonafide]):
        note("score_ood_dataset.py", text)
    print("\n".join(lines), flush=True)
    more = [
        word for name in ("subset", "mos", "unit") if (value := getattr(args, name)) for word in (f"--{name}", value)
    ]
    say_saved(then=typed("report", args.scores, "--keys", args.keys, *more), stream=sys.stderr)
    return 0


def read_set_keys(path: Path, subset: str | None) -> tuple[Keys, str | None]:
    """The key of a set, or of the one in a folder, and its subset: eval of ASVspoof 2021 unless another is named."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder{how_to_get(path)}")
    if path.is_dir():
        path = next((path / name for name in KEY_FILES if (path / name).is_file()), path / KEY_FILES[0])
    if subset is None:
        form = sniff(path, numbers=True)
        subset = "eval" if form.plain and len(form.cells) in TRACKS else None
    chosen = None if subset == "all" else subset
    keys = read_keys(path, chosen)
    refuse_one_class(keys)
    return keys, chosen


def figures(args: argparse.Namespace, keys: Keys, scores: np.ndarray, subset: str | None) -> list[str]:
    """The lines of --metrics; the threshold of --dev is refused where dev and evaluation trials are the same."""
    threshold = args.threshold
    if args.dev:
        if threshold is not None:
            raise InputError("--dev and --threshold: give one of them")
        dev_keys, _ = read_set_keys(args.dev[1], None)
        dev = dev_keys.align(read_scores(args.dev[0]))
        refuse_shared_trials((dev_keys.name_bytes, dev), (keys.name_bytes, scores), "the threshold", args.scores)
        threshold = dev_threshold((dev[dev_keys.bonafide], dev[~dev_keys.bonafide]), args.dev[0])
    legacy = read_legacy_coefficients(args.asv) if args.asv else None
    return all_metrics(SetScores("", keys, scores), threshold=threshold, subset=subset, legacy=legacy)


def further_sets(files: Sequence[Sequence[Path]]) -> list[SetScores]:
    """The sets of --set, called by their score files, with their folders where two have one name."""
    made = []
    for i, (scores, path) in enumerate(files):
        if [scores, path] in files[:i]:
            raise InputError(f"--set {scores} {path}: was given before, and would be counted twice; leave it out")
        keys, _ = read_set_keys(path, None)
        made.append(SetScores(scores.stem, keys, keys.align(read_scores(scores))))
    return made


def summary(keys: Keys, scores: np.ndarray, units: Units, *, n_resamples: int, seed: int) -> list[str]:
    """The result in lines, for the score of each trial of the key: (N,)."""
    bonafide, spoof = scores[keys.bonafide], scores[~keys.bonafide]
    eer, threshold = equal_error_rate(bonafide, spoof)
    lines = [
        f"eer: {100 * eer:.2f}",
        f"bona fide: {len(bonafide)}",
        f"spoof: {len(spoof)}",
        f"threshold: {threshold:.6g}",
    ]
    if n_resamples > 0:
        groups = units.groups(keys.bonafide, ~keys.bonafide)
        interval = eer_interval(bonafide, spoof, unit=units.unit, groups=groups, n_resamples=n_resamples, seed=seed)
        note = f"; {units.note}" if units.note else ""
        lines.append(f"95 % interval: {interval.percent()} ({interval.basis}{note})")
    return lines


def by_column(keys: Keys, scores: np.ndarray, column: str) -> list[str]:
    """A table of the EER for each value of a column; `-` where a value has trials of one class only.

    The placeholder `-` of the keys is a missing value; its trials are counted below the table.

    Values that only spoofed trials have, such as attacks, are set against all bona fide trials.

    Raises:
        InputError: the keys have no such column.
    """
    if column not in keys.columns:
        there = ", ".join(keys.columns) or "no columns besides file and label"
        raise InputError(f"--by {column}: {keys.path} has no such column; it has {there}")
    values, codes = keys.columns.levels(column)
    with_bonafide = np.bincount(codes[keys.bonafide], minlength=len(values)) > 0
    with_spoof = np.bincount(codes[~keys.bonafide], minlength=len(values)) > 0
    is_level = np.array([value != MISSING for value in values])
    against_all = not (with_bonafide & with_spoof & is_level).any()
    width = max(len(column), *map(len, values))
    lines = ["", f"{column:<{width}}     eer  bona fide  spoof"]
    for code, value in enumerate(values):
        if value == MISSING:
            continue
        here = codes == code
        bonafide = scores[keys.bonafide if against_all else keys.bonafide & here]
        spoof = scores[~keys.bonafide & here]
        eer = f"{100 * equal_error_rate(bonafide, spoof).eer:.2f}" if len(bonafide) and len(spoof) else "-"
        lines.append(f"{value:<{width}}  {eer:>6}  {len(bonafide):>9}  {len(spoof):>5}")
    if n := int(keys.columns.raw[column].tolist().count(MISSING.encode())):
        lines.append(f"no {column}: {n} trials")
    return lines


def by_quality(
    keys: Keys, scores: np.ndarray, mos: np.ndarray, units: Units, *, n_resamples: int, seed: int
) -> list[str]:
    """EER by MOS band, what the score owes to MOS, and what MOS alone would reach; scores and MOS: (N,)."""
    bands = mos_bands(mos, MOS_EDGES)
    width = max(map(len, bands.levels))
    system = System("scores", keys.path, scores, keys.bonafide, units=units)
    lines = ["", f"{'MOS':<{width}}     eer  {'95 % interval':>17}  bona fide  spoof  interval"]
    for level, band in mos_results(system, bands, n_resamples=n_resamples, seed=seed):
        eer = "-" if band.eer is None else f"{100 * band.eer:.2f}"
        counts = f"{band.n_bonafide:>9}  {band.n_spoof:>5}"
        lines.append(
            f"{level:<{width}}  {eer:>6}  {band.interval.percent():>17}  {counts}  {band.interval.basis}".rstrip()
        )
    rho = [correlation(mos[of_class], scores[of_class]).spearman for of_class in (keys.bonafide, ~keys.bonafide)]
    texts = ["-" if value is None else f"{value:+.3f}" for value in rho]
    alone = equal_error_rate(mos[keys.bonafide], mos[~keys.bonafide]).eer
    return [
        *lines,
        f"correlation of MOS and score (Spearman): bona fide {texts[0]}, spoof {texts[1]}",
        f"eer of MOS alone as a detector: {100 * alone:.2f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
