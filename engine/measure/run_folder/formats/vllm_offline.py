"""Result JSON of vLLM's benchmarks without a server: `bench throughput` and `bench latency`."""

from __future__ import annotations

from typing import Final

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.jsons import dig_number, load_mapping, looks_like_json
from engine.measure.run_folder.record import Note, Read, Result
from engine.measure.run_folder.text import Source
from engine.spec.run_folder import RunFolderSettings

_METRICS: Final = {
    "tokens_per_second": "total_tokens_per_s",  # prompt tokens are counted too
    "requests_per_second": "requests_per_s",
    "num_requests": "completed_requests",
    "avg_latency": "e2e_s",
}


def sniff(source: Source) -> bool:
    """Whether the keys of either benchmark stand in a JSON file."""
    return looks_like_json(source, "elapsed_time", "num_requests", "tokens_per_second") or looks_like_json(
        source, "avg_latency", "latencies", "percentiles"
    )


def read(source: Source, settings: RunFolderSettings) -> Read:
    """Throughput of a whole batch of requests, or the mean latency of one batch."""
    value = load_mapping(source)
    values = {
        metric: found for key, metric in _METRICS.items() if (found := dig_number(value, key)) is not None
    }
    how = {"e2e_s": "mean latency of a batch of requests"} if "e2e_s" in values else {}
    if "total_tokens_per_s" in values:
        how["total_tokens_per_s"] = "prompt and generated tokens together, as printed"
    note = Note(
        "no-output-tokens", "generated tokens are not told from prompt tokens: no generation speed", "note"
    )
    result = Result(values, how, seconds=dig_number(value, "elapsed_time"))
    return Read(results=(result,) if values else (), rows_read=len(values), notes=(note,))


FORMATS = (Format("vLLM offline JSON", "vLLM throughput or latency benchmark", sniff, read),)
