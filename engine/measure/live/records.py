"""What is known about one request, one repeat and one load: stamps first, meaning later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

INTERRUPTED = "interrupted"
"""Failure of a load that the user stopped."""
MOST_A_PIECE = 1.05
"""Tokens of a piece on average, up to which each is taken to hold one: a few tokens have no text."""
LEAST_PIECES = 20
"""Later pieces for each first one that is taken to be as large as the mean: one twice as large moves the time
of a token by 1 / so many, 5 %."""
Outcome = Literal["ok", "failed", "timeout", "cut", "cancelled"]
RunPhase = Literal["warmup", "measured", "drain", "cancelled"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request; stamps are nanoseconds of one monotonic clock, None when the event never came."""

    number: int
    scheduled_ns: int
    """When the load pattern wanted it to start; for closed loops when its slot became free."""
    dispatched_ns: int
    """When the generator took it up."""
    sent_ns: int
    """Just before its first byte was written."""
    done_ns: int
    """When its end was known, good or bad."""
    outcome: Outcome = "ok"
    run_phase: RunPhase = "measured"
    repeat: int = 0
    slot: int | None = None
    connected_ns: int | None = None
    first_byte_ns: int | None = None
    first_event_ns: int | None = None
    first_answer_ns: int | None = None
    event_ns: tuple[int, ...] = field(default=(), repr=False)
    """When each piece with text arrived."""
    event_tokens: tuple[int, ...] | None = field(default=None, repr=False)
    """Tokens of each piece, where known."""
    first_counted: int | None = None
    """Tokens of the text that came first, by itself, where pieces hold several and somebody can count."""
    first_counter: str | None = None
    """Who counted them."""
    streamed: bool | None = None
    """It came as a stream of events; None for a local target, False for one JSON body."""
    reads: int | None = None
    prompt_tokens: int | None = None
    cached_prompt_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    token_source: str | None = None
    prompt_tokens_asked: int | None = None
    output_tokens_asked: int | None = None
    finish_reason: str | None = None
    http_status: int | None = None
    error_class: str | None = None
    error: str | None = None
    server_prefill_s: float | None = None
    server_decode_s: float | None = None
    allocated_peak_bytes: int | None = None
    reserved_peak_bytes: int | None = None

    @property
    def good(self) -> bool:
        """It ended well and counts."""
        return self.outcome == "ok" and self.run_phase in ("measured", "drain")

    @property
    def first_ns(self) -> int | None:
        """First piece with text."""
        return self.event_ns[0] if self.event_ns else None

    @property
    def last_ns(self) -> int | None:
        """Last piece with text."""
        return self.event_ns[-1] if self.event_ns else None

    @property
    def ttft_s(self) -> float | None:
        """From sending to the first text."""
        return None if self.first_ns is None else (self.first_ns - self.sent_ns) / 1e9

    @property
    def ttft_from_schedule_s(self) -> float | None:
        """From the wanted start to the first text."""
        return None if self.first_ns is None else (self.first_ns - self.scheduled_ns) / 1e9

    @property
    def ttft_answer_s(self) -> float | None:
        """From sending to the first text that is not reasoning."""
        return None if self.first_answer_ns is None else (self.first_answer_ns - self.sent_ns) / 1e9

    @property
    def e2e_s(self) -> float:
        """From sending to the last text; to the end of the answer where it came in one piece."""
        return ((self.last_ns or self.done_ns) - self.sent_ns) / 1e9

    @property
    def e2e_from_schedule_s(self) -> float:
        """From the wanted start to the last text."""
        return ((self.last_ns or self.done_ns) - self.scheduled_ns) / 1e9

    @property
    def queue_s(self) -> float:
        """How long it waited on our side."""
        return (self.sent_ns - self.scheduled_ns) / 1e9

    @property
    def without_gap(self) -> bool:
        """There is no time between tokens: only one, or all in one read."""
        return self.output_tokens == 1 or (self.first_ns is not None and self.first_ns == self.last_ns)

    @property
    def tokens_per_piece(self) -> float | None:
        """Tokens of a piece on average; a token that only ended the answer came in none."""
        if not self.event_ns or self.output_tokens is None:
            return None
        return (self.output_tokens - (self.finish_reason == "stop")) / len(self.event_ns)

    @property
    def packed(self) -> bool:
        """Pieces held several tokens, and nobody said how many each of them."""
        return self.event_tokens is None and (self.tokens_per_piece or 0) > MOST_A_PIECE

    @property
    def first_pieces(self) -> int:
        """Pieces that came first, in one read."""
        return self.event_ns.count(self.event_ns[0]) if self.event_ns else 0

    @property
    def first_tokens(self) -> float | None:
        """Tokens that came first, in one read: told, one a piece, counted, or the mean of many pieces; None
        where few pieces held several tokens and nobody can count them."""
        pieces = self.first_pieces
        if self.event_tokens:
            return sum(self.event_tokens[:pieces])
        if not self.packed:
            return pieces
        if self.first_counted is not None:
            return self.first_counted
        many = len(self.event_ns) > LEAST_PIECES * pieces
        return pieces * (self.tokens_per_piece or 0.0) if many else None

    @property
    def first_tokens_source(self) -> str | None:
        """Where that number comes from; None without text."""
        if not self.event_ns:
            return None
        if self.event_tokens:
            return self.token_source
        if not self.packed:
            return "one a piece"
        if self.first_counted is not None:
            return self.first_counter
        return "not known" if self.first_tokens is None else "mean of the pieces"

    @property
    def tpot_s(self) -> float | None:
        """Mean time of a token after those that came first; None when there is none after them, or when
        nobody knows how many they were."""
        if self.output_tokens is None or self.first_ns is None or self.last_ns is None:
            return None
        if self.first_tokens is None:
            return None
        later = self.output_tokens - self.first_tokens
        # Pieces that all came in one read say nothing of the time between tokens, least of all that it is 0.
        if later <= 0 or self.first_ns == self.last_ns:
            return None
        return (self.last_ns - self.first_ns) / 1e9 / later

    @property
    def ntpot_s(self) -> float | None:
        """Request latency over output tokens."""
        return self.e2e_s / self.output_tokens if self.output_tokens else None

    @property
    def output_tokens_per_s_per_user(self) -> float | None:
        """Speed one reader sees."""
        return 1 / self.tpot_s if self.tpot_s else None

    @property
    def gaps_s(self) -> list[float]:
        """Times between pieces."""
        return [(b - a) / 1e9 for a, b in zip(self.event_ns, self.event_ns[1:], strict=False)]

    @property
    def one_token_events(self) -> bool:
        """Every piece held exactly one token."""
        if self.event_tokens is not None:
            return all(count == 1 for count in self.event_tokens)
        return self.output_tokens == len(self.event_ns)

    @property
    def own_stamps(self) -> int:
        """Pieces whose read held no other, so that the gap before them means something."""
        return len(set(self.event_ns))


@dataclass(frozen=True, slots=True)
class Machine:
    """State of this machine at one moment; None where it cannot be read."""

    load_average: float | None
    steal_s: float | None
    cpu_total_s: float | None
    cpu_clock_hz: float | None
    gpu_clock_hz: float | None
    gpu_temperature_c: float | None
    switches: int | None
    """Involuntary context switches of this process."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one load, in bytes; None where it was not measured."""

    host_rss_peak: int | None = None
    device_allocated_peak: int | None = None
    device_reserved_peak: int | None = None
    device_process: int | None = None
    device_used: int | None = None
    kv_cache: int | None = None


@dataclass(frozen=True, slots=True)
class ClientWatch:
    """What the load generator saw of itself during a repeat."""

    lag_p99_s: float | None
    cpu_share: float | None
    reached_cap: bool = False
    """Open pattern: the limit of requests in flight held requests back."""


@dataclass(frozen=True)
class Repeat:
    """One measurement of one load."""

    number: int
    requests: Sequence[Request]
    started_ns: int
    ended_ns: int
    before: Machine | None = None
    after: Machine | None = None
    memory: Memory = Memory()
    client: ClientWatch | None = None


@dataclass(frozen=True)
class Level:
    """One load: what tells its rows apart, and what it asks for."""

    variant: str
    concurrency: int | None = None
    """Requests in flight; None for open patterns."""
    rate: float | None = None
    """Requests per second of an open pattern."""
    pattern: str = "closed"
    requests: int | None = None
    """Requests of one repeat, where the load says and the settings do not."""
    batching: str | None = None
    """How a local target overlaps requests: `static` or `continuous`; None for servers."""
    method: str = "loop"
    """`loop`, or `generate` for the library's own."""


@dataclass
class Measured:
    """A load with its repeats as they come in, and what went wrong with it."""

    level: Level
    repeats: list[Repeat] = field(default_factory=list, repr=False)
    warmup: list[Request] = field(default_factory=list, repr=False)
    failure: str | None = None
    """Why it was given up; what was measured before stays."""
    status: str = "ok"
    notes: list[str] = field(default_factory=list)
    answer: str | None = None
    """What a search found, with the load that it rests on."""


def mark_interrupted(loads: Sequence[Measured]) -> None:
    """Say of every load that it was stopped; what it has stays."""
    for load in loads:
        load.status, load.failure = "failed", load.failure or INTERRUPTED
