"""What nvidia-smi prints, as channels: query CSV and `dmon`, of one device or several."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from engine.errors import MeasurementError
from engine.measure.energy.trace import AVERAGED_S, Channel, Trace, channel

ABSENT: Final = frozenset(
    {"", "-", "n/a", "[n/a]", "not supported", "[not supported]", "unknown", "[unknown error]",
     "[requested functionality has been deprecated]", "[gpu requires reset]"}
)  # fmt: skip
"""Cells without a value, lower case."""
_REASON_BITS: Final = {
    "gpu_idle": 0x1, "applications_clocks_setting": 0x2, "sw_power_cap": 0x4, "hw_slowdown": 0x8,
    "sync_boost": 0x10, "sw_thermal_slowdown": 0x20, "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80, "display_clock_setting": 0x100,
}  # fmt: skip
_REASON: Final = re.compile(r"clocks_(?:event|throttle)_reasons\.(\w+)")
_SCALE: Final = {
    "": 1.0, "w": 1.0, "mw": 1e-3, "c": 1.0, "%": 0.01, "mhz": 1e6, "mib": 2.0**20, "mb": 1e6, "us": 1e-6
}  # fmt: skip
_COLUMNS: Final = {
    "power.draw.instant": "power_w",
    "power.draw": "power_w",
    "power.draw.average": "average_power_w",
    "temperature.gpu": "temperature_c",
    "utilization.gpu": "utilization",
    "utilization.memory": "memory_utilization",
    "memory.used": "memory_used_bytes",
    "clocks.sm": "sm_clock_hz",
    "clocks.current.sm": "sm_clock_hz",
    "clocks.mem": "memory_clock_hz",
    "clocks.current.memory": "memory_clock_hz",
}
_DEFAULT_UNITS: Final = {
    "utilization": "%",
    "memory_utilization": "%",
    "memory_used_bytes": "mib",
    "sm_clock_hz": "mhz",
    "memory_clock_hz": "mhz",
}
_DMON: Final = {
    "pwr": "power_w",
    "gtemp": "temperature_c",
    "sm": "utilization",
    "mem": "memory_utilization",
    "mclk": "memory_clock_hz",
    "pclk": "sm_clock_hz",
    "fb": "memory_used_bytes",
}
_STAMP: Final = "%Y/%m/%d %H:%M:%S.%f"
_FOLD_S: Final = 1.0
"""Clocks that go back further than this were set back: nobody can order such rows."""


@dataclass
class _Rows:
    """Readings by device as they come in."""

    times: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, time_s: float, found: Mapping[str, float]) -> None:
        for name in found:
            self.values.setdefault(name, [math.nan] * len(self.times))
        self.times.append(time_s)
        for name, series in self.values.items():
            series.append(found.get(name, math.nan))


def query_columns(header: str) -> list[tuple[str, str]]:
    """(field, unit) of each column of a query CSV header."""
    found = []
    for cell in header.split(","):
        name, _, unit = cell.strip().partition(" [")
        found.append((name.strip().lower(), unit.rstrip("] ").lower()))
    return found


def is_query_csv(text: str) -> bool:
    """Whether a text starts like nvidia-smi query CSV."""
    first = text.lstrip("\ufeff").split("\n", 1)[0]
    return any(name in _COLUMNS for name, _ in query_columns(first)) and "timestamp" in first.lower()


def read_query_csv(text: str, *, file: str, interval_s: float | None = None) -> Trace:
    """Channels of a query CSV; rows that cannot be used are counted in the notes."""
    lines = text.lstrip("\ufeff").splitlines()
    columns = query_columns(lines[0])
    rows: dict[str, _Rows] = {}
    names: dict[str, str] = {}
    dropped = ragged = 0
    whole = text.endswith("\n")
    for number, line in enumerate(lines[1:], start=2):
        cells = [cell.strip() for cell in line.split(",")]
        if cells[: len(columns)] == [c.strip() for c in lines[0].split(",")] or not line.strip():
            continue
        if len(cells) != len(columns) or (number == len(lines) and not whole):
            dropped += 1
            ragged += len(cells) != len(columns)
            continue
        row = query_row(columns, cells)
        if row is None:
            dropped += 1
            continue
        device, time_s, found, name = row
        series = rows.setdefault(device, _Rows())
        if series.times and time_s < series.times[-1] - _FOLD_S:
            raise MeasurementError(
                f"`{file}`: the time goes back at line {number}",
                hint="local time was set back while this was recorded; cut the file there",
            )
        series.add(time_s, found)
        if name:
            names[device] = name
    if not rows and ragged:
        raise MeasurementError(
            f"`{file}`: {ragged} rows have another number of cells than the {len(columns)} of the header",
            hint="a decimal comma, or a comma in a name, splits a cell in two",
        )
    notes = [f"{dropped} rows of `{file}` could not be used"] if dropped else []
    if "power.draw" in dict(columns) and "power.draw.instant" not in dict(columns):
        notes.append(f"`power.draw` is a mean over {AVERAGED_S:g} s on most boards since Ampere: the ends of "
                     "a window are smeared; log `power.draw.instant` where it is offered")  # fmt: skip
    return _trace(rows, names, notes, file)


def query_row(
    columns: Sequence[tuple[str, str]], cells: Sequence[str]
) -> tuple[str, float, dict[str, float], str | None] | None:
    """(device, seconds, readings, name) of a row; None when it carries no time."""
    device, name, time_s = "0", None, None
    found: dict[str, float] = {}
    mask: float | None = None
    for (column, unit), cell in zip(columns, cells, strict=True):
        if column == "timestamp":
            time_s = _stamp(cell)
        elif column == "uuid" or (column == "index" and device == "0"):
            device = cell
        elif column == "name":
            name = cell
        elif (reason := _REASON.fullmatch(column)) is not None:
            mask = _merge(mask, _reason(reason[1], cell))
        elif column in _COLUMNS:
            quantity = _COLUMNS[column]
            value = number(cell, unit or _DEFAULT_UNITS.get(quantity, ""))
            # `power.draw.instant` is the better reading; the plain field stands in where it is absent.
            if value is not None and (quantity not in found or column.endswith(".instant")):
                found[quantity] = value
    if mask is not None:
        found["throttle"] = mask
    return None if time_s is None else (device, time_s, found, name)


def number(cell: str, unit: str = "") -> float | None:
    """A cell in base units; None for the many ways to say "absent"."""
    if cell.strip().lower() in ABSENT:
        return None
    value, _, own = cell.strip().partition(" ")
    scale = _SCALE.get((own or unit).strip().lower())
    try:
        return None if scale is None else float(value) * scale
    except ValueError:
        return None


def _stamp(cell: str) -> float | None:
    try:
        # Local time without a zone: only differences within one file are ever used.
        return datetime.strptime(cell, _STAMP).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _reason(name: str, cell: str) -> float | None:
    if cell.lower() in ABSENT:
        return None
    if name == "active":
        try:
            mask = int(cell, 16)
        except ValueError:
            return None
        return float(mask) if 0 <= mask < 2**53 else None
    bit = _REASON_BITS.get(name)
    return None if bit is None else float(bit) if cell.lower() == "active" else 0.0


def _merge(mask: float | None, more: float | None) -> float | None:
    if more is None:
        return mask
    return more if mask is None else float(int(mask) | int(more))


def is_dmon(text: str) -> bool:
    """Whether a text starts like `nvidia-smi dmon`."""
    head = text.split("\n", 1)[0].lower().split()
    return bool(head) and head[0].startswith("#") and "gpu" in {cell.lstrip("#") for cell in head}


def read_dmon(text: str, *, file: str, interval_s: float | None = None) -> Trace:
    """Channels of a `dmon` log; without a time column the interval must be known (1 s unless told)."""
    rows: dict[str, _Rows] = {}
    dropped = 0
    for device, time_s, found in _dmon_rows(text, interval_s or 1.0):
        if time_s is None:
            dropped += 1
            continue
        rows.setdefault(device, _Rows()).add(time_s, found)
    notes = [f"{dropped} rows of `{file}` could not be used"] if dropped else []
    if "time" not in text.split("\n", 1)[0].lower():
        notes.append(f"`{file}` carries no times; one row every {interval_s or 1.0:g} s was assumed")
    return _trace(rows, {}, notes, file)


def _dmon_rows(text: str, interval_s: float) -> Iterator[tuple[str, float | None, dict[str, float]]]:
    names: list[str] = []
    units: list[str] = []
    turns: dict[str, int] = {}
    for line in text.splitlines():
        cells = line.lstrip("#").split()
        if line.startswith("#"):
            known = {cell.lower() for cell in cells}
            if "gpu" in known:
                names = [cell.lower() for cell in cells]
            else:
                units = [cell.lower() for cell in cells]
            continue
        if not cells:
            continue
        if len(cells) != len(names):
            yield "", None, {}
            continue
        row = dict(zip(names, cells, strict=True))
        device = row.get("gpu", "0")
        turn = turns[device] = turns.get(device, -1) + 1
        time_s: float | None = turn * interval_s
        if "time" in row:
            day = row.get("date", "20000101")
            time_s = _stamp(f"{day[:4]}/{day[4:6]}/{day[6:]} {row['time']}.0")
        found = {}
        for at, name in enumerate(names):
            value = number(row[name], units[at] if at < len(units) else "") if name in _DMON else None
            if value is not None:
                found[_DMON[name]] = value
        yield device, time_s, found


def _trace(rows: Mapping[str, _Rows], names: Mapping[str, str], notes: Sequence[str], file: str) -> Trace:
    if not rows:
        raise MeasurementError(f"`{file}` holds no usable rows", hint="is the file empty or cut?")
    start = min(min(series.times) for series in rows.values())
    channels: list[Channel] = [
        channel(device, [t - start for t in series.times], series.values, name=names.get(device))
        for device, series in rows.items()
    ]
    return Trace("nvidia-smi", tuple(channels), (), notes=tuple(notes))
