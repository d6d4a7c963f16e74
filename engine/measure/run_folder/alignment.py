"""When inference ran on the clock of the power log: stated, found by a step in power, or unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from engine.measure.run_folder.clock import parse_time
from engine.measure.run_folder.record import Note
from engine.measure.run_folder.trace import Trace, Zone
from engine.spec.run_folder import RunFolderSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Kind = Literal["stated", "clock", "step", "whole"]

# A backward power step: the mean of ten samples after it is more than 2.3 times the mean of ten before,
# and more than 3 W higher. The rule of the document's own tool; everything found so is labelled heuristic.
STEP_SAMPLES: Final = 10
STEP_RATIO: Final = 2.3
STEP_RISE_W: Final = 3.0
_FEWEST: Final = 3
_HALF_HOUR: Final = 1800.0
_LARGEST_TIME: Final = 1e11
"""Seconds; dates end long before it."""
_LARGEST_ZONE: Final = 14 * 3600.0


@dataclass(frozen=True)
class Window:
    """A span of time and how it was found."""

    start: float
    end: float
    kind: Kind
    text: str
    """How it was found, for the report."""
    edge_s: float = 0.0
    """How far each end may be off."""

    @property
    def span(self) -> tuple[float, float]:
        """Start and end."""
        return self.start, self.end

    @property
    def seconds(self) -> float:
        """Length."""
        return self.end - self.start


@dataclass(frozen=True)
class Alignment:
    """The window of a result, or why there is none."""

    window: Window | None
    notes: tuple[Note, ...] = ()


def align(
    trace: Trace,
    settings: RunFolderSettings,
    *,
    run: str,
    stated: tuple[float, float] | None = None,
    zone: Zone = "local",
    expected_s: float | None = None,
) -> Alignment:
    """The inference window on the clock of `trace`; `stated` comes from the inference log."""
    if run in settings.windows:
        return _given(trace, settings, run)
    if stated is not None and _sensible(stated) and settings.alignment in ("auto", "clock"):
        return _by_clock(trace, settings, stated, zone)
    if settings.alignment == "clock":
        return Alignment(
            None, (Note("no-clock", "the inference log carries no times, and `alignment` is `clock`"),)
        )
    if settings.alignment in ("auto", "step") and trace.quantity == "power":
        found = find_step(trace)
        if found is not None:
            return _stepped(trace, found, expected_s)
        if settings.alignment == "step":
            return Alignment(None, (Note("no-step", "no step in power marks the start of inference"),))
    text = "the whole log: no times in the inference log and no step in power"
    if settings.alignment == "whole":
        text = "the whole log, as the settings ask"
    notes = [Note("whole-log", text, "note" if settings.alignment == "whole" else "warning")]
    length = trace.end - trace.start
    if expected_s and trace.interval_s and length > expected_s + 2 * trace.interval_s:
        says = f"the power log lasts {length:.4g} s, the run {expected_s:.4g} s"
        notes.append(Note("idle-included", f"{says}: energy per token is too high by idle time"))
    return Alignment(Window(trace.start, trace.end, "whole", text), tuple(notes))


def _sensible(window: tuple[float, float]) -> bool:
    """Whether a damaged log left a span of time that can be meant."""
    return abs(window[0]) < _LARGEST_TIME and 0 < window[1] - window[0] < _LARGEST_TIME


def _given(trace: Trace, settings: RunFolderSettings, run: str) -> Alignment:
    window = settings.windows[run]
    times = [parse_time(text)[0] for text in (window.start, window.end)]
    if times[0] is None or times[1] is None or times[1] <= times[0]:
        text = f"window `{window.start}` to `{window.end}` in the spec is not a span of time"
        return Alignment(None, (Note("bad-window", text, "error"),))
    start, end = times[0], times[1]
    if _overlap(trace, (start, end)) <= 0:
        text = f"the window in the spec lies outside the power log ({_span_text(trace)})"
        return Alignment(None, (Note("no-common-clock", text, "error"),))
    return Alignment(Window(start, end, "stated", "window given in the spec"))


def _span_text(trace: Trace) -> str:
    """When a log begins and ends, on its own clock."""
    if trace.zone == "none":
        return f"{trace.start:.6g} s to {trace.end:.6g} s"
    start, end = (datetime.fromtimestamp(second, UTC) for second in (trace.start, trace.end))
    return f"{start:%Y-%m-%dT%H:%M:%S} to {end:%Y-%m-%dT%H:%M:%S}" + (" UTC" if trace.zone == "utc" else "")


def _overlap(trace: Trace, window: tuple[float, float]) -> float:
    return min(trace.end, window[1]) - max(trace.start, window[0])


def _by_clock(
    trace: Trace, settings: RunFolderSettings, stated: tuple[float, float], zone: Zone
) -> Alignment:
    if trace.zone == "none":
        return Alignment(None, (Note("no-common-clock", "the power log carries no date; no joint window"),))
    start, end = stated
    text = "times in the inference log"
    if zone != trace.zone and settings.zone is not None:
        offset = _seconds(settings.zone)
        shift = offset if zone == "utc" else -offset
        start, end = start + shift, end + shift
        text += f", shifted by the stated zone {settings.zone}"
    share = _overlap(trace, (start, end)) / (end - start) if end > start else 0.0
    if share <= 0:
        return _without_common_clock(trace, settings, (start, end))
    notes: list[Note] = []
    early = start - trace.start
    if early > 0:
        notes.append(
            Note("power-starts-early", f"the power log starts {early:.1f} s before the window", "note")
        )
    if share < 0.95:
        notes.append(Note("partly-covered", f"the power log covers {share:.0%} of the window"))
    # Serving benchmarks print the end of a run in whole seconds.
    return Alignment(Window(start, end, "clock", text, edge_s=0.5), tuple(notes))


def _without_common_clock(
    trace: Trace, settings: RunFolderSettings, window: tuple[float, float]
) -> Alignment:
    """No joint window; a step in power still shows when something ran, and is labelled as the guess it is."""
    why = _no_overlap(trace, window)
    found = find_step(trace) if settings.alignment == "auto" and trace.quantity == "power" else None
    if found is None:
        return Alignment(None, (why,))
    stepped = _stepped(trace, found, window[1] - window[0])
    return Alignment(stepped.window, (why, *stepped.notes))


def _no_overlap(trace: Trace, window: tuple[float, float]) -> Note:
    """Logs that do not overlap share no window; a shift of whole half hours is said, never applied."""
    distance = (trace.start + trace.end - window[0] - window[1]) / 2
    shift = round(distance / _HALF_HOUR) * _HALF_HOUR
    moved = (window[0] + shift, window[1] + shift)
    if 0 < abs(shift) <= _LARGEST_ZONE and _overlap(trace, moved) > 0.5 * (moved[1] - moved[0]):
        text = (
            f"inference and power log do not overlap, but would after a shift of {shift / 3600:+g} h: "
            "probably another time zone; state it as `zone` or `clock_offset`"
        )
        return Note("zone-difference", text)
    apart = f"their middles are {abs(distance):.0f} s apart"
    text = f"inference and power log do not overlap ({apart}); no joint window"
    return Note("no-common-clock", text)


def _seconds(zone: str) -> float:
    sign = -1 if zone[0] == "-" else 1
    return sign * (int(zone[1:3]) * 3600.0 + int(zone[4:6]) * 60.0)


def find_step(trace: Trace) -> tuple[float, float] | None:
    """Start and end of the first time that power steps up and back down; None when it never does."""
    import numpy as np

    value, time_s = trace.value, trace.time_s
    if len(value) < 2 * _FEWEST:
        return None
    before, after = _means(value)
    with np.errstate(divide="ignore", invalid="ignore"):
        rises = (after > STEP_RATIO * before) & (after - before > STEP_RISE_W)
        falls = (before > STEP_RATIO * after) & (before - after > STEP_RISE_W)
    if not rises.any():
        return None
    first = _steepest(value, rises, int(np.argmax(rises)), up=True)
    later = np.flatnonzero(falls[first + 1 :])
    # The last fall that still belongs to this rise: the first group of falls after it.
    last = _steepest(value, falls, first + 1 + int(later[0]), up=False) if len(later) else len(value) - 1
    start = (time_s[first - 1] + time_s[first]) / 2
    end = (time_s[last - 1] + time_s[last]) / 2 if len(later) else time_s[-1]
    return float(start), float(end)


def _means(value: Floats) -> tuple[Floats, Floats]:
    """Mean of up to ten samples before and from each position on; NaN with fewer than three."""
    import numpy as np

    total = np.concatenate([[0.0], np.cumsum(value)])
    at = np.arange(len(value))
    low, high = np.maximum(at - STEP_SAMPLES, 0), np.minimum(at + STEP_SAMPLES, len(value))
    with np.errstate(divide="ignore", invalid="ignore"):
        before = np.where(at - low >= _FEWEST, (total[at] - total[low]) / (at - low), np.nan)
        after = np.where(high - at >= _FEWEST, (total[high] - total[at]) / (high - at), np.nan)
    return before, after


def _steepest(value: Floats, marked: NDArray[np.bool_], at: int, *, up: bool) -> int:
    """Position of the largest single step within the run of marked positions that starts at `at`."""
    import numpy as np

    end = at
    while end + 1 < len(marked) and marked[end + 1] and end - at < 2 * STEP_SAMPLES:
        end += 1
    steps = np.diff(value[max(at - 1, 0) : end + 1])
    if not len(steps):
        return at
    return max(at, 1) + int(np.argmax(steps) if up else np.argmin(steps))


def _stepped(trace: Trace, found: tuple[float, float], expected_s: float | None) -> Alignment:
    start, end = found
    text = "heuristic: power steps up by more than 2.3 times and back down"
    if expected_s and abs(end - start - expected_s) <= 2 * (trace.interval_s or 0.0):
        # Both edges are known to half a sampling interval only; the other log knows the length better.
        middle = (start + end) / 2
        start, end = middle - expected_s / 2, middle + expected_s / 2
        text += ", length from the inference log"
    notes = [Note("heuristic-window", f"window found by a step in power ({end - start:.2f} s)", "note")]
    if expected_s and not 0.8 < (end - start) / expected_s < 1.25:
        notes.append(
            Note(
                "window-length",
                f"the step lasts {end - start:.2f} s, the inference log says {expected_s:.2f} s",
            )
        )
    return Alignment(Window(start, end, "step", text, edge_s=(trace.interval_s or 0.0) / 2), tuple(notes))


def shifted(traces: Sequence[Trace], seconds: float) -> list[Trace]:
    """The traces with their clocks moved."""
    from dataclasses import replace

    if not seconds:
        return list(traces)
    return [
        replace(
            t,
            time_s=t.time_s + seconds,
            gaps=tuple((a + seconds, b + seconds) for a, b in t.gaps),
            edges_s=tuple(x + seconds for x in t.edges_s),
            set_s=tuple(x + seconds for x in t.set_s),
        )
        for t in traces
    ]
