"""The engine's own decode loop against `generate()`, and what timing itself costs, interleaved.

    python benchmarks/live_local.py [--rounds 15] [--model llama-3.2-1b]

Without a model a random Llama of seven million parameters runs, on which fixed costs show most. Rounds
go A B C A B C: one variant after the other would show the machine's drift as a difference.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from engine.measure.local_loop import Loop, decode_step, generate_with_library, make_cache, random_prompts
from engine.measure.local_model import LocalModel, LocalRequest, build_local_model
from engine.spec.catalog import load_model
from engine.spec.model import Model

_SMALL = {
    "name": "tiny-llama-7m", "architecture": "llama", "hidden_size": 256, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 688, "vocab_size": 8000,
    "max_position_embeddings": 2048,
}  # fmt: skip


def _bare(local: LocalModel, prompts: Any, tokens: int) -> float:
    """Seconds of a decode step in a loop that takes no stamps at all, from its first to its last token."""
    import torch

    length = prompts.shape[1]
    positions = torch.arange(length + tokens, device=local.device).unsqueeze(0)
    cache = make_cache(local, "dynamic", length=length + tokens)
    with torch.inference_mode():
        chosen = decode_step(local.module, prompts, cache, positions=positions[:, :length])
        chosen.tolist()
        begin = time.perf_counter()
        for i in range(length, length + tokens - 1):
            chosen = decode_step(local.module, chosen, cache, positions=positions[:, i : i + 1])
        chosen.tolist()
    return (time.perf_counter() - begin) / (tokens - 1)


def _step(generation: Any) -> float:
    return (generation.token_ns[-1] - generation.token_ns[0]) / 1e9 / (len(generation.token_ns) - 1)


def _clock_cost() -> float:
    """Seconds that one stamp of the loop takes."""
    from engine.measure.local_loop import _HostClock

    clock = _HostClock(("cpu",))
    clock.start()
    begin = time.perf_counter()
    for _ in range(100_000):
        clock.step()
    return (time.perf_counter() - begin) / 100_000


def main() -> None:
    """Print a decode step of each variant and the ratios of interleaved pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--model")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--device", default="auto")
    # One: threads of a busy machine wait for each other, and CPU time would count the waiting.
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    shape = load_model(options.model) if options.model else Model.model_validate(_SMALL)
    local = build_local_model(
        LocalRequest(shape, device=options.device, dtype=options.dtype, threads=options.threads)
    )
    prompts = random_prompts(local, sequences=1, length=128, seed=1)
    loop = Loop(local)
    variants = {
        "loop without stamps": lambda: _bare(local, prompts, options.tokens),
        "engine's loop": lambda: _step(loop.run(prompts, options.tokens)),
        "generate()": lambda: _step(generate_with_library(local, prompts, options.tokens)),
    }
    found: dict[str, list[float]] = {name: [] for name in variants}
    cpu: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(2):
        for run in variants.values():
            run()
    for _ in range(options.rounds):
        for name, run in variants.items():
            begin = time.process_time()
            found[name].append(run())
            cpu[name].append((time.process_time() - begin) / options.tokens)
    print(f"{shape.name} on {local.device}, {options.dtype}, {local.observed.get('threads', '-')} threads")
    for name, steps in found.items():
        print(
            f"  {name:22} min {min(steps) * 1e3:9.4f} ms  median {statistics.median(steps) * 1e3:9.4f} ms"
            f"  CPU a token with its share of the prompt: min {min(cpu[name]) * 1e3:9.4f} ms"
        )
    cost = _clock_cost()
    share = cost / min(found["engine's loop"])
    print(f"  one stamp: {cost * 1e6:.2f} us, {share:.4%} of a step")
    for name in ("loop without stamps", "generate()"):
        ratios = sorted(a / b for a, b in zip(found[name], found["engine's loop"], strict=True))
        spent = sorted(a / b for a, b in zip(cpu[name], cpu["engine's loop"], strict=True))
        print(
            f"  {name} / engine's loop: median of pairs {statistics.median(ratios):.4f}, "
            f"by CPU time {statistics.median(spent):.4f}"
        )


if __name__ == "__main__":
    main()
