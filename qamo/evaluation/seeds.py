"""Systems that were trained several times: the mean over their seeds, and the difference of two such systems.

The same training with another seed gives other weights, which neither other trials nor other speakers show.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from qamo.evaluation import breakdown
from qamo.evaluation.breakdown import System
from qamo.evaluation.intervals import LEVEL, N_RESAMPLES, SEED, Difference
from qamo.evaluation.quantiles import t_quantile, t_tails

METHOD = "Student's t with the variances over trials and over seeds"


def spread(eers: Sequence[float]) -> float | None:
    """Standard deviation over seeds; None for one seed."""
    return statistics.stdev(eers) if len(eers) > 1 else None


def difference(
    a: Sequence[System], b: Sequence[System], *, n_resamples: int = N_RESAMPLES, seed: int = SEED
) -> Difference:
    """Mean EER of a less that of b on the same trials; both hold the scores of one system for each of its seeds.

    The variance over trials (or speakers, or attacks) is the mean of those of the pairs of seeds: the trials are the
    same for all seeds, so more seeds do not make it smaller. That over seeds is added, for each system by its number of
    seeds; that of a system with one seed is not known, and taken for none.

    Source: Welch 1947 (sum of variances, degrees of freedom).
    """
    value = statistics.mean(s.eer.eer for s in a) - statistics.mean(s.eer.eer for s in b)
    alone = [breakdown.difference(x, y, n_resamples=n_resamples, seed=seed) for x, y in zip(a, b)]
    first = alone[0]
    if first.error is None:
        return first._replace(value=value)
    terms = [(statistics.mean((found.error or 0.0) ** 2 for found in alone), first.df)]
    for seeds in (a, b):
        if len(seeds) > 1:
            terms.append((statistics.variance([s.eer.eer for s in seeds]) / len(seeds), len(seeds) - 1.0))
    variance = sum(term for term, _ in terms)
    df = max(variance**2 / sum(term**2 / of for term, of in terms), 1.0)
    error = math.sqrt(variance)
    half = t_quantile(LEVEL, df) * error
    low, high = max(value - half, -1.0), min(value + half, 1.0)
    return first._replace(
        value=value, low=low, high=high, p=t_tails(value / error, df), error=error, df=df, method=METHOD
    )
