"""Whether two numbers differ by more than their noise: Welch's test, minimum effects, many tests at once.

A side of a comparison is a value with standard errors, one towards each end where its interval is lopsided.
Sides are compared by the linear contrast `after - before`, or with a minimum effect by
`after - (1 +- effect) before` (a test of the hypothesis that the true change is smaller than the effect).
Degrees of freedom: Welch 1947, Satterthwaite 1946. Lopsided intervals: Zou and Donner 2008 (MOVER).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from engine.results.student import t_quantile, t_tail

How = Literal["predicted", "band", "repeats", "rows", "interval", "requests", "share", "assumed", "once"]
"""What the noise of a side is known from: see `Side.how`."""
Correction = Literal["bh", "holm", "none"]

ROUNDING: Final = 1e-9
"""Relative difference below which two computed values are the same."""


@dataclass(frozen=True)
class Side:
    """One value of a metric and what is known of its noise."""

    value: float
    how: How
    """predicted: computed, without noise; band: a prediction with its 90 % band; repeats: of one measurement;
    rows: several rows of one point; interval: one that came with the value; requests: of one repeat, so that
    variation between runs is unknown; share: counted events; assumed: the noise between runs that a user
    stated; once: unknown.
    """
    below: float | None = None
    """Standard error towards lower values; None when nothing is known of the noise."""
    above: float | None = None
    """Standard error towards higher values."""
    degrees: float = math.inf
    """Degrees of freedom behind the standard errors."""
    n: int | None = None
    """Independent observations: repeats, rows, trials or requests, as `how` says; None when not known."""
    low: float | None = None
    """Lower end of the value's own interval (95 %; a band 90 %); None without one."""
    high: float | None = None

    @property
    def exact(self) -> bool:
        """Computed without noise."""
        return self.how == "predicted"

    @property
    def known(self) -> bool:
        """Whether anything is known of the noise."""
        return self.exact or (self.below is not None and self.above is not None)


@dataclass(frozen=True)
class Contrast:
    """A difference and how far it is from nothing."""

    difference: float
    """after - before, in the metric's unit."""
    low: float | None
    """Ends of its 95 % interval, not corrected for other tests; None when a side's noise is unknown. Equal to
    the difference where both sides are exact."""
    high: float | None
    p: float | None
    """Two-sided p-value of a true change no larger than the minimum effect; None where nothing is tested."""


def same(before: float, after: float) -> bool:
    """Whether two values are the same but for rounding."""
    return math.isclose(before, after, rel_tol=ROUNDING, abs_tol=0.0)


def contrast(before: Side, after: Side, *, effect: float = 0.0) -> Contrast:
    """How `after` differs from `before`; `effect` is the smallest relative change that counts."""
    difference = after.value - before.value
    if not (before.known and after.known):
        return Contrast(difference, None, None, None)
    if before.exact and after.exact:
        return Contrast(difference, difference, difference, None)
    low = difference - _half(*_errors(before, after, rising=True))
    high = difference + _half(*_errors(before, after, rising=False))
    return Contrast(difference, low, high, _p(before, after, difference, effect))


def beyond(before: float, after: float, effect: float) -> bool:
    """Whether two exact values differ, by more than a relative minimum effect."""
    return not same(before, after) and abs(after - before) > effect * abs(before)


def _errors(
    before: Side, after: Side, *, rising: bool, scale: float = 1.0
) -> tuple[tuple[float, float], tuple[float, float]]:
    """(standard error, degrees of freedom) of each side, towards the ends that a change in this direction
    must get past: a rise is doubtful where `after` may be lower and `before` higher."""
    errors = (before.above, after.below) if rising else (before.below, after.above)
    return (abs(scale) * (errors[0] or 0.0), before.degrees), (errors[1] or 0.0, after.degrees)


def _half(first: tuple[float, float], second: tuple[float, float]) -> float:
    error = math.hypot(first[0], second[0])
    return t_quantile(_welch(first, second)) * error if error else 0.0


def _welch(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Degrees of freedom of a sum of two independent estimates."""
    parts = [(error * error, degrees) for error, degrees in (first, second) if error]
    together = math.fsum(variance for variance, _ in parts)
    if not together:
        return math.inf
    # Shares of the sum, so that squares of small variances do not vanish.
    spent = math.fsum((variance / together) ** 2 / degrees for variance, degrees in parts)
    return 1 / spent if spent else math.inf


def _p(before: Side, after: Side, difference: float, effect: float) -> float:
    rising = difference > 0
    way = 1.0 if rising else -1.0
    left = abs(difference) - effect * abs(before.value)
    if same(before.value, after.value) or left <= 0:
        return 1.0
    scale = 1 + way * effect * math.copysign(1.0, before.value)
    errors = _errors(before, after, rising=rising, scale=scale)
    error = math.hypot(errors[0][0], errors[1][0])
    if not error:
        return _separated(before, after)
    return t_tail(left / error, _welch(*errors))


def _separated(before: Side, after: Side) -> float:
    """The p-value of groups without any spread: the chance that two like groups come apart so completely
    (permutation test), or that all of one lie on one side of a known value (sign test)."""
    sizes = [int(side.degrees) + 1 for side in (before, after) if math.isfinite(side.degrees)]
    if len(sizes) == 2:
        return min(1.0, 2 / math.comb(sum(sizes), sizes[0]))
    return min(1.0, 2 * 0.5 ** sizes[0]) if sizes else 1.0


def corrected(values: Sequence[float], correction: Correction) -> list[float]:
    """p-values corrected for their number: Benjamini and Hochberg 1995 (share of false alarms), Holm 1979
    (any false alarm), or as they are."""
    count = len(values)
    if correction == "none" or not count:
        return list(values)
    order = sorted(range(count), key=lambda i: values[i])
    found = [0.0] * count
    if correction == "holm":
        largest = 0.0
        for rank, i in enumerate(order):
            largest = max(largest, min(1.0, (count - rank) * values[i]))
            found[i] = largest
        return found
    least = 1.0
    for rank, i in reversed(list(enumerate(order, start=1))):
        least = min(least, values[i] * count / rank)
        found[i] = least
    return found
