"""Does it help? WCE, OC-Softmax and four forms of QAMO on one corpus, some seeds each, and three ways to score.

    python benchmarks/study.py                                   # the mini corpus, seeds 1 2 3 (make study)
    python benchmarks/study.py train.max_epochs=4 --config database/mini.yaml --seeds 1 2 3 --systems wce qamo_softmax

Each cell of the table is a run of main.py below exps/study/; cells that are finished are skipped, so the command may be
stopped and given again. The features of a frozen front end are computed once for all cells. Words like
section.key=value go to every cell. Writes benchmarks/results/study.json and study.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import ROOT
from benchmarks.measure import table as markdown
from qamo import InputError, files
from qamo.command import Parser, run_command
from qamo.config.load import load_config, parse_assignments
from qamo.config.schema import Config
from qamo.evaluation.breakdown import Factor, by_factor
from qamo.evaluation.breakdown import System as Detector
from qamo.evaluation.intervals import Difference, holm, units_of
from qamo.evaluation.seeds import difference, spread
from qamo.training.folder import MODEL, RunFolder
from qamo.trials.keys import Keys, read_keys
from qamo.trials.scores import read_scores

REFERENCE = "qamo"  # the system that every other is held against, unless another is asked for
N_RESAMPLES = 2000

PAPER: dict[str, Any] = {
    "model.head": "qamo",
    "model.qamo.n_centroids": 2,
    "model.qamo.quality_weight": 0.1,
    "model.qamo.score": "mean",
    "data.quality.thresholds": [2.5],
    "data.quality.quantiles": None,
}


@dataclass(frozen=True)
class System:
    """A row of the table: how it is trained, or which trained one it scores in another way."""

    title: str
    config: Mapping[str, Any]
    trained_as: str = ""  # empty: it is trained itself
    score: str = "mean"
    asked: bool = False  # trained only where it is asked for


TRAINED = {
    "wce": System("WCE", {"model.head": "wce"}),
    "oc_softmax": System("OC-Softmax", {"model.head": "oc_softmax"}),
    "qamo": System("QAMO, paper classes (MOS 2.5)", PAPER),
    "qamo_quantiles": System(
        "QAMO, quantile classes (median)",
        {**PAPER, "data.quality.thresholds": None, "data.quality.quantiles": [0.5]},
    ),
    "qamo_no_term": System("QAMO without the quality term", {**PAPER, "model.qamo.quality_weight": 0.0}),
}
MEASURED = {**PAPER, "data.quality.augmented": "predict"}
ASKED = {
    "qamo_measured": System("QAMO, MOS 2.5, augmented speech by its measured MOS", MEASURED, asked=True),
    "asp": System("QAMO, attentive pooling", {**PAPER, "model.backend": "asp"}, asked=True),
    "asp_layers": System(
        "QAMO, attentive pooling of layers [3, 4]",
        {**PAPER, "model.backend": "asp", "model.distillmos.layers": [3, 4]},
        asked=True,
    ),
    "asp_weighted": System(
        "QAMO, attentive pooling of all layers, weighted",
        {**PAPER, "model.backend": "asp", "model.distillmos.layers": "weighted"},
        asked=True,
    ),
}
SYSTEMS: dict[str, System] = {}
for _name, _system in {**TRAINED, **ASKED}.items():
    SYSTEMS[_name] = _system
    if _system.config["model.head"] == "qamo" and not _system.asked:
        for _score in ("softmax", "max"):
            title = f"{_system.title}, {_score} score"
            SYSTEMS[f"{_name}_{_score}"] = System(title, _system.config, trained_as=_name, score=_score)


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser("study.py", __doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "database" / "mini.yaml", help="(database/mini.yaml)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N")
    usual = [name for name, system in SYSTEMS.items() if not system.asked]
    systems = f"({' '.join(usual)}); also {' '.join(ASKED)}"
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=usual, metavar="NAME", help=systems)
    parser.add_argument("--reference", choices=SYSTEMS, default=REFERENCE, metavar="NAME", help=f"({REFERENCE})")
    parser.add_argument("--cache-gb", type=float, default=12.0, help="room for features (12 GB)")
    parser.add_argument(
        "-o", "--output", "--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the table"
    )
    parser.add_argument("assignments", nargs="*", metavar="section.key=value", help="for every cell")
    return run_command(parser, command, argv)


def command(args: argparse.Namespace) -> int:
    wanted = {args.reference, *args.systems, *(SYSTEMS[name].trained_as for name in args.systems)}
    systems = [name for name in SYSTEMS if name in wanted]
    seeds = list(dict.fromkeys(args.seeds))
    more = {**parse_assignments(args.assignments), "run.feature_cache_gb": args.cache_gb}
    cells = {(name, seed): cell(name, seed, args.config, more) for seed in seeds for name in systems}
    for number, ((name, seed), each) in enumerate(cells.items(), start=1):
        print(f"[{number}/{len(cells)}] {SYSTEMS[name].title}, seed {seed}", file=sys.stderr, flush=True)
        if status := carry_out(each):
            print(f"study.py: stopped at {each.folder}; the same command goes on from there", file=sys.stderr)
            return status
    found = compare(systems, seeds, cells, args.reference)
    args.output.mkdir(parents=True, exist_ok=True)
    files.write_json(args.output / "study.json", found | {"config": args.config.name, "more": args.assignments})
    files.write_text(args.output / "study.md", table(found))
    print(table(found), end="")
    return 0


# ---- cells


class Cell(NamedTuple):
    """One system with one seed."""

    cfg: Config
    folder: Path
    words: list[str]  # arguments of main.py
    trained: Path | None  # of a cell that only scores: the run whose model it scores with


def cell(name: str, seed: int, config: Path, more: Mapping[str, Any]) -> Cell:
    """What main.py is to do for one system and seed, below the folder of runs that the config names.

    Raises:
        InputError: the config or a word is wrong.
    """
    system = SYSTEMS[name]
    base = load_config(config, more)
    study = base.run.runs / "study"
    over: dict[str, Any] = {**more, **system.config, "seed": seed}
    # One folder for all: cells of one seed see the same augmented waves, so most maps are computed once a seed.
    over["run.feature_cache"] = str(base.run.feature_cache or Path("cache") / "features")
    if system.trained_as:
        # Inside the trained run, so that removing that run removes what was scored with it.
        trained = study / f"{system.trained_as}_seed{seed}"
        over |= {"train.enabled": False, "run.runs": str(trained), "name": system.score}
        over |= {"score.weights": str(trained / MODEL), "model.qamo.score": system.score}
    else:
        trained = None
        over |= {"run.runs": str(study), "name": f"{name}_seed{seed}"}
    cfg = load_config(config, over)
    if trained:  # what decides a training would have no effect, but for the score rule
        idle = ("seed", "train.", "model.", "data.rawboost.", "data.quality.")
        kept = {"train.enabled", "model.qamo.score"}
        over = {key: value for key, value in over.items() if key in kept or not key.startswith(idle)}
    words = ["--config", str(config), *(f"{key}={_as_text(value)}" for key, value in over.items())]
    return Cell(cfg, cfg.run.runs / str(cfg.name), words, trained)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def carry_out(each: Cell) -> int:
    """Run a cell unless it is finished -> the exit status of main.py.

    Raises:
        InputError: its folder holds a run of another config.
    """
    if finished(each):
        return 0
    child = subprocess.Popen([sys.executable, str(ROOT / "main.py"), *each.words], stdout=sys.stderr)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # it went to the child too, which saves and ends
            continue


def finished(each: Cell) -> bool:
    """Whether a cell has the results of all sets, and its scores are still there."""
    if each.trained is None and not RunFolder(each.folder).holds_training(each.cfg):
        return False
    path = RunFolder(each.folder).results
    if not path.exists():
        return False
    rows = json.loads(path.read_text())["sets"]
    return all("eer" in rows.get(name, {}) and Path(rows[name]["scores"]).exists() for name in each.cfg.eval.sets)


# ---- the table


def compare(
    systems: Sequence[str], seeds: Sequence[int], cells: Mapping[tuple[str, int], Cell], reference: str = REFERENCE
) -> dict[str, Any]:
    """EERs of all cells, and each system's difference to the reference, as plain values; EERs in per cent.

    The interval of a difference has the variance over trials (or speakers) and that over seeds in it; p is adjusted by
    Holm for the systems of a set.
    """
    cfg = cells[reference, seeds[0]].cfg
    found: dict[str, Any] = {"seeds": list(seeds), "reference": reference, "n_resamples": N_RESAMPLES, "sets": {}}
    for set_name in cfg.eval.sets:
        entry = cfg.eval.catalogue[set_name]
        if entry.keys is None:
            raise InputError(f"eval.catalogue.{set_name}.keys: expected the labels of the set, found null")
        keys = read_keys(cfg.data.protocols_path / entry.keys, subset=entry.subset)
        results = {name: [_scored(name, cells[name, seed], set_name, keys) for seed in seeds] for name in systems}
        rows = {
            name: _row(result, None if name == reference else results[reference]) for name, result in results.items()
        }
        compared = [row["to_reference"] for row in rows.values() if row.get("to_reference", {}).get("p") is not None]
        for against, adjusted in zip(compared, holm([against["p"] for against in compared])):
            against["p_holm"] = round(adjusted, 4)
        n_bonafide = int(keys.bonafide.sum())
        found["sets"][set_name] = {"n_bonafide": n_bonafide, "n_spoof": len(keys) - n_bonafide, "systems": rows}
        if "codec" in keys.columns:
            found["sets"][set_name]["by_codec"] = {name: _by_codec(result, keys) for name, result in results.items()}
    return found


def _by_codec(results: list[Detector], keys: Keys) -> dict[str, float]:
    """Mean EER over the seeds on the trials of each codec that has both classes, per cent."""
    factor = Factor("codec", *keys.columns.levels("codec"))
    by_seed = [by_factor(result, factor) for result in results]
    means = {}
    for (codec, first), *others in zip(*by_seed):
        eers = [first.eer, *(measured.eer for _, measured in others)]
        means[codec] = round(100 * statistics.mean(eer for eer in eers if eer is not None), 4)
    return means


def _scored(name: str, each: Cell, set_name: str, keys: Keys) -> Detector:
    """One cell on one set."""
    scores = Path(json.loads(RunFolder(each.folder).results.read_text())["sets"][set_name]["scores"])
    units = units_of(keys.columns, keys.bonafide)
    return Detector(name, scores, keys.align(read_scores(scores)), keys.bonafide, units=units)


def _row(results: list[Detector], reference: list[Detector] | None) -> dict[str, Any]:
    """Figures of one system on one set, a result for each seed; rates in per cent."""
    eers = [100 * float(result.eer.eer) for result in results]
    deviation = spread(eers)
    row: dict[str, Any] = {"eers": [round(eer, 4) for eer in eers], "mean": round(statistics.mean(eers), 4)}
    row["deviation"] = None if deviation is None else round(deviation, 4)
    if reference is not None:
        row["to_reference"] = _in_percent(difference(results, reference, n_resamples=N_RESAMPLES))
    return row


def _in_percent(found: Difference) -> dict[str, Any]:
    ends = {"value": found.value, "low": found.low, "high": found.high}
    rates = {key: None if rate is None else round(100 * rate, 4) + 0.0 for key, rate in ends.items()}
    return rates | {"p": None if found.p is None else round(found.p, 4), "basis": found.basis}


def table(found: Mapping[str, Any]) -> str:
    """The figures of `compare` as Markdown."""
    seeds = ", ".join(map(str, found["seeds"]))
    lines = [
        f"EER in per cent: mean and standard deviation over the seeds {seeds}. Difference: to "
        f"{SYSTEMS[found['reference']].title}, mean over the seeds (below 0: better), with the 95 % interval and the "
        "two-sided p of Student's t with the variances over trials and over seeds; Holm: p adjusted for all systems of "
        "the set.",
    ]
    header = ["system", "EER", "deviation", "difference", "95 % interval", "p", "Holm"]
    for set_name, part in found["sets"].items():
        rows = []
        for name, row in part["systems"].items():
            deviation = "-" if row["deviation"] is None else f"{row['deviation']:.2f}"
            against = ["-"] * 4
            if diff := row.get("to_reference"):
                against[0] = f"{diff['value']:+.2f}"
            if diff and diff["p"] is not None:
                against[1:] = [
                    f"{diff['low']:+.2f} to {diff['high']:+.2f}",
                    f"{diff['p']:.3f}",
                    f"{diff['p_holm']:.3f}",
                ]
            rows.append([SYSTEMS[name].title, f"{row['mean']:.2f}", deviation, *against])
        basis = {row["to_reference"]["basis"] for row in part["systems"].values() if "to_reference" in row}
        counts = f"{part['n_bonafide']:,} bona fide, {part['n_spoof']:,} spoof"
        title = f"**{set_name}** ({'; intervals '.join([counts, *basis])})"
        lines += ["", title, "", *markdown(header, rows, rule="---:")]
        if by_codec := part.get("by_codec"):
            codecs = list(next(iter(by_codec.values())))
            cells = [[SYSTEMS[name].title, *(f"{eers[c]:.1f}" for c in codecs)] for name, eers in by_codec.items()]
            lines += ["", f"{set_name} by codec, EER:", "", *markdown(["system", *codecs], cells, rule="---:")]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
