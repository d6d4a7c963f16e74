"""Requests that really overlap inside this process: they join and leave the batch between steps.

The batching is that of transformers (its continuous-batching manager); what is measured is what a user of
that manager gets, stamps included, which the library takes when a token exists.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.errors import MeasurementError
from engine.measure.live.local import is_out_of_memory
from engine.measure.live.machine import look, memory_of
from engine.measure.live.records import Level, Measured, Repeat, Request, RunPhase, mark_interrupted
from engine.measure.live.statistics import narrow_enough
from engine.measure.local_loop import random_prompts

if TYPE_CHECKING:
    from engine.measure.live.local import LocalDriver

__all__ = ["run_continuous"]

_PAGE: Final = 16
_WAIT_S: Final = 0.5
_NEVER: Final = -1
"""A token id that does not exist: answers end at their length, never before."""


def run_continuous(
    driver: LocalDriver, levels: Sequence[Level], repeats: int, *, requests: int | None
) -> list[Measured]:
    """Every load `repeats` times, interleaved; each keeps its number of requests in flight."""
    found = [Measured(level) for level in levels]
    most = max(level.concurrency or 1 for level in levels)
    try:
        _measure(driver, found, repeats, requests=requests, most=most)
    except KeyboardInterrupt:
        mark_interrupted(found)
    except (MeasurementError, RuntimeError, MemoryError) as err:
        # One manager serves all loads: when it is gone, none can go on, and what is measured stays.
        reason = _why(err)
        if reason is None:
            raise
        for measured in found:
            measured.status, measured.failure = "failed", reason
    return found


def _why(err: BaseException) -> str | None:
    """What ended the manager; None for an error that is not one of memory or of the manager."""
    if isinstance(err, MeasurementError):
        return err.message
    return f"out of memory: {str(err).splitlines()[0][:200]}" if is_out_of_memory(err) else None


def _measure(
    driver: LocalDriver, found: list[Measured], repeats: int, *, requests: int | None, most: int
) -> None:
    with _Manager(driver, most) as manager:
        for measured in found:
            count = measured.level.concurrency or 1
            for block in range(2):
                measured.warmup += manager.closed_loop(count, count, repeat=block, phase="warmup")
        order = random.Random(driver.seed)  # noqa: S311 - a repeatable order, not a secret
        for number in range(repeats):
            for measured in order.sample(found, len(found)):
                if narrow_enough(measured.repeats, driver.precision):
                    continue
                if time.perf_counter_ns() > driver.deadline_ns:
                    measured.notes = [f"stopped after {len(measured.repeats)} repeats: time limit"]
                    continue
                measured.repeats.append(_repeat(driver, manager, measured.level, number, requests))
            driver.say(f"repeat {number + 1} of {repeats}")
    for measured in found:
        if not measured.repeats:
            measured.status, measured.failure = "failed", "no repeat ended within the time limit"


def _repeat(
    driver: LocalDriver, manager: _Manager, level: Level, number: int, requests: int | None
) -> Repeat:
    concurrency = level.concurrency or 1
    before = look(driver.gpu)
    started = time.perf_counter_ns()
    records = manager.closed_loop(
        max(requests or 4 * concurrency, concurrency), concurrency, repeat=number, phase="measured"
    )
    ended = time.perf_counter_ns()
    memory = memory_of(driver.local.devices, driver.gpu, kv_cache=None)
    return Repeat(number, records, started, ended, before, look(driver.gpu), memory)


@dataclass(slots=True)
class _Flying:
    number: int
    slot: int
    scheduled_ns: int
    sent_ns: int


class _Manager:
    """The library's manager while it runs."""

    def __init__(self, driver: LocalDriver, most: int) -> None:
        self._driver = driver
        longest = max(driver.lengths, default=driver.prompt_tokens)
        pages = math.ceil((longest + driver.output_tokens) / _PAGE) + 1
        self._options: dict[str, Any] = {
            "num_blocks": most * pages + 4,
            "page_size": _PAGE,
            "max_batch_tokens": max(256, longest),
        }
        self._made = 0
        self._manager: Any = None

    def __enter__(self) -> _Manager:
        from transformers import ContinuousBatchingConfig, GenerationConfig

        module = self._driver.local.module
        if not hasattr(module, "init_continuous_batching"):
            raise MeasurementError(
                "this version of transformers has no continuous batching", hint="use `batching: static`"
            )
        self._manager = module.init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=_NEVER, pad_token_id=0),
            continuous_batching_config=ContinuousBatchingConfig(**self._options),
        )
        self._manager.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.stop(block=True, timeout=30)

    def closed_loop(self, count: int, concurrency: int, *, repeat: int, phase: RunPhase) -> list[Request]:
        """`count` requests, `concurrency` at a time; the next is handed in when one ended."""
        driver = self._driver
        lengths = driver.lengths or (driver.prompt_tokens,)
        rows = random_prompts(
            driver.local, sequences=count, length=max(lengths), seed=driver.seed + self._made
        ).tolist()
        prompts = [row[: lengths[i % len(lengths)]] for i, row in enumerate(rows)]
        self._made += count
        flying: dict[str, _Flying] = {}
        records: list[Request] = []
        following = iter(range(count))
        for slot in range(min(concurrency, count)):
            self._send(flying, prompts, next(following), slot)
        while flying:
            result = self._manager.get_result(timeout=_WAIT_S)
            if result is None:
                if not self._manager.is_running():
                    raise MeasurementError(self._ending())
                continue
            if result.request_id not in flying or not result.is_finished():
                continue
            done = flying.pop(result.request_id)
            length = len(prompts[done.number])
            records.append(self._record(result, done, length, repeat=repeat, phase=phase))
            number = next(following, None)
            if number is not None:
                self._send(flying, prompts, number, done.slot)
        return sorted(records, key=lambda record: record.number)

    def _ending(self) -> str:
        """Why the library's loop ended, in its words where it has any."""
        fatal = getattr(getattr(self._manager, "background_thread_status", None), "fatal_error", None)
        if fatal is not None and is_out_of_memory(fatal):
            return f"out of memory: {str(fatal).splitlines()[0][:200]}"
        words = f": {str(fatal).splitlines()[0][:200]}" if str(fatal or "") else ""
        return f"the continuous-batching loop of transformers ended by itself{words}"

    def _send(self, flying: dict[str, _Flying], prompts: list[list[int]], number: int, slot: int) -> None:
        now = time.perf_counter_ns()
        name = self._manager.add_request(
            prompts[number], max_new_tokens=self._driver.output_tokens, record_timestamps=True
        )
        flying[name] = _Flying(number, slot, now, now)

    def _record(
        self, result: Any, sent: _Flying, prompt_tokens: int, *, repeat: int, phase: RunPhase
    ) -> Request:
        stamps = tuple(round(at * 1e9) for at in result.timestamps or ())
        tokens = len(result.generated_tokens)
        wrong = result.error or (
            None if tokens == self._driver.output_tokens else f"{tokens} tokens came instead of the wanted"
        )
        return Request(
            number=sent.number,
            scheduled_ns=sent.scheduled_ns,
            dispatched_ns=sent.scheduled_ns,
            sent_ns=sent.sent_ns,
            done_ns=stamps[-1] if stamps else time.perf_counter_ns(),
            outcome="failed" if wrong else "ok",
            error_class="generation" if wrong else None,
            error=wrong,
            run_phase=phase,
            repeat=repeat,
            slot=sent.slot,
            event_ns=stamps,
            event_tokens=(1,) * len(stamps) if len(stamps) == tokens else None,
            prompt_tokens=prompt_tokens,
            output_tokens=tokens,
            token_source="exact",  # noqa: S106 - who counted, not a credential
            prompt_tokens_asked=prompt_tokens,
            output_tokens_asked=self._driver.output_tokens,
            finish_reason="length",
        )
