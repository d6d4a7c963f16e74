"""Request traces of a concurrency profiler, as CSV or JSON: one row a request, levels in one file.

The level is not stored; it starts again where `request_id` goes back to 0. The throughput of a level is all
its tokens over its wall-clock time: the sum of per-request rates, which the tool prints, is the same number
only when requests really overlap.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, Final

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.jsons import dig, load_mapping, looks_like_json
from engine.measure.run_folder.numbers import finite
from engine.measure.run_folder.record import Note, Read, Result
from engine.measure.run_folder.text import Source
from engine.spec.run_folder import RunFolderSettings

_COLUMNS: Final = ("request_id", "seq_prompt", "seq_generate", "total_latency_s", "tokens_per_s", "timestamp")


def sniff(source: Source) -> bool:
    """Whether the columns of request traces are there."""
    first = source.first_lines(1)
    return (bool(first) and set(_COLUMNS) <= set(first[0].split(","))) or looks_like_json(source, *_COLUMNS)


def read(source: Source, settings: RunFolderSettings) -> Read:
    """One result per concurrency level."""
    rows = _rows(source)
    levels = _levels(rows)
    results = [result for level in levels if (result := _result(level, several=len(levels) > 1)) is not None]
    notes = [note for level in levels for note in _notes(level)]
    models = {str(row.get("model")) for row in rows if row.get("model") not in (None, "", "unknown")}
    texts = {"model": models.pop()} if len(models) == 1 else {}
    return Read(results=tuple(results), texts=texts, rows_read=len(rows), notes=tuple(notes))


def _rows(source: Source) -> list[Mapping[str, Any]]:
    if source.head.lstrip("\ufeff \r\n").startswith("{"):
        found = dig(load_mapping(source), "traces")
        return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    # Error texts may hold line breaks inside quotes, so lines are no rows here.
    with source.path.open(encoding=source.encoding, errors="replace", newline="") as stream:
        return [row for row in csv.DictReader(stream) if finite(row.get("request_id")) is not None]


def _levels(rows: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    levels: list[list[Mapping[str, Any]]] = []
    for row in rows:
        if finite(row.get("request_id")) == 0 or not levels:
            levels.append([])
        levels[-1].append(row)
    return levels


def _good(level: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in level if not row.get("error") and (finite(row.get("seq_generate")) or 0) > 0]


def _span(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    starts = [finite(row.get("timestamp")) for row in rows]
    lengths = [finite(row.get("total_latency_s")) for row in rows]
    ends = [s + n for s, n in zip(starts, lengths, strict=True) if s is not None and n is not None]
    known = [s for s in starts if s is not None]
    return (min(known), max(ends)) if known and ends else None


def _sum(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    return sum(finite(row.get(key)) or 0.0 for row in rows)


def _result(level: Sequence[Mapping[str, Any]], *, several: bool) -> Result | None:
    good = _good(level)
    span = _span(good)
    failed = len(level) - len(good)
    counts = {
        "completed_requests": float(len(good)),
        "failed_requests": float(failed),
        "error_rate": failed / len(level),
    }
    label = f"concurrency {len(level)}" if several else ""
    if span is None:
        return Result(counts, {}, {"concurrency": len(level)}, label)
    tokens = _sum(good, "seq_generate")
    wall = span[1] - span[0]
    values = {
        **counts,
        "output_tokens": tokens,
        "e2e_s": fmean(finite(row.get("total_latency_s")) or 0.0 for row in good),
        "sum_of_request_tokens_per_s": _sum(good, "tokens_per_s"),
    }
    how = {"e2e_s": f"mean latency of {len(good)} requests"}
    if wall > 0:
        values |= {"throughput_tokens_per_s": tokens / wall, "output_tokens_per_s": tokens / wall}
        how["throughput_tokens_per_s"] = "all tokens / (last end - first start)"
        values["requests_per_s"] = len(good) / wall
    peaks = [finite(row.get("peak_alloc_bytes")) or 0.0 for row in good]
    if max(peaks) > 0:  # 0 is what the tool prints on a processor: not measured
        values["device_allocated_peak_bytes"] = max(peaks)
        values["device_reserved_peak_bytes"] = max(
            finite(row.get("peak_reserved_bytes")) or 0.0 for row in good
        )
        values["memory_used_bytes"] = values["device_reserved_peak_bytes"]
        how["memory_used_bytes"] = "peak reserved bytes"
    settings: dict[str, int | str] = {
        "prompt_tokens": round(fmean(finite(row.get("seq_prompt")) or 0.0 for row in good)),
        "output_tokens": round(tokens / len(good)),
        "concurrency": len(level),
    }
    return Result(values, how, settings, label, window=span, zone="utc")


def _notes(level: Sequence[Mapping[str, Any]]) -> list[Note]:
    good = sorted(_good(level), key=lambda row: finite(row.get("timestamp")) or 0.0)
    notes = []
    if len(good) > 1:
        spans = [_span([row]) for row in good]
        apart = all(
            a is not None and b is not None and b[0] >= a[1] - 0.05 * (a[1] - a[0])
            for a, b in pairwise(spans)
        )
        if apart:
            text = (
                f"the {len(level)} requests of a level ran one after another: the sum of their rates "
                f"({_sum(good, 'tokens_per_s'):.3g} tokens/s) is not a throughput"
            )
            notes.append(Note("serial-requests", text))
    failed = [row for row in level if row.get("error")]
    if failed:
        first = str(failed[0]["error"]).splitlines()[0][:120]
        notes.append(Note("failed-requests", f"{len(failed)} of {len(level)} requests failed: {first}"))
    return notes


FORMATS = (Format("concurrency profiler traces", "request traces as CSV or JSON", sniff, read),)
