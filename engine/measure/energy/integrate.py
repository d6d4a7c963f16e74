"""Energy between two moments of a recording by the best reading there is, with what it may be off by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

from engine.measure.energy.counters import checked, edges
from engine.measure.energy.trace import ASSUMED_PERIOD_S, AVERAGED_S

if TYPE_CHECKING:
    from engine.measure.energy.trace import Channel, Floats

Method = Literal["counter", "instant power", "average power", "logged power", "stated"]
GAP_FACTOR: Final = 3.0
"""A gap is longer than this many median intervals."""
DISAGREEMENT: Final = 0.05
"""Difference between counter and integrated power of a window that is worth a word."""
RESOLVABLE_PERIODS: Final = 10
"""A single window shorter than this many sensor periods gets no energy of its own."""


@dataclass(frozen=True)
class Sampling:
    """How regularly a channel was read."""

    n: int
    median_s: float | None
    p95_s: float | None
    max_gap_s: float | None
    gaps: tuple[tuple[float, float], ...]
    """(begin, end) of intervals longer than three medians."""
    repeats: int
    """Readings that only repeat the one before: the sensor had nothing new."""


@dataclass(frozen=True)
class WindowEnergy:
    """Energy of a window over all devices."""

    energy_j: float | None
    """None with a reason."""
    seconds: float
    method: str
    edge_j: float
    """What the ends of the window may be off by: one sensor period at the power there."""
    peak_w: float | None
    """Largest sum over devices at one time."""
    gap_share: float
    """Share of the energy that lies in sampling gaps."""
    reason: str | None = None

    @property
    def mean_w(self) -> float | None:
        """Energy over time; None where either is missing."""
        return None if self.energy_j is None or self.seconds <= 0 else self.energy_j / self.seconds


class Meter:
    """The energy drawn since the first reading of one device, at any moment."""

    def __init__(self, source: Channel, *, period_s: float, held: bool, counter: bool = True) -> None:
        self._source = source
        self._period_s = period_s
        self._held = held
        self.notes: list[str] = []
        self.method: Method | None = None
        self.read_at: Floats = source.times_s
        """When what is used here was read."""
        self._times, self._watts, self._joules = self._choose(source.get("energy_j") if counter else None)

    def _choose(self, counter: Floats | None) -> tuple[Floats, Floats, Floats]:
        """The best of counter, instant power and averaged power."""
        import numpy as np

        source = self._source
        power = source.get("power_w")
        if counter is not None:
            found = checked(counter, source.times_s, period_s=self._period_s)
            if found.energy_j is not None and len(at := edges(found.energy_j).at) >= 2:
                self.method = "counter"
                self.read_at = source.times_s[~np.isnan(counter)]
                times, joules = source.times_s[at], found.energy_j[at]
                watts = np.append(np.diff(joules) / np.diff(times), np.nan)
                watts[-1] = watts[-2] if len(watts) > 1 else 0.0
                return times, watts, joules - joules[0]
            if found.reason:
                self.notes.append(found.reason)
        if power is None:
            power = source.get("average_power_w")
            self.method = "average power"
        else:
            self.method = "instant power" if self._held else "logged power"
        if power is None:
            self.method = None
            empty = np.empty(0)
            return empty, empty, empty
        known = ~np.isnan(power)
        times, watts = source.times_s[known], power[known]
        self.read_at = times
        steps = np.diff(times)
        mean = watts[:-1] if self._held else (watts[:-1] + watts[1:]) / 2
        return times, watts, np.concatenate(([0.0], np.cumsum(mean * steps)))

    @cached_property
    def gaps(self) -> tuple[tuple[float, float], ...]:
        """Where it was not read for long."""
        return sampling(self.read_at).gaps

    @property
    def known(self) -> bool:
        """Whether there is anything to integrate."""
        return len(self._times) > 0

    @property
    def single(self) -> bool:
        """Whether there is one reading only: its power is all that is known."""
        return len(self._times) == 1

    @property
    def span(self) -> tuple[float, float]:
        """First and last moment with a reading."""
        return float(self._times[0]), float(self._times[-1])

    def until(self, moment_s: float) -> float:
        """Joules from the first reading to a moment; beyond the ends the nearest power goes on."""
        import numpy as np

        times, watts, joules = self._times, self._watts, self._joules
        at = int(np.searchsorted(times, moment_s, side="right")) - 1
        if at < 0:
            return float((moment_s - times[0]) * watts[0])
        ahead = moment_s - times[at]
        if self._held or self.method == "counter" or at == len(times) - 1:
            return float(joules[at] + watts[at] * ahead)
        slope = (watts[at + 1] - watts[at]) / (times[at + 1] - times[at])
        return float(joules[at] + (watts[at] + slope * ahead / 2) * ahead)

    def between(self, begin_s: float, end_s: float) -> float:
        """Joules of a window."""
        return self.until(end_s) - self.until(begin_s)

    def power_near(self, moment_s: float) -> float:
        """Watts at a moment."""
        import numpy as np

        at = int(np.clip(np.searchsorted(self._times, moment_s, side="right") - 1, 0, len(self._times) - 1))
        return float(self._watts[at])


class Board:
    """All devices of a recording, metered together: windows over sums of devices."""

    def __init__(self, channels: Sequence[Channel], *, period_s: float | None, held: bool = True) -> None:
        self.channels = tuple(channels)
        self.period_s = period_s or ASSUMED_PERIOD_S
        self.meters = [Meter(c, period_s=self.period_s, held=held) for c in channels]
        self._seconds = [
            Meter(c, period_s=self.period_s, held=held, counter=False)
            for c, meter in zip(channels, self.meters, strict=True)
            if meter.method == "counter" and c.get("power_w") is not None
        ]
        if any(meter.method == "average power" for meter in self.meters):
            # A mean over a second is late by half of it: what can be told apart is as coarse.
            self.period_s = max(self.period_s, AVERAGED_S)
        notes = [note for meter in self.meters for note in meter.notes]
        lost = sum(c.left_out for c in channels)
        notes += [f"{lost} readings were negative or infinite and were left out"] if lost else []
        self.notes = tuple(dict.fromkeys(notes))

    @property
    def known(self) -> bool:
        """Whether every device has power or energy readings."""
        return bool(self.meters) and all(meter.known for meter in self.meters)

    def window(self, begin_s: float, end_s: float, *, resolvable: bool = True) -> WindowEnergy:
        """Energy of a window; with `resolvable`, none for one too short for the sensor."""
        seconds = end_s - begin_s
        if not self.known:
            return WindowEnergy(None, seconds, "", 0.0, None, 0.0, "no power was read")
        method = ", ".join(dict.fromkeys(str(meter.method) for meter in self.meters))
        if any(meter.single for meter in self.meters):
            held = sum(meter.between(begin_s, end_s) for meter in self.meters)
            told = "a single reading held over the window"
            return WindowEnergy(held, seconds, method, abs(held), self.peak(begin_s, end_s), 0.0, told)
        edge_j = sum(abs(m.power_near(end_s)) for m in self.meters) * self.period_s
        peak = self.peak(begin_s, end_s)
        reason = self._outside(begin_s, end_s)
        if reason is None and resolvable and seconds < RESOLVABLE_PERIODS * self.period_s:
            reason = below_resolution(seconds, self.period_s)
        if reason is not None:
            return WindowEnergy(None, seconds, method, edge_j, peak, 0.0, reason)
        energy = sum(meter.between(begin_s, end_s) for meter in self.meters)
        share = self._gap_share(begin_s, end_s, energy)
        doubt = self._disputed(begin_s, end_s, energy)
        return WindowEnergy(energy, seconds, method, edge_j, peak, share, doubt)

    def _disputed(self, begin_s: float, end_s: float, energy_j: float) -> str | None:
        """What to say where counter and power were both read and do not agree."""
        if not self._seconds or len(self._seconds) < len(self.meters):
            return None
        if end_s - begin_s < RESOLVABLE_PERIODS * self.period_s:
            return None
        other = sum(meter.between(begin_s, end_s) for meter in self._seconds)
        # A power is shown up to one period after it was drawn and read up to one interval later: what ran
        # before either end reaches that far over it.
        late_s = self.period_s + self._interval
        ends = sum(meter.power_near(at) for meter in self._seconds for at in (begin_s, end_s)) * late_s
        if abs(other - energy_j) <= DISAGREEMENT * max(energy_j, other) + ends:
            return None
        return f"counter {energy_j:.4g} J and integrated power {other:.4g} J disagree"

    def _outside(self, begin_s: float, end_s: float) -> str | None:
        first = max(meter.span[0] for meter in self.meters)
        last = min(meter.span[1] for meter in self.meters)
        beyond = max(first - begin_s, end_s - last, 0.0)
        # The nearest power is held over one more period; beyond that nobody knows.
        if beyond > 2 * max(self.period_s, self._interval):
            return f"the window reaches {beyond:.2f} s beyond the recording"
        return None

    @cached_property
    def _interval(self) -> float:
        return max((sampling(m.read_at).median_s or 0.0 for m in self.meters), default=0.0)

    def peak(self, begin_s: float, end_s: float) -> float | None:
        """Largest sum over devices at one reading within a window."""
        import numpy as np

        moments = np.unique(np.concatenate([m._times for m in self.meters]))
        inside = moments[(moments >= begin_s) & (moments <= end_s)]
        if not len(inside):
            return None
        total = np.zeros(len(inside))
        for meter in self.meters:
            readings = _readings(meter)
            if readings is None:
                return None
            times, watts = readings
            at = np.clip(np.searchsorted(times, inside, side="right") - 1, 0, len(times) - 1)
            total += watts[at]
        return float(total.max())

    def _gap_share(self, begin_s: float, end_s: float, energy_j: float) -> float:
        lost = 0.0
        for meter in self.meters:
            for low, high in meter.gaps:
                low, high = max(low, begin_s), min(high, end_s)
                if high > low:
                    lost += meter.between(low, high)
        return lost / energy_j if energy_j else 0.0


def _readings(meter: Meter) -> tuple[Floats, Floats] | None:
    """Power as it was read, for peaks: a counter's slope is a mean and hides them."""
    import numpy as np

    source = meter._source
    power = source.get("power_w")
    power = source.get("average_power_w") if power is None else power
    if power is None:
        return (meter._times, meter._watts) if meter.known else None
    known = ~np.isnan(power)
    return source.times_s[known], power[known]


def sampling(times_s: Floats, values: Floats | None = None) -> Sampling:
    """Achieved intervals and gaps of a channel."""
    import numpy as np

    times_s = np.unique(times_s)  # a row that was written twice is one reading
    steps = np.diff(times_s)
    if not len(steps):
        return Sampling(len(times_s), None, None, None, (), 0)
    median = float(np.median(steps))
    wide = np.flatnonzero(steps > GAP_FACTOR * median)
    repeats = 0 if values is None else int((np.diff(values) == 0).sum())
    return Sampling(
        len(times_s),
        median,
        float(np.quantile(steps, 0.95)),
        float(steps.max()),
        tuple((float(times_s[i]), float(times_s[i + 1])) for i in wide),
        repeats,
    )


def below_resolution(seconds: float, period_s: float) -> str:
    """Why a window has no energy of its own."""
    return (
        f"below resolution: {seconds:.3g} s is shorter than {RESOLVABLE_PERIODS} sensor periods of "
        f"{period_s:.3g} s; only many repeats of it can be metered"
    )
