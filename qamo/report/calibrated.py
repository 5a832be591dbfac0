"""The section of calibration: log-likelihood ratios from dev scores, what they are worth, and the files of them.

Each system is calibrated on its own dev scores. With --fuse, logistic regression of all systems' scores, trained on the
dev set, makes one more. Dev and evaluation trials that are the same are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval_metrics import actual_dcf, cllr_bits, equal_error_rate, min_dcf
from qamo import InputError, files
from qamo.evaluation import detection
from qamo.evaluation.calibration import fit, llr_bounds
from qamo.evaluation.leakage import refuse_shared_trials
from qamo.evaluation.regression import fit_llr
from qamo.report.page import Section
from qamo.report.subject import Subject, read_trials
from qamo.report.tables import Column, Table
from qamo.trials.keys import Keys, read_keys
from qamo.trials.scores import format_score, read_scores

FUSION = "fusion"


class Calibrated(NamedTuple):
    """Log-likelihood ratios of one system on the evaluation set."""

    label: str
    llrs: np.ndarray  # (N,) natural logarithms, within the bounds that the dev counts support
    formula: str
    n_dev: tuple[int, int]  # bona fide and spoofed dev trials


def calibrate(subject: Subject, dev_files: Sequence[Sequence[Path]], *, fuse: bool) -> list[Calibrated]:
    """Each system calibrated on its dev scores, and the fusion of all where it is asked for.

    Args:
        dev_files: (scores, keys) of each system, in their order.

    Raises:
        InputError: not one dev set for each system, dev trials are evaluated too, or the dev scores do not tell the
            classes apart.
    """
    if len(dev_files) != len(subject.systems):
        raise InputError(
            f"--calibrate-on: expected DEV_SCORES DEV_KEYS for each of {len(subject.systems)} systems, in their order, "
            f"got {len(dev_files)}"
        )
    dev = []
    for system, (scores, keys) in zip(subject.systems, dev_files):
        key, subset = read_trials(keys, None)
        if subset is not None:  # of ASVspoof 2021: what development had
            key = read_keys(key.path, "progress")
        values = key.align(read_scores(scores))
        judged = subject.keys.name_bytes, system.values
        refuse_shared_trials((key.name_bytes, values), judged, f"the calibration of {system.label}", system.path)
        dev.append((key, values))
    made = []
    for system, (key, values) in zip(subject.systems, dev):
        slope, offset = fit(values[key.bonafide], values[~key.bonafide])
        formula = f"{slope:.4g} · score {offset:+.4g}"
        made.append(_bounded(system.label, slope * system.values + offset, formula, key))
    return [*made, fused(subject, dev)] if fuse else made


def fused(subject: Subject, dev: Sequence[tuple[Keys, np.ndarray]]) -> Calibrated:
    """One log-likelihood ratio from the scores of all systems.

    Raises:
        InputError: fewer than two systems, or dev sets with other trials.
    """
    first = dev[0][0]
    if len(dev) < 2:
        raise InputError("--fuse: expected two systems or more")
    columns = []
    for system, (key, values) in zip(subject.systems, dev):
        index, _ = first.find(key.name_bytes)
        if len(key) != len(first) or (index < 0).any() or (key.bonafide[index] != first.bonafide).any():
            raise InputError(f"--fuse: the dev trials of {system.label} are not those of {subject.systems[0].label}")
        columns.append(values[index])
    weights, offset = fit_llr(np.column_stack(columns), first.bonafide)
    llrs = np.column_stack([system.values for system in subject.systems]) @ weights + offset
    terms = " + ".join(f"{w:.4g} · {system.label}" for w, system in zip(weights, subject.systems))
    return _bounded(FUSION, llrs, f"{terms} {offset:+.4g}", first)


def section(subject: Subject, made: Sequence[Calibrated]) -> Section:
    """What the ratios of each system cost on the evaluation set, and what they would at best."""
    is_bonafide = subject.keys.bonafide
    rows = []
    for system in made:
        parts = system.llrs[is_bonafide], system.llrs[~is_bonafide]
        costs = [cllr_bits(*parts), detection.min_cllr(detection.pool(*parts)), actual_dcf(*parts), min_dcf(*parts).eer]
        rows.append([system.label, equal_error_rate(*parts).eer, *costs, system.formula, *system.n_dev])
    columns = [Column("system"), Column("EER %", "rate")]
    columns += [Column(name, "number") for name in ("Cllr", "min Cllr", "act DCF", "min DCF")]
    columns += [Column("log-likelihood ratio"), Column("dev bona fide", "count"), Column("dev spoof", "count")]
    note = (
        "Cllr in bits: 0 is perfect, 1 is worth as much as no score. Min Cllr and min DCF are those of the best "
        "calibration and threshold on this very set; what is above them is lost by the calibration on dev. Act DCF: at "
        "the Bayes threshold of 5 % spoof and costs of 1 and 10. Ratios are bounded by the numbers of dev trials."
    )
    lead = "What log-likelihood ratios that were fitted on a dev set are worth here."
    return Section("calibration", "Calibration", lead, [Table("calibration", "Calibration", columns, rows, note)])


def write_llrs(folder: Path, subject: Subject, made: Sequence[Calibrated]) -> list[Path]:
    """Write `NAME LLR` score files, one for each system; the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for system in made:
        path = folder / f"{''.join(c if c.isalnum() or c in '-_.' else '_' for c in system.label)}.llr.txt"
        rows = zip(subject.keys.names, system.llrs.tolist())
        files.write_text(path, "".join(format_score(name, value) + "\n" for name, value in rows))
        paths.append(path)
    return paths


def _bounded(label: str, llrs: np.ndarray, formula: str, key: Keys) -> Calibrated:
    n_dev = int(key.bonafide.sum()), int((~key.bonafide).sum())
    return Calibrated(label, np.clip(llrs, *llr_bounds(*n_dev)), formula, n_dev)
