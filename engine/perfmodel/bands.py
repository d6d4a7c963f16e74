"""How sure an estimate is: held-out quantiles of each kind of kernel, added up over a phase.

Errors of kernels of one kind go together - the same library, the same wrong efficiency - so their deviations
add up. Errors of different kinds have nothing to do with each other, so those add up in squares. A phase of
one kind keeps the band of that kind; a phase of many is surer than each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from engine.perfmodel.arithmetic import Arithmetic, Values
from engine.perfmodel.parameter_sets import EXTRAPOLATED_WIDER, Law
from engine.spec.calibration import Band


class Spent(NamedTuple):
    """Time in kernels that share a law."""

    law: Law
    time_s: Values
    calls: Values

    def plus(self, other: Spent) -> Spent:
        """Both together."""
        return Spent(self.law, self.time_s + other.time_s, self.calls + other.calls)


@dataclass(frozen=True)
class Estimate:
    """Estimated time of a phase by law, and what no law covers."""

    spent: dict[int, Spent] = field(default_factory=dict)
    """Keyed by the identity of the law."""
    other_s: Values = 0.0
    """Time from the data sheet, and of the engine between kernels."""
    steps: Values = 0
    """Steps of an engine in it."""

    def plus(self, other: Estimate) -> Estimate:
        """Both one after the other."""
        spent = dict(self.spent)
        for key, more in other.spent.items():
            spent[key] = spent[key].plus(more) if key in spent else more
        return Estimate(spent, self.other_s + other.other_s, self.steps + other.steps)

    def times(self, factor: Values) -> Estimate:
        """The phase `factor` times."""
        spent = {key: Spent(s.law, s.time_s * factor, s.calls * factor) for key, s in self.spent.items()}
        return Estimate(spent, self.other_s * factor, self.steps * factor)

    def at(self, places: Values) -> Estimate:
        """Spread over an array of places among the batches it was worked out for."""
        spent = {
            key: Spent(s.law, s.time_s[places] if hasattr(s.time_s, "shape") else s.time_s, s.calls)
            for key, s in self.spent.items()
        }
        return Estimate(spent, self.other_s, self.steps)

    @property
    def launch_s(self) -> Values:
        """The part that more sequences do not lengthen: what kernels take with nothing to do."""
        total: Values = 0.0
        for law, _, calls in self.spent.values():
            total = total + calls * law.parameters.launch
        return total

    @property
    def time_s(self) -> Values:
        """All of it."""
        total = self.other_s
        for part in self.spent.values():
            total = total + part.time_s
        return total


class Banded(NamedTuple):
    """An estimate with its 90 % band."""

    of: Estimate
    time_s: Values
    low_s: Values
    high_s: Values
    extrapolated: Values
    """Kernels of some kind are shorter or longer than any that was fitted."""


@dataclass(frozen=True, eq=False)
class BandTable:
    """What a law's bands come to by the size of a kernel: edges, and a row for each interval between them."""

    edges_s: tuple[float, ...]
    below_squared: Any
    """Square of the share of the estimate that the low end lies below it, arrays like the next two."""
    above_squared: Any
    beyond: Any
    """Whether no kernel of this size was fitted."""


_SIZES_BELOW: Final = 0.8
_SIZES_ABOVE: Final = 1.25
"""How far outside the fitted times a kernel counts as like them."""


def band_table(law: Law) -> BandTable:
    """The bands of a law, widened where it says so and beyond the fitted sizes."""
    import numpy as np

    shortest, longest = law.time_range.low * _SIZES_BELOW, law.time_range.high * _SIZES_ABOVE
    inner = [band.below for band in law.bands if band.below is not None and shortest < band.below < longest]
    edges = (shortest, *inner, longest)
    starts = (0.0, *edges)
    found = [_band_at(law.bands, start) for start in starts]
    beyond = np.array([True, *[False] * len(inner), False, True])
    widened = np.where(beyond, law.widened * EXTRAPOLATED_WIDER, law.widened)
    low = np.array([band.low for band in found]) / widened
    high = np.array([band.high for band in found]) * widened
    return BandTable(edges, (1 - low) ** 2, (high - 1) ** 2, beyond)


def _band_at(bands: Sequence[Band], time_s: float) -> Band:
    return next(band for band in bands if band.below is None or time_s < band.below)


_TABLES: WeakKeyDictionary[Law, BandTable] = WeakKeyDictionary()


def _table(law: Law) -> BandTable:
    if law not in _TABLES:
        _TABLES[law] = band_table(law)
    return _TABLES[law]


def banded(a: Arithmetic, estimate: Estimate, *, whole: Sequence[Band] = (), widened: float = 1.0) -> Banded:
    """The estimate and its band; `whole` are bands of whole requests, `widened` the factor on their ends, and
    the wider one counts."""
    total = estimate.time_s
    below: Values = 0.0
    above: Values = 0.0
    outside: Values = False
    for law, time, calls in estimate.spent.values():
        table = _table(law)
        if hasattr(calls, "shape"):
            edges, size = table.edges_s, time / a.maximum(calls, 1e-9)
        else:
            edges, size = tuple(edge * calls for edge in table.edges_s), time
        down, up, beyond = a.picked(edges, size, table.below_squared, table.above_squared, table.beyond)
        square = time * time
        below, above = below + square * down, above + square * up
        # Kernels that hardly count do not put the whole in doubt.
        if a.largest(beyond):
            outside = outside | (beyond & (time > _COUNTS * total))
    below, above = a.sqrt(below), a.sqrt(above)
    if whole:
        low, high = factors(a, whole, total / a.maximum(estimate.steps, 1e-9))
        below = a.maximum(below, total * (1 - low / widened))
        above = a.maximum(above, total * (high * widened - 1))
    return Banded(estimate, total, a.maximum(total - below, 0.0), total + above, outside)


_COUNTS: Final = 0.05


def factors(a: Arithmetic, bands: Sequence[Band], time_s: Values) -> tuple[Values, Values]:
    """Low and high factor for an estimate of this size."""
    low: Values = bands[-1].low
    high: Values = bands[-1].high
    for band in reversed(bands[:-1]):
        small = time_s <= band.below
        low, high = a.where(small, band.low, low), a.where(small, band.high, high)
    return low, high
