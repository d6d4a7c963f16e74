"""MLPerf LoadGen: the summary text and the detail log."""

from __future__ import annotations

import json
import re
from typing import Final

from engine.measure.run_folder.clock import parse_time
from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import finite, number
from engine.measure.run_folder.record import Note, Read, Result
from engine.measure.run_folder.text import Source, lines
from engine.spec.run_folder import RunFolderSettings
from engine.units import counted

_LINE: Final = re.compile(r"^\s*([A-Za-z0-9][^:]*?)\s*:\s*(\S.*?)\s*$")
_SUMMARY: Final = {
    "tokens per second": ("output_tokens_per_s", 1.0),
    "completed tokens per second": ("output_tokens_per_s", 1.0),
    "samples per second": ("requests_per_s", 1.0),
    "completed samples per second": ("requests_per_s", 1.0),
    "mean latency (ns)": ("e2e_s", 1e-9),
    "mean first token latency (ns)": ("ttft_s", 1e-9),
    "mean time to output token (ns)": ("tpot_s", 1e-9),
}
_DETAIL: Final = {
    "result_tokens_per_second": ("output_tokens_per_s", 1.0),
    "result_completed_tokens_per_second": ("output_tokens_per_s", 1.0),
    "result_samples_per_second": ("requests_per_s", 1.0),
    "result_completed_samples_per_sec": ("requests_per_s", 1.0),
    "result_mean_latency_ns": ("e2e_s", 1e-9),
    "result_first_token_mean_latency_ns": ("ttft_s", 1e-9),
    "result_time_per_output_token_mean": ("tpot_s", 1e-9),
    "result_time_to_output_token_mean": ("tpot_s", 1e-9),
}


def sniff_summary(source: Source) -> bool:
    """Whether LoadGen's summary heads the file."""
    return "MLPerf Results Summary" in source.head


def read_summary(source: Source, settings: RunFolderSettings) -> Read:
    """The result of the summary, and whether LoadGen calls it valid."""
    values: dict[str, float] = {}
    texts: dict[str, str] = {}
    for _, line in lines(source):
        if (found := _LINE.match(line)) is None:
            continue
        label, text = found.group(1).lower(), found.group(2)
        texts.setdefault(label, text)
        if label in _SUMMARY and (value := number(text)) is not None:
            metric, factor = _SUMMARY[label]
            values.setdefault(metric, value * factor)
    return _read(values, texts.get("scenario"), texts.get("result is"), None)


def sniff_detail(source: Source) -> bool:
    """Whether lines of LoadGen's detail log stand in the file."""
    return ":::MLLOG" in source.head


def read_detail(source: Source, settings: RunFolderSettings) -> Read:
    """The result of the detail log; its power marks are the window, in UTC."""
    values: dict[str, float] = {}
    texts: dict[str, str] = {}
    bad = 0
    for _, line in lines(source):
        _, mark, body = line.partition(":::MLLOG")
        if not mark:
            continue
        try:
            entry = json.loads(body)
        except (json.JSONDecodeError, RecursionError):
            bad += 1
            continue
        key, value = (entry.get("key"), entry.get("value")) if isinstance(entry, dict) else (None, None)
        if isinstance(key, str):
            texts[key] = str(value)
            if key in _DETAIL and (found := finite(value)) is not None:
                metric, factor = _DETAIL[key]
                values.setdefault(metric, found * factor)
    times = [parse_time(texts.get(key, "").replace("-", "/", 2))[0] for key in ("power_begin", "power_end")]
    window = (
        (times[0], times[1])
        if times[0] is not None and times[1] is not None and times[1] > times[0]
        else None
    )
    found_read = _read(values, texts.get("effective_scenario"), texts.get("result_validity"), window)
    if not bad:
        return found_read
    return Read(
        results=found_read.results, rows_read=len(texts), rows_dropped=bad,
        notes=(*found_read.notes, Note("row-cut", f"{counted(bad, 'line')} of the log without JSON")),
    )  # fmt: skip


def _read(
    values: dict[str, float], scenario: str | None, validity: str | None, window: tuple[float, float] | None
) -> Read:
    how = {}
    if "output_tokens_per_s" in values:
        values["throughput_tokens_per_s"] = values["output_tokens_per_s"]
        how["throughput_tokens_per_s"] = "tokens per second as printed"
    notes = []
    if validity and validity.upper() != "VALID":
        notes.append(Note("not-valid", f"LoadGen calls this result {validity}"))
    settings: dict[str, int | str] = {"scenario": scenario} if scenario else {}
    results = (Result(values, how, settings, window=window, zone="utc"),) if values else ()
    return Read(results=results, rows_read=len(values), notes=tuple(notes))


FORMATS = (
    Format("MLPerf LoadGen summary", "mlperf_log_summary.txt", sniff_summary, read_summary),
    Format("MLPerf LoadGen detail", "mlperf_log_detail.txt", sniff_detail, read_detail),
)
