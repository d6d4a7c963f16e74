"""When requests start: schedules drawn beforehand, so that the same seed gives the same load."""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from engine.errors import MeasurementError
from engine.spec.live import Load

__all__ = ["Arrival", "arrivals", "read_trace"]

_ARRIVAL: Final = ("arrival", "arrival_s", "timestamp", "time", "arrived_at")
_PROMPT: Final = ("prompt_tokens", "num_prefill_tokens", "contexttokens", "input_length", "input_tokens")
_OUTPUT: Final = ("output_tokens", "num_decode_tokens", "generatedtokens", "output_length")
_PREFIX: Final = ("prefix_id", "prefix")
_LARGEST_TRACE: Final = 256 * 1024 * 1024
_MOST_ROWS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request to come."""

    at_s: float
    """From the start of the repeat."""
    prompt_tokens: int | None = None
    """From a trace; the workload's where None."""
    output_tokens: int | None = None
    prefix: str | None = None
    """Requests of one prefix share the head of their prompts."""


def arrivals(load: Load, *, rate: float, count: int, seed: int) -> list[Arrival]:
    """The schedule of an open pattern: `count` requests at `rate` per second."""
    chance = random.Random(seed)  # noqa: S311 - repeatable load, not a secret
    return [Arrival(at) for at in _offsets(load, rate, count, chance)]


def _offsets(load: Load, rate: float, count: int, chance: random.Random) -> list[float]:
    if load.pattern == "constant":
        return [i / rate for i in range(count)]
    if load.pattern == "burst":
        return [(i // load.burst) * load.burst / rate for i in range(count)]
    if load.pattern == "ramp":
        return _ramp(load.ramp_from or rate / 10, rate, count)
    shape = load.burstiness if load.pattern == "gamma" else 1.0
    found, at = [], 0.0
    for _ in range(count):
        found.append(at)
        # Mean gap 1 / rate whatever the shape; shape 1 is the exponential gap of a Poisson process.
        at += chance.gammavariate(shape, 1 / (shape * rate))
    # A few hundred random gaps miss their mean by several per cent, the same way at every rate of one seed: a
    # search would then answer with another rate than it offered. Given its ends, the process stays the same.
    stretch = (count - 1) / rate / found[-1] if found[-1] > 0 else 1.0
    return [offset * stretch for offset in found]


def _ramp(start: float, end: float, count: int) -> list[float]:
    """Times at which a rate that grows in a line from `start` to `end` has let i requests through."""
    duration = 2 * count / (start + end)
    slope = (end - start) / duration
    if slope == 0:
        return [i / start for i in range(count)]
    # i = start t + slope t^2 / 2, solved for t.
    return [(math.sqrt(start**2 + 2 * slope * i) - start) / slope for i in range(count)]


def read_trace(path: Path, *, time_scale: float = 1.0) -> list[Arrival]:
    """Arrivals from CSV or JSON lines, from the first one on; raises `MeasurementError` naming the row."""
    try:
        if path.stat().st_size > _LARGEST_TRACE:
            raise MeasurementError(f"trace `{path.name}` is larger than 256 MiB")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as err:
        raise MeasurementError(f"trace `{path}` cannot be read: {err}") from err
    rows = _json_rows(text) if text.lstrip()[:1] in ("{", "[") else _csv_rows(text)
    found = [_arrival(row, number, path.name) for number, row in rows]
    if not found:
        raise MeasurementError(f"trace `{path.name}` has no rows")
    found.sort(key=lambda arrival: arrival.at_s)
    first = found[0].at_s
    return [Arrival((a.at_s - first) * time_scale, a.prompt_tokens, a.output_tokens, a.prefix) for a in found]


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, row in enumerate(csv.DictReader(text.splitlines()), start=2):
        if number > _MOST_ROWS:
            return
        yield number, {str(k).strip().lower(): v for k, v in row.items() if k is not None}


def _json_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or number > _MOST_ROWS:
            continue
        try:
            row = json.loads(line)
        except ValueError as err:
            raise MeasurementError(f"line {number} of the trace is not JSON: {err}") from err
        if not isinstance(row, dict):
            raise MeasurementError(f"line {number} of the trace is not an object")
        yield number, {str(k).lower(): v for k, v in row.items()}


def _arrival(row: dict[str, Any], number: int, name: str) -> Arrival:
    at = _number(row, _ARRIVAL, number, name)
    prompt, output = _number(row, _PROMPT, number, name), _number(row, _OUTPUT, number, name)
    if at is None:
        raise MeasurementError(
            f"row {number} of `{name}` has no arrival time",
            hint="columns: arrival (s), prompt_tokens, output_tokens, optionally prefix_id",
        )
    prefix = next((str(row[key]) for key in _PREFIX if row.get(key) not in (None, "")), None)
    return Arrival(at, _whole(prompt), _whole(output), prefix)


def _whole(value: float | None) -> int | None:
    return None if value is None else max(1, round(value))


def _plain(value: Any) -> float:
    """A number; NaN for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _seconds(value: Any) -> float:
    """A time in seconds: a number, or a date with a time as in the traces of Azure; NaN for anything else."""
    found = _plain(value)
    if not math.isnan(found) or not isinstance(value, str):
        return found
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return math.nan
    # Only differences count, and those must not depend on where this machine stands.
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def _number(row: dict[str, Any], keys: Sequence[str], number: int, name: str) -> float | None:
    for key in keys:
        value = row.get(key)
        if value in (None, ""):
            continue
        found = _seconds(value) if keys is _ARRIVAL else _plain(value)
        if not math.isfinite(found) or found < 0:
            raise MeasurementError(f"row {number} of `{name}`: `{key}` is `{str(value)[:40]}`, not a number")
        return found
    return None
