"""Coarse energy: load, tokenize, prefill, decode, detokenize and whole requests, gross and above idle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from engine.measure.energy.integrate import Board, WindowEnergy, below_resolution
from engine.measure.energy.source import SLOWDOWN
from engine.measure.energy.trace import HOOKED
from engine.results.estimate import Estimate, difference, estimate

if TYPE_CHECKING:
    from engine.measure.energy.trace import Event, Floats, Trace

ORDER: Final = ("load", "tokenize", "prefill", "decode", "detokenize", "request", "training")
GAIN: Final = 0.05
"""Relative error of board sensors against external meters (arXiv 2312.02741): it moves all numbers of a
device together, so it stands apart from the interval."""
TIME_ONLY: Final = "time"
"""Source of a recording without power, because none was asked for."""
THERMAL_BITS: Final = 0x60
POWER_BITS: Final = 0x84
SLOWDOWN_BITS: Final = THERMAL_BITS | POWER_BITS | 0x8
"""Software and hardware thermal slowdown, power cap and brake, and the ambiguous hardware slowdown."""


@dataclass(frozen=True)
class Subject:
    """What ran."""

    prompt_tokens: int
    """Of each sequence."""
    output_tokens: int
    batch_size: int
    parameters: float | None = None
    """Of the model; None where it is not known."""
    slowdown_c: float | None = None
    """Temperature at which the device throttles."""
    predicted_j: Mapping[str, float] = field(default_factory=dict)
    """Phase -> energy that the performance model expects."""
    calibration: str | None = None
    """Parameter set behind that expectation."""


def idle_powers(trace: Trace, board: Board) -> dict[str, Estimate]:
    """Watts by idle window (`cold before`, `resident before`...), over all devices."""
    found: dict[str, list[float]] = {}
    for event in trace.of("idle"):
        window = board.window(event.begin_s, event.end_s)
        if window.mean_w is not None:
            found.setdefault(event.variant or "idle", []).append(window.mean_w)
    return {name: one for name, values in found.items() if (one := estimate(values)) is not None}


def baseline(trace: Trace, board: Board) -> Estimate | None:
    """Idle power to subtract: with the model resident where that was metered, else cold, else as stated."""
    idle = idle_powers(trace, board)
    for kind in ("resident", "cold", "idle"):
        values = [one.mean for name, one in idle.items() if name.startswith(kind)]
        if values:
            return estimate(values)
    if trace.baseline_w is not None:
        return Estimate(trace.baseline_w, trace.baseline_w, trace.baseline_w, 1, 0.0)
    return None


def idle_rows(trace: Trace, board: Board) -> list[dict[str, Any]]:
    """A summary row for each idle window."""
    rows = []
    for event in trace.of("idle"):
        window = board.window(event.begin_s, event.end_s)
        row: dict[str, Any] = {"phase": "idle", "variant": event.variant or "idle", "time_s": event.seconds}
        row |= {"idle_power_w": window.mean_w, "average_power_w": window.mean_w, "energy_j": window.energy_j}
        rows.append(_judged(row, [window], list(board.notes)) | thermal(trace, [event], None))
    return rows


def drift(trace: Trace, board: Board) -> float | None:
    """Largest relative change of idle power from before to after; None without both."""
    idle = idle_powers(trace, board)
    changes = [
        abs(idle[f"{kind} after"].mean / idle[f"{kind} before"].mean - 1)
        for kind in ("cold", "resident")
        if f"{kind} after" in idle and f"{kind} before" in idle
    ]
    return max(changes, default=None)


def phase_rows(trace: Trace, board: Board, subject: Subject) -> list[dict[str, Any]]:
    """A summary row for each phase, and for each variant and warm-up of it, that the recording holds."""
    idle = baseline(trace, board)
    groups: dict[tuple[str, str], list[Event]] = {}
    for event in trace.of("phase", warmup=True):
        if event.variant == HOOKED:
            continue
        variant = ", ".join(filter(None, (event.variant, "warm-up" if event.warmup else "")))
        groups.setdefault((event.phase, variant), []).append(event)
    known = [key for key in groups if key[0] in ORDER]
    rows = []
    for phase, variant in sorted(known, key=lambda key: ORDER.index(key[0])):
        rows.append(_phase_row(trace, board, subject, idle, phase, variant, groups[phase, variant]))
    return rows


def _phase_row(
    trace: Trace,
    board: Board,
    subject: Subject,
    idle: Estimate | None,
    phase: str,
    variant: str,
    events: Sequence[Event],
) -> dict[str, Any]:
    windows = [window_of(event, board) for event in events]
    seconds = estimate([event.seconds / event.iterations for event in events])
    metered = [(w.energy_j, e) for w, e in zip(windows, events, strict=True) if w.energy_j is not None]
    energy = estimate([joules / event.iterations for joules, event in metered])
    # Power is energy over the time of the same windows: some may be too short to have any.
    spent = estimate([event.seconds / event.iterations for _, event in metered])
    row: dict[str, Any] = {"phase": phase, "variant": variant or None}
    _put(row, "time_s", seconds)
    if energy is not None and spent is not None:
        _put(row, "energy_j", energy)
        row["average_power_w"] = energy.mean / spent.mean if spent.mean > 0 else None
        row["window_s"] = sum(event.seconds for event in events) / len(events)
        edge = max(w.edge_j / e.iterations for w, e in zip(windows, events, strict=True))
        row["energy_systematic_j"] = GAIN * abs(energy.mean) + edge
        if idle is not None:
            row["idle_power_w"] = idle.mean
            _put(row, "net_energy_j", difference(energy, idle.scaled(spent.mean)))
        row |= _by_token(phase, energy, spent, _tokens(events, subject, phase), subject)
        expected = subject.predicted_j.get(phase)
        if expected:
            row |= {"predicted_energy_j": expected, "energy_over_prediction": energy.mean / expected}
            row["calibration"] = subject.calibration
    elif seconds is not None:
        row |= _speeds(phase, seconds, _tokens(events, subject, phase), subject)
    peaks = [window.peak_w for window in windows if window.peak_w is not None]
    row["peak_power_w"] = max(peaks, default=None)
    shares = [window.gap_share for window in windows if window.energy_j]
    row["gap_energy_share"] = max(shares, default=None)
    judged = _judged(row, windows, list(board.notes), time_only=trace.source == TIME_ONLY)
    return judged | thermal(trace, events, subject.slowdown_c)


def window_of(event: Event, board: Board) -> WindowEnergy:
    """Energy of an event: as the recording states it, else integrated."""
    if event.energy_j is None:
        return board.window(event.begin_s, event.end_s)
    reason = None
    if event.seconds < 10 * board.period_s:
        reason = below_resolution(event.seconds, board.period_s)
    mean_w = event.energy_j / event.seconds if event.seconds > 0 else 0.0
    return WindowEnergy(event.energy_j, event.seconds, "stated", mean_w * board.period_s, None, 0.0, reason)


def _tokens(events: Sequence[Event], subject: Subject, phase: str) -> int:
    """Tokens of one iteration over all sequences."""
    told = next((event.tokens for event in events if event.tokens is not None), None)
    if told is not None:
        return told
    each = subject.prompt_tokens if phase in ("prefill", "tokenize") else subject.output_tokens
    if phase == "decode":
        each = max(each - 1, 1)  # the first token comes out of prefill
    return each * subject.batch_size


def _by_token(
    phase: str, energy: Estimate, seconds: Estimate, tokens: int, subject: Subject
) -> dict[str, Any]:
    found = _speeds(phase, seconds, tokens, subject)
    if phase == "prefill":
        _put(found, "energy_per_prompt_token_j", energy.scaled(1 / tokens))
    if phase in ("decode", "request"):
        _put(found, "energy_per_output_token_j", energy.scaled(1 / tokens))
        if subject.parameters:
            found["energy_per_output_token_per_billion_j"] = energy.mean / tokens / (subject.parameters / 1e9)
        if energy.mean > 0:
            # The same number under both names: tokens/s over watts is tokens over joules.
            found["tokens_per_joule"] = tokens / energy.mean
            found["tokens_per_s_per_w"] = tokens / energy.mean
    if phase == "request":
        _put(found, "energy_per_request_j", energy.scaled(1 / subject.batch_size))
    return found


def _speeds(phase: str, seconds: Estimate, tokens: int, subject: Subject) -> dict[str, Any]:
    if seconds.mean <= 0:
        return {}
    if phase == "prefill":
        return {"prompt_tokens_per_s": tokens / seconds.mean, "ttft_s": seconds.mean}
    if phase == "decode":
        return {
            "output_tokens_per_s": tokens / seconds.mean,
            "tpot_s": seconds.mean / (tokens / subject.batch_size),
        }
    if phase == "request":
        return {"output_tokens_per_s": tokens / seconds.mean, "e2e_s": seconds.mean}
    return {}


def _judged(
    row: dict[str, Any], windows: Sequence[WindowEnergy], notes: list[str], *, time_only: bool = False
) -> dict[str, Any]:
    """Status and reason: nothing metered is a row that failed, some of it a row with a remark."""
    reasons = list(dict.fromkeys([w.reason for w in windows if w.reason] + notes))
    methods = ", ".join(dict.fromkeys(w.method for w in windows if w.method))
    metered = row.get("energy_j") is not None
    if time_only and row.get("time_s") is not None:
        return row | {"status": "ok", "reason": "only time was measured"}
    told = [f"energy from {methods}"] if metered and methods else []
    return row | {
        "status": "ok" if metered else "skipped",
        "reason": "; ".join(told + reasons) or None,
    }


def thermal(trace: Trace, events: Sequence[Event], slowdown_c: float | None) -> dict[str, Any]:
    """Temperatures, headroom and throttling within windows, over all devices."""
    import numpy as np

    found: dict[str, Any] = {}
    every: list[Floats] = []
    for one in trace.channels:
        inside = np.zeros(len(one.times_s), dtype=bool)
        for event in events:
            inside |= (one.times_s >= event.begin_s) & (one.times_s <= event.end_s)
        temperature = one.get("temperature_c")
        if temperature is not None and inside.any() and not np.isnan(temperature[inside]).all():
            every.append(temperature[inside])
        masks = one.get("throttle")
        if masks is not None and inside.any():
            set_now = slowed(masks[inside])
            found["throttle_events"] = found.get("throttle_events", 0) + rising(set_now)
            found["throttled_samples"] = found.get("throttled_samples", 0) + int(set_now.sum())
    if every:
        degrees = np.concatenate(every)
        found["peak_temperature_c"] = float(np.nanmax(degrees))
        found["average_temperature_c"] = float(np.nanmean(degrees))
    told = _told_limit(trace.facts)  # the device's own word stands before the catalogue's
    limit = slowdown_c if told is None else told
    if limit is not None and "peak_temperature_c" in found:
        found["thermal_headroom_c"] = limit - found["peak_temperature_c"]
    return found


def _told_limit(facts: Mapping[str, Any]) -> float | None:
    value = facts.get(SLOWDOWN)
    return float(value) if isinstance(value, int | float) else None


def slowed(masks: Floats) -> Any:
    """Which readings show a slowdown; idle and application clocks are none."""
    import numpy as np

    return (np.nan_to_num(masks).astype(np.int64) & SLOWDOWN_BITS) != 0


def rising(flags: Any) -> int:
    """Times a flag came up; one that is set in the first reading counts."""
    import numpy as np

    return int(flags[:1].sum() + (np.diff(flags.astype(np.int64)) > 0).sum())


def _put(row: dict[str, Any], name: str, found: Estimate | None) -> None:
    if found is None:
        return
    row[name] = found.mean
    if found.low is not None:
        row |= {f"{name}_low": found.low, f"{name}_high": found.high}
    row[f"{name}_n"] = found.n
