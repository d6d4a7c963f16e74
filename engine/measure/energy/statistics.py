"""Means with intervals, differences with intervals, correlation: what makes a metered number quotable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

CONFIDENCE: Final = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    mean: float
    low: float | None
    """None for a single observation: nothing says how much it would vary."""
    high: float | None
    n: int
    std: float | None = None
    """Standard deviation of one observation, n - 1 in the denominator; None for a single one."""

    @property
    def half_width(self) -> float | None:
        """Half the interval; None where there is none."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    @property
    def degrees(self) -> int:
        """Degrees of freedom behind the interval."""
        return max(self.n - 1, 1)

    def scaled(self, factor: float) -> Estimate:
        """The same in other units, or for many of the same."""
        ends = [None if end is None else end * factor for end in (self.low, self.high)]
        low, high = ends if factor >= 0 else reversed(ends)
        std = None if self.std is None else self.std * abs(factor)
        return Estimate(self.mean * factor, low, high, self.n, std)


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean and Student-t interval of independent observations; None for none."""
    n = len(values)
    if n == 0:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, None, None, 1)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile(n - 1) * std / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n, std)


def total(parts: Sequence[Estimate]) -> Estimate | None:
    """Sum of independent estimates; half-widths add in squares. Without an interval when a part has none."""
    if not parts:
        return None
    mean = math.fsum(part.mean for part in parts)
    n = min(part.n for part in parts)
    halves = [part.half_width for part in parts]
    if any(half is None for half in halves):
        return Estimate(mean, None, None, n)
    half = math.sqrt(math.fsum(h * h for h in halves if h is not None))
    return Estimate(mean, mean - half, mean + half, n)


def difference(left: Estimate, right: Estimate) -> Estimate:
    """left - right with the uncertainty of both (Welch: unequal spreads, own degrees of freedom)."""
    mean = left.mean - right.mean
    n = min(left.n, right.n)
    if left.std is None or right.std is None:
        halves = (left.half_width, right.half_width)
        if halves[0] is None or halves[1] is None:
            return Estimate(mean, None, None, n)
        half = math.hypot(*halves)  # type: ignore[arg-type]
        return Estimate(mean, mean - half, mean + half, n)
    a, b = left.std**2 / left.n, right.std**2 / right.n
    if a + b == 0:
        return Estimate(mean, mean, mean, n, 0.0)
    freedom = (a + b) ** 2 / (a * a / left.degrees + b * b / right.degrees)
    half = t_quantile(freedom) * math.sqrt(a + b)
    return Estimate(mean, mean - half, mean + half, n, math.sqrt(a + b) * math.sqrt(n))


def pearson(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Correlation coefficient; None for fewer than three pairs or where one side does not vary."""
    n = len(x)
    if n < 3 or n != len(y):
        return None
    mean_x, mean_y = math.fsum(x) / n, math.fsum(y) / n
    xx = math.fsum((a - mean_x) ** 2 for a in x)
    yy = math.fsum((b - mean_y) ** 2 for b in y)
    if xx <= 0 or yy <= 0:
        return None
    xy = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return xy / math.sqrt(xx * yy)


@lru_cache(maxsize=256)
def t_quantile(degrees: float, confidence: float = CONFIDENCE) -> float:
    """Two-sided Student-t factor: 2.262 for 9 degrees of freedom at 95 %."""
    low, high = 0.0, 1.0
    while _inside(high, degrees) < confidence:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, degrees) < confidence else (low, middle)
    return (low + high) / 2


def _inside(t: float, degrees: float) -> float:
    """Probability that |T| < t: 1 - I(v / (v + t^2); v/2, 1/2)."""
    return 1.0 - _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function by its continued fraction (Abramowitz and Stegun 26.5.8)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    # Evaluated from the tail: 200 terms are far more than x below the mean needs.
    tail = 0.0
    for m in range(200, 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        tail = even / (1 + odd / (1 + tail))
    first = -(a + b) * x / (a + 1)
    return front / a / (1 + first / (1 + tail))
