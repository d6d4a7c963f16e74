"""One live task from settings to tables."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from engine.errors import MeasurementError
from engine.measure.live.beside import Beside, predict_beside
from engine.measure.live.findings import findings_of, other_device
from engine.measure.live.machine import GpuProbe
from engine.measure.live.oom import Available, available_memory, bounded, check_memory
from engine.measure.live.records import Level, Measured
from engine.measure.live.summary import Goals, error_share, summary_rows
from engine.measure.live.tables import findings_table, observed_table, requests_table, summary_table
from engine.measure.registry import Incomplete
from engine.spec.live import HttpTarget, LiveSettings, LocalTarget

if TYPE_CHECKING:
    from engine.measure.local_model import LocalModel, LocalRequest
    from engine.measure.registry import Tools
    from engine.plan.point import Point
    from engine.results.tables import Tables
    from engine.spec.quantization import Quantization

__all__ = ["local_levels", "measure_point"]

_MARGIN: Final = 0.9
"""Share of the time limit after which no repeat begins: what is measured must still be written."""


def measure_point(settings: LiveSettings, point: Point, tools: Tools) -> Tables:
    """The tables of one point; raises `EngineError` when nothing at all could be measured."""
    if isinstance(settings.target, HttpTarget):
        from engine.measure.live.serve import measure_server

        measured, observed = measure_server(settings, settings.target, point, tools)
        extra: list[dict[str, Any]] = []
    else:
        measured, observed, extra = _measure_local(settings, settings.target, point, tools)
    tables = tables_of(settings, point, measured, observed, extra)
    failed = [load for load in measured if load.status == "failed"] + _above_limit(settings, measured)
    if failed:
        raise Incomplete(_why(failed), tables)
    return tables


def _above_limit(settings: LiveSettings, measured: list[Measured]) -> list[Measured]:
    """Loads in which more requests failed than the settings allow; probing for the limit is no failure."""
    if settings.load.pattern == "rate_search":
        return []
    return [
        load
        for load in measured
        if load.status == "ok"
        and (share := error_share(r for repeat in load.repeats for r in repeat.requests)) is not None
        and share > settings.max_error_share
    ]


def _why(failed: list[Measured]) -> str:
    first = failed[0]
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    share = error_share(r for repeat in first.repeats for r in repeat.requests)
    reason = first.failure or f"{share or 0:.1%} of the requests failed"
    return f"{first.level.variant}: {reason}{more}"


def tables_of(
    settings: LiveSettings,
    point: Point,
    measured: list[Measured],
    observed: list[dict[str, Any]],
    extra: list[dict[str, Any]],
) -> Tables:
    """Rows and findings of finished loads; `extra` are rows of the summary that no load has."""
    mixed = settings.load.prompt_lengths is not None
    elsewhere = list(other_device(point.combination.hardware, observed))
    # The model predicts batches of equal requests, of the lengths that the workload asks for, on its device.
    predicted = settings.predict and not mixed and not elsewhere and settings.prompts.source != "file"
    goals = Goals(
        settings.require,
        settings.max_error_share,
        point.workload.output_tokens,
        None if mixed else point.workload.prompt_tokens,
    )
    rows = list(extra)
    for load in measured:
        beside = _beside(settings, point, load.level) if predicted else None
        rows += summary_rows(load, goals, beside)
    for row in rows:
        if elsewhere and not row.get("reason"):
            row["reason"] = elsewhere[0]["finding"]
    epoch_ns = time.time_ns() - time.perf_counter_ns()
    findings = [*elsewhere, *findings_of(settings, measured, rows)]
    return {
        "summary": summary_table(rows),
        "requests": requests_table(measured, epoch_ns=epoch_ns, keep_times=settings.keep_token_times),
        "observed": observed_table([{"point": 0, **row} for row in observed]),
        "findings": findings_table([{"point": 0, **row} for row in findings]),
    }


def _beside(settings: LiveSettings, point: Point, level: Level) -> Beside | None:
    # An open pattern has no number of sequences that one prediction could be made for.
    if level.concurrency is None:
        return None
    served = isinstance(settings.target, HttpTarget)
    return predict_beside(point, sequences=level.concurrency, served=served)


def local_levels(target: LocalTarget, concurrency: list[int], *, lengths: Sequence[int] = ()) -> list[Level]:
    """The loads of a local target: each concurrency by the engine's loop, and by `generate()` if asked."""
    how = "static batch" if target.batching == "static" else "continuous batching"
    if lengths:
        how += f" of {'/'.join(map(str, lengths))} prompt tokens"
    levels = [
        Level(f"concurrency {n} ({how})", concurrency=n, batching=target.batching)
        for n in dict.fromkeys(concurrency)
    ]
    if target.generate:
        levels += [
            replace(level, variant=f"concurrency {level.concurrency} (generate())", method="generate")
            for level in levels
            if level.batching == "static"
        ]
    return levels


def _measure_local(
    settings: LiveSettings, target: LocalTarget, point: Point, tools: Tools
) -> tuple[list[Measured], list[dict[str, Any]], list[dict[str, Any]]]:
    from engine.measure.local_model import build_local_model

    begin = time.perf_counter_ns()
    workload = point.workload
    lengths = tuple(settings.load.prompt_lengths or ())
    levels = local_levels(target, settings.load.concurrency or [workload.batch_size], lengths=lengths)
    request = _request(target, point, tools)
    available = available_memory(target.device, devices=request.devices)
    refused = _refused(settings, target, point, levels, request.dtype, available)
    todo = [level for level in levels if level.variant not in refused]
    if not todo:
        return list(refused.values()), [], []
    tools.say(f"loading {point.combination.labels['model']} ({request.weights} weights)")
    with bounded(available):
        local = build_local_model(request)
        measured = _drive_local(settings, target, point, tools, local, todo, begin_ns=begin)
    found = {load.level.variant: load for load in measured} | refused
    names = dict.fromkeys([*local.requested, *local.observed])
    observed = [
        {"setting": name, "requested": local.requested.get(name), "observed": local.observed.get(name)}
        for name in names
    ]
    observed += _clocks(measured)
    return [found[level.variant] for level in levels], observed, [_load_row(local)]


def _drive_local(
    settings: LiveSettings,
    target: LocalTarget,
    point: Point,
    tools: Tools,
    local: LocalModel,
    levels: list[Level],
    *,
    begin_ns: int,
) -> list[Measured]:
    """Every load on a model in memory, all batched the same way."""
    from engine.measure.live.local import LocalDriver
    from engine.measure.local_loop import Loop

    driver = LocalDriver(
        local=local,
        loop=Loop(local, cache=target.cache, compiled=target.compile),
        prompt_tokens=point.workload.prompt_tokens,
        output_tokens=point.workload.output_tokens,
        seed=tools.seed,
        deadline_ns=begin_ns + round(settings.time_limit * _MARGIN * 1e9),
        warmup_s=settings.warmup,
        gpu=GpuProbe(devices=len(local.devices) if local.device == "cuda" else 0),
        say=tools.say,
        requests=settings.load.requests,
        lengths=tuple(settings.load.prompt_lengths or ()),
        precision=settings.precision,
        pass_on=tools.pass_on,
    )
    if target.batching == "continuous":
        from engine.measure.live.continuous import run_continuous

        return run_continuous(driver, levels, settings.repeats, requests=settings.load.requests)
    return driver.run(levels, settings.repeats)


def _load_row(local: LocalModel) -> dict[str, Any]:
    return {
        "point": 0,
        "source": "live",
        "phase": "load",
        "basis": "measured",
        "status": "ok",
        "load_s": local.load_s,
        "time_s": local.load_s,
        "weights_bytes": local.weights_bytes,
        "parameters": float(local.observed["parameters"]),
    }


def _clocks(measured: list[Measured]) -> list[dict[str, Any]]:
    """Clock and temperature ranges while it was measured, where the machine tells them."""
    states = [s for load in measured for r in load.repeats for s in (r.before, r.after) if s is not None]
    found = []
    for name, unit, scale in (
        ("gpu_clock_hz", "MHz", 1e-6), ("cpu_clock_hz", "MHz", 1e-6), ("gpu_temperature_c", "C", 1.0),
        ("load_average", "", 1.0),
    ):  # fmt: skip
        values = [v * scale for s in states if (v := getattr(s, name)) is not None]
        if values:
            text = f"{min(values):.4g} to {max(values):.4g} {unit}".strip()
            found.append({"setting": name.rsplit("_", 1)[0] if unit else name, "observed": text})
    return found


def _request(target: LocalTarget, point: Point, tools: Tools) -> LocalRequest:
    from engine.measure.local_target import request_of

    request = request_of(target, point, folder=tools.spec_folder, seed=tools.seed)
    if request.devices > 1 and (target.compile or target.batching == "continuous"):
        asked = "compile: true" if target.compile else "batching: continuous"
        raise MeasurementError(
            f"`{asked}` needs the whole model on one device, the point asks for {request.devices}",
            hint="leave it out, or measure a server that spreads the model",
        )
    return request


def _refused(
    settings: LiveSettings,
    target: LocalTarget,
    point: Point,
    levels: list[Level],
    dtype: str,
    available: Available,
) -> dict[str, Measured]:
    """Loads that cannot fit by the formula: recorded with the numbers, and never started."""
    if not settings.check_oom:
        return {}
    longest = settings.load.longest_prompt(point.workload.prompt_tokens)
    found: dict[str, Measured] = {}
    for level in levels:
        check = check_memory(
            point.combination.model,
            _format_of(point.combination.quantization, target, dtype),
            # Shorter rows of a static batch are padded to the longest.
            point.workload.model_copy(update={"prompt_tokens": longest}),
            sequences=level.concurrency or 1,
            available=available,
            reserve=settings.reserve,
            devices=point.combination.parallelism.pipeline,
        )
        if check.verdict == "does_not_fit":
            found[level.variant] = Measured(level, status="does_not_fit", failure=check.sentence)
    return found


def _format_of(quantization: Quantization, target: LocalTarget, dtype: str) -> Quantization:
    """The number format that will really be in memory."""
    from engine.spec.catalog import load_quantization

    return quantization if target.dtype == "auto" else load_quantization(dtype)
