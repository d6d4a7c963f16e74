"""A pretend device with a known true power: sensors that update in steps, read at any times.

It stands in for hardware in tests and makes the recording that `specs/energy_smoke.yaml` replays. Whatever
it yields is labelled `simulated` and never passes for a measurement.
"""

from __future__ import annotations

import gzip
import random
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.measure.energy.trace import Event, LoopReads, Trace, channel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["PowerCourse", "Sensor", "SimulatedBoard", "smoke_trace"]


@dataclass(frozen=True)
class Sensor:
    """How a board looks at its own power; the defaults are those of GH100 (arXiv 2312.02741)."""

    period_s: float = 0.1
    """Time between two power values."""
    window_s: float = 0.025
    """Each is the mean over this long."""
    counter_period_s: float = 0.1
    """Time between two values of the energy counter."""
    phase_s: float = 0.0
    """Shift of all updates."""
    continuous: bool = True
    """The counter integrates all the time; else only what the power sensor sees."""


@dataclass
class PowerCourse:
    """True power over time, constant in pieces."""

    ends_s: list[float] = field(default_factory=list)
    watts: list[float] = field(default_factory=list)

    @property
    def now_s(self) -> float:
        """End of the last piece."""
        return self.ends_s[-1] if self.ends_s else 0.0

    def add(self, seconds: float, watts: float) -> tuple[float, float]:
        """Append a piece; its begin and end."""
        begin = self.now_s
        self.ends_s.append(begin + seconds)
        self.watts.append(watts)
        return begin, begin + seconds


class SimulatedBoard:
    """Readings of a course of power."""

    def __init__(self, course: PowerCourse, sensor: Sensor | None = None) -> None:
        self._course = course
        self._sensor = sensor or Sensor()

    @cached_property
    def _nodes(self) -> tuple[Floats, Floats]:
        import numpy as np

        # One more piece on either side: a sensor looks back, and somebody may ask beyond the end.
        times = np.concatenate(([-10.0, 0.0], self._course.ends_s, [self._course.now_s + 10.0]))
        watts = np.concatenate(([self._course.watts[0]], self._course.watts, [self._course.watts[-1]]))
        return times, np.concatenate(([0.0], np.cumsum(np.diff(times) * watts)))

    def true_energy_j(self, begin_s: Any, end_s: Any) -> Any:
        """Joules really drawn between moments."""
        import numpy as np

        times, joules = self._nodes
        return np.interp(end_s, times, joules) - np.interp(begin_s, times, joules)

    def _updated(self, times_s: Any, period_s: float) -> Any:
        import numpy as np

        # A hair more than the moment itself: an update that falls on a reading is seen by it.
        return np.floor((times_s - self._sensor.phase_s) / period_s + 1e-9) * period_s + self._sensor.phase_s

    def power_w(self, times_s: Any) -> Any:
        """What the power sensor says at moments."""
        at = self._updated(times_s, self._sensor.period_s)
        return self.true_energy_j(at - self._sensor.window_s, at) / self._sensor.window_s

    def counter_j(self, times_s: Any) -> Any:
        """What the energy counter says at moments, in whole millijoules."""
        import numpy as np

        at = self._updated(times_s, self._sensor.counter_period_s)
        if self._sensor.continuous:
            joules = self.true_energy_j(-10.0, at)
        else:
            period = self._sensor.period_s
            ticks = np.arange(self._sensor.phase_s - period, float(np.max(at)) + period, period)
            seen = self.true_energy_j(ticks - self._sensor.window_s, ticks) / self._sensor.window_s * period
            joules = np.cumsum(seen)[np.searchsorted(ticks, at + 1e-9) - 1]
        return np.floor(np.asarray(joules) * 1e3 + 0.5) / 1e3 + 1e3


_DECODE: Final = (
    # component, parent, runs in a step, seconds of one run, watts while it runs
    ("step", None, 1, 3.2e-3, 402.0),
    ("embedding", "step", 1, 6.0e-6, 210.0),
    ("attention", "step", 16, 7.3e-5, 368.0),
    ("q", "attention", 16, 1.3e-5, 432.0),
    ("k", "attention", 16, 6.1e-6, 391.0),
    ("v", "attention", 16, 6.1e-6, 391.0),
    ("rope", "attention", 16, 6.9e-6, 246.0),
    ("context", "attention", 16, 2.6e-5, 338.0),
    ("o", "attention", 16, 1.3e-5, 432.0),
    ("ffn", "step", 16, 9.9e-5, 441.0),
    ("gate", "ffn", 16, 3.1e-5, 449.0),
    ("up", "ffn", 16, 3.1e-5, 449.0),
    ("act", "ffn", 16, 4.4e-6, 236.0),
    ("down", "ffn", 16, 3.1e-5, 451.0),
    ("norm", "step", 33, 4.1e-6, 228.0),
    ("lm_head", "step", 1, 2.1e-4, 455.0),
)
_PREFILL: Final = (
    ("step", None, 1, 3.1e-2, 655.0),
    ("embedding", "step", 1, 5.0e-5, 240.0),
    ("attention", "step", 16, 6.1e-4, 610.0),
    ("ffn", "step", 16, 1.22e-3, 688.0),
    ("norm", "step", 33, 2.6e-5, 320.0),
    ("lm_head", "step", 1, 2.2e-4, 455.0),
)
"""Invented, in the proportions of a small model on a large board."""
_PARTS: Final = {"prefill": _PREFILL, "decode": _DECODE}
_LAYERS: Final = 16
_DECODE_RUNS: Final = 2
_CHUNK_S: Final = 0.05
_IDLE_W: Final = 72.0
_RESIDENT_W: Final = 96.0


def smoke_trace(*, seed: int = 7, trials: int = 5, window_s: float = 2.0) -> Trace:
    """A whole campaign on the pretend device: idle, load, three requests, and component loops."""
    import numpy as np

    chance = random.Random(seed)  # noqa: S311 - a repeatable trace, not a secret
    course = PowerCourse()
    events = [_idle(course, "cold before", _IDLE_W)]
    events.append(Event("phase", "load", *course.add(6.0, 118.0)))
    events.append(_idle(course, "resident before", _RESIDENT_W))
    for repeat in range(-1, 3):
        events += _request(course, chance, repeat)
    pending = _plan_loops(course, chance, trials, window_s)
    events.append(_idle(course, "resident after", _RESIDENT_W * 1.004))
    board = SimulatedBoard(course)
    loops = tuple(_read(board, *one) for one in pending)
    times = np.arange(0.0, course.now_s, 0.1) + 0.013
    clocks = np.where(board.power_w(times) > 150, 1.98e9, 3.45e8)
    readings = {
        "power_w": np.round(board.power_w(times), 2),
        "energy_j": board.counter_j(times),
        "temperature_c": np.round(_heat(board.power_w(times))),
        "utilization": np.where(board.power_w(times) > 150, 0.99, 0.0),
        "sm_clock_hz": clocks,
        "memory_used_bytes": np.where(times < events[1].begin_s, 0.6e9, 5.4e9),
    }
    return Trace(
        "simulated",
        (channel("GPU-simulated", times, readings, name="simulated H100-like board"),),
        tuple(events),
        loops,
        period_s=0.1,
        facts={"slowdown_temperature_c": 87.0, "seed": seed},
        notes=("power of this recording was made up by a program; it says nothing about any device",),
    )


def _idle(course: PowerCourse, variant: str, watts: float) -> Event:
    course.add(0.6, watts)
    return Event("idle", "idle", *course.add(4.0, watts), variant=variant)


def _request(course: PowerCourse, chance: random.Random, repeat: int) -> list[Event]:
    """One measured request; what is too short for a sensor is repeated within its window."""
    warm: dict[str, Any] = {"repeat": max(repeat, 0), "warmup": repeat < 0}
    spread = chance.gauss(1.0, 0.004)
    found = [
        Event("phase", "tokenize", *course.add(1.2, 101.0), iterations=1500, tokens=4096, **warm),
        Event("phase", "prefill", *course.add(2.0, 655.0 * spread), iterations=64, tokens=4096,
              intensity=410.0, **warm),
    ]  # fmt: skip
    begin = course.now_s
    for step in [*range(255)] * _DECODE_RUNS:
        window = course.add(3.074e-3 + 1.0e-6 * step, (392.0 + 0.08 * step) * spread)
        found.append(
            Event("step", "decode", *window, token_index=step, tokens=8, intensity=7.6 - 0.004 * step, **warm)
        )
    found.append(
        Event("phase", "decode", begin, course.now_s, iterations=_DECODE_RUNS, tokens=255 * 8, **warm)
    )
    found.append(
        Event("phase", "detokenize", *course.add(1.1, 99.0), iterations=2200, tokens=256 * 8, **warm)
    )
    course.add(0.5, _RESIDENT_W)
    return found


def _plan_loops(
    course: PowerCourse, chance: random.Random, trials: int, window_s: float
) -> list[tuple[Any, ...]]:
    """Trials of all components in shuffled order, each after a rest of random length."""
    order = [(phase, part, trial) for phase, parts in _PARTS.items() for part in parts
             for trial in range(trials)]  # fmt: skip
    chance.shuffle(order)
    found = []
    for phase, part, trial in order:
        course.add(0.3 + chance.uniform(0.0, 0.1), _RESIDENT_W)
        seconds = part[3] * _visits(part)
        begin, end = course.add(window_s + 0.4, part[4] * chance.gauss(1.0, 0.003))
        found.append((phase, part, trial, begin + 0.2, end, seconds))
    return found


def _visits(part: tuple[Any, ...]) -> int:
    """Runs of a component in one turn of its loop: every layer once."""
    return _LAYERS if part[2] == _LAYERS else 1


def _read(
    board: SimulatedBoard,
    phase: str,
    part: tuple[Any, ...],
    trial: int,
    begin: float,
    end: float,
    seconds: float,
) -> LoopReads:
    import numpy as np

    name, parent, count, _, _ = part
    turns = max(1, round(_CHUNK_S / seconds))
    times = np.arange(begin + turns * seconds, end, turns * seconds)
    visits = _visits(part)
    # Early layers take a little longer, as if their weights came from farther away.
    weights = {layer: 1.0 + 0.15 * 0.6**layer for layer in range(_LAYERS)} if visits > 1 else {}
    share = {layer: weight / sum(weights.values()) for layer, weight in weights.items()}
    return LoopReads(
        component=name, phase=phase, trial=trial, times_s=np.round(times, 6),
        iterations=np.arange(1, len(times) + 1, dtype=np.float64) * turns * visits,
        energy_j=board.counter_j(times), power_w=np.round(board.power_w(times), 2),
        parent=parent, count=count, share=share, order=_PARTS[phase].index(part),
    )  # fmt: skip


def _heat(watts: Floats, *, step_s: float = 0.1, slow_s: float = 25.0) -> Floats:
    """Die temperature that follows power with a lag: 30 C and a tenth of a degree a watt."""
    import numpy as np

    found = np.empty(len(watts))
    now = 30.0 + 0.09 * float(watts[0])
    for at, power in enumerate(watts.tolist()):
        now += (30.0 + 0.09 * power - now) * step_s / slow_s
        found[at] = now
    return found


def true_energies(phase: str = "decode") -> dict[str, float]:
    """Joules that one run of each component of the smoke trace really takes, but for its spread of 0.3 %."""
    return {part[0]: part[3] * part[4] for part in _PARTS[phase]}


def write_smoke_trace(path: Path) -> None:
    """Write the recording of `specs/energy_smoke.yaml`: `python -m engine.testing.power FILE`."""
    from engine.measure.energy.log import as_log, to_text

    # A fixed time in the header, so that the same recording is the same file.
    path.write_bytes(gzip.compress(to_text(as_log(smoke_trace())).encode(), 9, mtime=0))


if __name__ == "__main__":
    write_smoke_trace(Path(sys.argv[1]))
