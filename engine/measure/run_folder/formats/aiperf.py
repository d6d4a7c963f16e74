"""AIPerf's and GenAI-Perf's profile export as JSON: each metric a mapping with `unit` and `avg`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from engine.measure.run_folder.clock import parse_time
from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.jsons import dig, dig_number, load_mapping, looks_like_json, text_at
from engine.measure.run_folder.numbers import UNITS
from engine.measure.run_folder.record import Read, Result
from engine.measure.run_folder.text import Source
from engine.spec.run_folder import RunFolderSettings

_METRICS: Final = {
    "time_to_first_token": "ttft_s",
    "inter_token_latency": "itl_s",
    "request_latency": "e2e_s",
    "output_token_throughput": "output_tokens_per_s",
    "output_token_throughput_per_user": "output_tokens_per_s_per_user",
    "total_token_throughput": "total_tokens_per_s",
    "request_throughput": "requests_per_s",
    "goodput": "goodput_requests_per_s",
    "request_count": "completed_requests",
    "error_request_count": "failed_requests",
    "total_osl": "output_tokens",
}


def sniff(source: Source) -> bool:
    """Whether metrics of AIPerf stand in a JSON file."""
    keys = ("request_latency", "output_token_throughput")
    return looks_like_json(source, *keys) or looks_like_json(
        source, "time_to_first_token", "inter_token_latency", "avg"
    )


def read(source: Source, settings: RunFolderSettings) -> Read:
    """The result of the profile."""
    value = load_mapping(source)
    records = value.get("records") if isinstance(value.get("records"), dict) else value
    values = {
        metric: found for key, metric in _METRICS.items() if (found := _average(records, key)) is not None
    }
    how = {}
    if "output_tokens_per_s" in values:
        values["throughput_tokens_per_s"] = values["output_tokens_per_s"]
        how["throughput_tokens_per_s"] = "output token throughput as printed"
    if "itl_s" in values:
        values["tpot_s"], how["tpot_s"] = values["itl_s"], "mean inter-token latency"
    lengths: dict[str, int | str] = {}
    for setting, key in (
        ("prompt_tokens", "input_sequence_length"),
        ("output_tokens", "output_sequence_length"),
    ):
        if found := _average(records, key):
            lengths[setting] = round(found)
    if "output_tokens" not in values and "output_tokens" in lengths and "completed_requests" in values:
        values["output_tokens"] = float(lengths["output_tokens"]) * values["completed_requests"]
        how["output_tokens"] = "mean output length x requests"
    concurrency = dig_number(value, "input_config", "loadgen", "concurrency") or dig_number(
        value, "input_config", "perf_analyzer", "stimulus", "concurrency"
    )
    if concurrency:
        lengths["concurrency"] = int(concurrency)
    models = dig(value, "input_config", "endpoint", "model_names") or dig(
        value, "input_config", "model_names"
    )
    model = text_at(models, 0)
    window, zone = _window(value)
    duration = _average(records, "benchmark_duration")
    return Read(
        results=(Result(values, how, lengths, window=window, zone=zone, seconds=duration),) if values else (),
        texts={"model": model} if model else {},
        rows_read=len(values),
    )


def _window(value: Mapping[str, Any]) -> tuple[tuple[float, float] | None, Literal["local", "utc"]]:
    """Start and end of the profile; times without a zone are local."""
    (start, zone), (end, _) = (parse_time(text_at(value, key) or "") for key in ("start_time", "end_time"))
    window = (start, end) if start is not None and end is not None and end > start else None
    return window, "utc" if zone == "utc" else "local"


def _average(records: Any, key: str) -> float | None:
    found = dig_number(records, key, "avg")
    unit = text_at(records, key, "unit") or "" if isinstance(records, Mapping) else ""
    if found is None:
        return None
    quantity, factor = UNITS.get(unit, ("", 1.0))
    return found * factor if quantity == "time" else found


FORMATS = (Format("AIPerf JSON", "AIPerf or GenAI-Perf profile export", sniff, read),)
