"""How often the sensors of a device really update, found by watching them change."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from engine.measure.energy.trace import ASSUMED_PERIOD_S

if TYPE_CHECKING:
    from engine.measure.energy.source import Clock, PowerSource

PLAUSIBLE_S: Final = (0.005, 0.25)
"""Update periods outside of this are not believed."""


@dataclass(frozen=True)
class SensorPeriods:
    """Median time between changes; None where a sensor is absent, never changed, or changed implausibly."""

    counter_s: float | None
    instant_s: float | None
    average_s: float | None
    looks: int
    """Readings taken."""
    look_s: float
    """Median time between two of them: periods below twice this cannot be seen."""

    @property
    def known(self) -> float | None:
        """The period that matters: of the counter, else of instant power."""
        return self.counter_s or self.instant_s

    def note(self) -> str | None:
        """What a reader must know where nothing was found."""
        if self.known is not None:
            return None
        return f"no sensor period was found in {self.looks} looks, {ASSUMED_PERIOD_S:g} s is assumed"


def probe(
    source: PowerSource,
    clock: Clock,
    *,
    duration_s: float,
    interval_s: float,
    load: Callable[[float], None] | None = None,
) -> SensorPeriods:
    """Read as fast as asked and look at the gaps between changes.

    `load` is called with the time since the start and keeps power moving: idle power is too flat to see.
    """
    names = ("energy_j", "power_w", "average_power_w")
    last: dict[str, float] = {}
    changed: dict[str, list[float]] = {name: [] for name in names}
    looks: list[float] = []
    begin = clock.now()
    while (moment := clock.now()) - begin < duration_s:
        found = source.read(slow=False)[0]
        looks.append(moment)
        for name in names:
            if name in found:
                if name in last and found[name] != last[name]:
                    changed[name].append(moment)
                last[name] = found[name]
        if load is not None:
            load(moment - begin)
        clock.sleep(interval_s - (clock.now() - moment))
    return SensorPeriods(
        counter_s=_period(changed["energy_j"]),
        instant_s=_period(changed["power_w"]),
        average_s=_period(changed["average_power_w"]),
        looks=len(looks),
        look_s=_median([b - a for a, b in itertools.pairwise(looks)]) or interval_s,
    )


def _period(moments: list[float]) -> float | None:
    gap = _median([b - a for a, b in itertools.pairwise(moments)])
    return gap if gap is not None and PLAUSIBLE_S[0] <= gap <= PLAUSIBLE_S[1] else None


def _median(values: list[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None
