"""Results of ASVspoof 5: track 1 (detection) and track 2 (speaker verification that rejects spoofs), by condition.

A condition is an attack, whose trials are held against all bona fide trials, a codec, which both classes have, or both.
The figures are those of the official package. One differs by default: where min t-DCF is computed with ASV scores of
one's own, the official package takes the share of spoofs that the ASV system rejects for the share that it accepts;
`official` does the same.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval_metrics import (
    actual_dcf,
    asv_errors,
    cllr_bits,
    equal_error_rate,
    min_dcf,
    min_tdcf,
    tdcf_coefficients,
)
from qamo import InputError
from qamo.evaluation.sasv import ASVSPOOF5_ASV, min_adcf, tandem_eer
from qamo.trials.keys import read_keys, refuse_one_class
from qamo.trials.sasv import NONTARGET, SPOOF, TARGET, is_track_2, read_sasv
from qamo.trials.scores import read_scores

POOLED = "pooled"
NO_CODEC = "none"  # what the key's `-` means in the column of codecs; in that of attacks it is a missing value

Metric = Callable[[np.ndarray], float]  # the chosen trials, (N,) bool -> a figure


class Set(NamedTuple):
    """A set of ASVspoof 5 with the scores of one system."""

    track: int
    metrics: dict[str, Metric]  # by the name that is printed; per cent where it ends in %
    is_spoof: np.ndarray  # (N,) bool
    conditions: dict[str, np.ndarray]  # (N,) of dtype U: attack, codec


def read_set(scores: Path, keys: Path, *, official: bool = False) -> Set:
    """Read a score file and a key of either track; the key tells which.

    Raises:
        InputError: as the readers of both, or the scores lack a kind that the track needs.
    """
    return _track_2(scores, keys, official) if is_track_2(keys) else _track_1(scores, keys)


def table(found: Set, metric: str) -> tuple[list[str], list[str], list[list[float | None]]]:
    """A figure by attack (rows) and codec (columns), `pooled` first; None where a class is missing."""
    attacks, codecs = (_levels(found, name) for name in ("attack", "codec"))
    rows = []
    for attack in attacks:
        of_attack = np.ones(len(found.is_spoof), bool)
        if attack != POOLED:
            of_attack = ~found.is_spoof | (found.conditions["attack"] == attack)
        cells: list[float | None] = []
        for codec in codecs:
            chosen = of_attack if codec == POOLED else of_attack & (found.conditions["codec"] == codec)
            try:
                cells.append(found.metrics[metric](chosen))
            except InputError:  # a class without trials
                cells.append(None)
        rows.append(cells)
    return attacks, codecs, rows


def _levels(found: Set, name: str) -> list[str]:
    if name not in found.conditions:
        return [POOLED]
    values = np.unique(found.conditions[name][found.is_spoof])
    return [POOLED, *(value for value in values.tolist() if name == "codec" or value != "-")]


def _conditions(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    made = {name: np.char.decode(column, "utf-8") for name, column in columns.items()}
    if "codec" in made:
        made["codec"] = np.where(made["codec"] == "-", NO_CODEC, made["codec"])
    return made


def _track_1(scores: Path, keys: Path) -> Set:
    key = read_keys(keys, columns=("attack", "codec"))
    refuse_one_class(key)
    values = key.align(read_scores(scores))

    def of(function: Callable[[np.ndarray, np.ndarray], float]) -> Metric:
        return lambda chosen: function(values[chosen & key.bonafide], values[chosen & ~key.bonafide])

    metrics = {
        "minDCF": of(lambda b, s: min_dcf(b, s).eer),
        "actDCF": of(actual_dcf),
        "Cllr": of(cllr_bits),
        "EER %": of(lambda b, s: 100 * equal_error_rate(b, s).eer),
    }
    kept = {name: key.columns.raw[name] for name in ("attack", "codec") if name in key.columns}
    return Set(1, metrics, ~key.bonafide, _conditions(kept))


def _track_2(scores: Path, keys: Path, official: bool) -> Set:
    trials = read_sasv(scores, keys)
    target, nontarget, spoof = (trials.kinds == kind for kind in (TARGET, NONTARGET, SPOOF))
    cm, asv, sasv = trials.cm, trials.asv, trials.sasv
    metrics: dict[str, Metric] = {}
    if sasv is not None:
        metrics["a-DCF"] = lambda c: min_adcf(sasv[c & target], sasv[c & nontarget], sasv[c & spoof]).eer
    if cm is not None:
        fixed = tdcf_coefficients(ASVSPOOF5_ASV)
        metrics["min t-DCF, organisers' ASV"] = lambda c: min_tdcf(cm[c & ~spoof], cm[c & spoof], fixed)
    if cm is not None and asv is not None:

        def own_tdcf(c: np.ndarray) -> float:
            kinds = asv[c & target], asv[c & nontarget], asv[c & spoof]
            errors = asv_errors(*kinds, equal_error_rate(*kinds[:2]).threshold)
            if official:
                errors = errors._replace(false_alarm_spoof=errors.miss_spoof)
            return min_tdcf(cm[c & ~spoof], cm[c & spoof], tdcf_coefficients(errors))

        metrics["min t-DCF, own ASV"] = own_tdcf
        metrics["t-EER %"] = lambda c: (
            100 * tandem_eer(cm[c & ~spoof], cm[c & spoof], asv[c & target], asv[c & nontarget], asv[c & spoof])
        )
    if not metrics:
        raise InputError(f"{scores}: expected sasv-score, or cm-score (and asv-score), found asv-score alone")
    return Set(2, metrics, spoof, _conditions(trials.conditions))
