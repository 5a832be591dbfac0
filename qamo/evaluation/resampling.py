"""How resamples are drawn: EERs of a bootstrap in log N draws each, by trial, by speaker, and for two systems at once.

    resampled_eers         the EER of each resample
    resampled_differences  the difference between the EERs of two systems on the same resamples
    left_out_eers          the EER without each group of trials in turn, for a jackknife

The shortcuts have the distribution of the plain loop (draw N trials, sort, compute) at a hundredth of its cost: 1,000
resamples of ASVspoof 2021 DF take 0.1 to 0.4 s in place of 96 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from eval_metrics import checked, det_of_sorted, eer_of_det
from qamo import InputError


class Sorted(NamedTuple):
    """The trials of one system from the lowest score to the highest, in the order of `det_curve`."""

    order: np.ndarray  # (N,) index of each trial, bona fide trials first
    is_bonafide: np.ndarray  # (N,) bool
    eer: float

    @classmethod
    def of(cls, bonafide: np.ndarray, spoof: np.ndarray) -> Sorted:
        """
        Raises:
            InputError: one class is empty, or a score is NaN.
        """
        order = np.argsort(np.concatenate(checked(bonafide, spoof)), kind="stable")
        is_bonafide = order < len(bonafide)
        return cls(order, is_bonafide, eer_of_det(det_of_sorted(is_bonafide, order)).eer)

    @property
    def n_bonafide(self) -> int:
        return int(self.is_bonafide.sum())


def resampled_eers(
    trials: Sorted, *, n_resamples: int, seed: int, groups: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """The EER of each resample: (n_resamples,).

    Args:
        groups: the speaker of each bona fide and of each spoofed trial, (Nb,) and (Ns,). With it whole speakers are
            drawn; without it trials are drawn, within each class.

    Raises:
        InputError: fewer than two speakers have trials of a class.
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        return _resample_trials(trials.is_bonafide, n_resamples, rng)
    n_bonafide = trials.n_bonafide
    codes, n_groups = _group_codes(groups, n_bonafide, len(trials.order) - n_bonafide)
    path = _GroupPath(trials, codes, n_groups)
    return np.concatenate([path.eers(counts) for counts in _draw_groups(codes, n_bonafide, n_groups, n_resamples, rng)])


def resampled_differences(
    a: Sorted, b: Sorted, *, n_resamples: int, seed: int, groups: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """The EER of system a less that of system b on each resample: (n_resamples,).

    Each resample draws the same trials (or speakers) for both systems, so what is hard or easy for both cancels.

    Raises:
        InputError: the systems have different numbers of trials, or as `resampled_eers`.
    """
    n_bonafide, n_spoof = a.n_bonafide, len(a.order) - a.n_bonafide
    if (n_bonafide, n_spoof) != (b.n_bonafide, len(b.order) - b.n_bonafide):
        raise InputError(
            f"a paired comparison needs the same trials: got {n_bonafide} + {n_spoof} for one system "
            f"and {b.n_bonafide} + {len(b.order) - b.n_bonafide} for the other"
        )
    rng = np.random.default_rng(seed)
    if groups is None:
        return _resample_pairs((a, b), n_bonafide, n_resamples, rng)
    codes, n_groups = _group_codes(groups, n_bonafide, n_spoof)
    paths = _GroupPath(a, codes, n_groups), _GroupPath(b, codes, n_groups)
    batches = _draw_groups(codes, n_bonafide, n_groups, n_resamples, rng)
    return np.concatenate([paths[0].eers(counts) - paths[1].eers(counts) for counts in batches])


def left_out_eers(trials: Sorted, codes: np.ndarray, n_groups: int) -> np.ndarray:
    """The EER without each group of trials in turn: (min(G, MAX_LEFT_OUT),).

    Args:
        codes: the group of each trial, bona fide first, below G; trials with the code G are in no group and stay.

    Source: Kott 2001 (groups left out several at a time, where there are many).
    """
    n = min(n_groups, MAX_LEFT_OUT)
    path = _GroupPath(trials, np.where(codes < n_groups, codes % n, n), n + 1)
    return path.eers(np.hstack([1 - np.eye(n), np.ones((n, 1))]))


# Along the sorted trials of a resample the excess, miss rate - false alarm rate, rises with every trial from -1 to 1.
# Times Nb * Ns it is an integer: it rises by Ns at a bona fide trial and by Nb at a spoofed one, once for every time
# that the trial was drawn. The EER lies where the excess reaches 0, or one step before.


def _eer_at_crossing(
    excess: np.ndarray,
    step: np.ndarray,
    n_bonafide: np.ndarray | int,
    n_spoof: np.ndarray | int,
    rejected_bonafide: np.ndarray | int,
    is_bonafide: np.ndarray,
) -> np.ndarray:
    """EER of paths that reach 0 within one trial; all arguments (R,) and as they are before that trial."""
    steps = -(excess // step)  # of the copies of that trial, the one that reaches 0
    after = excess + steps * step
    steps = steps - (step - after <= after)  # the first of two equally close points
    excess = excess + steps * step
    miss = (rejected_bonafide + steps * is_bonafide) / n_bonafide
    return miss - excess / (2.0 * n_bonafide * n_spoof)  # the mean of both rates, which are excess / (Nb Ns) apart


def _resample_trials(is_bonafide: np.ndarray, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """EERs of resamples of trials, drawn within each class: (N,) bool -> (R,)."""
    n_bonafide = int(is_bonafide.sum())
    n_spoof = len(is_bonafide) - n_bonafide
    index, excess, rejected_bonafide = _draw_crossings(is_bonafide, n_resamples, rng)
    at_crossing = is_bonafide[index]
    step = np.where(at_crossing, n_spoof, n_bonafide)
    return _eer_at_crossing(excess, step, n_bonafide, n_spoof, rejected_bonafide, at_crossing)


def _draw_crossings(
    is_bonafide: np.ndarray, n_resamples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The trial at which the path of each resample reaches 0, and before it the excess and the bona fide trials drawn.

    Only where the crossing lies matters, so nothing else is drawn: the trials are halved again and again, the number
    of draws that fall on the lower half is binomial, and the half that holds the crossing is halved next. That gives
    exactly the distribution of drawing all N trials, for log2(N) draws.
    """
    before = np.concatenate([[0], np.cumsum(is_bonafide)])  # bona fide trials before each index
    n_bonafide = int(before[-1])
    n_spoof = len(is_bonafide) - n_bonafide
    low = np.zeros(n_resamples, np.int64)
    high = np.full(n_resamples, len(is_bonafide))
    drawn_bonafide = np.full(n_resamples, n_bonafide)  # draws that fall between low and high
    drawn_spoof = np.full(n_resamples, n_spoof)
    rejected_bonafide = np.zeros(n_resamples, np.int64)  # draws that fall below low
    excess = np.full(n_resamples, -n_bonafide * n_spoof)
    while (high - low > 1).any():
        middle = (low + high) // 2
        bonafide_between, bonafide_low = before[high] - before[low], before[middle] - before[low]
        spoof_between, spoof_low = high - low - bonafide_between, middle - low - bonafide_low
        lower_bonafide = rng.binomial(drawn_bonafide, bonafide_low / np.maximum(bonafide_between, 1))
        lower_spoof = rng.binomial(drawn_spoof, spoof_low / np.maximum(spoof_between, 1))
        at_middle = excess + n_spoof * lower_bonafide + n_bonafide * lower_spoof
        below = at_middle >= 0  # the crossing lies in the lower half
        high = np.where(below, middle, high)
        drawn_bonafide = np.where(below, lower_bonafide, drawn_bonafide - lower_bonafide)
        drawn_spoof = np.where(below, lower_spoof, drawn_spoof - lower_spoof)
        low = np.where(below, low, middle)
        rejected_bonafide = np.where(below, rejected_bonafide, rejected_bonafide + lower_bonafide)
        excess = np.where(below, excess, at_middle)
    return low, excess, rejected_bonafide


class _Window:
    """The sorted trials of one system among which its crossings lie."""

    def __init__(self, trials: Sorted, n_bonafide: int, rng: np.random.Generator, widening: int):
        order, is_bonafide, _ = trials
        crossings, _, _ = _draw_crossings(is_bonafide, 256, rng)
        margin = widening * (int(crossings.max() - crossings.min()) + 64)
        start, end = max(0, int(crossings.min()) - margin), min(len(order), int(crossings.max()) + margin + 1)
        self.zone = np.empty(len(order), np.int8)  # of each trial: 0 before the window, 1 in it, 2 after it
        self.zone[order[:start]], self.zone[order[start:end]], self.zone[order[end:]] = 0, 1, 2
        self.trials = order[start:end]
        self.is_bonafide = is_bonafide[start:end]
        n_spoof = len(order) - n_bonafide
        self.step = np.where(self.is_bonafide, n_spoof, n_bonafide)
        self.n_bonafide, self.n_spoof = n_bonafide, n_spoof

    def eer(self, bonafide_before: int, spoof_before: int, drawn: np.ndarray) -> float | None:
        """EER of a resample: draws before the window, and of each trial in it; None if it crosses elsewhere."""
        start = self.n_spoof * bonafide_before + self.n_bonafide * spoof_before - self.n_bonafide * self.n_spoof
        path = start + np.cumsum(drawn * self.step)
        if start >= 0 or path[-1] < 0:
            return None
        index = int(np.searchsorted(path, 0))
        excess = path[index] - drawn[index] * self.step[index]
        rejected = bonafide_before + int(drawn[:index][self.is_bonafide[:index]].sum())
        step, at_crossing = self.step[index], self.is_bonafide[index]
        return float(_eer_at_crossing(excess, step, self.n_bonafide, self.n_spoof, rejected, at_crossing))


def _resample_pairs(
    pair: tuple[Sorted, Sorted], n_bonafide: int, n_resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Differences of the EERs of two systems on resamples of the same trials: (R,).

    The trials near the crossing of either system are drawn one by one. Of the others only how many are drawn before and
    after either crossing matters, which is one multinomial draw. Should a resample cross outside the trials taken for
    near, all is done again with more of them.
    """
    widening = 1
    while True:
        windows = [_Window(trials, n_bonafide, rng, widening) for trials in pair]
        differences = _resample_windows(windows, n_bonafide, n_resamples, rng)
        if differences is not None:
            return differences
        widening *= 4


def _resample_windows(
    windows: list[_Window], n_bonafide: int, n_resamples: int, rng: np.random.Generator
) -> np.ndarray | None:
    a, b = windows
    near = (a.zone == 1) | (b.zone == 1)
    kinds = np.where(near, 4, a.zone // 2 * 2 + b.zone // 2)  # 0 to 3: before or after a, before or after b
    near_trials = np.flatnonzero(near)  # bona fide first
    near_bonafide = int((near_trials < n_bonafide).sum())
    position = np.zeros(len(near), np.int64)
    position[near_trials] = np.arange(len(near_trials))
    totals = []  # (R, 5): how many trials of each kind are drawn, of either class
    for part in (kinds[:n_bonafide], kinds[n_bonafide:]):
        totals.append(rng.multinomial(len(part), np.bincount(part, minlength=5) / len(part), size=n_resamples))
    # For each system, its kinds and its near trials that lie before its window.
    before_kinds = ([0, 1], [0, 2])
    before = [position[near_trials[window.zone[near_trials] == 0]] for window in windows]
    inside = [position[window.trials] for window in windows]
    differences = np.empty(n_resamples)
    for i, (bonafide, spoof) in enumerate(zip(*totals)):
        drawn = np.concatenate(
            [_draw(near_bonafide, int(bonafide[4]), rng), _draw(len(near_trials) - near_bonafide, int(spoof[4]), rng)]
        )
        eers = []
        for window, kinds_before, near_before, in_window in zip(windows, before_kinds, before, inside):
            counts = drawn[near_before]
            is_bonafide = near_before < near_bonafide
            bonafide_before = int(bonafide[kinds_before].sum() + counts[is_bonafide].sum())
            spoof_before = int(spoof[kinds_before].sum() + counts[~is_bonafide].sum())
            eers.append(window.eer(bonafide_before, spoof_before, drawn[in_window]))
        if eers[0] is None or eers[1] is None:
            return None
        differences[i] = eers[0] - eers[1]
    return differences


def _draw(n_trials: int, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of some trials is drawn: (n_trials,) int64."""
    if not n_trials:
        return np.zeros(0, np.int64)
    return np.bincount(rng.integers(n_trials, size=n_draws), minlength=n_trials)


MAX_LEFT_OUT = 100  # groups; more are left out several at a time
MAX_SCRATCH = 1 << 22  # numbers in a scratch array of the bootstrap by speaker: 32 MB


def _group_codes(groups: tuple[np.ndarray, np.ndarray], n_bonafide: int, n_spoof: int) -> tuple[np.ndarray, int]:
    """The groups of all trials, bona fide first, as numbers below G: (Nb + Ns,), G."""
    if (len(groups[0]), len(groups[1])) != (n_bonafide, n_spoof):
        raise InputError(
            f"expected a group for each of {n_bonafide} + {n_spoof} trials, got {len(groups[0])} + {len(groups[1])}"
        )
    distinct, codes = np.unique(np.concatenate([np.asarray(groups[0]), np.asarray(groups[1])]), return_inverse=True)
    for name, part in (("bona fide", codes[:n_bonafide]), ("spoofed", codes[n_bonafide:])):
        if len(np.unique(part)) < 2:
            raise InputError(f"all {name} trials are of one speaker: a bootstrap by speaker needs two or more")
    return codes, len(distinct)


def _draw_groups(
    codes: np.ndarray, n_bonafide: int, n_groups: int, n_resamples: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """How often each group is drawn, some resamples at a time: (R, G). A resample that lacks a class is drawn again."""
    has_bonafide = np.bincount(codes[:n_bonafide], minlength=n_groups) > 0
    has_spoof = np.bincount(codes[n_bonafide:], minlength=n_groups) > 0
    batch = max(1, min(n_resamples, MAX_SCRATCH // max(n_groups, 1024)))
    for start in range(0, n_resamples, batch):
        counts = np.zeros((min(batch, n_resamples - start), n_groups))
        empty = np.ones(len(counts), bool)
        while empty.any():
            counts[empty] = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=int(empty.sum()))
            empty = (counts @ has_bonafide == 0) | (counts @ has_spoof == 0)
        yield counts


class _GroupPath:
    """EERs of one system under given numbers of draws of each group.

    The sorted trials are cut into blocks; how many trials of each group lie before each block finds the block of the
    crossing by a matrix product, and only that block is walked trial by trial.
    """

    def __init__(self, trials: Sorted, codes: np.ndarray, n_groups: int):
        order, is_bonafide, _ = trials
        n_trials = len(order)
        self.block = max(256, -(-n_trials * n_groups // MAX_SCRATCH))
        n_blocks = -(-n_trials // self.block)
        self.codes = np.zeros(n_blocks * self.block, np.int64)
        self.codes[:n_trials] = codes[order]
        self.is_bonafide = np.zeros(n_blocks * self.block, bool)
        self.is_bonafide[:n_trials] = is_bonafide
        cell = np.arange(n_trials) // self.block * n_groups + self.codes[:n_trials]
        # Trials of each group up to the end of each block: (blocks, G).
        self.bonafide = np.bincount(cell[is_bonafide], minlength=n_blocks * n_groups).reshape(n_blocks, n_groups)
        self.spoof = np.bincount(cell[~is_bonafide], minlength=n_blocks * n_groups).reshape(n_blocks, n_groups)
        self.bonafide = np.cumsum(self.bonafide, axis=0).astype(np.float64)
        self.spoof = np.cumsum(self.spoof, axis=0).astype(np.float64)

    def eers(self, counts: np.ndarray) -> np.ndarray:
        """(R, G) draws -> (R,) EERs; the work is cut so that no scratch array is large."""
        batch = max(1, MAX_SCRATCH // max(self.block, len(self.bonafide)))
        return np.concatenate([self._eers(counts[i : i + batch]) for i in range(0, len(counts), batch)])

    def _eers(self, counts: np.ndarray) -> np.ndarray:
        bonafide = (counts @ self.bonafide.T).astype(np.int64)  # (R, blocks), whole numbers below 2^53
        spoof = (counts @ self.spoof.T).astype(np.int64)
        n_bonafide, n_spoof = bonafide[:, -1], spoof[:, -1]
        path = bonafide * n_spoof[:, None] + spoof * n_bonafide[:, None] - (n_bonafide * n_spoof)[:, None]
        block = (path < 0).sum(axis=1)  # the first whose end is at or above 0
        rows = np.arange(len(counts))
        before = np.maximum(block - 1, 0)
        rejected = np.where(block > 0, bonafide[rows, before], 0)
        excess = np.where(block > 0, path[rows, before], -n_bonafide * n_spoof)
        trials = block[:, None] * self.block + np.arange(self.block)  # (R, block)
        drawn = counts[rows[:, None], self.codes[trials]].astype(np.int64)
        drawn_bonafide = np.where(self.is_bonafide[trials], drawn, 0)
        step = np.where(self.is_bonafide[trials], n_spoof[:, None], n_bonafide[:, None])
        path = excess[:, None] + np.cumsum(drawn * step, axis=1)
        index = (path >= 0).argmax(axis=1)
        rejected = rejected + np.cumsum(drawn_bonafide, axis=1)[rows, index] - drawn_bonafide[rows, index]
        step = step[rows, index]
        excess = path[rows, index] - drawn[rows, index] * step
        return _eer_at_crossing(excess, step, n_bonafide, n_spoof, rejected, self.is_bonafide[trials[rows, index]])
