"""A recording as data: what the sensors said, what ran when, and how often.

Metering and replaying end in the same `Trace`, and everything after it is the same code, so that a number
from a file and a number from a device are made in one way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ASSUMED_PERIOD_S: Final = 0.1
"""Update period of board sensors since Volta where nobody measured it (arXiv 2312.02741)."""
AVERAGED_S: Final = 1.0
"""Span of the averaged power field on boards since Ampere, and of `power.draw` on most of them (as above)."""
QUANTITIES: Final = (
    "power_w", "average_power_w", "energy_j", "temperature_c", "utilization", "memory_utilization",
    "memory_used_bytes", "sm_clock_hz", "memory_clock_hz", "throttle",
)  # fmt: skip
_MOST: Final = {"power_w": 1e7, "average_power_w": 1e7, "energy_j": 1e15}
"""No device draws as much."""
HOOKED: Final = "with hooks"
"""Variant of a window in which layers were timed: its parts count, its length is not that of a plain run."""
EventKind = Literal["phase", "step", "layer", "component", "idle"]


@dataclass(frozen=True, eq=False)
class Channel:
    """Readings of one device in time order; NaN where a reading is absent."""

    device: str
    """UUID, else index."""
    times_s: Floats
    readings: Mapping[str, Floats]
    """Name of `QUANTITIES` -> one value a time; absent quantities are left out."""
    name: str | None = None
    left_out: int = 0
    """Readings of power that no device can have: negative or without bounds. They are NaN here."""

    def get(self, quantity: str) -> Floats | None:
        """Readings of a quantity; None when there is none at all."""
        import numpy as np

        found = self.readings.get(quantity)
        return None if found is None or bool(np.isnan(found).all()) else found


@dataclass(frozen=True)
class Event:
    """Something that ran between two moments of the recording's clock."""

    kind: EventKind
    phase: str
    """load, tokenize, prefill, decode, detokenize, request or idle."""
    begin_s: float
    end_s: float
    component: str | None = None
    layer: int | None = None
    repeat: int = 0
    warmup: bool = False
    iterations: int = 1
    """How often it ran in this window."""
    tokens: int | None = None
    """Tokens of one iteration over all sequences: read in prefill, made in decode."""
    token_index: int | None = None
    """Which decode step, from 0."""
    intensity: float | None = None
    """FLOPs per byte of what ran; None where nobody counted."""
    variant: str = ""
    """`cold before`, `resident after`... for idle windows; batch and model of foreign logs."""
    energy_j: float | None = None
    """Energy that the recording itself states for the window; None where it must be integrated."""

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.end_s - self.begin_s


@dataclass(frozen=True, eq=False)
class LoopReads:
    """One trial of a component loop: what was read at the end of each chunk."""

    component: str
    phase: str
    trial: int
    times_s: Floats
    iterations: Floats
    """Iterations done, cumulative."""
    energy_j: Floats | None
    """Energy counter; None without one."""
    power_w: Floats | None = None
    """Instant power, else averaged."""
    averaged: bool = False
    """Each power is a mean over the last `AVERAGED_S`."""
    clock_hz: Floats | None = None
    temperature_c: Floats | None = None
    throttle: Floats | None = None
    """Bit mask of event reasons."""
    foreign: bool = False
    """Another process used the device."""
    layer: int | None = None
    parent: str | None = None
    count: int = 1
    """How often it runs in one step of the model."""
    order: int = 0
    """Place of the component in the model; trials are shuffled, tables are not."""
    share: Mapping[int, float] = field(default_factory=dict)
    """Layer -> share of the time of one iteration over all layers; empty where it was not timed apart."""


@dataclass(frozen=True, eq=False)
class Trace:
    """A whole recording."""

    source: str
    """nvml, nvidia-smi, replay or simulated."""
    channels: tuple[Channel, ...]
    events: tuple[Event, ...]
    loops: tuple[LoopReads, ...] = ()
    period_s: float | None = None
    """Update period of the energy counter or, without one, of the power sensor; None: nobody measured it."""
    baseline_w: float | None = None
    """Idle power that the recording states; None where idle windows tell it."""
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else is known: name, driver, limits."""

    @property
    def period(self) -> float:
        """Update period, or the usual one where nobody measured it."""
        return self.period_s or ASSUMED_PERIOD_S

    def of(self, kind: EventKind, *, warmup: bool = False) -> list[Event]:
        """Events of a kind in time order, without those of warm-up unless asked for."""
        found = [e for e in self.events if e.kind == kind and (warmup or not e.warmup)]
        return sorted(found, key=lambda event: event.begin_s)


def channel(device: str, times_s: Any, readings: Mapping[str, Any], *, name: str | None = None) -> Channel:
    """A channel from any sequences, sorted by time; None becomes NaN."""
    import numpy as np

    times = np.asarray(times_s, dtype=np.float64)
    order = np.argsort(times, kind="stable")
    arrays = {key: _floats(values)[order] for key, values in readings.items()}
    left_out = 0
    for key in _MOST.keys() & arrays.keys():
        values = arrays[key]
        wrong = (values > _MOST[key]) | (values < 0)
        left_out += int(wrong.sum())
        values[wrong] = np.nan
    return Channel(device, times[order], arrays, name, left_out)


def _floats(values: Any) -> Floats:
    import numpy as np

    if isinstance(values, Sequence):
        values = [np.nan if value is None else value for value in values]
    return np.asarray(values, dtype=np.float64)
