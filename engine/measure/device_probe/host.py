"""What the framework does between kernels: decode steps of models so small that nothing else takes time."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any, Final

from engine.measure.device_probe.timing import Read
from engine.measure.local_loop import Loop, decode_step, make_cache, prefill, random_prompts
from engine.measure.local_model import LocalModel, LocalRequest, build_local_model
from engine.spec.model import Model

_LAYERS: Final = (2, 6, 12)
_HIDDEN: Final = 64
_HEADS: Final = 4
_PROMPT: Final = 16
_TOKENS: Final = 33
_ROUNDS: Final = 4


def host_rows(device: str, precision: str, threads: int | None, read: Read) -> Iterator[dict[str, Any]]:
    """A decode step of each tiny model; the slope over layers is the time between kernels of a layer."""
    found: dict[int, list[Sequence[float]]] = {layers: [] for layers in _LAYERS}
    models = {
        layers: build_local_model(
            LocalRequest(tiny_model(layers), device=device, dtype=precision, threads=threads)
        )
        for layers in _LAYERS
    }
    for number in range(_ROUNDS + 1):
        for layers, local in models.items():
            steps = _steps(local, read)
            if number:  # the first one warms up
                found[layers].append(steps)
    for layers, rounds in found.items():
        # What disturbs a round only adds to it: the quietest one counts.
        low, middle, high = min((statistics.quantiles(steps, n=4) for steps in rounds), key=lambda q: q[1])
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
            "trials": sum(map(len, rounds)),
        }


def _steps(local: LocalModel, read: Read) -> Sequence[float]:
    """Times of decode steps by a clock of the host; by events in the stream of an accelerator."""
    import torch

    prompts = random_prompts(local, sequences=1, length=_PROMPT, seed=0)
    if local.device != "cpu":
        return Loop(local).run(prompts, _TOKENS).step_s
    cache = make_cache(local, "dynamic", length=_PROMPT + _TOKENS)
    positions = torch.arange(_PROMPT + _TOKENS).unsqueeze(0)
    times = []
    with torch.inference_mode():
        chosen = prefill(local, prompts, cache, positions=positions[:, :_PROMPT])
        for place in range(_PROMPT, _PROMPT + _TOKENS - 1):
            begin = read()
            chosen = decode_step(local.module, chosen, cache, positions=positions[:, place : place + 1])
            times.append(read() - begin)
    return times


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
