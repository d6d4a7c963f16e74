"""Loads that are looked for: where throughput stops growing, and the highest rate within the limits."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from engine.measure.live.records import Level, Measured, Repeat, Request
from engine.measure.live.serve import ServerRun
from engine.measure.live.statistics import trend_is_up
from engine.measure.live.summary import error_share, meets, unjudged
from engine.spec.condition import parse_condition
from engine.spec.live import LiveSettings

__all__ = ["find_saturation", "holds", "queue_requests", "search_rate"]

_GAIN: Final = 0.05
_MOST_DOUBLINGS: Final = 12
_MOST_PROBES: Final = 16
_SERVED: Final = 0.95
_LONGEST_PROBE_S: Final = 60.0
_WAITING: Final = ("ttft_s", "ttft_from_schedule_s", "e2e_s", "e2e_from_schedule_s")
"""Metrics of a request that grow while it waits."""


async def find_saturation(run: ServerRun) -> list[Measured]:
    """Concurrency doubled until throughput grows by less than 5 %; the last load is past the knee."""
    start = (run.settings.load.concurrency or [1])[0]
    found: list[Measured] = []
    best = 0.0
    for doubling in range(_MOST_DOUBLINGS):
        number = start * 2**doubling
        if number > run.settings.load.max_in_flight or run.late:
            break
        found += await run.measure([Level(f"concurrency {number}", concurrency=number)], run.settings.repeats)
        rate = _tokens_per_s(found[-1])
        if rate < best * (1 + _GAIN):
            found[-1].notes.append(f"saturated: {rate:.4g} tokens/s after {best:.4g} at half the load")
            break
        best = rate
    return found


def _tokens_per_s(measured: Measured) -> float:
    rates = []
    for repeat in measured.repeats:
        good = [r for r in repeat.requests if r.good]
        if good:
            seconds = (max(r.done_ns for r in good) - min(r.sent_ns for r in good)) / 1e9
            rates.append(sum(r.output_tokens or 0 for r in good) / seconds)
    return math.fsum(rates) / len(rates) if rates else 0.0


async def search_rate(run: ServerRun) -> list[Measured]:
    """The bracket of the highest Poisson rate at which enough requests meet the limits.

    From the rate of one request after the other, rates are doubled until one fails, then the bracket is
    halved until it is narrow enough. Every probe is a measured load of its own, with its warm-up, and as long
    as a queue needs to build up; the answer is a bracket, never a single number.
    """
    load = run.settings.load
    low, high = 0.0, math.inf
    alone = await run.warm_up(Measured(Level("alone", concurrency=1)), least=1)
    # One request after the other is a rate that any server holds, and close enough to double from.
    rate = min([1 / alone if alone > 0 else 1.0, *load.rates[-1:]])
    found: list[Measured] = []
    for _ in range(_MOST_PROBES):
        if run.late:
            break
        measured = await _probe(run, rate, look_first=math.isinf(high))
        found.append(measured)
        good, why = holds(run, measured)
        run.say(f"{rate:.4g} requests/s: {why}")
        if good is None:
            measured.status, measured.failure = "failed", why
            return found
        measured.notes.append(why)
        low, high = (rate, high) if good else (low, rate)
        # A limit that even the highest allowed rate meets needs no upper end.
        if good and load.rates and rate >= load.rates[-1]:
            break
        if math.isfinite(high) and (high - low) <= load.resolution * high:
            break
        rate = _next(low, high, load.rates[-1] if load.rates else math.inf)
    _mark_answer(run, found, low, high)
    return found


async def _probe(run: ServerRun, rate: float, *, look_first: bool) -> Measured:
    """A load at this rate, long enough for a queue; where it may be far too much, a short look comes first
    and is all if it fails: what misses the limits at once misses them later too."""
    level = Level(f"search {rate:.4g}/s", rate=rate, pattern="poisson")
    enough = min(queue_requests(run.settings, rate), math.ceil(_LONGEST_PROBE_S * rate))
    seen: list[Request] = []
    if enough > run.count_of(level):
        level = replace(level, requests=enough)
        if look_first and run.settings.load.requests is None:
            short = (await run.measure([replace(level, requests=None)], 1))[0]
            if holds(run, short)[0] is not True:
                return short
            # One load, one row: what the look saw is how the load was warmed up.
            run.found[:] = [measured for measured in run.found if measured is not short]
            seen = [*short.warmup, *(replace(r, run_phase="warmup") for r in short.repeats[0].requests)]
    measured = (await run.measure([level], run.settings.repeats))[0]
    measured.warmup[:0] = seen
    return measured


def queue_requests(settings: LiveSettings, rate: float) -> int:
    """Requests after which a queue as long as the limits allow has built up; 0 without limits on waiting.

    Near its capacity a server's queue is a random walk, which takes k^2 steps to get k far (Kingman 1962);
    four times as many, so that most schedules get there. With 16 places of 0.3655 s and 0.5 s to wait, 97 of
    100 schedules of 200 requests pass at 43.8/s, where in the long run nothing above 39.5/s does.
    """
    limits = [parse_condition(n, text).value for n, text in settings.require.items() if n in _WAITING]
    return math.ceil(4 * (rate * min(limits)) ** 2) if limits else 0


def _next(low: float, high: float, most: float) -> float:
    if math.isinf(high):
        return min(2 * low, most)
    return (low + high) / 2 if low > 0 else high / 4


def _mark_answer(run: ServerRun, found: list[Measured], low: float, high: float) -> None:
    text = f"the highest rate within the limits is at least {low:.4g}/s"
    text += f" and below {high:.4g}/s" if math.isfinite(high) else ", the highest that was tried"
    if low == 0:
        text = f"no tried rate stays within the limits; the lowest was {high:.4g}/s"
    for measured in found:
        rate = measured.level.rate or 0.0
        if rate != (low or high):
            continue
        count, enough = run.count_of(measured.level), queue_requests(run.settings, rate)
        if low and count < enough:
            text += f"; in {count} requests no queue builds up that takes {enough}, so it may be too high"
        measured.notes.append(text)
        measured.answer = text


def holds(run: ServerRun, measured: Measured) -> tuple[bool | None, str]:
    """Whether a load is within the limits, and why: share of requests, failures, growing queues. None where
    too many requests lack the metrics that the limits are about."""
    settings = run.settings
    if measured.failure is not None:
        return False, measured.failure
    requests = [r for repeat in measured.repeats for r in repeat.requests]
    failed = error_share(requests) or 0.0
    if failed > settings.max_error_share:
        return False, f"{failed:.1%} failed"
    share = sum(meets(r, settings.require) is True for r in requests) / len(requests)
    unknown = unjudged(measured.repeats, settings.require) / len(requests)
    if share < settings.attainment <= share + unknown:
        return None, f"{unknown:.1%} of the requests lack a metric that `require` limits"
    if share < settings.attainment:
        return False, f"{share:.1%} of the requests meet the limits, {settings.attainment:.1%} are wanted"
    growing = [repeat for repeat in measured.repeats if _queue_grows(repeat)]
    if 2 * len(growing) > len(measured.repeats):
        return False, f"{share:.1%} meet the limits, but the queue grows"
    return True, f"{share:.1%} of the requests meet the limits"


def _queue_grows(repeat: Repeat) -> bool:
    """Latency rises along the repeat and the server falls behind the offered rate."""
    good = sorted((r for r in repeat.requests if r.good), key=lambda r: r.scheduled_ns)
    if len(good) < 8:
        return False
    offered = (good[-1].scheduled_ns - good[0].scheduled_ns) / 1e9
    served = (max(r.done_ns for r in good) - min(r.done_ns for r in good)) / 1e9
    behind = offered > 0 and offered / served < _SERVED if served > 0 else False
    return behind and trend_is_up([float(r.scheduled_ns - good[0].scheduled_ns) for r in good],
                                  [r.e2e_from_schedule_s for r in good])  # fmt: skip
