"""Send requests as a load asks, and turn what came back into records."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from engine.measure.live.answer import Answer, read_answer
from engine.measure.live.dialect import Speaker
from engine.measure.live.http_client import Exchange, HttpClient
from engine.measure.live.load import Arrival
from engine.measure.live.pulse import Pulse
from engine.measure.live.records import ClientWatch, Outcome, Request, RunPhase

__all__ = ["Asked", "LoopWatch", "Sent", "closed_loop", "no_collection", "open_loop", "to_record"]

_TICK_S: Final = 0.01
_ABORT_AFTER: Final = 20
_LARGEST_BACKLOG: Final = 256 * 1024 * 1024
"""Bytes kept unread while a load runs; beyond it answers are read as they end."""
_TIMEOUTS: Final = ("first-byte-timeout", "idle-timeout", "total-timeout", "connect-timeout")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request ready to be written."""

    number: int
    request: bytes = field(repr=False)
    prompt_tokens: int | None
    output_tokens: int


@dataclass(slots=True)
class Sent:
    """A request on its way, before anything is understood."""

    asked: Asked
    scheduled_ns: int
    dispatched_ns: int
    slot: int | None = None
    exchange: Exchange | None = None
    answer: Answer | None = None


class _Inbox:
    """Answers as they end: kept as bytes while there is room, and failures in a row counted."""

    def __init__(self, *, stream: bool) -> None:
        self._stream = stream
        self._kept = 0
        self._bad_in_a_row = 0

    def take(self, record: Sent, exchange: Exchange) -> None:
        record.exchange = exchange
        bad = exchange.error_class is not None or exchange.status != 200
        self._bad_in_a_row = self._bad_in_a_row + 1 if bad else 0
        self._kept += exchange.size
        if self._kept > _LARGEST_BACKLOG:
            record.answer = read_answer(exchange, stream=self._stream)
            exchange.pieces.clear()
            exchange.stamps.clear()

    @property
    def hopeless(self) -> bool:
        """Twenty failures in a row: the server is gone."""
        return self._bad_in_a_row >= _ABORT_AFTER


@contextmanager
def no_collection() -> Iterator[None]:
    """No garbage collection inside: a pass over everything would show as a late token."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class LoopWatch:
    """How late the loop takes up a call and how much CPU is used: what the generator adds to latencies."""

    def __init__(self) -> None:
        self._late: list[float] = []
        self._pulse: Pulse | None = None
        self._wall = self._cpu = 0.0

    async def __aenter__(self) -> LoopWatch:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._pulse = Pulse(_TICK_S, lambda due: self._late.append(time.perf_counter() - due))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pulse is not None:
            self._pulse.stop()

    def result(self, *, reached_cap: bool) -> ClientWatch:
        """What was seen so far."""
        wall = time.perf_counter() - self._wall
        late = sorted(self._late)
        lag = late[min(len(late) - 1, int(len(late) * 0.99))] if late else None
        share = (time.process_time() - self._cpu) / wall if wall > 0 else None
        return ClientWatch(lag, share, reached_cap)


@dataclass(frozen=True)
class Driven:
    """What one run of a pattern sent."""

    # Not shown: the event loop formats its result when it ends, which costs seconds for a long run.
    sent: Sequence[Sent] = field(repr=False)
    watch: ClientWatch
    aborted: bool
    """Stopped early, after many failures in a row or at the deadline."""
    started_ns: int
    ended_ns: int


async def closed_loop(
    client: HttpClient,
    asked: Sequence[Asked],
    concurrency: int,
    *,
    sent: list[Sent] | None = None,
    stream: bool = True,
    stagger_s: float = 0.0,
    deadline_ns: int | None = None,
) -> Driven:
    """Keep `concurrency` requests in flight until all are sent; slots start spread over `stagger_s`, since a
    burst at the start is a load of its own. Requests are noted in `sent` as they go."""
    waiting = iter(asked)
    sent = [] if sent is None else sent
    inbox = _Inbox(stream=stream)
    started = time.perf_counter_ns()

    async def slot(number: int) -> None:
        await asyncio.sleep(stagger_s * number / concurrency)
        for item in waiting:
            now = time.perf_counter_ns()
            record = Sent(item, now, now, number)
            sent.append(record)
            inbox.take(record, await client.send(item.request))
            if inbox.hopeless or (deadline_ns is not None and time.perf_counter_ns() > deadline_ns):
                return

    async with LoopWatch() as watch:
        await asyncio.gather(*(slot(i) for i in range(min(concurrency, len(asked)))))
        seen = watch.result(reached_cap=False)
    return Driven(sent, seen, len(sent) < len(asked), started, time.perf_counter_ns())


async def open_loop(
    client: HttpClient,
    asked: Sequence[Asked],
    schedule: Sequence[Arrival],
    *,
    max_in_flight: int,
    sent: list[Sent] | None = None,
    stream: bool = True,
    deadline_ns: int | None = None,
) -> Driven:
    """Start each request at its time, whether or not earlier ones came back."""
    gate = asyncio.Semaphore(max_in_flight)
    sent = [] if sent is None else sent
    inbox = _Inbox(stream=stream)
    reached = False
    loop = asyncio.get_running_loop()
    started_ns = time.perf_counter_ns()

    async def one(record: Sent) -> None:
        async with gate:
            record.dispatched_ns = time.perf_counter_ns()
            inbox.take(record, await client.send(record.asked.request))

    async with LoopWatch() as watch:
        tasks: list[asyncio.Task[None]] = []
        for item, arrival in zip(asked, schedule, strict=True):
            scheduled = started_ns + round(arrival.at_s * 1e9)
            # The loop's own clock has whole milliseconds and stands still within a pass: by it, requests
            # leave before they are due.
            while (wait_ns := scheduled - time.perf_counter_ns()) > 0:
                await asyncio.sleep(wait_ns / 1e9)
            if inbox.hopeless or (deadline_ns is not None and time.perf_counter_ns() > deadline_ns):
                break
            reached = reached or gate.locked()
            record = Sent(item, scheduled, scheduled)
            sent.append(record)
            tasks.append(loop.create_task(one(record)))
        await asyncio.gather(*tasks)
        seen = watch.result(reached_cap=reached)
    return Driven(sent, seen, len(sent) < len(asked), started_ns, time.perf_counter_ns())


def to_record(
    sent: Sent,
    speaker: Speaker,
    *,
    repeat: int,
    phase: RunPhase,
    count: Callable[[str], int | None] | None,
    count_source: str,
) -> Request:
    """The record of a request: tokens from the server's usage first, else counted from the whole text."""
    exchange = sent.exchange or Exchange(sent_ns=sent.dispatched_ns, done_ns=time.perf_counter_ns(),
                                         error_class="cancelled", error="the run was stopped")  # fmt: skip
    answer = sent.answer or read_answer(exchange, stream=speaker.target.stream)
    tokens, source = answer.output_tokens, "usage" if answer.output_tokens is not None else None
    if tokens is None and count is not None and answer.text:
        tokens = count(answer.text)
        source = count_source if tokens is not None else None
    error_class, error = answer.error_class, speaker.without_key(answer.error)
    outcome: Outcome = "ok"
    if error_class == "cancelled":
        outcome, phase = "cancelled", "cancelled"
    elif error_class in _TIMEOUTS:
        outcome = "timeout"
    elif error_class == "cut":
        outcome = "cut"
    elif error_class is not None:
        outcome = "failed"
    elif tokens == 0:
        outcome, error_class, error = "failed", "empty-answer", "the answer has no tokens"
    record = Request(
        number=sent.asked.number,
        scheduled_ns=sent.scheduled_ns,
        dispatched_ns=sent.dispatched_ns,
        sent_ns=exchange.sent_ns,
        done_ns=exchange.done_ns,
        outcome=outcome,
        run_phase=phase,
        repeat=repeat,
        slot=sent.slot,
        connected_ns=exchange.connected_ns,
        first_byte_ns=exchange.first_byte_ns,
        first_event_ns=answer.first_event_ns,
        first_answer_ns=answer.first_answer_ns,
        event_ns=answer.event_ns,
        event_tokens=answer.event_tokens,
        reads=exchange.reads or None,
        prompt_tokens=answer.prompt_tokens,
        cached_prompt_tokens=answer.cached_prompt_tokens,
        output_tokens=tokens,
        reasoning_tokens=answer.reasoning_tokens,
        token_source=source,
        prompt_tokens_asked=sent.asked.prompt_tokens,
        output_tokens_asked=sent.asked.output_tokens,
        finish_reason=answer.finish_reason,
        http_status=exchange.status,
        error_class=error_class,
        error=error,
        server_prefill_s=answer.server_prefill_s,
        server_decode_s=answer.server_decode_s,
        streamed=answer.streamed,
    )
    return _with_first_piece(record, answer.first_text, count, count_source) if record.packed else record


def _with_first_piece(
    record: Request, text: str, count: Callable[[str], int | None] | None, source: str
) -> Request:
    """The record with the tokens that came first, where pieces hold several and somebody can count."""
    if count is None or record.without_gap or not record.good:
        return record
    found = count(text) or 0
    # Each later piece holds a token at least; a count that leaves none for it is of another tokenizer.
    if not 0 < found <= (record.output_tokens or 0) - len(record.event_ns) + record.first_pieces:
        return record
    return replace(record, first_counted=found, first_counter=source)
