"""The tables of a live measurement."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.measure.live.records import Measured, Request
from engine.results.environment import without_secrets

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["findings_table", "observed_table", "requests_table", "summary_table"]

_SAME = (
    "outcome", "run_phase", "repeat", "slot", "reads", "prompt_tokens", "cached_prompt_tokens",
    "output_tokens", "reasoning_tokens", "token_source", "prompt_tokens_asked", "output_tokens_asked",
    "finish_reason", "http_status", "error_class", "server_prefill_s", "server_decode_s",
    "allocated_peak_bytes", "reserved_peak_bytes", "first_tokens", "first_tokens_source", "streamed",
)  # fmt: skip


def summary_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as columns; a metric that no row has gets no column."""
    return _table("summary", rows)


def findings_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """What a reader must know."""
    return _table("findings", rows)


def observed_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Settings as asked for and as they were."""
    return _table("observed", rows)


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    from engine.results.tables import make_table

    columns = dict.fromkeys(key for row in rows for key in row)
    return make_table(name, {key: [row.get(key) for row in rows] for key in columns})


def requests_table(measured: Sequence[Measured], *, epoch_ns: int, keep_times: bool) -> pa.Table:
    """Every request, warm-up included; `epoch_ns` is wall-clock time minus the monotonic clock."""
    rows = []
    for load in measured:
        starts = {repeat.number: repeat.started_ns for repeat in load.repeats}
        first = min((r.scheduled_ns for r in load.warmup), default=0)
        requests = [*load.warmup, *(r for repeat in load.repeats for r in repeat.requests)]
        for request in requests:
            zero = (
                first if request.run_phase == "warmup" else starts.get(request.repeat, request.scheduled_ns)
            )
            rows.append(_row(request, load.level.variant, zero, epoch_ns, keep_times=keep_times))
    return _table("requests", rows)


def _row(request: Request, variant: str, zero: int, epoch_ns: int, *, keep_times: bool) -> dict[str, Any]:
    def since(at: int | None) -> float | None:
        return None if at is None else (at - zero) / 1e9

    times = None
    if keep_times and request.event_ns:
        times = json.dumps([round((at - request.sent_ns) / 1e9, 6) for at in request.event_ns])
    return {
        "point": 0,
        "variant": variant,
        "request": request.number,
        "scheduled_s": since(request.scheduled_ns),
        "dispatched_s": since(request.dispatched_ns),
        "connected_s": since(request.connected_ns),
        "sent_s": since(request.sent_ns),
        "first_byte_s": since(request.first_byte_ns),
        "first_event_s": since(request.first_event_ns),
        "first_token_s": since(request.first_ns),
        "first_answer_s": since(request.first_answer_ns),
        "last_token_s": since(request.last_ns),
        "done_s": since(request.done_ns),
        "epoch_s": (request.sent_ns + epoch_ns) / 1e9,
        "token_times_s": times,
        "events": len(request.event_ns),
        "error": None if request.error is None else without_secrets(request.error),
        **{name: getattr(request, name) for name in _SAME},
    }
