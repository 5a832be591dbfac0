"""The section of several sets: systems x sets, mean and deviation over seeds, and the differences of systems.

of_runs     score files of finished runs; runs that differ in nothing but the seed are one system
of_files    score files of further sets, for the systems of the report
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eval_metrics import equal_error_rate
from qamo import InputError
from qamo.config.load import read_run_config
from qamo.evaluation import seeds
from qamo.evaluation.breakdown import System
from qamo.evaluation.intervals import holm
from qamo.report.page import Section
from qamo.report.run_record import read_results
from qamo.report.subject import read_set, set_name
from qamo.report.tables import Column, Table
from qamo.training.folder import RunFolder, training_identity


@dataclass(eq=False)
class Grid:
    """What every system scored on every set: one `System` for each seed."""

    cells: dict[str, dict[str, list[System]]] = field(default_factory=dict)  # label, set
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)  # bona fide and spoofed trials of a set

    def add(self, set_name: str, system: System) -> None:
        """
        Raises:
            InputError: a set of this name has other trials.
        """
        counts = int(system.is_bonafide.sum()), int((~system.is_bonafide).sum())
        if self.counts.setdefault(set_name, counts) != counts:
            raise InputError(
                f"{system.path}: {set_name} has {counts[0]} + {counts[1]} trials here and "
                f"{self.counts[set_name][0]} + {self.counts[set_name][1]} in another run; give runs with the same keys"
            )
        self.cells.setdefault(system.label, {}).setdefault(set_name, []).append(system)


def of_runs(folders: Sequence[str], unit: str | None) -> Grid:
    """The sets that finished runs scored and have keys for.

    Args:
        folders: [LABEL=]FOLDER each; runs of one label are one system.

    Raises:
        InputError: a folder is no finished run, its files are damaged, or runs of one system have the same seed.
    """
    grid = Grid()
    known: dict[tuple[str, int], Path] = {}
    for label, folder, cfg in _labelled_runs(folders):
        other = known.setdefault((label, cfg.seed), folder)
        if other is not folder:
            raise InputError(
                f"{folder} and {other}: {label!r} twice with the seed {cfg.seed}; leave one out, "
                "or name them LABEL=FOLDER"
            )
        results = read_results(RunFolder(folder).results)
        if not results:
            raise InputError(f"--runs: {folder} has no results yet; let main.py finish it")
        for name, row in results.items():
            entry = cfg.eval.catalogue.get(name)
            if "eer" not in row or entry is None or entry.keys is None:
                continue
            scores = RunFolder(folder).scores / Path(row["scores"]).name
            grid.add(name, read_set(label, scores, cfg.data.protocols_path / entry.keys, entry.subset, unit))
    if not grid.cells:
        raise InputError("--runs: none of these runs has a set with keys")
    return grid


def of_files(systems: Sequence[System], keys: Path, further: Sequence[Sequence[str]], unit: str | None) -> Grid:
    """The systems of the report on their own set and on further ones, which are called by their keys.

    Args:
        keys: of the report's own set.
        further: for each set a score file for each system, in their order, and then the keys.

    Raises:
        InputError: another number of files, or they cannot be read.
    """
    grid = Grid()
    for system in systems:
        grid.add(set_name(keys), system)
    for *scores, path in further:
        if len(scores) != len(systems):
            raise InputError(
                f"--set: expected a score file for each of {len(systems)} systems, in their order, and the keys; "
                f"got {len(scores)} and the keys {path}"
            )
        if (name := set_name(Path(path))) in grid.counts:
            raise InputError(f"--set {path}: a set called {name} was given before; leave it out, or rename its key")
        for system, file in zip(systems, scores):
            grid.add(name, read_set(system.label, Path(file), Path(path), None, unit))
    return grid


def _labelled_runs(folders: Sequence[str]) -> list[tuple[str, Path, Any]]:
    """(label, folder, config) of each run; without a label, its parts and the settings in which the runs differ."""
    runs = []
    for text in folders:
        label, separator, rest = text.partition("=")
        given, folder = (label, Path(rest)) if separator and not Path(text).exists() else ("", Path(text))
        path = RunFolder(folder).config
        if not path.is_file():
            raise InputError(f"--runs: {path} is not there; give folders of finished runs (exps/NAME)")
        runs.append((given, folder, read_run_config(path)))
    settings = [training_identity(cfg) | {"seed": None} for *_, cfg in runs]
    differing = [key for key in settings[0] if any(each.get(key) != settings[0][key] for each in settings)]
    made = []
    for (given, folder, cfg), own in zip(runs, settings):
        parts = [cfg.model.frontend, cfg.model.backend, cfg.model.head]
        more = [f"{key.split('.')[-1]}={own[key]}" for key in differing if key in own and own[key] not in parts]
        made.append((given or ", ".join([*parts, *more]), folder, cfg))
    return made


def section(grid: Grid, options: Mapping[str, int]) -> Section:
    """Systems by sets, and the differences of systems on each set.

    Args:
        options: n_resamples and seed of the intervals.
    """
    parts = [table(grid)]
    if len(grid.cells) > 1:
        parts.append(differences(grid, options))
    return Section("sets", "Several sets", parts=list(parts))


def table(grid: Grid) -> Table:
    """A row for each system: its EER on each set, their average, and that of all trials at one threshold."""
    sets = list(grid.counts)
    columns = [Column("system"), Column("seeds", "count")]
    for name in sets:
        columns += [Column("EER %", "rate", name), Column("± %", "rate", name)]
    columns += [Column("EER %", "rate", "average of sets"), Column("± %", "rate", "average of sets")]
    columns.append(Column("EER %", "rate", "pooled trials"))
    rows = []
    for label, scored in grid.cells.items():
        row: list[Any] = [label, max(map(len, scored.values()))]
        for name in sets:
            eers = [system.eer.eer for system in scored.get(name, [])]
            row += [statistics.mean(eers), seeds.spread(eers)] if eers else [None, None]
        whole = len(scored) == len(sets) and len(set(map(len, scored.values()))) == 1
        averages = [float(np.mean([s.eer.eer for s in of_seed])) for of_seed in zip(*scored.values())] if whole else []
        row += [statistics.mean(averages), seeds.spread(averages)] if averages else [None, None]
        pooled = [_pooled(of_seed) for of_seed in zip(*scored.values())] if whole else []
        rows.append([*row, statistics.mean(pooled) if pooled else None])
    counts = "; ".join(f"{name}: {n:,} bona fide and {m:,} spoofed" for name, (n, m) in grid.counts.items())
    note = "±: standard deviation over seeds. Pooled: the EER of all trials of all sets at one threshold. "
    note += f"Trials: {counts}."
    return Table("systems-by-sets", "Systems and sets", columns, rows, note)


def differences(grid: Grid, options: Mapping[str, int]) -> Table:
    """On each set the best system against each other one, with seeds and trials as sources of chance."""
    rows: list[list[Any]] = []
    found = []
    for name in grid.counts:
        there = {label: scored[name] for label, scored in grid.cells.items() if name in scored}
        best, *others = sorted(there, key=lambda label: statistics.mean(s.eer.eer for s in there[label]))
        for other in others:
            found.append(seeds.difference(there[best], there[other], **options))
            rows.append([name, best, other, f"{len(there[best])}, {len(there[other])}"])
    known = iter(holm([difference.p for difference in found if difference.p is not None]))
    for row, difference in zip(rows, found):
        adjusted = None if difference.p is None else next(known)
        row += [(difference.value, difference.low, difference.high), difference.p, adjusted, difference.basis]
    columns = [Column("set"), Column("a"), Column("b"), Column("seeds of a, of b")]
    columns += [Column("EER of a − EER of b [95 %], points", "signed"), Column("p", "number")]
    columns += [Column("p, Holm", "number"), Column("interval")]
    note = (
        "a is the best of the set. Student's t with the variance over trials and over seeds, for each system by its "
        "number of seeds; of one seed the latter is not known, and the figures hold for these very weights. Holm's p "
        "is adjusted for all rows."
    )
    return Table("differences-by-sets", "Differences between systems on each set", columns, rows, note)


def _pooled(systems: Sequence[System]) -> float:
    bonafide, spoof = (np.concatenate(parts) for parts in zip(*((s.bonafide, s.spoof) for s in systems)))
    return float(equal_error_rate(bonafide, spoof).eer)
