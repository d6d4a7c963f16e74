"""Times of one operator, each on data that the last call did not leave in a cache."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

_WARM_UPS: Final = 2
_FEWEST: Final = 5
_MOST: Final = 200
_ENOUGH_S: Final = 0.05
"""A shape is timed until its calls add up to this, but at least the fewest."""


@dataclass(frozen=True)
class Timed:
    """Quartiles of the calls of one shape, in seconds."""

    median_s: float
    low_s: float
    high_s: float
    trials: int


def timed(call: Callable[[int], Any], device: str) -> Timed:
    """Times of `call(i)`, where `i` counts calls so that data can rotate."""
    clock = _cuda_clock if device == "cuda" else _host_clock
    for i in range(_WARM_UPS):
        clock(call, i)
    found: list[float] = []
    while len(found) < _FEWEST or (sum(found) < _ENOUGH_S and len(found) < _MOST):
        found.append(clock(call, _WARM_UPS + len(found)))
    quartiles = statistics.quantiles(found, n=4)
    return Timed(statistics.median(found), quartiles[0], quartiles[2], len(found))


def _host_clock(call: Callable[[int], Any], i: int) -> float:
    begin = time.perf_counter()
    call(i)
    return time.perf_counter() - begin


def _cuda_clock(call: Callable[[int], Any], i: int) -> float:
    """Time on the device: the host runs ahead, so launches are counted only where they are the limit."""
    import torch

    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    call(i)
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3
