"""The beta and Student's t distribution in plain Python, since SciPy takes longer to import than a command to run."""

from __future__ import annotations

import math


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by Lentz's evaluation of its continued fraction.

    Source: Press et al., Numerical Recipes, 6.4.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction for 1 - x converges and that for x does not
        return 1 - beta_cdf(1 - x, b, a)
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    fraction = d
    for m in range(1, 10_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / ((1 + term * d) or tiny)
            c = (1 + term / c) or tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return math.exp(_log_beta_density(x, a, b) + math.log(x) + math.log1p(-x)) * fraction / a


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The x at which I_x(a, b) is `probability`, by Newton's method kept between two bounds."""
    low, high, x = 0.0, 1.0, a / (a + b)
    for _ in range(200):
        error = beta_cdf(x, a, b) - probability
        low, high = (low, x) if error > 0 else (x, high)
        slope = math.exp(min(_log_beta_density(x, a, b), 700.0))
        step = x - error / slope if slope > 0 else low
        step = step if low < step < high else (low + high) / 2
        if abs(step - x) <= 1e-13 * x:
            break
        x = step
    return x


def t_quantile(level: float, df: float) -> float:
    """The t that a variable of Student's t distribution exceeds in size with probability 1 - `level`."""
    x = beta_quantile(1 - level, df / 2, 0.5)
    return math.sqrt(df * (1 - x) / x)


def t_tails(t: float, df: float) -> float:
    """The probability that a variable of Student's t distribution exceeds `t` in size: a two-sided p."""
    return beta_cdf(df / (df + t * t), df / 2, 0.5)


def _log_beta_density(x: float, a: float, b: float) -> float:
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return (a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - log_beta
