"""Times of one operator, each on data that the last call did not leave in a cache.

On one thread of a CPU the clock is the processor time of that thread: what other programs took in between
does not count. Elsewhere it is time as it passes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

_WARM_UPS: Final = 2
_FEWEST: Final = 3
_MOST: Final = 200
_ENOUGH_S: Final = 0.02
"""A shape is timed in a round until its calls add up to this, but at least the fewest."""
_SHORT_S: Final = 50e-6
"""Calls shorter than this are timed several at once: reading a clock takes a part of a microsecond."""
_AT_ONCE: Final = 20
Read = Callable[[], float]


@dataclass(frozen=True)
class Timed:
    """Quartiles of the calls of one shape, in seconds."""

    median_s: float
    low_s: float
    high_s: float
    trials: int


def timed(call: Callable[[int], Any], device: str, *, read: Read = time.perf_counter) -> Timed:
    """Times of `call(i)`, where `i` counts calls so that data can rotate; `read` is the clock of a host."""
    done = 0
    for _ in range(_WARM_UPS):
        first = _took(call, device, read, done, 1)
        done += 1
    at_once = _AT_ONCE if device != "cuda" and first < _SHORT_S else 1
    found: list[float] = []
    while len(found) < _FEWEST or (sum(found) * at_once < _ENOUGH_S and len(found) < _MOST):
        found.append(_took(call, device, read, done, at_once))
        done += at_once
    quartiles = statistics.quantiles(found, n=4)
    return Timed(statistics.median(found), quartiles[0], quartiles[2], len(found))


def mean_of(rounds: Sequence[Timed]) -> Timed:
    """The mean of the medians of a shape's rounds, and how far they were apart.

    What disturbs within a round is gone with its median. What slows a whole round - a core shares its units
    with a neighbour that nobody here sees - slows a model as well: the mean of rounds far apart is what to
    expect.
    """
    middles = [timed.median_s for timed in rounds]
    low, high = min(timed.low_s for timed in rounds), max(timed.high_s for timed in rounds)
    return Timed(statistics.fmean(middles), low, high, sum(timed.trials for timed in rounds))


def clock_for(device: str, threads: int | None) -> Read:
    """Processor time of this thread where it does all the work, else time as it passes."""
    return time.thread_time if device == "cpu" and threads == 1 else time.perf_counter


def _took(call: Callable[[int], Any], device: str, read: Read, i: int, times: int) -> float:
    if device == "cuda":
        return _cuda_clock(call, i)
    begin = read()
    for k in range(times):
        call(i + k)
    return (read() - begin) / times


def _cuda_clock(call: Callable[[int], Any], i: int) -> float:
    """Time on the device: the host runs ahead, so launches are counted only where they are the limit."""
    import torch

    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    call(i)
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3
