"""What the framework does between kernels: decode steps of models so small that nothing else takes time."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any, Final

from engine.measure.local_loop import Loop, random_prompts
from engine.measure.local_model import LocalRequest, build_local_model
from engine.spec.model import Model

_LAYERS: Final = (2, 6, 12)
_HIDDEN: Final = 64
_HEADS: Final = 4
_PROMPT: Final = 16
_TOKENS: Final = 33


def host_rows(device: str, precision: str, threads: int | None) -> Iterator[dict[str, Any]]:
    """A decode step of each tiny model; the slope over layers is the time between kernels of a layer."""
    for layers in _LAYERS:
        request = LocalRequest(tiny_model(layers), device=device, dtype=precision, threads=threads)
        local = build_local_model(request)
        loop = Loop(local)
        prompts = random_prompts(local, sequences=1, length=_PROMPT, seed=0)
        loop.run(prompts, 3)
        steps = [step for _ in range(3) for step in loop.run(prompts, _TOKENS).step_s]
        low, middle, high = statistics.quantiles(steps, n=4)
        yield {
            "operator": "decode_step",
            "m": 1,
            "n": 4 * _HIDDEN,
            "k": _HIDDEN,
            "kv_len": _PROMPT + _TOKENS // 2,
            "num_heads": _HEADS,
            "num_kv_heads": _HEADS,
            "head_dim": _HIDDEN // _HEADS,
            "layers": layers,
            "time_s": middle,
            "time_low_s": low,
            "time_high_s": high,
            "trials": len(steps),
        }


def tiny_model(layers: int) -> Model:
    """A Llama of a few thousand parameters."""
    return Model.model_validate(
        {
            "name": f"tiny-{layers}",
            "architecture": "llama",
            "hidden_size": _HIDDEN,
            "num_hidden_layers": layers,
            "num_attention_heads": _HEADS,
            "num_key_value_heads": _HEADS,
            "intermediate_size": 4 * _HIDDEN,
            "vocab_size": 256,
            "max_position_embeddings": 4096,
        }
    )
