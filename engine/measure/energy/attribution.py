"""Energy of layers and components in one recorded run: by their own windows where a sensor can see them, by
their share of time where it cannot. The second is a fallback and says so in every row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from engine.measure.energy.additivity import REMAINDER
from engine.measure.energy.integrate import RESOLVABLE_PERIODS, Board, below_resolution
from engine.measure.energy.phases import window_of

if TYPE_CHECKING:
    from engine.measure.energy.trace import Event, Trace

Granularity = Literal["phase", "layer", "component"]
_LEVELS: Final[dict[Granularity, tuple[str, ...]]] = {
    "phase": (),
    "layer": ("layer",),
    "component": ("layer", "component"),
}


def window_rows(trace: Trace, board: Board, granularity: Granularity) -> list[dict[str, Any]]:
    """Rows of `components` from windows within phases, per iteration of the phase, remainders included.

    At every level the leaves add up to the phase: what no window covers is `unattributed`.
    """
    rows: list[dict[str, Any]] = []
    for phase in dict.fromkeys(event.phase for event in trace.of("phase")):
        every = [event for event in trace.of("phase") if event.phase == phase]
        inner = [e for kind in _LEVELS[granularity] for e in trace.of(kind) if _within(e, every)]  # type: ignore[arg-type]
        if not inner and granularity != "phase":
            continue
        outer = [o for o in every if any(_within(e, [o]) for e in inner)] or every
        plain = [event for event in every if event not in outer]
        rows += _phase(phase, outer, inner, board, every=plain)
    return rows + _alone(trace, board, granularity)


def _alone(trace: Trace, board: Board, granularity: Granularity) -> list[dict[str, Any]]:
    """Windows that lie in no phase: a log may mark components and nothing else."""
    phases = trace.of("phase")
    groups: dict[tuple[str, str, int | None], list[Event]] = {}
    for event in (e for kind in _LEVELS[granularity] for e in trace.of(kind)):  # type: ignore[arg-type]
        if not _within(event, phases):
            groups.setdefault((event.phase, event.component or "layer", event.layer), []).append(event)
    rows = []
    for (phase, name, layer), group in groups.items():
        found = [window_of(event, board) for event in group]
        joules = [window.energy_j for window in found if window.energy_j is not None]
        energy = sum(joules) / len(group) if len(joules) == len(group) else None
        reason = next((window.reason for window in found if window.reason), None)
        seconds = sum(event.seconds for event in group) / len(group)
        rows.append(_row(phase, name, layer, None, "window", seconds, energy, len(group), reason))
    return rows


def _within(event: Event, outer: Sequence[Event]) -> bool:
    around = (o for o in outer if o.phase == event.phase)
    return any(o.begin_s <= event.begin_s and event.end_s <= o.end_s for o in around)


def _phase(
    phase: str, outer: Sequence[Event], inner: Sequence[Event], board: Board, *, every: Sequence[Event]
) -> list[dict[str, Any]]:
    runs = sum(event.iterations for event in outer)
    energy, reason = _of_phase(outer, every, board)
    seconds = sum(event.seconds for event in outer) / runs
    rows = [_row(phase, phase, None, None, "whole", seconds, energy, runs, reason)]
    layers = [event for event in inner if event.kind == "layer"]
    components = [event for event in inner if event.kind == "component"]
    # Without windows of layers every component is part of the phase; with them only the model's ends are.
    direct = [*layers, *(e for e in components if not layers or e.layer is None)]
    if direct:
        rows += _children(rows[0], direct, board, runs, parent=phase)
    for row in [row for row in rows if row["component"] == "layer"]:
        own = [event for event in components if event.layer == row["layer"]]
        if own:
            rows += _children(row, own, board, runs, parent="layer")
    return rows


def _of_phase(
    outer: Sequence[Event], every: Sequence[Event], board: Board
) -> tuple[float | None, str | None]:
    """Joules of one run: of these windows, else of the same phase run without looking into it."""
    for windows, told in ((outer, None), (every, "energy of the runs without hooks")):
        found = [window_of(event, board) for event in windows]
        if found and all(window.energy_j is not None for window in found):
            runs = sum(event.iterations for event in windows)
            return sum(window.energy_j or 0.0 for window in found) / runs * _part(outer, windows), told
    return None, next((w.reason for w in (window_of(e, board) for e in outer) if w.reason), None)


def _part(outer: Sequence[Event], windows: Sequence[Event]) -> float:
    """How much of a run of `windows` a run of `outer` is, by tokens: one decode step of many, for one."""
    looked, plain = outer[0].tokens, windows[0].tokens
    return looked / plain if looked and plain else 1.0


def _children(
    above: dict[str, Any], events: Sequence[Event], board: Board, runs: int, *, parent: str
) -> list[dict[str, Any]]:
    """One row for each component and layer, and the remainder."""
    groups: dict[tuple[int | None, str], list[Event]] = {}
    for event in events:
        groups.setdefault((event.layer, event.component or "layer"), []).append(event)
    rows = []
    for (layer, name), group in groups.items():
        seconds = sum(event.seconds for event in group) / runs
        energy, method, reason = _energy(above, group, seconds, board, runs)
        rows.append(_row(above["phase"], name, layer, parent, method, seconds, energy, len(group), reason))
    left_s = above["time_s"] - sum(row["time_s"] for row in rows)
    left_j = None
    if above["energy_j"] is not None and all(row["energy_j"] is not None for row in rows):
        left_j = above["energy_j"] - sum(row["energy_j"] for row in rows)
    name = REMAINDER if above["parent"] is None else f"{REMAINDER} {parent}"
    rows.append(_row(above["phase"], name, above["layer"], parent, "remainder", left_s, left_j, runs, None))
    return rows


def _energy(
    above: dict[str, Any], group: Sequence[Event], seconds: float, board: Board, runs: int
) -> tuple[float | None, str, str | None]:
    shortest = min(event.seconds for event in group)
    if all(event.energy_j is not None for event in group):
        return sum(event.energy_j or 0.0 for event in group) / runs, "window", None
    if shortest >= RESOLVABLE_PERIODS * board.period_s and board.known:
        found = [board.window(event.begin_s, event.end_s).energy_j for event in group]
        if all(joules is not None for joules in found):
            return sum(joules for joules in found if joules is not None) / runs, "window", None
    told = below_resolution(shortest, board.period_s)
    if above["energy_j"] is None or above["time_s"] <= 0:
        return None, "time_weighted", told
    share = seconds / above["time_s"]
    return above["energy_j"] * share, "time_weighted", f"time share x mean power; {told}"


def _row(
    phase: str,
    component: str,
    layer: int | None,
    parent: str | None,
    method: str,
    seconds: float,
    energy: float | None,
    n: int,
    reason: str | None,
) -> dict[str, Any]:
    return {
        "phase": phase,
        "layer": layer,
        "component": component,
        "parent": parent,
        "method": method,
        "count": 1,
        "time_s": seconds,
        "energy_j": energy,
        "n": n,
        "valid": energy is not None,
        "reason": reason,
    }


def spread_over_layers(row: dict[str, Any], shares: Sequence[tuple[int, float]]) -> list[dict[str, Any]]:
    """A loop over all layers as one row a layer: its own energy, shared by time."""
    energy, seconds = row["energy_j"], row["time_s"]
    return [
        row
        | {
            "layer": layer,
            "method": "time_weighted",
            "time_s": seconds * share,
            "energy_j": None if energy is None else energy * share,
            "reason": "energy of its own loop over all layers, shared by time",
            **{name: None for name in row if name.endswith(("_low_s", "_high_s", "_low_j", "_high_j"))},
            "net_energy_j": None if row["net_energy_j"] is None else row["net_energy_j"] * share,
        }
        for layer, share in shares
    ]
