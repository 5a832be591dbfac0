"""Leakage: trials that stand both in the data that something was fitted to and in the data that it is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qamo import InputError
from qamo.trials import tables


def refuse_shared_trials(
    fitted: tuple[np.ndarray, np.ndarray], judged: tuple[np.ndarray, np.ndarray], what: str, where: Path
) -> None:
    """Raise InputError if trials with the same name and the same score are in both sets.

    Names alone do not tell: `0.wav` is in more than one corpus. One system gives one recording one score.

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
    if n := int(same.sum()):
        raise InputError(
            f"{what} was fitted to {n} of the trials of {where} ({tables.some_of(fitted[0][same])}), so its results "
            f"there would be too good; fit it to other data"
        )


def overlaps(lists: Sequence[tuple[str, Sequence[Path]]]) -> list[str]:
    """A sentence for each two lists of recordings that share some, by the files that they resolve to."""
    resolved = [(name, {str(path): path.name for path in paths}) for name, paths in lists]
    sentences = []
    for i, (a, of_a) in enumerate(resolved):
        for b, of_b in resolved[i + 1 :]:
            if both := sorted(of_a.keys() & of_b.keys()):
                some = ", ".join(of_a[path] for path in both[:3]) + (", ..." if len(both) > 3 else "")
                sentences.append(f"{a} and {b} share {len(both)} recordings ({some}): results on {b} will be too good")
    return sentences
