"""Energy counters as they are: they update in steps, may wrap, start again with a driver, or stand still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from engine.measure.energy.trace import Floats

_STALE_PERIODS: Final = 10
"""A counter that does not move for this many periods while power is drawn is not counting."""
_WRAP_FROM: Final = 0.5
"""A drop counts as a wrap only from the upper half of the range to the lower."""


@dataclass(frozen=True, eq=False)
class Edges:
    """Moments at which a counter was first seen with a new value."""

    at: Floats
    """Positions in the readings."""
    energy_j: Floats


@dataclass(frozen=True, eq=False)
class CounterCheck:
    """A counter made monotonic, or the reason why it cannot be used."""

    energy_j: Floats | None
    reason: str | None = None
    wraps: int = 0


def checked(energy_j: Floats, times_s: Floats, *, period_s: float, range_j: float | None = None,
            drawn_w: float | None = None) -> CounterCheck:  # fmt: skip
    """The counter without wraps and dropouts.

    `range_j` is where it starts again at 0 (RAPL states it; NVML counts 64 bits of millijoules and never
    gets there), `drawn_w` the power seen meanwhile, which tells a counter that stands still from an idle one.
    """
    import numpy as np

    values = np.where(energy_j == 0, np.nan, energy_j) if (energy_j > 0).any() else energy_j
    known = np.flatnonzero(~np.isnan(values))
    if len(known) < 2:
        return CounterCheck(None, "the energy counter was read fewer than two times")
    steps = np.diff(values[known])
    drops = np.flatnonzero(steps < 0)
    wraps = 0
    for drop in drops:
        before, after = values[known[drop]], values[known[drop + 1]]
        if range_j is None or before < _WRAP_FROM * range_j or after > _WRAP_FROM * range_j:
            return CounterCheck(None, "the energy counter went backwards: the driver was loaded again")
        values = values.copy()
        values[known[drop + 1] :] += range_j
        wraps += 1
    moved = values[known[-1]] - values[known[0]]
    seconds = times_s[known[-1]] - times_s[known[0]]
    if moved == 0 and seconds > _STALE_PERIODS * period_s and (drawn_w is None or drawn_w > 0):
        return CounterCheck(None, f"the energy counter did not move in {seconds:.1f} s")
    return CounterCheck(values, wraps=wraps)


def edges(energy_j: Floats) -> Edges:
    """Where a counter changed. The first reading is none: nobody saw when its value came."""
    import numpy as np

    known = np.flatnonzero(~np.isnan(energy_j))
    changed = known[1:][np.diff(energy_j[known]) != 0]
    return Edges(changed, energy_j[changed])
