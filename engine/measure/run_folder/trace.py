"""A sensor's series as running integrals: energy over any window without keeping every sample.

A trace is a list of knots. Each knot knows the time, the value, the integral from the start and the
largest value since the knot before. Up to a million knots every sample is one; beyond that every second
knot goes, which loses no energy and no peak, only where inside two intervals they lie.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Quantity = Literal[
    "power", "temperature", "memory", "utilization", "bandwidth", "throttle", "cache_hit_rate", "margin"
]  # fmt: skip
Scope = Literal["device", "soc", "package", "memory", "node", "part"]
Zone = Literal["local", "utc", "none"]

MOST_KNOTS: Final = 1_000_000
MOST_GAPS: Final = 1_000
LONG_GAP: Final = 3.0
"""A gap is an interval longer than this many median intervals."""


@dataclass(frozen=True, eq=False)
class Trace:
    """One quantity of one device over time."""

    quantity: Quantity
    scope: Scope
    device: str
    time_s: Floats
    """Seconds since 1970 (local times as if UTC), or since the first sample when `zone` is none."""
    value: Floats
    integral: Floats
    """Value x seconds since the first knot."""
    peak: Floats
    """Largest value since the knot before."""
    samples: int
    interval_s: float | None
    """Median time between samples; None when the log carries no times and none was declared."""
    gaps: tuple[tuple[float, float], ...] = ()
    """Start and end of intervals longer than three median ones."""
    edges_s: tuple[float, ...] = ()
    """For flags: times at which the flag rose; set in the first row counts."""
    set_s: tuple[float, ...] = ()
    """For flags: times of samples with the flag set."""
    zone: Zone = "local"
    exact: bool = True
    """True when the value runs straight between knots, so that integrals inside an interval are exact."""
    half_integral: float | None = None
    """The whole integral from every second sample: how much it depends on the sampling."""

    @property
    def start(self) -> float:
        """Time of the first sample."""
        return float(self.time_s[0])

    @property
    def end(self) -> float:
        """Time of the last sample."""
        return float(self.time_s[-1])

    def integral_at(self, when: float) -> float:
        """Value x seconds from the first sample to `when`, held inside the trace."""
        import numpy as np

        when = min(max(when, self.start), self.end)
        right = int(np.searchsorted(self.time_s, when, side="left"))
        if self.time_s[right] == when:
            return float(self.integral[right])
        left = right - 1
        span = float(self.time_s[right] - self.time_s[left])
        share = (when - float(self.time_s[left])) / span
        if not self.exact:
            return float(self.integral[left] + share * (self.integral[right] - self.integral[left]))
        inside = float(self.value[left] + share * (self.value[right] - self.value[left]))
        return float(self.integral[left]) + share * span * (float(self.value[left]) + inside) / 2

    def over(self, window: tuple[float, float]) -> float:
        """Value x seconds inside the window; for power that is energy in J."""
        return self.integral_at(window[1]) - self.integral_at(window[0])

    def mean(self, window: tuple[float, float]) -> float:
        """Time-weighted mean inside the window."""
        start, end = max(window[0], self.start), min(window[1], self.end)
        if end <= start:
            return float(self.value.mean()) if len(self.value) else float("nan")
        return self.over((start, end)) / (end - start)

    def highest(self, window: tuple[float, float]) -> float | None:
        """Largest sample inside the window; None when none lies there."""
        inside = (self.time_s >= window[0]) & (self.time_s <= window[1])
        return float(self.peak[inside].max()) if inside.any() else None


_SET_BACK: Final = -60.0
"""A step of the clock below it is a clock that was set back; less is disorder, and sorted."""
_HALF_HOUR: Final = 1800.0


@dataclass(eq=False)
class ClockRepair:
    """Takes clock set-backs of more than a minute out of times that come in chunks."""

    backward: int = 0
    """Samples that came with a time before the one above them."""
    repeated: int = 0
    """Samples with the time of the one above them."""
    jumps: list[tuple[float, float]] = field(default_factory=list)
    """(time, seconds) where the clock was set back, and by how much."""
    _shift: float = 0.0
    _last: float | None = None
    _step: float | None = None

    def repaired(self, time_s: Floats) -> Floats:
        """The times as a clock that was never set back would give them."""
        import numpy as np

        first = self._last is None
        steps = np.diff(time_s, prepend=time_s[0] if self._last is None else self._last)
        self._last = float(time_s[-1])
        if self._step is None and (steps > 0).any():
            self._step = float(np.median(steps[steps > 0]))
        fixed = time_s + self._shift
        for at in np.flatnonzero(steps < _SET_BACK):
            correction = self._set_back(float(steps[at]))
            fixed[at:] += correction
            self._shift += correction
            self.jumps.append((float(time_s[at]), correction))
        self.backward += int(((steps < 0) & (steps >= _SET_BACK)).sum())
        self.repeated += max(0, int((steps == 0).sum()) - (1 if first else 0))
        return fixed

    def _set_back(self, step: float) -> float:
        """By how much a clock was set back: summer time and zones by half hours, anything else as seen."""
        usual = self._step or 0.0
        seen = usual - step
        whole = round(seen / _HALF_HOUR) * _HALF_HOUR
        # Rows without a reading before the change make the step look smaller than it was.
        return whole if whole > 0 and abs(seen - whole) <= max(5.0, 20 * usual) else seen


@dataclass(eq=False)
class TraceBuilder:
    """Collects the samples of one trace in chunks and bounded memory."""

    quantity: Quantity
    scope: Scope
    device: str
    zone: Zone = "local"
    timed: bool = True
    """False when times are only row numbers."""
    held: bool = False
    """True when each value is the mean since the sample before, not a reading at an instant."""
    _time: list[Floats] = field(default_factory=list)
    _value: list[Floats] = field(default_factory=list)
    _waiting: int = 0
    _knots: tuple[Floats, Floats, Floats, Floats] | None = None
    _samples: int = 0
    _thinned: bool = False
    _median: float | None = None
    _gaps: list[tuple[float, float]] = field(default_factory=list)
    _half: float = 0.0
    clock: ClockRepair = field(default_factory=ClockRepair)

    def add(self, time_s: Floats, value: Floats) -> None:
        """Samples in file order; values that are not finite must be gone."""
        if not len(time_s):
            return
        self._time.append(self.clock.repaired(time_s))
        self._value.append(value)
        self._waiting += len(time_s)
        if self._waiting >= MOST_KNOTS:
            self._settle()

    def _settle(self) -> None:
        """Turn what waits into knots."""
        import numpy as np

        time_s, value = np.concatenate(self._time), np.concatenate(self._value)
        self._time, self._value, self._waiting = [], [], 0
        if (np.diff(time_s) < 0).any():
            order = np.argsort(time_s, kind="stable")
            time_s, value = time_s[order], value[order]
        previous = self._knots
        if previous is not None and time_s[0] < previous[0][-1]:
            time_s = np.maximum(time_s, previous[0][-1])  # disorder across chunks: held at the border
        self._samples += len(time_s)
        base = 0.0
        if previous is not None:
            time_s = np.concatenate([previous[0][-1:], time_s])
            value = np.concatenate([previous[1][-1:], value])
            base = float(previous[2][-1])
        steps = np.diff(time_s)
        self._note_gaps(time_s, steps)
        heights = value[1:] if self.held else (value[1:] + value[:-1]) / 2
        integral = np.concatenate([[base], base + np.cumsum(heights * steps)])
        self._half += _every_second(time_s, value, held=self.held)
        new = (time_s, value, integral, value.copy())
        if previous is not None:
            new = tuple(np.concatenate([old, part[1:]]) for old, part in zip(previous, new, strict=True))  # type: ignore[assignment]
        while len(new[0]) > MOST_KNOTS:
            new = _thin(new)
            self._thinned = True
        self._knots = new

    def _note_gaps(self, time_s: Floats, steps: Floats) -> None:
        import numpy as np

        moving = steps[steps > 0]
        if self._median is None and len(moving):
            self._median = float(np.median(moving))
        if self._median is None:
            return
        for at in np.flatnonzero(steps > LONG_GAP * self._median)[: MOST_GAPS - len(self._gaps)]:
            self._gaps.append((float(time_s[at]), float(time_s[at + 1])))

    def finish(self) -> Trace | None:
        """The trace; None when no sample came."""
        if self._waiting:
            self._settle()
        if self._knots is None:
            return None
        time_s, value, integral, peak = self._knots
        return Trace(
            self.quantity, self.scope, self.device, time_s, value, integral, peak,
            samples=self._samples,
            interval_s=self._median if self.timed else None,
            gaps=tuple(self._gaps) if self.timed else (),
            zone=self.zone,
            exact=not self._thinned and not self.held,
            half_integral=self._half,
        )  # fmt: skip


@dataclass(eq=False)
class FlagBuilder:
    """Collects a throttle flag of one device: when it rose and how often it was set."""

    device: str
    zone: Zone = "local"
    _set: list[float] = field(default_factory=list)
    _edges: list[float] = field(default_factory=list)
    _last: bool = False
    _first: float | None = None
    _end: float = float("-inf")
    _samples: int = 0
    _clock: ClockRepair = field(default_factory=ClockRepair)

    def add(self, time_s: Floats, flag: NDArray[np.bool_]) -> None:
        """Samples in file order."""
        import numpy as np

        if not len(flag):
            return
        time_s = self._clock.repaired(time_s)
        before = np.concatenate([[self._last], flag[:-1]])
        self._edges += [float(t) for t in time_s[flag & ~before]]
        self._set += [float(t) for t in time_s[flag]]
        self._first = float(time_s.min()) if self._first is None else min(self._first, float(time_s.min()))
        self._last, self._end = bool(flag[-1]), max(self._end, float(time_s.max()))
        self._samples += len(flag)

    def finish(self) -> Trace | None:
        """The flag as a trace; None when no sample came."""
        import numpy as np

        if self._first is None:
            return None
        ends = np.array([self._first, self._end])
        nothing = np.zeros(2)
        return Trace(
            "throttle", "device", self.device, ends, nothing, nothing, nothing,
            samples=self._samples, interval_s=None, zone=self.zone,
            edges_s=tuple(self._edges), set_s=tuple(self._set),
        )  # fmt: skip


def _every_second(time_s: Floats, value: Floats, *, held: bool) -> float:
    """The integral from every second sample and the last one."""
    import numpy as np

    last = slice(len(time_s) - 1, None) if len(time_s) % 2 == 0 else slice(0, 0)
    time_s = np.concatenate([time_s[::2], time_s[last]])
    value = np.concatenate([value[::2], value[last]])
    heights = value[1:] if held else (value[1:] + value[:-1]) / 2
    return float((heights * np.diff(time_s)).sum())


def _thin(knots: tuple[Floats, Floats, Floats, Floats]) -> tuple[Floats, Floats, Floats, Floats]:
    """Every second knot, each with the larger peak of the two; the first and the last stay."""
    import numpy as np

    time_s, value, integral, peak = knots
    odd = len(time_s) % 2
    head = slice(1, len(time_s) - (1 - odd), 2)  # dropped knots; their peak moves to the next one
    kept = np.ones(len(time_s), dtype=bool)
    kept[head] = False
    largest = peak.copy()
    dropped = np.flatnonzero(~kept)
    largest[dropped + 1] = np.maximum(peak[dropped], peak[dropped + 1])
    return time_s[kept], value[kept], integral[kept], largest[kept]


def total_power(traces: list[Trace]) -> Trace:
    """The sum over devices as one trace; its peak is the largest sum at one time."""
    import numpy as np

    if len(traces) == 1:
        return traces[0]
    start = max(t.start for t in traces)
    end = min(t.end for t in traces)
    same = all(np.array_equal(t.time_s, traces[0].time_s) for t in traces[1:])
    if same or end <= start:
        times = traces[0].time_s
    else:
        joined = np.unique(np.concatenate([t.time_s for t in traces]))
        times = joined[(joined >= start) & (joined <= end)]
    value = sum((np.interp(times, t.time_s, t.value) for t in traces), np.zeros(len(times)))
    integral = sum((_integrals(t, times) for t in traces), np.zeros(len(times)))
    peak = sum((t.peak if same else np.interp(times, t.time_s, t.peak) for t in traces), np.zeros(len(times)))
    first = traces[0]
    halves = [t.half_integral for t in traces if t.half_integral is not None]
    return Trace(
        first.quantity, first.scope, f"{len(traces)} devices", times, value, integral - integral[0], peak,
        samples=len(times), interval_s=first.interval_s,
        gaps=max((t.gaps for t in traces), key=len), zone=first.zone,
        exact=all(t.exact for t in traces),
        half_integral=sum(halves) if len(halves) == len(traces) else None,
    )  # fmt: skip


def _integrals(trace: Trace, times: Floats) -> Floats:
    import numpy as np

    if len(times) == len(trace.time_s) and np.array_equal(times, trace.time_s):
        return trace.integral
    return np.array([trace.integral_at(float(t)) for t in times])
