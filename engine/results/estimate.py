"""Means with intervals, differences with intervals, correlation: what makes a measured number quotable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engine.results.student import t_quantile


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
