"""Energy over time: each decode step, and whether power follows what is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.measure.energy.integrate import RESOLVABLE_PERIODS, Board, below_resolution
from engine.results.estimate import pearson

if TYPE_CHECKING:
    from engine.measure.energy.trace import Event, Trace


@dataclass(frozen=True)
class Correlation:
    """Power against computational intensity."""

    r: float | None
    """Pearson coefficient; None for too few windows or where one side does not vary."""
    n: int
    """Windows compared."""
    reason: str | None = None


def step_rows(trace: Trace, board: Board) -> list[dict[str, Any]]:
    """A row of `components` for each decode step, mean over repeats; their sum is the energy of decode.

    Steps tile their phase, and energy is one running total read at their ends: nothing is lost between them.
    """
    if not board.known:
        return []
    by_step: dict[int, list[Event]] = {}
    for event in trace.of("step"):
        if event.token_index is not None:
            by_step.setdefault(event.token_index, []).append(event)
    rows = []
    for step, events in sorted(by_step.items()):
        seconds = sum(event.seconds for event in events) / len(events)
        found = [board.window(e.begin_s, e.end_s, resolvable=False).energy_j for e in events]
        joules = [one for one in found if one is not None]
        short = seconds < RESOLVABLE_PERIODS * board.period_s
        told = below_resolution(seconds, board.period_s) if short else None
        rows.append(
            {
                "phase": "decode",
                "step": step,
                "component": "step",
                "parent": "decode",
                "method": "time_weighted" if short else "window",
                "count": 1,
                "time_s": seconds,
                "energy_j": sum(joules) / len(joules) if len(joules) == len(events) else None,
                "n": len(events),
                "valid": len(joules) == len(events),
                "reason": f"read between counter updates; {told}" if told else None,
            }
        )
    return rows


def correlation(trace: Trace, board: Board) -> Correlation:
    """Power of windows against their FLOPs per byte, over steps, phases and component windows.

    Neighbouring windows of one intensity are joined until the sensor can see them; shorter ones are left out.
    """
    events = [e for kind in ("phase", "step", "component") for e in trace.of(kind)
              if e.intensity is not None]  # fmt: skip
    watts: list[float] = []
    intensities: list[float] = []
    for begin, end, intensity in _joined(events, board.period_s):
        mean = board.window(begin, end).mean_w
        if mean is not None:
            watts.append(mean)
            intensities.append(intensity)
    r = pearson(intensities, watts)
    reason = None
    if r is None:
        reason = (
            f"{len(watts)} windows with known intensity are long enough" if len(watts) < 3 else "no spread"
        )
    return Correlation(r, len(watts), reason)


def _joined(events: Sequence[Event], period_s: float) -> list[tuple[float, float, float]]:
    found: list[tuple[float, float, float]] = []
    for kind in dict.fromkeys(event.kind for event in events):
        begin: float | None = None
        weighted = end = 0.0
        for event in sorted((e for e in events if e.kind == kind), key=lambda e: e.begin_s):
            if begin is None or event.begin_s - end > period_s:
                begin, weighted = event.begin_s, 0.0
            end = event.end_s
            weighted += (event.intensity or 0.0) * event.seconds
            if end - begin >= RESOLVABLE_PERIODS * period_s:
                found.append((begin, end, weighted / (end - begin)))
                begin = None
    return found
