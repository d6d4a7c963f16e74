"""Runs made by rule for comparing: a test knows every value, spread and verdict."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from engine.results.compared import ComparedRun
from engine.results.tables import make_table

POINT: dict[str, Any] = {
    "model": "llama-3.1-8b", "hardware": "h100-sxm-80gb", "quantization": "bf16", "prompt_tokens": 2048,
    "output_tokens": 256, "batch_size": 1, "shared_prefix_tokens": 0, "prefill_chunk_tokens": 0,
    "prefill_tokens_per_step": 0, "tensor": 1, "pipeline": 1, "expert": 1, "data": 1, "devices": 1,
    "settings": None,
}  # fmt: skip


def table(name: str, rows: Sequence[Mapping[str, Any]]):
    """Rows as a table of results."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return make_table(name, {key: [row.get(key) for row in rows] for key in keys})


def run(
    rows: Sequence[Mapping[str, Any]],
    *,
    points: Sequence[Mapping[str, Any]] = ({},),
    requests: Sequence[Mapping[str, Any]] = (),
    name: str = "run",
    **more: Any,
) -> ComparedRun:
    """A run whose points are `POINT` with changes, and whose rows are ok predictions unless they say more."""
    plain = {"point": 0, "source": "predicted", "phase": "request", "status": "ok", "basis": "bound"}
    return ComparedRun(
        name,
        table("points", [{"point": i, **POINT, **point} for i, point in enumerate(points)]),
        table("summary", [{**plain, **row} for row in rows]),
        table("requests", requests) if requests else None,
        **more,
    )


def live(**values: Any) -> dict[str, Any]:
    """A measured row at concurrency 1; `wall_output_tokens_per_s_n` counts its repeats."""
    return {"source": "live", "basis": "measured", "variant": "concurrency 1", **values}


def interval(metric: str, mean: float, half: float, *, repeats: int) -> dict[str, Any]:
    """A mean of repeats with its interval, as a live measurement stores it."""
    return {
        metric: mean, f"{metric}_low": mean - half, f"{metric}_high": mean + half,
        f"{metric}_n": 40 * repeats, "wall_output_tokens_per_s_n": repeats,
    }  # fmt: skip


def requests(latencies: Sequence[Sequence[float]], *, tokens: int = 11) -> list[dict[str, Any]]:
    """Requests of some repeats, one after the other: first token after a tenth of the latency."""
    rows = []
    for repeat, values in enumerate(latencies):
        at = 0.0
        for number, latency in enumerate(values):
            rows.append(
                {
                    "point": 0, "variant": "concurrency 1", "repeat": repeat, "request": number,
                    "run_phase": "measured", "outcome": "ok", "scheduled_s": at, "sent_s": at,
                    "first_token_s": at + latency / 10, "last_token_s": at + latency, "done_s": at + latency,
                    "output_tokens": tokens,
                }
            )  # fmt: skip
            at += latency
    return rows


def noisy(generator: random.Random, *, points: int, repeats: int, shift: float = 0.0) -> ComparedRun:
    """A live run with normal noise of 2 % between repeats on three metrics of every point."""
    rows = []
    for number in range(points):
        row: dict[str, Any] = {"point": number, "wall_output_tokens_per_s_n": repeats}
        for metric, mean in (("ttft_s", 0.2), ("tpot_s", 0.01), ("output_tokens_per_s", 90.0)):
            values = [mean * (1 + shift) * (1 + generator.gauss(0, 0.02)) for _ in range(repeats)]
            row |= estimated(metric, values)
        rows.append(live(**row))
    sizes = [{"prompt_tokens": 100 + number} for number in range(points)]
    return run(rows, points=sizes)


def estimated(metric: str, values: Sequence[float]) -> dict[str, Any]:
    """Mean and Student-t interval of repeats."""
    import statistics

    from engine.results.student import t_quantile

    n = len(values)
    mean = statistics.fmean(values)
    half = t_quantile(n - 1) * statistics.stdev(values) / n**0.5
    return {metric: mean, f"{metric}_low": mean - half, f"{metric}_high": mean + half, f"{metric}_n": n}
