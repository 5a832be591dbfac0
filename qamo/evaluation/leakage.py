"""Leakage: trials that stand both in the data that something was fitted to and in the data that it is judged by."""

from __future__ import annotations

import filecmp
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from qamo import InputError
from qamo.quality.agreement import correlation
from qamo.trials import tables

LEAST_ORDERED, SAME_ORDER = 20, 0.995  # trials whose order is compared, and the rank correlation that is no chance
MOST_COMPARED = 500  # recordings of one name whose bytes are compared, for each two lists


def refuse_shared_trials(
    fitted: tuple[np.ndarray, np.ndarray], judged: tuple[np.ndarray, np.ndarray], what: str, where: Path
) -> None:
    """Raise InputError if trials with the same name and the same score are in both sets.

    Names alone do not tell: `0.wav` is in more than one corpus. One system gives one recording one score. Scores that
    were rounded or rescaled since are known by their order among the trials of one name.

    Args:
        fitted, judged: names (N,) of dtype S, and scores (N,) or (N, S) of S systems.
        what: what was fitted, as the start of the sentence.
        where: the file of the judged scores.
    """
    names, scores = (tables.without_extension(fitted[0]), np.atleast_2d(fitted[1].T).T)
    others, other_scores = (tables.without_extension(judged[0]), np.atleast_2d(judged[1].T).T)
    if len(np.unique(others)) < len(others):  # `a.wav` and `a.flac`
        others, names = judged[0], fitted[0]
    index = tables.match(names, others)
    both = index >= 0
    same = np.zeros(len(names), bool)
    same[both] = np.isclose(scores[both], other_scores[index[both]], rtol=1e-6, atol=0).all(axis=1)
    shared = zip(scores[both].T, other_scores[index[both]].T)
    if both.sum() >= LEAST_ORDERED and all((correlation(*pair).spearman or 0) > SAME_ORDER for pair in shared):
        same = both
    if n := int(same.sum()):
        raise InputError(
            f"{what} was fitted to {n} of the trials of {where} ({tables.some_of(fitted[0][same])}), so its results "
            f"there would be too good; fit it to other data"
        )


def overlaps(lists: Sequence[tuple[str, Sequence[str], Sequence[Path]]]) -> list[str]:
    """A sentence for each two lists that hold the same recordings.

    Args:
        lists: what a list is called, its names, and the file of each.

    A name in both lists is one recording where the files are the same or have the same bytes.
    """
    stems = [(called, {_stem(name): i for i, name in enumerate(names)}, paths) for called, names, paths in lists]
    sentences = []
    for (a, of_a, paths_a), (b, of_b, paths_b) in combinations(stems, 2):
        both = sorted(of_a.keys() & of_b.keys())
        looked_at = both[:: max(1, len(both) // MOST_COMPARED)]
        same = [name for name in looked_at if _same(paths_a[of_a[name]], paths_b[of_b[name]])]
        if same:
            some = ", ".join(same[:3]) + (", ..." if len(same) > 3 else "")
            sentences.append(
                f"{a} and {b} share recordings: {len(same)} of {len(looked_at)} that were compared by their bytes, of "
                f"{len(both)} with the same name ({some}); results on {b} would be too good, take them out of one list"
            )
    return sentences


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0] or name.rpartition("/")[2]


def _same(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b) or (a.stat().st_size == b.stat().st_size and filecmp.cmp(a, b, shallow=False))
    except OSError:  # an absent recording is another check's
        return False
