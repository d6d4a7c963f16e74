"""What a reader must know before trusting live numbers, each as a rule with its evidence."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from engine.measure.live.machine import noise
from engine.measure.live.records import Measured, Repeat, Request
from engine.measure.live.statistics import trend_is_up
from engine.measure.live.summary import unjudged
from engine.spec.live import HttpTarget, LiveSettings

if TYPE_CHECKING:
    from engine.spec.hardware import Hardware

__all__ = ["findings_of", "other_device"]

_CACHED: Final = 0.01
_SHORT: Final = 0.01
_LENGTH_GAP: Final = 0.02
_BELOW_BOUND: Final = 0.999
# 1 ms of it may be reads that wait for each other, which delays nothing that is counted.
_LAG_S, _LAG_SHARE, _CLIENT_BUSY = 3e-3, 0.05, 0.8
_SATURATED: Final = 0.95
Finding = dict[str, Any]


_ACCELERATOR_MEMORY: Final = re.compile(r"(HBM|GDDR)\w*")
_CHIP: Final = re.compile(r"\b(?!\d+GB\b)[A-Z]*\d+[A-Z]*\b", re.IGNORECASE)


def other_device(hardware: Hardware, observed: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """That the model ran on something else than the spec names, so that predictions are of another device."""
    seen = {row["setting"]: row.get("observed") for row in observed}
    name, ran = seen.get("device name"), None
    # Devices that share memory with a processor have names that drivers do not use.
    if not _ACCELERATOR_MEMORY.fullmatch(hardware.memory_kind or ""):
        return
    if seen.get("device") == "cpu":
        ran = "this machine's processor"
    elif name and hardware.vendor == "NVIDIA" and (chip := _CHIP.search(hardware.name)):
        ran = None if chip[0].lower() in re.split(r"\W+", name.lower()) else f"`{name}`"
    if ran is not None:
        yield _finding(
            "other-device",
            "error",
            f"the spec names {hardware.name}, and the model ran on {ran}",
            "what was measured has no bound and no estimate beside it: they would be those of another device",
            "hardware: THE_DEVICE_IT_RAN_ON",
        )


def findings_of(
    settings: LiveSettings, measured: Sequence[Measured], rows: Sequence[Mapping[str, Any]]
) -> list[Finding]:
    """Everything found over all loads of a point, worst first."""
    found: list[Finding] = []
    for load in measured:
        found += _of_load(settings, load, [row for row in rows if row.get("variant") == load.level.variant])
    order = {"error": 0, "warning": 1, "advice": 2, "note": 3}
    return sorted(found, key=lambda finding: order[finding["severity"]])


def _of_load(settings: LiveSettings, load: Measured, rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    about = load.level.variant
    requests = [r for repeat in load.repeats for r in repeat.requests]
    good = [r for r in requests if r.good]
    threads = 0 if isinstance(settings.target, HttpTarget) else settings.target.threads or os.cpu_count() or 1
    for rule, sentence in noise(load.repeats, busy_threads=threads):
        yield _finding(rule, "warning", f"{about}: {sentence}")
    yield from _above_roof(about, rows)
    yield from _drift(about, load)
    if isinstance(settings.target, HttpTarget):
        yield from _of_client(about, load, rows, searching=settings.load.pattern == "rate_search")
        yield from _of_tokens(about, good)
        yield from _of_stream(about, settings.target, good)
        yield from _of_limits(about, load, settings)
    yield from _serial(about, load, good)
    if load.answer is not None:
        limits = ", ".join(f"`{name} {text}`" for name, text in settings.require.items())
        yield _finding("rate-search", "advice", load.answer, f"limits: {limits}")


def _finding(
    rule: str, severity: str, finding: str, evidence: str | None = None, change: str | None = None
) -> Finding:
    return {"rule": rule, "severity": severity, "finding": finding, "evidence": evidence, "change": change}


def _above_roof(about: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    for row in rows:
        ratio = row.get("time_over_bound")
        if ratio is not None and ratio < _BELOW_BOUND:
            yield _finding(
                "above-the-roof",
                "error",
                f"{about}: {row['phase']} took {ratio:.0%} of the time the device needs at least",
                "wrong device or number format in the spec, fewer tokens than counted, or a prefix cache",
            )


def _drift(about: str, load: Measured) -> Iterator[Finding]:
    means = []
    for repeat in load.repeats:
        values = [r.e2e_s for r in repeat.requests if r.good]
        if values:
            means.append(math.fsum(values) / len(values))
    if trend_is_up([float(i) for i in range(len(means))], means):
        yield _finding(
            "drift",
            "warning",
            f"{about}: later repeats are slower, from {means[0]:.4g} s to {means[-1]:.4g} s a request",
        )


def _of_client(
    about: str, load: Measured, rows: Sequence[Mapping[str, Any]], *, searching: bool
) -> Iterator[Finding]:
    lag = max((r.client.lag_p99_s or 0.0 for r in load.repeats if r.client), default=0.0)
    busy = max((r.client.cpu_share or 0.0 for r in load.repeats if r.client), default=0.0)
    row = next((row for row in rows if row.get("phase") == "request"), {})
    ttft = row.get("ttft_s") or 0.0
    if lag > max(_LAG_S, _LAG_SHARE * ttft) or busy > _CLIENT_BUSY:
        yield _finding(
            "client-limited",
            "warning",
            f"{about}: the load generator was late by {lag * 1e3:.1f} ms (p99) and used {busy:.0%} of a core",
            "requests left late by as much, and times of reading are as good as its core: use a free one",
        )
    if any(r.client.reached_cap for r in load.repeats if r.client):
        yield _finding(
            "client-limited",
            "warning",
            f"{about}: the limit of requests in flight held requests back, so the load was not open",
            "raise `load.max_in_flight`, or lower the rate",
        )
    if load.level.concurrency is None:
        rates = [found for repeat in load.repeats if (found := _offered_and_served(repeat)) is not None]
        offered, served = min(rates, key=lambda pair: pair[1] / pair[0], default=(1.0, 1.0))
        if served / offered < _SATURATED:
            yield _finding(
                "saturated",
                "note" if searching else "warning",  # a search must go too far once
                f"{about}: requests came at {offered:.4g}/s and were completed at {served:.4g}/s; queues "
                "grow without end",
            )


def _offered_and_served(repeat: Repeat) -> tuple[float, float] | None:
    """Requests per second wanted, and completed from the first completion to the last: a server that keeps up
    completes them as fast as they come, however long each takes."""
    due = sorted(r.scheduled_ns for r in repeat.requests)
    ends = sorted(r.done_ns for r in repeat.requests if r.good)
    if len(ends) < 3 or ends[-1] == ends[0] or due[-1] == due[0]:
        return None
    return (len(due) - 1) / (due[-1] - due[0]) * 1e9, (len(ends) - 1) / (ends[-1] - ends[0]) * 1e9


def _of_tokens(about: str, good: Sequence[Request]) -> Iterator[Finding]:
    told = [r for r in good if r.cached_prompt_tokens is not None and r.prompt_tokens]
    cached = sum(r.cached_prompt_tokens or 0 for r in told)
    total = sum(r.prompt_tokens or 0 for r in told)
    if total and cached / total > _CACHED:
        yield _finding(
            "prefix-cache",
            "warning",
            f"{about}: {cached / total:.1%} of the prompt tokens came from the server's cache",
            "times to first token are those of shorter prompts",
        )
    asked = [r for r in good if r.output_tokens is not None and r.output_tokens_asked]
    short = sum((r.output_tokens or 0) < (r.output_tokens_asked or 0) for r in asked)
    if asked and short / len(asked) > _SHORT:
        yield _finding(
            "short-answers",
            "warning",
            f"{about}: {short} of {len(asked)} answers were shorter than asked for",
            "rates count what was generated; compare equal lengths only; nothing is predicted for them",
        )
    lengths = [r for r in good if r.prompt_tokens is not None and r.prompt_tokens_asked]
    off = [r for r in lengths
           if abs((r.prompt_tokens or 0) / (r.prompt_tokens_asked or 1) - 1) > _LENGTH_GAP]  # fmt: skip
    if off:
        worst = max(off, key=lambda r: abs((r.prompt_tokens or 0) - (r.prompt_tokens_asked or 0)))
        yield _finding(
            "prompt-length",
            "note",
            f"{about}: the server counted {worst.prompt_tokens} prompt tokens where "
            f"{worst.prompt_tokens_asked} were asked for, in {len(off)} of {len(lengths)} requests",
            "a chat template adds tokens; a tokenizer other than the server's cannot hit the length",
        )
    sources = {r.token_source for r in good}
    if sources - {"usage"}:
        shown = ", ".join(sorted(s or "nobody" for s in sources))
        yield _finding("token-source", "note", f"{about}: output tokens were counted by {shown}")


def _of_stream(about: str, target: HttpTarget, good: Sequence[Request]) -> Iterator[Finding]:
    """Times that a stream should have told and did not."""
    if not target.stream:
        return
    whole = sum(r.streamed is False for r in good)
    if whole:
        yield _finding(
            "not-streamed",
            "warning",
            f"{about}: the server ignored `stream: true`: {whole} of {len(good)} answers came in one piece",
            "request latency and tokens hold; these answers have no time to first token and none per token",
            "target: {stream: false}",
        )
    silent = sum(bool(r.streamed) and not r.event_ns for r in good)
    if silent:
        yield _finding(
            "no-text",
            "warning",
            f"{about}: {silent} of {len(good)} answers had tokens but no text, such as calls of tools",
            "their latency counts to the end of the answer; they have no time to first token",
        )
    yield from _of_pieces(about, good)


def _of_pieces(about: str, good: Sequence[Request]) -> Iterator[Finding]:
    """Pieces of several tokens, whose first the time per token must leave out."""
    packed = [r for r in good if r.packed and not r.without_gap]
    if not packed:
        return
    mean = math.fsum(r.tokens_per_piece or 0.0 for r in packed) / len(packed)
    text = f"{about}: {len(packed)} of {len(good)} answers came in pieces of {mean:.3g} tokens on average"
    unknown = sum(r.first_tokens is None for r in packed)
    guessed = sum(r.first_tokens_source == "mean of the pieces" for r in packed)
    if unknown:
        text += f"; nobody knows how many the first one of {unknown} held, so they have no time per token"
    if guessed:
        text += f"; the first one of {guessed} is taken to be as large as the mean"
    sure = not unknown and not guessed
    if sure:
        text += f"; those of the first one were counted by {packed[0].first_counter}"
    yield _finding(
        "packed-pieces",
        "note" if sure else "warning",
        text,
        None if sure else "name the model's tokenizer, and the tokens of the first piece are counted",
        None if sure else "target: {tokenizer: FOLDER_OR_NAME}",
    )


def _of_limits(about: str, load: Measured, settings: LiveSettings) -> Iterator[Finding]:
    unknown = unjudged(load.repeats, settings.require)
    if unknown:
        missing = ", ".join(f"`{name}`" for name in settings.require)
        yield _finding(
            "goodput-unknown",
            "warning",
            f"{about}: {unknown} requests lack a metric that `require` limits, so there is no goodput",
            f"limited are {missing}; nobody knows whether these requests met them",
        )


def _serial(about: str, load: Measured, good: Sequence[Request]) -> Iterator[Finding]:
    wanted = load.level.concurrency or 1
    if wanted < 2 or len(good) < 2:
        return
    ordered = sorted(good, key=lambda r: (r.repeat, r.sent_ns))
    overlap = any(
        b.repeat == a.repeat and b.sent_ns < (a.last_ns or a.done_ns) for a, b in itertools.pairwise(ordered)
    )
    if not overlap:
        yield _finding(
            "serial-execution",
            "warning",
            f"{about}: no two requests overlapped; the sum of their rates is no throughput",
        )
