"""When repeats suffice, percentiles with the counts they need, and the window of steady load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from engine.measure.live.records import Repeat, Request
from engine.results.estimate import estimate
from engine.results.student import t_quantile

__all__ = [
    "PERCENTILES",
    "document_percentile",
    "enough_for",
    "narrow_enough",
    "percentile",
    "percentiles",
    "steady_window",
    "trend_is_up",
]

PERCENTILES: Final = (50, 90, 95, 99)
_RISK: Final = 0.05
_LEAST_REPEATS: Final = 3
_LEAST_OF_RUN: Final = 0.4
"""Share of an open load that its steady window must cover."""


def narrow_enough(repeats: Sequence[Repeat], precision: float | None) -> bool:
    """Whether the request time of these repeats is known to within `precision`; never of fewer than three."""
    if precision is None or len(repeats) < _LEAST_REPEATS:
        return False
    times = [[r.e2e_s for r in repeat.requests if r.good] for repeat in repeats]
    if not all(times):
        return False
    # Requests within a repeat share the machine's state, so only repeats count as independent.
    found = estimate([math.fsum(values) / len(values) for values in times])
    return found is not None and found.half_width is not None and found.half_width <= precision * found.mean


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Linear interpolation between order statistics of sorted values."""
    position = (len(ordered) - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def document_percentile(ordered: Sequence[float], percent: float) -> float:
    """The value at index `int(n x q)` of sorted values: the rule of the concurrency profiler's own files."""
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def enough_for(percent: float, count: int) -> bool:
    """Whether a 95 % upper limit of this percentile exists: (p/100)^n < 0.05, 299 values for p99."""
    return (percent / 100) ** count < _RISK


def percentiles(values: Sequence[float]) -> dict[int, float | None]:
    """p50 to p99; None for those that need more values."""
    ordered = sorted(values)
    return {p: percentile(ordered, p) if enough_for(p, len(ordered)) else None for p in PERCENTILES}


def steady_window(requests: Sequence[Request], concurrency: int | None) -> tuple[int, int] | None:
    """Start and end (ns) of the time in which the load is what it says; None when there is none.

    Closed loop: from all slots busy to the last dispatch. Open: from the first dispatch after a fifth of the
    time to the last one, so that as many requests come in as the rate says, bursts too. Draining is never
    inside.
    """
    sent = sorted(request.sent_ns for request in requests)
    if not sent:
        return None
    last = sent[-1]
    if concurrency is not None:
        if len(sent) < 2 * concurrency:
            return None
        start = sent[concurrency - 1]
    else:
        fifth = sent[0] + (last - sent[0]) // 5
        start = next(at for at in sent if at >= fifth)
        # What is left of two or three bursts says nothing of the rate.
        if last - start < _LEAST_OF_RUN * (last - sent[0]):
            return None
    return (start, last) if last > start else None


def trend_is_up(times: Sequence[float], values: Sequence[float]) -> bool:
    """Whether values rise with time at 95 % confidence (slope of least squares, t test)."""
    n = len(times)
    if n < 8:
        return False
    mean_t, mean_v = math.fsum(times) / n, math.fsum(values) / n
    spread = math.fsum((t - mean_t) ** 2 for t in times)
    if spread == 0:
        return False
    slope = math.fsum((t - mean_t) * (v - mean_v) for t, v in zip(times, values, strict=True)) / spread
    rest = math.fsum((v - mean_v - slope * (t - mean_t)) ** 2 for t, v in zip(times, values, strict=True))
    error = math.sqrt(rest / (n - 2) / spread)
    return slope > t_quantile(n - 2) * error if error > 0 else slope > 0
