"""Prefill and decode of a local model, step by step, with exact counts and one clock.

A prefill ends, and every decode step ends, when the chosen tokens exist; on CUDA the steps are timed by
events in the stream and the host waits once a phase, so that watching does not slow what is watched.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.errors import MeasurementError
from engine.measure.local_model import LocalModel
from engine.measure.local_spread import synchronize

__all__ = [
    "Generation",
    "Loop",
    "cache_bytes",
    "decode_step",
    "generate_with_library",
    "make_cache",
    "padded",
    "prefill",
    "random_prompts",
]


@dataclass(frozen=True)
class Generation:
    """A batch from prompt to last token; stamps are `perf_counter_ns`."""

    started_ns: int
    token_ns: tuple[int, ...]
    """When each token of every sequence existed; as many as were asked for."""
    ended_ns: int
    sequences: int
    prompt_tokens: int
    kv_cache_bytes: int | None
    """Bytes of cached keys and values at the end; None when the cache was not ours to look at."""
    tokens: tuple[tuple[int, ...], ...] = field(default=(), repr=False)
    """Token ids by sequence."""

    @property
    def output_tokens(self) -> int:
        """Tokens generated for each sequence."""
        return len(self.token_ns)

    @property
    def prefill_s(self) -> float:
        """From the start to the first token of every sequence."""
        return (self.token_ns[0] - self.started_ns) / 1e9

    @property
    def step_s(self) -> tuple[float, ...]:
        """Each decode step after the first token."""
        return tuple((b - a) / 1e9 for a, b in zip(self.token_ns, self.token_ns[1:], strict=False))


class Loop:
    """The engine's own generation loop over one model: greedy, and never stopped early."""

    def __init__(self, local: LocalModel, *, cache: str = "dynamic", compiled: bool = False) -> None:
        self._local = local
        self._cache = cache
        self._step = local.module
        if compiled:
            import torch

            self._step = torch.compile(local.module, mode="default")

    def run(self, prompts: Any, output_tokens: int, *, mask: Any = None) -> Generation:
        """Generate `output_tokens` for each row of `prompts` (a tensor of token ids). A mask of the same
        shape is 0 where a row is padded, on its left."""
        import torch

        if output_tokens < 1:
            raise MeasurementError("at least one token must be generated")
        sequences, length = prompts.shape
        cache = make_cache(self._local, self._cache, length=length + output_tokens)
        mask, positions = _laid_out(mask, length + output_tokens, self._local.device)
        cuda = self._local.device == "cuda"
        clock = _EventClock(self._local.devices) if cuda else _HostClock(self._local.devices)
        outputs = []
        with torch.inference_mode():
            clock.start()
            chosen = prefill(
                self._local, prompts, cache, positions=positions[:, :length], mask=_up_to(mask, length)
            )
            outputs.append(chosen)
            clock.first()
            for position in range(length, length + output_tokens - 1):
                chosen = decode_step(
                    self._step,
                    chosen,
                    cache,
                    positions=positions[:, position : position + 1],
                    mask=_up_to(mask, position + 1),
                )
                outputs.append(chosen)
                clock.step()
            started, stamps, ended = clock.stop()
        rows = torch.cat(outputs, dim=1).tolist()
        return Generation(
            started, stamps, ended, sequences, length, cache_bytes(cache), tuple(tuple(row) for row in rows)
        )


def _laid_out(mask: Any, length: int, device: str) -> tuple[Any, Any]:
    """The mask of prompts and all tokens to come, and each token's position in its own text."""
    import torch

    if mask is None:
        return None, torch.arange(length, device=device).unsqueeze(0)
    rows, prompt = mask.shape
    whole = torch.cat([mask, mask.new_ones((rows, length - prompt))], dim=1)
    return whole, (whole.cumsum(dim=1) - 1).clamp(min=0)


def _up_to(mask: Any, length: int) -> Any:
    return None if mask is None else mask[:, :length]


def prefill(local: LocalModel, prompts: Any, cache: Any, *, positions: Any, mask: Any = None) -> Any:
    """One forward pass over whole prompts that fills the cache; the first new token of each row."""
    return _forward(local.module, prompts, cache, positions=positions, mask=mask)


def _forward(module: Any, tokens: Any, cache: Any, *, positions: Any, mask: Any) -> Any:
    found = module(
        input_ids=tokens,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        position_ids=positions,
        # Left out where nothing is padded: with a mask, some attention kernels are no longer chosen.
        **({} if mask is None else {"attention_mask": mask}),
    )
    return found.logits[:, -1:, :].argmax(dim=-1)


def decode_step(module: Any, tokens: Any, cache: Any, *, positions: Any, mask: Any = None) -> Any:
    """One forward pass over one token of each sequence; the next token of each."""
    return _forward(module, tokens, cache, positions=positions, mask=mask)


def make_cache(local: LocalModel, kind: str, *, length: int) -> Any:
    """An empty cache: `dynamic` grows, `static` holds `length` tokens from the start."""
    from transformers import DynamicCache, StaticCache

    if kind == "static":
        return StaticCache(config=local.config, max_cache_len=length)
    return DynamicCache(config=local.config)


def cache_bytes(cache: Any) -> int | None:
    """Bytes of the keys, values and states that a cache holds, on the fullest device; None when it holds no
    tensors we know."""
    import torch

    seen: dict[Any, dict[int, int]] = {}
    for layer in getattr(cache, "layers", ()):
        for value in vars(layer).values():
            for tensor in value.values() if isinstance(value, dict) else (value,):
                if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.ndim > 1:
                    here = seen.setdefault(tensor.device, {})
                    here[id(tensor)] = tensor.numel() * tensor.element_size()
    return max((sum(here.values()) for here in seen.values()), default=0) or None


def random_prompts(local: LocalModel, *, sequences: int, length: int, seed: int) -> Any:
    """Distinct prompts of exactly this many tokens, the same for the same seed."""
    import torch

    generator = torch.Generator().manual_seed(seed % 2**63)
    ids = torch.randint(0, local.vocab_size, (sequences, length), generator=generator)
    return ids.to(local.device)


def padded(prompts: Any, lengths: Sequence[int]) -> tuple[Any, Any]:
    """Rows cut to these lengths, shorter ones padded on the left, and the mask that says where."""
    import torch

    width = max(lengths)
    kept = torch.tensor(lengths, device=prompts.device).unsqueeze(1)
    mask = (torch.arange(width, device=prompts.device).unsqueeze(0) >= width - kept).long()
    return prompts[:, :width] * mask, mask


def generate_with_library(
    local: LocalModel, prompts: Any, output_tokens: int, *, mask: Any = None
) -> Generation:
    """The same work through `generate()`, as most people run it: greedy, full length, stamped every step."""
    import torch

    stamps = _Stamps()
    with torch.inference_mode():
        synchronize(local.devices)
        started = time.perf_counter_ns()
        found = local.module.generate(
            prompts,
            attention_mask=torch.ones_like(prompts) if mask is None else mask,
            max_new_tokens=output_tokens,
            min_new_tokens=output_tokens,
            do_sample=False,
            pad_token_id=0,
            # A streamer takes one sequence only; a stopping rule is asked after every step of any batch.
            **({"streamer": stamps} if prompts.shape[0] == 1 else {"stopping_criteria": [stamps.never]}),
        )
        synchronize(local.devices)
        ended = time.perf_counter_ns()
    produced = int(found.shape[1]) - int(prompts.shape[1])
    if produced != output_tokens or len(stamps.taken) < output_tokens:
        raise MeasurementError(f"`generate()` made {produced} tokens where {output_tokens} were asked for")
    rows = found[:, prompts.shape[1] :].tolist()
    return Generation(
        started, tuple(stamps.taken[-output_tokens:]), ended, int(prompts.shape[0]), int(prompts.shape[1]),
        None, tuple(tuple(row) for row in rows),
    )  # fmt: skip


class _Stamps:
    """Notes when each step of `generate()` ended; a streamer is handed the prompt first."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def put(self, _value: Any) -> None:
        self.taken.append(time.perf_counter_ns())

    def end(self) -> None:
        """Nothing is left to show."""

    def never(self, tokens: Any, _scores: Any, **_options: Any) -> Any:
        """A stopping rule that stops nothing."""
        import torch

        self.taken.append(time.perf_counter_ns())
        return torch.zeros(tokens.shape[0], dtype=torch.bool, device=tokens.device)


class _HostClock:
    """Stamps on the host after each step; the CPU works while it is asked, other devices are waited for."""

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = devices
        self._stamps: list[int] = []
        self._started = 0

    def start(self) -> None:
        synchronize(self._devices)
        self._started = time.perf_counter_ns()

    def first(self) -> None:
        self.step()

    def step(self) -> None:
        synchronize(self._devices)
        self._stamps.append(time.perf_counter_ns())

    def stop(self) -> tuple[int, tuple[int, ...], int]:
        return self._started, tuple(self._stamps), time.perf_counter_ns()


class _EventClock:
    """Events in the stream of a CUDA device, placed on the host's time line; one wait a phase.

    Of several devices it is the first: chosen tokens come back to it, after all others have done their part.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = devices
        self._events: list[Any] = []
        self._started = self._first_ns = 0

    def start(self) -> None:
        synchronize(self._devices)
        self._started = time.perf_counter_ns()

    def first(self) -> None:
        # The first token is read by the host, as a user would have to wait for it.
        self._mark()
        synchronize(self._devices)
        self._first_ns = time.perf_counter_ns()

    def step(self) -> None:
        self._mark()

    def _mark(self) -> None:
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._events.append(event)

    def stop(self) -> tuple[int, tuple[int, ...], int]:
        synchronize(self._devices)
        ended = time.perf_counter_ns()
        first = self._events[0]
        offsets = (round(first.elapsed_time(event) * 1e6) for event in self._events)
        return self._started, tuple(self._first_ns + offset for offset in offsets), ended
