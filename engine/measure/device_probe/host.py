"""What the framework does besides products: steps of small stacks of layers, of shapes nobody asks about.

On a CPU the products of a stack are timed where they run and taken out, so that what is left holds the
time between kernels and the elementwise steps as a model has them: its weights drive the framework's own
code out of the caches, and every result is written to fresh memory. An accelerator is asked for whole decode
steps of models so tiny that nothing but launching takes time.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from engine.measure.device_probe.timing import Read, Timed, mean_of
from engine.measure.local_loop import Loop, decode_step, make_cache, prefill, random_prompts
from engine.measure.local_model import LocalModel, LocalRequest, build_local_model
from engine.spec.model import Model


@dataclass(frozen=True)
class Stack:
    """A Llama of some layers, small enough to be built in a moment."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int

    @property
    def model(self) -> Model:
        """Its description."""
        return Model.model_validate(
            {
                "name": f"stack-{self.hidden}-{self.layers}",
                "architecture": "llama",
                "hidden_size": self.hidden,
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads,
                "num_key_value_heads": self.kv_heads,
                "intermediate_size": _INNER * self.hidden,
                "vocab_size": 256,
                "max_position_embeddings": 4096,
            }
        )

    def row(self, operator: str, *, rows: int, kv_len: int, times: Timed) -> dict[str, Any]:
        """A row of the `kernels` table."""
        return {
            "operator": operator,
            "m": rows,
            "n": _INNER * self.hidden,
            "k": self.hidden,
            "kv_len": kv_len,
            "num_heads": self.heads,
            "num_kv_heads": self.kv_heads,
            "head_dim": self.hidden // self.heads,
            "layers": self.layers,
            "time_s": times.median_s,
            "time_low_s": times.low_s,
            "time_high_s": times.high_s,
            "trials": times.trials,
        }


_INNER: Final = 3
_TINY: Final = tuple(Stack(layers, 64, 4, 4) for layers in (2, 6, 12))
# Two depths tell a layer from a step, two widths and three lengths the framework from what it moves.
_STREAMING: Final = tuple(
    Stack(layers, hidden, hidden // 64, 2) for hidden in (256, 512) for layers in (2, 8)
)
_PROMPTS: Final = (64, 256)
_PROMPT: Final = 16
_TOKENS: Final = 9
_ROUNDS: Final = 5


def host_rows(
    device: str,
    precision: str,
    threads: int | None,
    read: Read,
    *,
    pass_on: Callable[[], None] = lambda: None,
) -> Iterator[dict[str, Any]]:
    """Steps of stacks: `decode_step` on an accelerator, `between_products` on a CPU. `pass_on` is called
    before each round."""
    stacks = _STREAMING if device == "cpu" else _TINY
    wanted = {
        stack: LocalRequest(stack.model, device=device, dtype=precision, threads=threads) for stack in stacks
    }
    models = {stack: build_local_model(request) for stack, request in wanted.items()}
    if device == "cpu":
        yield from _between_products(models, read, pass_on)
    else:
        yield from _decode_steps(models, pass_on)


def _between_products(
    models: dict[Stack, LocalModel], read: Read, pass_on: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    found: dict[tuple[Stack, int, int], list[Timed]] = {}
    products = {stack: Products.of(local.module, read) for stack, local in models.items()}
    for number in range(_ROUNDS + 1):
        pass_on()
        for stack, local in models.items():
            for prompt in _PROMPTS:
                first, steps = _beside(local, products[stack], prompt)
                if number:  # the first one warms up
                    found.setdefault((stack, prompt, prompt), []).append(_quartiles([first]))
                    found.setdefault((stack, 1, prompt + _TOKENS // 2), []).append(_quartiles(steps))
    for (stack, rows, kv_len), rounds in found.items():
        yield stack.row("between_products", rows=rows, kv_len=kv_len, times=mean_of(rounds))


class Products:
    """The clock of a model's matrix products, where they run."""

    def __init__(self, read: Read) -> None:
        self.read = read
        self.spent_s = 0.0

    @classmethod
    def of(cls, module: Any, read: Read) -> Products:
        """A clock that all linear layers of a module report to."""
        import torch

        clock = cls(read)
        for part in module.modules():
            if isinstance(part, torch.nn.Linear):
                # Hooks would cost a part of what is to be timed.
                part.forward = clock.timed(part.forward)
        return clock

    def timed(self, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same call, with its time added."""

        def wrapped(x: Any) -> Any:
            begin = self.read()
            result = call(x)
            self.spent_s += self.read() - begin
            return result

        return wrapped

    def beside(self, call: Callable[[], Any]) -> tuple[Any, float]:
        """The result of a call, and its seconds outside products."""
        self.spent_s = 0.0
        begin = self.read()
        result = call()
        return result, self.read() - begin - self.spent_s


def _beside(local: LocalModel, products: Products, prompt: int) -> tuple[float, Sequence[float]]:
    """Seconds outside products of a prefill, and of the decode steps behind it."""
    import torch

    prompts = random_prompts(local, sequences=1, length=prompt, seed=0)
    cache = make_cache(local, "dynamic", length=prompt + _TOKENS)
    at = torch.arange(prompt + _TOKENS).unsqueeze(0)
    times = []
    with torch.inference_mode():
        chosen, first = products.beside(lambda: prefill(local, prompts, cache, positions=at[:, :prompt]))
        for place in range(prompt, prompt + _TOKENS - 1):
            chosen, spent = products.beside(
                partial(decode_step, local.module, chosen, cache, positions=at[:, place : place + 1])
            )
            times.append(spent)
    return first, times


def _decode_steps(models: dict[Stack, LocalModel], pass_on: Callable[[], None]) -> Iterator[dict[str, Any]]:
    found: dict[Stack, list[Timed]] = {stack: [] for stack in models}
    for number in range(_ROUNDS + 1):
        pass_on()
        for stack, local in models.items():
            prompts = random_prompts(local, sequences=1, length=_PROMPT, seed=0)
            steps = Loop(local).run(prompts, 4 * _TOKENS).step_s
            if number:  # the first one warms up
                found[stack].append(_quartiles(steps))
    for stack, rounds in found.items():
        yield stack.row("decode_step", rows=1, kv_len=_PROMPT + 2 * _TOKENS, times=mean_of(rounds))


def _quartiles(times: Sequence[float]) -> Timed:
    low, middle, high = statistics.quantiles(times, n=4) if len(times) > 1 else [times[0]] * 3
    return Timed(middle, low, high, len(times))
