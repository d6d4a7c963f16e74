"""Measure a model in this process: static batches, all loads interleaved, repeats in shuffled order."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from engine.measure.live.machine import GpuProbe, look, memory_of, peaks_of
from engine.measure.live.records import Level, Measured, Repeat, Request, mark_interrupted
from engine.measure.live.statistics import narrow_enough
from engine.measure.local_loop import Generation, Loop, generate_with_library, padded, random_prompts

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.measure.local_model import LocalModel

__all__ = ["LocalDriver", "is_out_of_memory"]

_AGREE: Final = 0.05
_BLOCKS: Final = 3
_MOST_BLOCKS: Final = 12
_WARMUP_TOKENS: Final = 16
# Warm-up prompts must differ from measured ones, and so must those of each repeat.
_WARMUP_SEED: Final = 1_000_003


@dataclass(frozen=True)
class LocalDriver:
    """Runs loads on one local model."""

    local: LocalModel
    loop: Loop
    prompt_tokens: int
    output_tokens: int
    seed: int
    deadline_ns: int
    """No repeat begins after this moment."""
    warmup_s: float
    gpu: GpuProbe
    say: Callable[[str], None]
    precision: float | None = None
    """A load known this well is not repeated further; see `LiveSettings.precision`."""
    requests: int | None = None
    """Requests of one repeat; one batch when None."""
    lengths: tuple[int, ...] = ()
    """Prompt lengths dealt to the requests in turn; all `prompt_tokens` when empty."""
    pass_on: Callable[[], None] = lambda: None
    """Lets other measurements work between two repeats."""

    def run(self, levels: Sequence[Level], repeats: int) -> list[Measured]:
        """Every load `repeats` times. A load that runs out of memory ends there, and larger ones with it."""
        found = [Measured(level) for level in levels]
        try:
            self._run(found, repeats)
        except KeyboardInterrupt:
            mark_interrupted(found)
        return found

    def _run(self, found: list[Measured], repeats: int) -> None:
        for measured in sorted(found, key=lambda m: m.level.concurrency or 1):
            if not self._rule_out(measured, found):
                self._guard(measured, partial(self._warm_up, measured))
        deadline_ns = self.deadline_ns
        order = random.Random(self.seed)  # noqa: S311 - a repeatable order, not a secret
        for number in range(repeats):
            # A B C, C A B, ...: drift of the machine then hits every load alike.
            for measured in order.sample(found, len(found)):
                if measured.failure or self._rule_out(measured, found):
                    continue
                if narrow_enough(measured.repeats, self.precision):
                    continue
                begin_ns = time.perf_counter_ns()
                self.pass_on()
                deadline_ns += time.perf_counter_ns() - begin_ns
                if time.perf_counter_ns() > deadline_ns:
                    measured.notes.append(f"stopped after {number} of {repeats} repeats: time limit")
                    if not measured.repeats:
                        measured.status, measured.failure = "failed", "no repeat ended within the time limit"
                    continue
                self._guard(measured, partial(self._add_repeat, measured, number))
            self.say(f"repeat {number + 1} of {repeats}")
        for measured in found:
            # Said once a load, not once a repeat.
            measured.notes[:] = list(dict.fromkeys(measured.notes))[:1]

    def _guard(self, measured: Measured, work: Callable[[], None]) -> None:
        import torch

        try:
            work()
        except (RuntimeError, MemoryError) as err:
            if not is_out_of_memory(err):
                raise
            measured.status = "failed"
            measured.failure = f"out of memory: {str(err).splitlines()[0][:200]}"
            if self.local.device == "cuda":
                torch.cuda.empty_cache()  # of every device

    def _rule_out(self, measured: Measured, others: Sequence[Measured]) -> bool:
        """Whether a smaller or equal load ran out of memory already: this one is then not tried."""
        own = measured.level.concurrency or 1
        for other in others:
            if other is measured or not (other.failure or "").startswith("out of memory"):
                continue
            if (other.level.concurrency or 1) <= own and not measured.failure:
                measured.status = "failed"
                measured.failure = f"not tried: {other.level.variant} ran out of memory"
        return measured.failure is not None

    def _warm_up(self, measured: Measured) -> None:
        """Short batches until three in a row take the same time, within the limit."""
        begin = time.perf_counter()
        tokens = min(self.output_tokens, _WARMUP_TOKENS)
        blocks: list[float] = []
        for block in range(_MOST_BLOCKS if self.warmup_s > 0 else 0):
            started = time.perf_counter()
            prompt_lengths = self._dealt(measured.level, block)
            generation = self._generate(
                measured.level, prompt_lengths, self.seed + _WARMUP_SEED + block, tokens
            )
            blocks.append(time.perf_counter() - started)
            measured.warmup += self._requests(
                generation, prompt_lengths, repeat=0, batch=block, phase="warmup"
            )
            last = blocks[-_BLOCKS:]
            if len(last) == _BLOCKS and max(last) - min(last) <= _AGREE * max(last):
                break
            if time.perf_counter() - begin + blocks[-1] > self.warmup_s:
                break

    def _add_repeat(self, measured: Measured, number: int) -> None:
        measured.repeats.append(self._repeat(measured.level, number))

    def _repeat(self, level: Level, number: int) -> Repeat:
        self._reset_peaks()
        before = look(self.gpu)
        requests: list[Request] = []
        started = time.perf_counter_ns()
        cache = None
        for batch in range(math.ceil((self.requests or len(self.lengths) or 1) / (level.concurrency or 1))):
            lengths = self._dealt(level, batch)
            generation = self._generate(level, lengths, self.seed + number * 1009 + batch, self.output_tokens)
            cache = generation.kv_cache_bytes
            requests += self._requests(generation, lengths, repeat=number, batch=batch, phase="measured")
        ended = time.perf_counter_ns()
        memory = memory_of(self.local.devices, self.gpu, kv_cache=cache)
        return Repeat(number, requests, started, ended, before, look(self.gpu), memory)

    def _reset_peaks(self) -> None:
        if self.local.device == "cuda":
            import torch

            for device in self.local.devices:
                torch.cuda.reset_peak_memory_stats(device)

    def _dealt(self, level: Level, batch: int) -> tuple[int, ...]:
        """Prompt length of each sequence of a batch."""
        count = level.concurrency or 1
        lengths = self.lengths or (self.prompt_tokens,)
        return tuple(lengths[(batch * count + slot) % len(lengths)] for slot in range(count))

    def _generate(self, level: Level, lengths: Sequence[int], seed: int, tokens: int) -> Generation:
        prompts = random_prompts(self.local, sequences=len(lengths), length=max(lengths), seed=seed)
        mask = None
        if len(set(lengths)) > 1:
            prompts, mask = padded(prompts, lengths)
        if level.method == "generate":
            return generate_with_library(self.local, prompts, tokens, mask=mask)
        return self.loop.run(prompts, tokens, mask=mask)

    def _requests(
        self, generation: Generation, lengths: Sequence[int], *, repeat: int, batch: int, phase: Any
    ) -> list[Request]:
        """A row for each sequence; all sequences of a static batch share their stamps."""
        allocated, reserved = self._peaks()
        tokens = generation.output_tokens
        return [
            Request(
                number=batch * generation.sequences + slot,
                scheduled_ns=generation.started_ns,
                dispatched_ns=generation.started_ns,
                sent_ns=generation.started_ns,
                done_ns=generation.ended_ns,
                run_phase=phase,
                repeat=repeat,
                slot=slot,
                event_ns=generation.token_ns,
                event_tokens=(1,) * tokens,
                prompt_tokens=lengths[slot],
                output_tokens=tokens,
                token_source="exact",  # noqa: S106 - who counted, not a credential
                prompt_tokens_asked=lengths[slot],
                output_tokens_asked=tokens,
                finish_reason="length",
                allocated_peak_bytes=allocated,
                reserved_peak_bytes=reserved,
            )
            for slot in range(generation.sequences)
        ]

    def _peaks(self) -> tuple[int | None, int | None]:
        if self.local.device != "cuda":
            return None, None
        return peaks_of(self.local.devices)


def is_out_of_memory(err: BaseException) -> bool:
    """Whether an error of torch or Python means that memory ran out."""
    if isinstance(err, MemoryError) or type(err).__name__ == "OutOfMemoryError":
        return True
    text = str(err).lower()
    return "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
