"""The engine's own `summary` table as CSV, JSON or JSON lines: results of earlier runs beside new logs."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.jsons import load, load_lines, looks_like_json
from engine.measure.run_folder.numbers import finite
from engine.measure.run_folder.record import Note, Read, Result
from engine.measure.run_folder.text import Source, lines
from engine.metrics import METRICS
from engine.spec.run_folder import RunFolderSettings

_MARKS: Final = ("point", "source", "phase", "basis", "status")
_COUNTS: Final = ("prompt_tokens", "output_tokens", "batch_size", "tensor")
_TEXTS: Final = ("model", "hardware", "quantization")
_PHASES: Final = ("request", "prefill", "decode")


def sniff(source: Source) -> bool:
    """Whether the first columns are those of the table `summary`."""
    first = source.first_lines(1)
    columns = [cell.strip('" ') for cell in first[0].split(",")] if first else []
    return set(_MARKS) <= set(columns) or looks_like_json(source, *_MARKS)


def read(source: Source, settings: RunFolderSettings) -> Read:
    """Measured rows that ended well; predictions are made anew, not read."""
    kept, left = [], 0
    for row in _rows(source):
        if row.get("source") == "predicted" or row.get("status") != "ok" or row.get("phase") not in _PHASES:
            left += 1
        else:
            kept.append(row)
    notes = (Note("left-out", f"{left} predicted, failed or other rows left out", "note"),) if left else ()
    return Read(results=tuple(_result(row) for row in kept), rows_read=len(kept), notes=notes)


def _rows(source: Source) -> Iterator[Mapping[str, Any]]:
    start = source.head.lstrip("\ufeff \r\n")[:1]
    if start == "[":
        value = load(source)
        yield from (row for row in value if isinstance(row, dict))
    elif start == "{":
        yield from (row for _, row in load_lines(source) if row is not None)
    else:
        yield from csv.DictReader(line for _, line in lines(source))


def _result(row: Mapping[str, Any]) -> Result:
    values = {name: value for name in METRICS if (value := finite(row.get(name))) is not None}
    if "throughput_tokens_per_s" not in values and "output_tokens_per_s" in values:
        values["throughput_tokens_per_s"] = values["output_tokens_per_s"]
    settings: dict[str, int | str] = {k: int(v) for k in _COUNTS if (v := finite(row.get(k))) is not None}
    settings |= {k: str(row[k]) for k in _TEXTS if row.get(k)}
    parts = [str(row[k]) for k in ("source", "point", "variant") if row.get(k) not in (None, "")]
    phase = cast("Any", row["phase"])
    return Result(values, {}, settings, " ".join(parts), phase)


FORMATS = (Format("engine summary", "this engine's table `summary`", sniff, read),)
