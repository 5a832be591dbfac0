"""What is reported on: systems, the keys of a set, what else is known of its trials, and the intervals of the EERs.

N is the number of trials.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval_metrics import TDCFCoefficients, checked
from qamo import InputError
from qamo.evaluation import breakdown
from qamo.evaluation.breakdown import Factor, System
from qamo.evaluation.intervals import N_RESAMPLES, SEED, Difference, Interval, Units, holm, units_of
from qamo.report.arena import score_file
from qamo.report.run_record import dev_threshold, run_of
from qamo.trials.asv import read_legacy_coefficients
from qamo.trials.keys import KEY_FILES, TRACKS, Keys, read_keys, refuse_one_class
from qamo.trials.ratings import mos_column, read_ratings
from qamo.trials.scores import read_scores
from qamo.trials.sniff import sniff


class Pair(NamedTuple):
    """Two systems and the difference of their EERs."""

    a: System
    b: System
    difference: Difference  # EER of a - EER of b
    adjusted: float | None  # its p by Holm, for all pairs of the table


@dataclass(frozen=True, eq=False)
class Subject:
    """The systems, the keys, and what else is known of the trials."""

    systems: list[System]
    keys: Keys
    subset: str | None
    mos: np.ndarray | None  # (N,)
    units: Units  # what every interval resamples
    n_resamples: int = N_RESAMPLES
    seed: int = SEED
    asv: TDCFCoefficients | None = None  # of the t-DCF of ASVspoof 2019
    factors: dict[str, Factor] = field(default_factory=dict)  # those that were asked for

    @property
    def resampling(self) -> dict[str, int]:
        """The options of every interval."""
        return {"n_resamples": self.n_resamples, "seed": self.seed}

    @property
    def has_speakers(self) -> bool:
        """Whether the key tells two speakers or more apart."""
        return "speaker" in self.keys.columns and len(self.factor("speaker").levels) > 1

    @cached_property
    def intervals(self) -> list[Interval]:
        """For each system the interval of its EER."""
        return [breakdown.interval(system, **self.resampling) for system in self.systems]

    @cached_property
    def pairs(self) -> list[Pair]:
        """Each pair of systems, the best two first; of more than four systems, the best with each other one."""
        ranked = sorted(self.systems, key=lambda system: system.eer.eer)
        n_first = len(ranked) if len(ranked) <= 4 else 1
        couples = [(a, b) for i, a in enumerate(ranked[:n_first]) for b in ranked[i + 1 :]]
        found = [breakdown.difference(a, b, **self.resampling) for a, b in couples]
        known = iter(holm([difference.p for difference in found if difference.p is not None]))
        adjusted = [None if difference.p is None else next(known) for difference in found]
        return [Pair(a, b, difference, p) for (a, b), difference, p in zip(couples, found, adjusted)]

    def factor(self, column: str) -> Factor:
        if column not in self.factors:
            self.factors[column] = Factor(column, *self.keys.columns.levels(column))
        return self.factors[column]

    def suffix(self, k: int) -> str:
        """What the id of a table of the k-th system ends with."""
        return f"-{k}" if len(self.systems) > 1 else ""

    @property
    def names(self) -> str:
        return listed([system.label for system in self.systems], "systems")

    @property
    def title(self) -> str:
        return f"{self.names} on {self.set_name}"

    @property
    def set_name(self) -> str:
        """What the set is called: by its track, by the runs that scored it, or by its keys."""
        if self.keys.track:
            return f"ASVspoof 2021 {self.keys.track}"
        stems = {system.path.stem if run_of(system.path) else "" for system in self.systems}
        return stems.pop() if len(stems) == 1 and "" not in stems else set_name(self.keys.path)

    @property
    def subtitle(self) -> str:
        n_bonafide = int(self.keys.bonafide.sum())
        counts = f"{n_bonafide:,} bona fide and {len(self.keys) - n_bonafide:,} spoofed trials"
        return counts + (f" of the subset {self.subset}" if self.subset else "")


def read_subject(
    scores: Sequence[str],
    keys: Path,
    *,
    subset: str | None,
    thresholds: Sequence[float] | None,
    mos: Path | None,
    asv: Path | None,
    unit: str | None = None,
    **resampling: Any,
) -> Subject:
    """The systems, aligned with the keys; those that a run scored have its dev threshold unless one is given.

    Args:
        scores: [LABEL=]FILE each.
        keys: a file, or a folder that holds one.
        thresholds: one for each system.
        asv: ASV scores of ASVspoof 2019.
        unit: what intervals resample; None: speakers where there are enough, else trials.

    Raises:
        InputError: a file cannot be read, or they do not fit together.
    """
    trials, subset = read_trials(keys, subset)
    units = units_of(trials.columns, trials.bonafide, unit, path=trials.path)
    systems: list[System] = []
    for k, (label, file) in enumerate(labelled(scores)):
        values = trials.align(read_scores(file))
        threshold = thresholds[k] if thresholds else threshold_beside(file)
        systems.append(System(label, file, values, trials.bonafide, threshold, units))
        checked(systems[-1].bonafide, systems[-1].spoof)
    ratings = read_ratings(mos).of(trials) if mos else None
    if not mos and "mos" in trials.columns:
        ratings = mos_column(trials)
    if asv and trials.track:
        raise InputError(
            "--asv: those are ASV scores of ASVspoof 2019, and the key is of 2021, whose own lie beside it"
        )
    coefficients = read_legacy_coefficients(asv) if asv else None
    return Subject(systems, trials, subset, ratings, units, asv=coefficients, **resampling)


def read_trials(keys: Path, subset: str | None) -> tuple[Keys, str | None]:
    """The keys, and their subset: eval of ASVspoof 2021 unless another is named."""
    path = key_file(keys)
    form = sniff(path, numbers=True)
    if subset is None and form.plain and len(form.cells) in TRACKS:
        subset = "eval"
    trials = read_keys(path, subset)
    refuse_one_class(trials)
    return trials, subset


def read_set(label: str, scores: Path, keys: Path, subset: str | None, unit: str | None) -> System:
    """One system on a set of its own.

    Raises:
        InputError: a file cannot be read, or they do not fit together.
    """
    trials, _ = read_trials(keys, subset)
    units = units_of(trials.columns, trials.bonafide, unit, path=trials.path)
    system = System(label, scores, trials.align(read_scores(scores)), trials.bonafide, units=units)
    checked(system.bonafide, system.spoof)
    return system


def threshold_beside(file: Path) -> float | None:
    """The dev threshold of the run in whose scores/ a score file lies; None where it lies in no run."""
    run = run_of(file)
    return dev_threshold(run) if run else None


def key_file(path: Path) -> Path:
    """The key in a folder, or the file itself."""
    if not path.is_dir():
        return path
    found = next((path / name for name in KEY_FILES if (path / name).is_file()), None)
    if found is None:
        raise InputError(f"--keys: {path} holds none of {', '.join(KEY_FILES)}; give the key itself")
    return found


def set_name(keys: Path) -> str:
    """What a set is called: by its folder, or by its key."""
    path = keys.resolve()
    if path.is_dir():
        return path.name
    return path.parent.name if path.name == "meta.csv" else re.sub(r"(\.(trn|trl|score))+$", "", path.stem)


def labelled(texts: Sequence[str]) -> list[tuple[str, Path]]:
    """(label, file) of each argument.

    A file without a label is called by its run; else, or where another file is of that run, by its stem, with as many
    folders as tell it apart. A folder of the Arena's results stands for the scores in it, and names them.
    """
    given = []
    for text in texts:
        label, separator, rest = text.partition("=")
        label, path = (label, Path(rest)) if separator and label and not Path(text).exists() else ("", Path(text))
        file = score_file(path)
        given.append((label if file == path else label or path.resolve().name, file))
    unlabelled = [path for label, path in given if not label]
    labels = [label or _called(path, unlabelled) for label, path in given]
    repeated = sorted(label for label in set(labels) if labels.count(label) > 1)
    if repeated:
        raise InputError(f"two systems are called {repeated[0]!r}: name them apart with LABEL=FILE")
    return list(zip(labels, (path for _, path in given)))


def _called(path: Path, among: Sequence[Path]) -> str:
    runs = [run.name if (run := run_of(each)) else "" for each in among]
    own = runs[among.index(path)]
    if own and runs.count(own) == 1:
        return own
    for n in range(1, len(path.parts) + 1):
        ends = ["/".join(each.with_suffix("").parts[-n:]) for each in among]
        if ends.count(end := ends[among.index(path)]) == 1:
            return end
    return str(path.with_suffix(""))


def listed(names: Sequence[str], what: str) -> str:
    """Up to three names; of more, how many they are."""
    if len(names) > 3:
        return f"{len(names)} {what}"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
