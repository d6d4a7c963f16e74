"""Requests run for metering: each phase in a window of its own, repeated until a slow sensor can see it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from engine.measure.energy.capture import CacheState
from engine.measure.energy.integrate import RESOLVABLE_PERIODS
from engine.measure.energy.trace import Event
from engine.measure.local_spread import synchronize

if TYPE_CHECKING:
    from engine.measure.local_model import LocalModel

_MARGIN: Final = 1.2
"""Windows are planned this much longer than they must be: the next run may be quicker."""
_TRAINED_QUICKLY: Final = 8_192
"""Vocabulary up to which a tokenizer is trained each time; larger ones take up to a minute and are kept."""


@dataclass(eq=False)
class Runner:
    """A local model with one workload, run phase by phase; every window ends when the device is done."""

    local: LocalModel
    prompt_tokens: int
    output_tokens: int
    batch_size: int
    cache: str
    seed: int
    least_s: float
    """Shortest window; 0 where only time is measured."""
    between: Callable[[], None] = field(default=lambda: None)
    """Called between windows, outside of them: rest, so that one does not bleed into the next."""
    tokenizer: Any = None

    def __post_init__(self) -> None:
        from engine.measure.local_loop import random_prompts

        self.prompts = random_prompts(
            self.local, sequences=self.batch_size, length=self.prompt_tokens, seed=self.seed
        )
        self._intensity: dict[str, tuple[float, float]] = {}

    def know_intensity(self, found: dict[str, tuple[float, float]]) -> None:
        """FLOPs per byte of a phase at its start and its end, as the performance model counts them."""
        self._intensity = found

    def request(self, repeat: int, *, warmup: bool = False) -> list[Event]:
        """Windows of one request, each phase after the other."""
        found = []
        for phase in (self._tokenize, self._prefill, self._decode, self._detokenize, self._whole):
            self.between()
            found += phase(repeat, warmup)
        return found

    @property
    def longest(self) -> str:
        """The phase that shows best what slows a model down."""
        return "decode" if self.output_tokens > 1 else "prefill"

    def plain(self, phase: str) -> Event:
        """One more window of prefill or decode."""
        self.between()
        return (self._decode if phase == "decode" else self._prefill)(0, False)[0]

    def _tokenize(self, repeat: int, warmup: bool) -> list[Event]:
        if self.tokenizer is None:
            return []
        texts = [self.tokenizer.decode(row) for row in self.prompts.tolist()]
        tokens = self.batch_size * self.prompt_tokens
        return [self._window("tokenize", lambda: self.tokenizer(texts), repeat, warmup, tokens)]

    def _detokenize(self, repeat: int, warmup: bool) -> list[Event]:
        if self.tokenizer is None:
            return []
        rows = self.prompts.tolist()
        rows = [(row * (self.output_tokens // len(row) + 1))[: self.output_tokens] for row in rows]
        tokens = self.batch_size * self.output_tokens

        def run() -> None:
            for row in rows:
                self.tokenizer.decode(row)

        return [self._window("detokenize", run, repeat, warmup, tokens)]

    def _prefill(self, repeat: int, warmup: bool) -> list[Event]:
        tokens = self.batch_size * self.prompt_tokens
        return [self._window("prefill", lambda: self.fill(), repeat, warmup, tokens)]

    def fill(self) -> tuple[Any, Any]:
        """A cache with the whole prompt in it, and the first new token of each row."""
        import torch

        from engine.measure.local_loop import make_cache, prefill

        with torch.inference_mode():
            cache = make_cache(self.local, self.cache, length=self.prompt_tokens + self.output_tokens)
            chosen = prefill(
                self.local, self.prompts, cache, positions=self._positions(0, self.prompt_tokens)
            )
        return cache, chosen

    def positions(self, tokens: int) -> Any:
        """Positions of the next tokens after the prompt."""
        return self._positions(self.prompt_tokens, self.prompt_tokens + tokens)

    def _positions(self, first: int, last: int) -> Any:
        import torch

        return torch.arange(first, last, device=self.local.device).unsqueeze(0)

    def _decode(self, repeat: int, warmup: bool) -> list[Event]:
        """All decode steps, again from the same filled cache where once is too short."""
        if self.output_tokens < 2:
            return []
        cache, chosen = self.fill()
        state = CacheState(cache, None)
        self._settle()
        stamps = _Stamps(self.local.device)
        begin = time.perf_counter()
        runs = 0
        while runs == 0 or time.perf_counter() - begin < self.least_s:
            state.restore()
            stamps.run()
            self._steps(cache, chosen, stamps)
            runs += 1
            self._settle()
        end = time.perf_counter()
        tokens = self.batch_size * (self.output_tokens - 1)
        low, high = self._intensity.get("decode", (None, None))
        steps = [
            Event("step", "decode", first, last, token_index=step, tokens=self.batch_size, repeat=repeat,
                  warmup=warmup, intensity=self._between(low, high, step))
            for step, first, last in stamps.windows()
        ]  # fmt: skip
        return [
            Event(
                "phase", "decode", begin, end, repeat=repeat, warmup=warmup, iterations=runs, tokens=tokens
            ),
            *steps,
        ]

    def _between(self, low: float | None, high: float | None, step: int) -> float | None:
        if low is None or high is None:
            return None
        return low + (high - low) * step / max(self.output_tokens - 2, 1)

    def _steps(self, cache: Any, chosen: Any, stamps: _Stamps) -> None:
        import torch

        from engine.measure.local_loop import decode_step

        with torch.inference_mode():
            for at in range(self.prompt_tokens, self.prompt_tokens + self.output_tokens - 1):
                chosen = decode_step(self.local.module, chosen, cache, positions=self._positions(at, at + 1))
                stamps.step()

    def _whole(self, repeat: int, warmup: bool) -> list[Event]:
        from engine.measure.local_loop import Loop

        loop = Loop(self.local, cache=self.cache)
        tokens = self.batch_size * self.output_tokens

        def run() -> None:
            if self.tokenizer is not None:
                self.tokenizer(self._texts())
            rows = loop.run(self.prompts, self.output_tokens).tokens
            if self.tokenizer is not None:
                for row in rows:
                    self.tokenizer.decode(list(row))

        return [self._window("request", run, repeat, warmup, tokens)]

    def _texts(self) -> list[str]:
        return [self.tokenizer.decode(row) for row in self.prompts.tolist()]

    def _window(self, phase: str, run: Callable[[], Any], repeat: int, warmup: bool, tokens: int) -> Event:
        """As many runs as fill the shortest window, without a pause."""
        self._settle()
        begin = time.perf_counter()
        runs = 0
        while runs == 0 or time.perf_counter() - begin < self.least_s:
            run()
            # Kernels are only queued by a run: without waiting, far too many would be.
            self._settle()
            runs += 1
        end = time.perf_counter()
        low, _ = self._intensity.get(phase, (None, None))
        return Event("phase", phase, begin, end, repeat=repeat, warmup=warmup, iterations=runs, tokens=tokens,
                     intensity=low)  # fmt: skip

    def _settle(self) -> None:
        synchronize(self.local.devices)


class _Stamps:
    """Ends of decode steps, over several runs; events in the stream on CUDA, read after each run."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self._runs: list[tuple[float, list[Any]]] = []

    def run(self) -> None:
        """A run begins."""
        self._runs.append((time.perf_counter(), [self._mark()]))

    def step(self) -> None:
        """A step ended."""
        self._runs[-1][1].append(self._mark())

    def _mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def windows(self) -> list[tuple[int, float, float]]:
        """(step, begin, end) of every step of every run, on the host's clock."""
        found = []
        for start, marks in self._runs:
            if self._cuda:
                ends = [start + marks[0].elapsed_time(mark) / 1e3 for mark in marks]
            else:
                ends = [float(mark) for mark in marks]
            found += [(step, ends[step], ends[step + 1]) for step in range(len(ends) - 1)]
        return found


def shortest_window(period_s: float) -> float:
    """Seconds a window must last to have an energy of its own."""
    return RESOLVABLE_PERIODS * period_s * _MARGIN


def tokenizer_of(local: LocalModel, weights: str, folder: Any) -> Any:
    """The tokenizer of real weights, or one trained to the same vocabulary size for random ones.

    None where there is none: weights without one, or a vocabulary too small for all bytes.
    """
    if weights == "random":
        from engine.errors import MeasurementError
        from engine.measure.local_tokenizer import trained_tokenizer

        try:
            quick = local.vocab_size <= _TRAINED_QUICKLY
            return trained_tokenizer(local.vocab_size, cache=folder if quick else None)
        except MeasurementError:
            return None
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(weights)
    except (OSError, ValueError):
        return None
