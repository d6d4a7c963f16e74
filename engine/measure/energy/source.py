"""What every power source offers: who the devices are, and a reading of each, absent values left out."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from engine.errors import EnvironmentMissing

if TYPE_CHECKING:
    from engine.spec.energy import EnergySettings

Reading = Mapping[str, float]
"""Quantity (see `trace.QUANTITIES`) -> value in base units; what is not there is not a key."""
SLOWDOWN: Final = "slowdown_temperature_c"
"""Name of the fact that says at which temperature a device slows down."""


@dataclass(frozen=True)
class Metered:
    """A device whose power can be read."""

    uuid: str
    index: int
    name: str
    scope: str = "gpu"
    """`gpu`, or `module` where one counter covers processor and device together (GH200)."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Driver, limits, modes, and what cannot be read."""


@dataclass(frozen=True)
class Quick:
    """What a component loop reads between two chunks, summed over devices."""

    energy_j: float | None
    power_w: float | None
    clock_hz: float | None = None
    temperature_c: float | None = None
    throttle: int | None = None
    averaged: bool = False
    """Power is a mean over the last second, not of this moment."""


class PowerSource(Protocol):
    """Readings of all devices of a measurement; `close` may be called twice."""

    name: str

    @property
    def devices(self) -> tuple[Metered, ...]:
        """The devices that count."""
        ...

    def keep(self, uuids: Collection[str]) -> None:
        """Count only these devices from now on: the others run something else, or nothing."""
        ...

    def read(self, *, slow: bool = True) -> list[Reading]:
        """One reading of each device; without `slow` only power and energy."""
        ...

    def quick(self, *, slow: bool = False) -> Quick:
        """Counter and instant power, for loops; with `slow` clocks, temperature and reasons too."""
        ...

    def users(self) -> dict[str, set[int]]:
        """Processes that compute on each device, by its UUID."""
        ...

    def close(self) -> None: ...


class Clock(Protocol):
    """Time as a campaign sees it; tests bring their own."""

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class HostClock:
    """The machine's monotonic clock, the one that every process of it shares."""

    def now(self) -> float:
        """Seconds since some moment in the past."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(max(seconds, 0.0))


def open_source(settings: EnergySettings, *, uuids: Sequence[str] | None = None) -> PowerSource:
    """The source a spec asks for; raises `EnvironmentMissing` with the way out where there is none."""
    from engine.measure.energy.nvidia_smi import NvidiaSmi
    from engine.measure.energy.nvml import Nvml

    if settings.source == "nvml":
        return Nvml(uuids=uuids)
    if settings.source == "nvidia-smi":
        return NvidiaSmi(uuids=uuids, interval_s=settings.sample_interval)
    try:
        return Nvml(uuids=uuids)
    except EnvironmentMissing as first:
        try:
            return NvidiaSmi(uuids=uuids, interval_s=settings.sample_interval)
        except EnvironmentMissing as second:
            raise EnvironmentMissing(
                f"no power can be read here: {first.message}; {second.message}", hint=WAY_OUT
            ) from second


WAY_OUT = (
    "run it where an NVIDIA driver is installed, replay a recording with `source: replay`, measure time "
    "alone with `metrics: [time]`, or go on without with `on_missing: skip`"
)
