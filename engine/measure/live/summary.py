"""From requests to rows: the metrics of one load, each with its spread, its count and its reasons."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from engine.measure.live.beside import Beside
from engine.measure.live.records import Measured, Repeat, Request
from engine.measure.live.statistics import percentiles, steady_window
from engine.results.estimate import estimate
from engine.spec.condition import parse_condition

__all__ = ["Goals", "error_share", "meets", "summary_rows", "tokens_in", "unjudged"]

_RESOLVED: Final = 0.95
"""Share of the pieces that must have come in reads of their own for gaps between them to be told."""
_OF_REQUESTS: Final = (
    "ttft_s", "ttft_from_schedule_s", "ttft_answer_s", "tpot_s", "ntpot_s", "e2e_s", "e2e_from_schedule_s",
    "queue_s", "output_tokens_per_s_per_user",
)  # fmt: skip
Row = dict[str, Any]


@dataclass(frozen=True)
class Goals:
    """What the spec asks of the answers."""

    require: Mapping[str, str]
    max_error_share: float
    output_tokens: int
    prompt_tokens: int | None
    """Of every request; None where they differ."""


def meets(request: Request, require: Mapping[str, str]) -> bool | None:
    """Whether a request ended well and within every limit; None where a metric that nobody knows decides it.
    A metric it lacks because there was no gap - one token, or everything in one read - is no miss."""
    if not request.good:
        return False
    found: bool | None = True
    for name, text in require.items():
        value = getattr(request, name)
        if value is not None:
            if not parse_condition(name, text).holds(value):
                return False
        elif name not in ("tpot_s", "output_tokens_per_s_per_user") or not request.without_gap:
            found = None
    return found


def unjudged(repeats: Iterable[Repeat], require: Mapping[str, str]) -> int:
    """Requests of which nobody knows whether they meet every limit."""
    return sum(meets(request, require) is None for repeat in repeats for request in repeat.requests)


def error_share(requests: Iterable[Request]) -> float | None:
    """Share of measured requests that did not end well; None without any."""
    counted = [r for r in requests if r.run_phase in ("measured", "drain")]
    return sum(not r.good for r in counted) / len(counted) if counted else None


def tokens_in(requests: Iterable[Request], window: tuple[int, int]) -> float:
    """Tokens that arrived inside a window (ns); pieces of unknown size share the request's tokens evenly."""
    total = 0.0
    start, end = window
    for request in requests:
        if not request.good or request.output_tokens is None:
            continue
        if not request.event_ns:
            total += request.output_tokens if start < request.done_ns <= end else 0
            continue
        inside = [start < at <= end for at in request.event_ns]
        if request.event_tokens is not None and sum(request.event_tokens) == request.output_tokens:
            total += sum(n for n, within in zip(request.event_tokens, inside, strict=True) if within)
        else:
            total += request.output_tokens * sum(inside) / len(inside)
    return total


def summary_rows(measured: Measured, goals: Goals, beside: Beside | None) -> list[Row]:
    """Rows of one load: the request, and for a local model its prefill and decode step too."""
    level = measured.level
    base: Row = {"point": 0, "source": "live", "variant": level.variant, "basis": "measured"}
    requests = [r for repeat in measured.repeats for r in repeat.requests]
    row: Row = {**base, "phase": "request", **_counts(requests)}
    status, reasons = _status(measured, requests, goals)
    row |= {"status": status, "reason": "; ".join(reasons) or None}
    row |= _latencies(measured.repeats)
    row |= _rates(measured, goals)
    row |= _memory(measured.repeats, beside)
    if row.get("short_share"):
        beside = None  # what is predicted are answers of the length that was asked for
    rows = [_with_prediction(row, beside, "request", _mean_of(row, "e2e_s"))]
    if level.batching == "static" and any(r.good for r in requests):
        for phase in ("prefill", "decode"):
            found = _phase_row(base, measured, phase, beside, goals)
            if found is not None:
                rows.append({**found, "status": status, "reason": row["reason"]})
    return rows


def _counts(requests: Sequence[Request]) -> Row:
    counted = [r for r in requests if r.run_phase in ("measured", "drain")]
    good = [r for r in counted if r.good]
    found: Row = {
        "completed_requests": len(good),
        "failed_requests": len(counted) - len(good),
        "error_rate": error_share(counted),
    }
    if good and all(r.output_tokens is not None for r in good):
        found["output_tokens"] = sum(r.output_tokens or 0 for r in good)
    asked = [r for r in good if r.output_tokens_asked is not None and r.output_tokens is not None]
    if asked:
        short = sum((r.output_tokens or 0) < (r.output_tokens_asked or 0) for r in asked)
        found["short_share"] = short / len(asked)
    told = [r for r in good if r.cached_prompt_tokens is not None and r.prompt_tokens]
    if told:
        cached = sum(r.cached_prompt_tokens or 0 for r in told)
        found["cached_prompt_share"] = cached / sum(r.prompt_tokens or 0 for r in told)
    return found


def _status(measured: Measured, requests: Sequence[Request], goals: Goals) -> tuple[str, list[str]]:
    reasons = [measured.failure] if measured.failure else []
    status = measured.status
    share = error_share(requests)
    if status == "ok" and share is not None and share > goals.max_error_share:
        status = "failed"
        reasons.append(f"{share:.1%} of the requests failed, more than {goals.max_error_share:.1%}")
        kinds: dict[str, int] = {}
        for request in requests:
            if not request.good and request.run_phase in ("measured", "drain"):
                kinds[request.error_class or request.outcome] = (
                    kinds.get(request.error_class or request.outcome, 0) + 1
                )
        most = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        reasons.append(", ".join(f"{count} x {kind}" for kind, count in most[:4]))
    return status, [*reasons, *measured.notes]


def _latencies(repeats: Sequence[Repeat]) -> Row:
    """Means over repeats with intervals, and percentiles over all requests."""
    found: Row = {}
    for name in _OF_REQUESTS:
        found |= _spread(name, repeats, partial(_values, name))
    good = [r for repeat in repeats for r in repeat.requests if r.good]
    gapped = [r for r in good if len(r.event_ns) > 1]
    pieces = sum(len(r.event_ns) for r in gapped)
    if gapped and sum(r.own_stamps for r in gapped) >= _RESOLVED * pieces:
        name = "itl_s" if all(r.one_token_events for r in gapped) else "inter_chunk_s"
        found |= _spread(name, repeats, lambda r: r.gaps_s)
    if "e2e_s" in found:
        found["time_s"] = found["e2e_s"]
    return found


def _values(name: str, request: Request) -> list[float]:
    value = getattr(request, name)
    return [] if value is None else [value]


def _spread(name: str, repeats: Sequence[Repeat], values_of: Callable[[Request], list[float]]) -> Row:
    by_repeat = [[v for r in repeat.requests if r.good for v in values_of(r)] for repeat in repeats]
    by_repeat = [values for values in by_repeat if values]
    if not by_repeat:
        return {}
    pooled = [value for values in by_repeat for value in values]
    found = _estimated(name, [math.fsum(values) / len(values) for values in by_repeat], count=len(pooled))
    for percent, value in percentiles(pooled).items():
        found[f"{name}_p{percent}"] = value
    return found


def _estimated(name: str, repeats: Sequence[float], *, count: int) -> Row:
    """Requests within a repeat share the machine's state, so only repeats count as independent."""
    found = estimate(repeats)
    if found is None:
        return {}
    return {
        name: found.mean,
        # Times, rates and shares cannot be negative, whatever a symmetric interval of few repeats says.
        f"{name}_low": None if found.low is None else max(0.0, found.low),
        f"{name}_high": found.high,
        f"{name}_n": count,
    }


def _rates(measured: Measured, goals: Goals) -> Row:
    level, repeats = measured.level, measured.repeats
    series: dict[str, list[float]] = {}

    def note(name: str, value: float | None) -> None:
        if value is not None:
            series.setdefault(name, []).append(value)

    # Where some may or may not have met the limits, any number would be a guess.
    judged = goals.require and not unjudged(repeats, goals.require)
    for repeat in repeats:
        scheduled = [r for r in repeat.requests if r.run_phase in ("measured", "drain")]
        good = [r for r in scheduled if r.good]
        if judged and scheduled:
            note("goodput_share", sum(meets(r, goals.require) is True for r in scheduled) / len(scheduled))
        if not good:
            note("goodput_requests_per_s", 0.0 if judged and scheduled else None)
            continue
        whole = (min(r.sent_ns for r in good), max(r.last_ns or r.done_ns for r in good))
        window = steady_window(scheduled, level.concurrency) if level.batching != "static" else None
        counted = all(r.output_tokens is not None for r in good)
        wall = _per_second(sum(r.output_tokens or 0 for r in good), whole) if counted else None
        note("wall_output_tokens_per_s", wall)
        inside = tokens_in(good, window) if window else None
        note("output_tokens_per_s", _per_second(inside, window) if window and counted else wall)
        ended = [r for r in good if window is None or window[0] < (r.last_ns or r.done_ns) <= window[1]]
        span = window or whole
        note("requests_per_s", _per_second(len(ended), span))
        if counted and all(r.prompt_tokens is not None for r in good):
            tokens = sum((r.output_tokens or 0) + (r.prompt_tokens or 0) for r in good)
            note("total_tokens_per_s", _per_second(tokens, whole))
            rates = [(r.output_tokens or 0) / r.e2e_s for r in good if r.e2e_s > 0]
            # One wave of requests, as the profiler sends: many waves have no larger sum, and a load that
            # sends at a rate has no waves.
            at_once = min(len(rates), level.concurrency or 0)
            if at_once:
                note("sum_of_request_tokens_per_s", at_once * math.fsum(rates) / len(rates))
        if judged:
            met = sum(meets(r, goals.require) is True for r in ended)
            note("goodput_requests_per_s", _per_second(met, span))
        if level.concurrency is None and len(repeat.requests) > 1:
            due = [r.scheduled_ns for r in repeat.requests]
            first, last = min(due), max(due)
            # Those due at the last moment, one or a burst, belong to the time after it.
            note("offered_requests_per_s", _per_second(sum(at < last for at in due), (first, last)))
        if repeat.client is not None:
            note("client_lag_s", repeat.client.lag_p99_s)
            note("client_cpu_share", repeat.client.cpu_share)
    found: Row = {}
    for name, values in series.items():
        found |= _estimated(name, values, count=len(values))
    return found


def _per_second(amount: float | None, window: tuple[int, int]) -> float | None:
    seconds = (window[1] - window[0]) / 1e9
    return None if amount is None or seconds <= 0 else amount / seconds


def _memory(repeats: Sequence[Repeat], beside: Beside | None) -> Row:
    def largest(name: str) -> int | None:
        return max((v for r in repeats if (v := getattr(r.memory, name)) is not None), default=None)

    found: Row = {
        "host_rss_peak_bytes": largest("host_rss_peak"),
        "device_allocated_peak_bytes": largest("device_allocated_peak"),
        "device_reserved_peak_bytes": largest("device_reserved_peak"),
        "device_process_bytes": largest("device_process"),
        "device_used_bytes": largest("device_used"),
        "kv_cache_bytes": largest("kv_cache"),
    }
    if found["kv_cache_bytes"] is not None and beside is not None:
        found["predicted_kv_cache_bytes"] = beside.cache_bytes
    return {name: value for name, value in found.items() if value is not None}


def _mean_of(row: Row, name: str) -> float | None:
    value = row.get(name)
    return value if isinstance(value, float) else None


def _with_prediction(row: Row, beside: Beside | None, phase: str, measured_s: float | None) -> Row:
    """The row with what the performance model says of it, and how far the measurement is from that."""
    if beside is None or measured_s is None or measured_s <= 0:
        return row
    bound, estimated = beside.bound_s(phase), beside.estimated(phase)
    if bound is not None:
        row |= {"bound_time_s": bound, "time_over_bound": measured_s / bound}
    if estimated is not None:
        row |= {
            "calibration": beside.calibration,
            "estimated_time_s": estimated.time_s,
            "estimated_time_s_low": estimated.low_s,
            "estimated_time_s_high": estimated.high_s,
            "time_over_estimate": measured_s / estimated.time_s,
        }
    if phase != "request":
        for name in ("mfu", "mbu"):
            row[name] = beside.utilization(phase, name, measured_s)
        row["bound"] = beside.bound.bounds.get(phase)
    return row


def _phase_row(base: Row, measured: Measured, phase: str, beside: Beside | None, goals: Goals) -> Row | None:
    """A static batch's prefill or decode step: the same for all its requests, so one request tells it."""

    def times(request: Request) -> list[float]:
        if phase == "prefill":
            return [] if request.ttft_s is None else [request.ttft_s]
        return request.gaps_s

    leaders = [
        Repeat(r.number, [q for q in r.requests if q.slot in (0, None)], r.started_ns, r.ended_ns)
        for r in measured.repeats
    ]
    row = _spread("time_s", leaders, times)
    if not row:
        return None
    sequences = measured.level.concurrency or 1
    if phase == "prefill" and goals.prompt_tokens is not None:
        row |= _inverse("prompt_tokens_per_s", row, sequences * goals.prompt_tokens)
    elif phase == "decode":
        row |= _inverse("output_tokens_per_s", row, sequences)
    row = {**base, "phase": phase, **row}
    return _with_prediction(row, beside, phase, _mean_of(row, "time_s"))


def _inverse(name: str, row: Row, amount: int) -> Row:
    """A rate from a time: the ends of its interval change places."""
    low, high = row["time_s_low"], row["time_s_high"]
    return {
        name: amount / row["time_s"],
        f"{name}_low": amount / high if high else None,
        f"{name}_high": amount / low if low and low > 0 else None,
        f"{name}_n": row["time_s_n"],
    }
