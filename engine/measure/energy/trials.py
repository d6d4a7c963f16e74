"""From the reads of component loops to energy and time of one run, with intervals and validity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.measure.energy.counters import checked, edges
from engine.measure.energy.phases import GAIN, POWER_BITS, THERMAL_BITS
from engine.measure.energy.trace import AVERAGED_S
from engine.results.estimate import Estimate, difference, estimate

if TYPE_CHECKING:
    from engine.measure.energy.trace import Floats, LoopReads
    from engine.spec.energy import EnergyLimits

WANTED_TRIALS: Final = 5
"""Fewer valid trials give an interval that covers less often than it says."""


@dataclass(frozen=True)
class Trial:
    """One loop, evaluated."""

    time_s: float
    """Of one run of the component."""
    energy_j: float | None
    """Of one run; None without power readings."""
    method: str
    edges: int
    """Counter updates used."""
    window_s: float
    """Length of the span that was evaluated."""
    systematic_j: float | None
    clock_hz: float | None
    reason: str | None = None
    """Why the trial does not count; None for a valid one."""
    remark: str | None = None
    """What a reader must know of a valid one."""


@dataclass(frozen=True)
class Part:
    """A component, measured in trials."""

    component: str
    phase: str
    parent: str | None
    layer: int | None
    count: int
    time: Estimate
    energy: Estimate | None
    net: Estimate | None
    trials: int
    """Trials made; `time.n` of them are valid."""
    method: str = "loop"
    systematic_j: float | None = None
    window_s: float | None = None
    edges: int | None = None
    clock_hz: float | None = None
    valid: bool = True
    reason: str | None = None
    share: tuple[tuple[int, float], ...] = ()
    """(layer, share of the time of one run), where one run visits all layers."""


def aligned_energy(iterations: Floats, energy_j: Floats) -> tuple[float, int, int, int] | None:
    """(joules of one iteration, edges used, first and last position) between counter edges; None for too few.

    The first edge is thrown away: it mixes in what ran before. Between two edges the counter holds exactly
    what was drawn, whatever its phase against the loop.
    """
    found = edges(energy_j)
    if len(found.at) < 3:
        return None
    first, last = int(found.at[1]), int(found.at[-1])
    done = float(iterations[last] - iterations[first])
    if done <= 0:
        return None
    return float(energy_j[last] - energy_j[first]) / done, len(found.at) - 1, first, last


def evaluate(loop: LoopReads, *, period_s: float, limits: EnergyLimits) -> Trial:
    """One trial by the best reading it has, and whether it counts."""
    import numpy as np

    times, done = loop.times_s, loop.iterations
    drawn = _drawn(loop, period_s)
    first, last = drawn.first, drawn.last
    window_s = float(times[last] - times[first])
    runs = float(done[last] - done[first])
    reasons = [drawn.reason] if drawn.reason else []
    reasons += _invalid(loop, slice(first, last + 1), limits)
    if drawn.energy_j is not None and drawn.method == "counter":
        watts = _mean_power(loop, first, last, period_s)
        metered = drawn.energy_j * runs / window_s
        if watts is not None and abs(metered - watts) > limits.disagreement * max(watts, metered):
            reasons.append(f"counter {metered:.1f} W and power {watts:.1f} W disagree")
    systematic = None
    if drawn.energy_j is not None:
        systematic = GAIN * abs(drawn.energy_j) + drawn.edge_j / runs
    clock = None if loop.clock_hz is None else float(np.nanmean(loop.clock_hz))
    return Trial(
        time_s=window_s / runs,
        energy_j=drawn.energy_j,
        method=drawn.method,
        edges=drawn.edges,
        window_s=window_s,
        systematic_j=systematic,
        clock_hz=clock,
        reason="; ".join(dict.fromkeys(reasons)) or None,
        remark=_capped(loop),
    )


@dataclass(frozen=True)
class _Drawn:
    energy_j: float | None
    method: str
    edges: int
    first: int
    last: int
    edge_j: float
    reason: str | None = None


def _drawn(loop: LoopReads, period_s: float) -> _Drawn:
    """Energy of one iteration and the span it was taken from."""
    import numpy as np

    end = len(loop.times_s) - 1
    reason = None
    if loop.energy_j is not None and not np.isnan(loop.energy_j).all():
        check = checked(loop.energy_j, loop.times_s, period_s=period_s)
        if check.energy_j is not None:
            found = aligned_energy(loop.iterations, check.energy_j)
            if found is not None:
                energy, count, first, last = found
                runs = float(loop.iterations[last] - loop.iterations[first])
                watts = energy * runs / float(loop.times_s[last] - loop.times_s[first])
                # Both ends are known to one chunk of work.
                chunk = float(np.median(np.diff(loop.times_s)))
                return _Drawn(energy, "counter", count, first, last, watts * chunk)
            reason = "fewer than three counter updates in the loop"
        else:
            reason = check.reason
        if loop.power_w is None:
            return _Drawn(None, "", 0, 0, end, 0.0, reason)
    if loop.power_w is not None and not np.isnan(loop.power_w).all():
        # The first sensor period, or the whole span of a mean, may still show what ran before.
        late = max(2 * period_s, AVERAGED_S) if loop.averaged else 2 * period_s
        first = int(np.searchsorted(loop.times_s, loop.times_s[0] + late))
        if first >= end:
            told = f"the loop ended before the sensor showed it, {late:.3g} s after its start"
            return _Drawn(None, "", 0, 0, end, 0.0, told)
        watts = _held_mean(loop.times_s[first:], loop.power_w[first:])
        runs = float(loop.iterations[end] - loop.iterations[first])
        seconds = float(loop.times_s[end] - loop.times_s[first])
        backwards = reason if reason and "backwards" in reason else None
        kind = "average power" if loop.averaged else "instant power"
        return _Drawn(watts * seconds / runs, kind, 0, first, end, watts * late / 2, backwards)
    return _Drawn(None, "", 0, 0, end, 0.0, reason)


def _held_mean(times: Floats, watts: Floats) -> float:
    import numpy as np

    known = ~np.isnan(watts)
    times, watts = times[known], watts[known]
    if len(times) < 2:
        return float(watts[0])
    return float(np.sum(watts[:-1] * np.diff(times)) / (times[-1] - times[0]))


def _mean_power(loop: LoopReads, first: int, last: int, period_s: float) -> float | None:
    import numpy as np

    if loop.power_w is None or np.isnan(loop.power_w).all():
        return None
    late = int(np.searchsorted(loop.times_s, loop.times_s[first] + period_s))
    if late >= last:
        return None
    return _held_mean(loop.times_s[late : last + 1], loop.power_w[late : last + 1])


def _invalid(loop: LoopReads, span: slice, limits: EnergyLimits) -> list[str]:
    import numpy as np

    reasons = []
    if loop.foreign:
        reasons.append("another process used the device")
    seen = _seen(loop, span)
    if seen & THERMAL_BITS:
        reasons.append("thermal throttling")
    spread = _clock_spread(loop, span)
    # Under a power cap the clock is what gives way: that is how the device runs this work, and is recorded.
    if spread is not None and spread > limits.clock_spread and not seen & POWER_BITS:
        reasons.append(f"clock spread {spread:.1%}")
    if loop.temperature_c is not None and not np.isnan(loop.temperature_c[span]).all():
        rise = float(np.nanmax(loop.temperature_c[span]) - np.nanmin(loop.temperature_c[span]))
        if rise > limits.temperature_rise:
            reasons.append(f"temperature rose by {rise:.1f} C")
    return reasons


def _seen(loop: LoopReads, span: slice) -> int:
    """Every event reason that was seen in a span, as bits."""
    import numpy as np

    if loop.throttle is None:
        return 0
    return int(np.bitwise_or.reduce(np.nan_to_num(loop.throttle[span]).astype(np.int64)))


def _clock_spread(loop: LoopReads, span: slice) -> float | None:
    """Range of the clock over its mean; None where it was not read."""
    import numpy as np

    if loop.clock_hz is None or np.isnan(loop.clock_hz[span]).all():
        return None
    clocks = loop.clock_hz[span]
    return float((np.nanmax(clocks) - np.nanmin(clocks)) / np.nanmean(clocks))


def _capped(loop: LoopReads) -> str | None:
    import numpy as np

    if loop.throttle is None:
        return None
    read = loop.throttle[~np.isnan(loop.throttle)]  # reasons are read with every fifth chunk only
    capped = (read.astype(np.int64) & POWER_BITS) != 0
    if not capped.any():
        return None
    spread = _clock_spread(loop, slice(None))
    moved = f", clock moved by {spread:.1%}" if spread else ""
    return f"power cap active in {float(capped.mean()):.0%} of the readings{moved}"


def parts_of(
    loops: Sequence[LoopReads], *, period_s: float, limits: EnergyLimits, idle: Estimate | None
) -> list[Part]:
    """Each component with its estimates, in the order of the model."""
    # A part of one name may be in two places: `down` of a feed-forward and of a shared expert.
    groups: dict[tuple[str, str | None, str, int | None], list[LoopReads]] = {}
    for loop in sorted(loops, key=lambda one: (one.phase != "prefill", one.order)):
        groups.setdefault((loop.phase, loop.parent, loop.component, loop.layer), []).append(loop)
    return [_part(group, period_s=period_s, limits=limits, idle=idle) for group in groups.values()]


def _part(
    group: Sequence[LoopReads], *, period_s: float, limits: EnergyLimits, idle: Estimate | None
) -> Part:
    trials = [evaluate(loop, period_s=period_s, limits=limits) for loop in group]
    good = [trial for trial in trials if trial.reason is None]
    used = good or trials
    time = _known(estimate([trial.time_s for trial in used]))
    energies = [trial.energy_j for trial in used if trial.energy_j is not None]
    energy = estimate(energies)
    first = group[0]
    reasons = list(dict.fromkeys(trial.reason for trial in trials if trial.reason))
    remarks = list(dict.fromkeys(trial.remark for trial in good if trial.remark))
    if good and reasons:
        remarks.append(f"{len(trials) - len(good)} of {len(trials)} trials left out: {', '.join(reasons)}")
    if len(good) < WANTED_TRIALS:
        remarks.append(f"interval from {len(good)} trials")
    if energy is not None and used[0].method != "counter":
        remarks.append(f"energy from {used[0].method}")
    clocks = [trial.clock_hz for trial in used if trial.clock_hz is not None]
    terms = [trial.systematic_j for trial in used if trial.systematic_j is not None]
    return Part(
        component=first.component,
        phase=first.phase,
        parent=first.parent,
        layer=first.layer,
        count=first.count,
        time=time,
        energy=energy,
        net=None if energy is None or idle is None else difference(energy, idle.scaled(time.mean)),
        trials=len(trials),
        systematic_j=max(terms, default=None),
        window_s=sum(trial.window_s for trial in used) / len(used),
        edges=sorted(trial.edges for trial in used)[len(used) // 2] or None,
        clock_hz=sum(clocks) / len(clocks) if clocks else None,
        valid=bool(good),
        reason="; ".join(remarks if good else reasons) or None,
        share=tuple(sorted(first.share.items())),
    )


def _known(found: Estimate | None) -> Estimate:
    return found or Estimate(0.0, None, None, 0)


def part_row(part: Part) -> dict[str, Any]:
    """The row of `components` for a part."""
    energy, net = part.energy, part.net
    return {
        "phase": part.phase,
        "layer": part.layer,
        "component": part.component,
        "parent": part.parent,
        "method": part.method,
        "count": part.count,
        "time_s": part.time.mean,
        "time_low_s": part.time.low,
        "time_high_s": part.time.high,
        "energy_j": energy.mean if energy else None,
        "energy_low_j": energy.low if energy else None,
        "energy_high_j": energy.high if energy else None,
        "net_energy_j": net.mean if net else None,
        "net_energy_low_j": net.low if net else None,
        "net_energy_high_j": net.high if net else None,
        "systematic_j": part.systematic_j,
        "window_s": part.window_s,
        "edges": part.edges,
        "clock_hz": part.clock_hz,
        "n": part.time.n if part.valid else 0,
        "valid": part.valid,
        "reason": part.reason,
    }
