"""Profiles of a phone: results, events and a time series of temperature and memory."""

from __future__ import annotations

from typing import Any

from engine.measure.run_folder.clock import parse_time
from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.jsons import dig, dig_number, load_mapping, looks_like_json, text_at
from engine.measure.run_folder.record import Note, Read, Result
from engine.measure.run_folder.text import Source
from engine.measure.run_folder.trace import Trace, TraceBuilder
from engine.spec.run_folder import RunFolderSettings


def sniff(source: Source) -> bool:
    """Whether results and a time series stand in a JSON file."""
    return looks_like_json(source, "benchmark_results", "timeseries")


def read(source: Source, settings: RunFolderSettings) -> Read:
    """The reported latencies, the events beside them, and the time series."""
    value = load_mapping(source)
    times = {text_at(event, "name"): _time(event) for event in _list(value, "events")}
    values: dict[str, float] = {}
    how: dict[str, str] = {}
    for metric, key, factor in (
        ("ttft_s", "ttft_ms", 1e-3),
        ("tpot_s", "tbt_ms", 1e-3),
        ("throughput_tokens_per_s", "tokens_per_sec", 1.0),
    ):
        found = dig_number(value, "benchmark_results", key)
        if found is not None:
            values[metric] = found * factor
    start, decode, end = (times.get(name) for name in ("PrefillStart", "DecodingStart", "End"))
    if decode is not None and end is not None:
        values["generation_s"], how["generation_s"] = end - decode, "events DecodingStart to End"
    loading = times.get("ModelLoadStart")
    if loading is not None and start is not None:
        values["load_s"], how["load_s"] = start - loading, "events ModelLoadStart to PrefillStart"
    tokens = dig_number(value, "metadata", "num_tokens")
    lengths: dict[str, int | str] = {}
    if tokens:
        values["output_tokens"], lengths["output_tokens"] = tokens, int(tokens)
    notes = []
    if (
        start is not None
        and decode is not None
        and "ttft_s" in values
        and abs(decode - start - values["ttft_s"]) > 0.01
    ):
        text = f"events give {decode - start:.3f} s to the first token, the report {values['ttft_s']:.3f} s"
        notes.append(Note("two-clocks", text))
    window = (start, end) if start is not None and end is not None else None
    texts = {
        k: v
        for k, v in (
            ("model", text_at(value, "metadata", "model")),
            ("hardware", text_at(value, "metadata", "device")),
        )
        if v
    }
    series = _list(value, "timeseries")
    return Read(
        results=(Result(values, how, lengths, window=window),), traces=tuple(_traces(series)), texts=texts,
        rows_read=len(series), notes=tuple(notes),
    )  # fmt: skip


def _list(value: Any, key: str) -> list[Any]:
    found = dig(value, key)
    return found if isinstance(found, list) else []


def _time(event: Any) -> float | None:
    return parse_time(str(dig(event, "timestamp") or ""))[0]


def _traces(series: list[Any]) -> list[Trace]:
    import numpy as np

    found = []
    for key, quantity, factor in (("temp_c", "temperature", 1.0), ("mem_used_mb", "memory", 1e6)):
        builder = TraceBuilder(quantity, "device", "")  # type: ignore[arg-type]
        pairs = [(_time(row), dig_number(row, key)) for row in series]
        good = [(t, v * factor) for t, v in pairs if t is not None and v is not None]
        if good:
            columns = np.array(good)
            builder.add(columns[:, 0], columns[:, 1])
        if (trace := builder.finish()) is not None:
            found.append(trace)
    return found


FORMATS = (Format("mobile profile JSON", "profile of an on-device run", sniff, read),)
