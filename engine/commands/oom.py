"""Memory said before anything is loaded: `engine bench --check-oom` and `engine check --oom`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from engine.measure.live.oom import OomCheck
    from engine.spec.experiment import Experiment

__all__ = ["RISK_CODES", "check_and_print", "print_experiment"]

RISK_CODES: Final = {"fits": 0, "tight": 1, "does_not_fit": 3}
"""Verdict -> exit code: low, medium and high risk."""
_RISKS: Final = {"fits": "low", "tight": "medium", "does_not_fit": "high"}


def check_and_print(
    model: str,
    *,
    dtype: str,
    device: str,
    prompt_tokens: int,
    output_tokens: int,
    concurrency: Sequence[int],
    devices: int = 1,
) -> int:
    """Print each verdict with the rule of the document beside it; the exit code of the worst."""
    from engine.measure.live.oom import available_memory, check_memory, document_rule
    from engine.spec.catalog import load_model, load_quantization
    from engine.spec.workload import Workload

    shape, form = load_model(model, search=[Path.cwd()]), load_quantization(dtype)
    workload = Workload(prompt_tokens=prompt_tokens, output_tokens=output_tokens)
    available = available_memory(device, devices=devices)
    click.echo(f"{available.source}: {_both(available.free_bytes)}")
    worst = 0
    for number in concurrency:
        check = check_memory(shape, form, workload, sequences=number, available=available, devices=devices)
        click.echo(f"concurrency {number}: {_RISKS[check.verdict]} risk: {check.sentence}")
        gpu_gib = available.free_bytes / 2**30 if available.device == "cuda" else None
        rule = document_rule(
            model, prompt_tokens=prompt_tokens, output_tokens=output_tokens, concurrency=number,
            gpu_gib=gpu_gib,
        )  # fmt: skip
        click.echo(
            f"  formula: weights + cache {_both(check.weights_bytes + check.kv_cache_bytes)}; "
            f'rule of the document: {rule.total_gb:.2f} "GB", {rule.risk} risk'
        )
        worst = max(worst, RISK_CODES[check.verdict])
    _say_largest(check, prompt_tokens + output_tokens)
    return worst


def _say_largest(check: OomCheck, tokens: int) -> None:
    click.echo(
        f"largest concurrency at {tokens} tokens a request: {check.largest_concurrency} "
        f"(limit: {check.limit})"
    )


def print_experiment(experiment: Experiment, *, search: Sequence[Path]) -> int:
    """Print whether each local load of a spec fits on this machine; the exit code of the worst.

    Nothing is loaded and nothing is run. A spec without local loads has no risk.
    """
    worst = 0
    for label, check in _local_loads(experiment, search):
        click.echo(f"{label}: {_RISKS[check.verdict]} risk: {check.sentence}")
        worst = max(worst, RISK_CODES[check.verdict])
    return worst


def _local_loads(experiment: Experiment, search: Sequence[Path]) -> Iterator[tuple[str, OomCheck]]:
    from engine.measure.live.oom import available_memory, check_memory
    from engine.measure.local_target import spread_over
    from engine.plan.compile import compile_plan
    from engine.spec.catalog import load_quantization
    from engine.spec.live import LiveSettings, LocalTarget

    for task in compile_plan(experiment, search=search).tasks:
        settings = task.settings
        if not isinstance(settings, LiveSettings) or not isinstance(settings.target, LocalTarget):
            continue
        target = settings.target
        for point in task.points():
            c = point.combination
            devices = spread_over(c.parallelism)
            available = available_memory(target.device, devices=devices)
            longest = settings.load.longest_prompt(point.workload.prompt_tokens)
            workload = point.workload.model_copy(update={"prompt_tokens": longest})
            form = c.quantization if target.dtype == "auto" else load_quantization(target.dtype)
            for number in settings.load.concurrency or [workload.batch_size]:
                check = check_memory(
                    c.model, form, workload, sequences=number, available=available, reserve=settings.reserve,
                    devices=devices,
                )  # fmt: skip
                tokens = f"{workload.prompt_tokens}+{workload.output_tokens} tokens"
                yield (
                    f"{c.labels['model']}, {c.labels['quantization']}, {tokens}, concurrency {number}",
                    check,
                )


def _both(size: float) -> str:
    """Bytes in GB and GiB: never one mistaken for the other."""
    return f"{size / 1e9:.2f} GB = {size / 2**30:.2f} GiB"
