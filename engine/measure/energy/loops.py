"""Repeat one component until a slow counter can see it, reading the counter between chunks of work.

The counter updates ten times a second, a component runs for microseconds. So a component is run without pause
for seconds, in chunks of a fifth of an update period, and energy is taken between two updates, where the
counter holds exactly what was drawn. Trials of all components are interleaved in random order, so that drift
of temperature and clock falls on all of them alike.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from engine.measure.energy.counters import edges
from engine.measure.energy.trace import LoopReads
from engine.results.estimate import estimate

if TYPE_CHECKING:
    from engine.measure.energy.source import Clock, Quick
    from engine.spec.energy import LoopSettings

_QUEUED: Final = 2
"""Chunks under way: the device never waits for the host."""
_SLOW_EVERY: Final = 5
"""Clocks, temperature and reasons change slowly and cost a call each."""
_FEWEST_CHUNKS: Final = 10
_FEWEST_TIMED: Final = 3
"""Chunks of a loop that only a clock watches; on a slow machine one turn may be longer than the window."""


class Work(Protocol):
    """A component that can be run many times."""

    component: str
    phase: str
    parent: str | None
    layer: int | None
    count: int
    """How often it runs in one step of the model."""
    visits: int
    """Runs of the component in one turn: one for each layer that the turn visits."""
    order: int
    share: dict[int, float]

    def launch(self, turns: int) -> Any:
        """Start so many turns; a token to wait for."""
        ...

    def wait(self, token: Any) -> None:
        """Return when they are done."""
        ...


@dataclass(frozen=True)
class LoopPlan:
    """The settings of a loop with everything decided."""

    window_s: float
    limit_s: float
    min_edges: int
    precision: float
    chunk_s: float
    warmup_s: float
    cooldown_s: float
    period_s: float
    metered: bool

    @property
    def trial_s(self) -> float:
        """What a trial takes, roughly."""
        return self.warmup_s + self.window_s + self.cooldown_s


def plan_loops(settings: LoopSettings, *, period_s: float, metered: bool) -> LoopPlan:
    """Defaults by what is measured: seconds where a sensor must see it, tenths where only a clock runs."""

    def either(value: float | None, with_energy: float, time_only: float) -> float:
        return value if value is not None else with_energy if metered else time_only

    window = either(settings.window, 5.0, 0.1)
    return LoopPlan(
        window_s=window,
        limit_s=max(settings.limit, window),
        min_edges=settings.min_edges,
        precision=settings.precision,
        chunk_s=min(settings.chunk, period_s / 5)
        if metered
        else min(settings.chunk, window / _FEWEST_CHUNKS),
        warmup_s=either(settings.warmup, 2.0, 0.02),
        cooldown_s=either(settings.cooldown, 5.0, 0.0),
        period_s=period_s,
        metered=metered,
    )


@dataclass
class _Reads:
    times: list[float] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)
    energy: list[float | None] = field(default_factory=list)
    power: list[float | None] = field(default_factory=list)
    clock: list[float | None] = field(default_factory=list)
    heat: list[float | None] = field(default_factory=list)
    mask: list[float | None] = field(default_factory=list)
    averaged: bool = False

    def add(self, moment: float, turns: int, found: Quick | None) -> None:
        self.times.append(moment)
        self.turns.append(turns)
        self.energy.append(found.energy_j if found else None)
        self.power.append(found.power_w if found else None)
        self.averaged = self.averaged or bool(found and found.averaged and found.power_w is not None)
        self.clock.append(found.clock_hz if found else None)
        self.heat.append(found.temperature_c if found else None)
        self.mask.append(None if found is None or found.throttle is None else float(found.throttle))


def run_trials(
    works: Sequence[Work],
    plan: LoopPlan,
    clock: Clock,
    *,
    trials: int,
    seed: int,
    read: Callable[[bool], Quick] | None = None,
    foreign: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda _: None,
) -> list[LoopReads]:
    """Every trial of every component, in shuffled order; `read(slow)` reads counter and power.

    Starts are spread evenly over one sensor period, from a random offset: a counter that looks only a part of
    the time then sees every part of the loop.
    """
    chance = random.Random(seed)  # noqa: S311 - a repeatable order, not a secret
    offsets = [chance.random() for _ in works]
    order = [(at, trial) for at in range(len(works)) for trial in range(trials)]
    chance.shuffle(order)
    found = []
    for number, (at, trial) in enumerate(order):
        stagger = (offsets[at] + trial / trials) % 1.0 * plan.period_s if plan.metered else 0.0
        found.append(
            run_loop(works[at], plan, clock, trial=trial, stagger_s=stagger, read=read, foreign=foreign)
        )
        if number % 20 == 19:
            say(f"{number + 1} of {len(order)} component trials done")
    return found


def run_loop(
    work: Work,
    plan: LoopPlan,
    clock: Clock,
    *,
    trial: int = 0,
    stagger_s: float = 0.0,
    read: Callable[[bool], Quick] | None = None,
    foreign: Callable[[], bool] = lambda: False,
) -> LoopReads:
    """One trial: rest, warm up, run chunk after chunk, and go on until the counter has moved once more."""
    clock.sleep(plan.cooldown_s)
    # The phase of the start against the sensor's updates, from a common grid of the clock.
    clock.sleep((stagger_s - clock.now()) % plan.period_s if plan.metered else 0.0)
    turns = _turns_of_a_chunk(work, plan, clock)
    reads = _Reads()
    queue: deque[Any] = deque(work.launch(turns) for _ in range(_QUEUED))
    done = 0
    ended = False
    begin = clock.now()
    while queue:
        work.wait(queue.popleft())
        done += turns
        slow = len(reads.times) % _SLOW_EVERY == 0
        reads.add(clock.now(), done, read(slow) if read is not None else None)
        # Once it may end it does: what is queued runs out, and nothing is started behind it.
        ended = ended or _enough(reads, plan, clock.now() - begin)
        if not ended:
            queue.append(work.launch(turns))
    return _as_loop(work, reads, trial=trial, foreign=foreign())


def _turns_of_a_chunk(work: Work, plan: LoopPlan, clock: Clock) -> int:
    """Warm up, and find how many turns fill a chunk."""
    begin = clock.now()
    turns, spent = 1, 0.0
    while True:
        start = clock.now()
        work.wait(work.launch(turns))
        spent = clock.now() - start
        if spent >= plan.chunk_s / 4 and clock.now() - begin >= plan.warmup_s:
            return max(1, round(turns * plan.chunk_s / spent))
        if spent < plan.chunk_s / 4:
            turns *= 2


def _enough(reads: _Reads, plan: LoopPlan, elapsed_s: float) -> bool:
    """Whether a loop may end: long enough, enough edges, narrow enough - and an edge just seen."""
    if elapsed_s >= plan.limit_s:
        return True
    if elapsed_s < plan.window_s or len(reads.times) < (_FEWEST_CHUNKS if plan.metered else _FEWEST_TIMED):
        return False
    if not plan.metered or reads.energy[-1] is None:
        return True
    if reads.energy[-1] == reads.energy[-2]:
        return False  # run on until the counter moves: what it has not shown yet is not lost
    import numpy as np

    # A single reading of 0 is a dropout, as `counters.checked` has it.
    values = np.array([e or np.nan for e in reads.energy], dtype=np.float64)
    at = edges(values).at
    if len(at) - 1 < plan.min_edges:
        return False
    steps = np.diff(values[at]) / np.diff(np.asarray(reads.turns)[at])
    within = estimate(steps[1:].tolist())
    half = within.half_width if within is not None else None
    return half is not None and within is not None and half <= plan.precision * abs(within.mean)


def _as_loop(work: Work, reads: _Reads, *, trial: int, foreign: bool) -> LoopReads:
    import numpy as np

    def column(values: Sequence[float | None]) -> Any:
        if all(value is None for value in values):
            return None
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    return LoopReads(
        component=work.component,
        phase=work.phase,
        trial=trial,
        times_s=np.array(reads.times),
        iterations=np.array(reads.turns, dtype=np.float64) * work.visits,
        energy_j=column(reads.energy),
        power_w=column(reads.power),
        averaged=reads.averaged,
        clock_hz=column(reads.clock),
        temperature_c=column(reads.heat),
        throttle=column(reads.mask),
        foreign=foreign,
        layer=work.layer,
        parent=work.parent,
        count=work.count,
        order=work.order,
        share=dict(work.share),
    )
