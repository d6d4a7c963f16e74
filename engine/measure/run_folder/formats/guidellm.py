"""GuideLLM's benchmark report as JSON: one result per benchmark of a sweep."""

from __future__ import annotations

from typing import Any, Final

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.jsons import dig, dig_number, load_mapping, looks_like_json, text_at
from engine.measure.run_folder.record import Read, Result
from engine.measure.run_folder.text import Source, Unreadable
from engine.spec.run_folder import RunFolderSettings

# Metric -> (key, factor); means over successful requests.
_METRICS: Final = {
    "requests_per_s": ("requests_per_second", 1.0),
    "output_tokens_per_s": ("output_tokens_per_second", 1.0),
    "total_tokens_per_s": ("tokens_per_second", 1.0),
    "e2e_s": ("request_latency", 1.0),
    "ttft_s": ("time_to_first_token_ms", 1e-3),
    # Its `time_per_output_token_ms` counts the first token's wait too; what is called so here does not.
    "tpot_s": ("inter_token_latency_ms", 1e-3),
}


def sniff(source: Source) -> bool:
    """Whether a report of GuideLLM stands in a JSON file."""
    return looks_like_json(source, "benchmarks") and (
        '"time_to_first_token_ms"' in source.sample or '"guidellm_version"' in source.sample
    )


def read(source: Source, settings: RunFolderSettings) -> Read:
    """Every benchmark of the report."""
    value = load_mapping(source)
    benchmarks = [
        b
        for b in (value.get("benchmarks") or [])
        if isinstance(b, dict) and isinstance(b.get("metrics"), dict)
    ]
    if not benchmarks:
        raise Unreadable("no-rows", "a GuideLLM report without a benchmark")
    results = [_result(b, i, several=len(benchmarks) > 1) for i, b in enumerate(benchmarks)]
    model = text_at(benchmarks[0], "config", "backend", "model") or text_at(
        benchmarks[0], "benchmarker", "backend", "model"
    )
    return Read(results=tuple(results), texts={"model": model} if model else {}, rows_read=len(results))


def _mean(benchmark: Any, key: str) -> float | None:
    for status in ("successful", "total"):
        found = dig_number(benchmark, "metrics", key, status, "mean")
        if found is not None:
            return found
    return dig_number(benchmark, "metrics", key, "mean")


def _result(benchmark: Any, index: int, *, several: bool) -> Result:
    values = {
        metric: found * factor
        for metric, (key, factor) in _METRICS.items()
        if (found := _mean(benchmark, key)) is not None
    }
    how = {"tpot_s": "mean inter-token latency, first token not counted"} if "tpot_s" in values else {}
    if "output_tokens_per_s" in values:
        values["throughput_tokens_per_s"] = values["output_tokens_per_s"]
        how["throughput_tokens_per_s"] = "mean output tokens per second"
    done = dig_number(benchmark, "request_totals", "successful") or dig_number(
        benchmark, "metrics", "request_totals", "successful"
    )
    failed = dig_number(benchmark, "request_totals", "errored") or dig_number(
        benchmark, "metrics", "request_totals", "errored"
    )
    lengths = {
        "prompt_tokens": _mean(benchmark, "prompt_token_count"),
        "output_tokens": _mean(benchmark, "output_token_count"),
    }
    settings: dict[str, int | str] = {k: round(v) for k, v in lengths.items() if v}
    if done is not None:
        values["completed_requests"] = done
        if lengths["output_tokens"]:
            values["output_tokens"] = lengths["output_tokens"] * done
            how["output_tokens"] = "mean output tokens x requests"
    if failed is not None:
        values["failed_requests"] = failed
    strategy = dig(benchmark, "config", "strategy") or dig(benchmark, "args", "strategy") or {}
    streams = dig_number(strategy, "streams") or dig_number(strategy, "max_concurrency")
    if streams:
        settings["concurrency"] = int(streams)
    start, end = dig_number(benchmark, "start_time"), dig_number(benchmark, "end_time")
    window = (start, end) if start and end and end > start else None
    name = text_at(strategy, "type_") or text_at(strategy, "type") or "benchmark"
    return Result(values, how, settings, f"{name} {index}" if several else "", window=window, zone="utc",
        seconds=dig_number(benchmark, "duration"),
    )  # fmt: skip


FORMATS = (Format("GuideLLM JSON", "GuideLLM benchmark report", sniff, read),)
