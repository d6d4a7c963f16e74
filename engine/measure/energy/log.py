"""The engine's own energy log: one JSON document with every reading, every window and every loop.

Its head and the eight fields of a measurement are those of common energy profilers, so that either side
reads the other's files; what goes beyond them (counter, clocks, windows, loops) stands in further fields.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from engine.errors import MeasurementError
from engine.measure.energy.integrate import sampling
from engine.measure.energy.log_text import checked_log
from engine.measure.energy.phases import ORDER
from engine.measure.energy.trace import Channel, Event, LoopReads, Trace, channel

if TYPE_CHECKING:
    from engine.measure.energy.trace import Floats

FORMAT: Final = "engine-energy-log"
FIELDS: Final = ("timestamp", "power_mw", "power_w", "gpu_util", "mem_util", "temp", "component", "event")
_MORE: Final = {
    "average_power_w": "average_power_w",
    "energy_counter_j": "energy_j",
    "memory_used_bytes": "memory_used_bytes",
    "sm_clock_hz": "sm_clock_hz",
    "memory_clock_hz": "memory_clock_hz",
    "throttle": "throttle",
}
"""Further field of a measurement -> quantity."""
_LOOP_COLUMNS: Final = (
    "times_s",
    "iterations",
    "energy_j",
    "power_w",
    "clock_hz",
    "temperature_c",
    "throttle",
)


def is_log(document: Mapping[str, Any]) -> bool:
    """Whether a JSON document is an energy log."""
    return isinstance(document.get("measurements"), list)


def as_log(trace: Trace) -> dict[str, Any]:
    """The log of a recording, as data."""
    first = trace.channels[0] if trace.channels else None
    measurements = [row for one in trace.channels for row in _measurements(one, trace)]
    measurements.sort(key=lambda row: row["timestamp"])
    steps = [b["timestamp"] - a["timestamp"] for a, b in itertools.pairwise(measurements)]
    positive = sorted(step for step in steps if step > 0)
    return {
        "format": FORMAT,
        "version": 1,
        "source": trace.source,
        "device": (first.name or first.device) if first else None,
        "baseline_power_watts": trace.baseline_w,
        "sampling_rate_ms": round(1e3 * positive[len(positive) // 2], 3) if positive else None,
        "sensor_period_s": trace.period_s,
        "facts": dict(trace.facts),
        "notes": list(trace.notes),
        "measurements": measurements,
        "events": [_without_defaults(event) for event in trace.events],
        "loops": [_loop(loop) for loop in trace.loops],
    }


def log_of_samples(
    samples: Sequence[Mapping[str, Any]], summary: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The log of a stored run, from its `samples` and the idle power in its `summary`."""
    by_device: dict[str, list[Mapping[str, Any]]] = {}
    for row in samples:
        by_device.setdefault(str(row["device"]), []).append(row)
    idle = [row["idle_power_w"] for row in summary if row.get("idle_power_w") is not None]
    source = "simulated" if any(row.get("basis") == "simulated" for row in summary) else "replay"
    columns = {"power_w": "power_w", "utilization": "utilization", "temperature_c": "temperature_c",
               "memory_utilization": "memory_utilization",
               **{q: field for field, q in _MORE.items()}}  # fmt: skip
    channels = tuple(
        channel(
            device, [row["time_s"] for row in rows],
            {quantity: [_stored(row, column) for row in rows] for quantity, column in columns.items()},
        )
        for device, rows in by_device.items()
    )  # fmt: skip
    log = as_log(Trace(source, channels, (), baseline_w=idle[-1] if idle else None))
    marks = {(str(row["device"]), round(row["time_s"], 6)): row for row in samples}
    for row in log["measurements"]:
        stored = marks[row.get("device", next(iter(by_device))), row["timestamp"]]
        row["component"] = stored.get("component") or stored.get("phase")
    return log


def _stored(row: Mapping[str, Any], column: str) -> float | None:
    value = row.get(column)
    return None if value is None or isinstance(value, str) else float(value)


def to_text(log: Mapping[str, Any]) -> str:
    """A log as JSON, one measurement, event or loop a line, so that it can be read and compared."""
    lines = ["{"]
    for name, value in log.items():
        comma = "" if name == list(log)[-1] else ","
        if isinstance(value, list) and value and isinstance(value[0], dict):
            body = ",\n  ".join(json.dumps(row, separators=(",", ":")) for row in value)
            lines.append(f' "{name}": [\n  {body}\n ]{comma}')
        else:
            lines.append(f' "{name}": {json.dumps(value)}{comma}')
    return "\n".join([*lines, "}", ""])


def _measurements(one: Channel, trace: Trace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    windows = [event for event in trace.events if event.kind in ("phase", "idle", "component")]
    for at, moment in enumerate(one.times_s.tolist()):
        reading = {name: _number(values, at) for name, values in one.readings.items()}
        watts = reading.get("power_w")
        inside = [e for e in windows if e.begin_s <= moment < e.end_s]
        inner = min(inside, key=lambda event: event.seconds) if inside else None
        row: dict[str, Any] = {
            "timestamp": round(moment, 6),
            "power_mw": None if watts is None else round(watts * 1e3, 3),
            "power_w": watts,
            "gpu_util": _percent(reading.get("utilization")),
            "mem_util": _percent(reading.get("memory_utilization")),
            "temp": reading.get("temperature_c"),
            "component": (inner.component or inner.phase) if inner else None,
            "event": "sample",
        }
        row.update({field: reading[q] for field, q in _MORE.items() if reading.get(q) is not None})
        if len(trace.channels) > 1 or one.name is not None:
            row["device"] = one.device
        rows.append(row)
    return rows


def _number(values: Floats, at: int) -> float | None:
    value = float(values[at])
    return None if math.isnan(value) else round(value, 6)


def _percent(share: float | None) -> float | None:
    return None if share is None else round(share * 100, 4)


def _without_defaults(event: Event) -> dict[str, Any]:
    found = asdict(event)
    plain = asdict(Event(event.kind, event.phase, event.begin_s, event.end_s))
    must = ("kind", "phase", "begin_s", "end_s")
    return {name: value for name, value in found.items() if name in must or value != plain[name]}


def _loop(loop: LoopReads) -> dict[str, Any]:
    found: dict[str, Any] = {
        "component": loop.component, "phase": loop.phase, "trial": loop.trial, "layer": loop.layer,
        "parent": loop.parent, "count": loop.count, "foreign": loop.foreign, "order": loop.order,
        "share": {str(layer): share for layer, share in loop.share.items()},
    }  # fmt: skip
    if loop.averaged:
        found["averaged"] = True
    for name in _LOOP_COLUMNS:
        values = getattr(loop, name)
        found[name] = None if values is None else [_number(values, at) for at in range(len(values))]
    return found


def read_log(document: Mapping[str, Any], *, file: str) -> Trace:
    """The recording behind a log; raises `MeasurementError` for none, and for what cannot have been."""
    document = checked_log(document, file=file)
    channels = _channels(document["measurements"], document["device"] or "0")
    events = [Event(**event) for event in document["events"]]
    loops = [_read_loop(loop) for loop in document["loops"]]
    if not channels and not any(event.energy_j is not None for event in events):
        raise MeasurementError(f"`{file}` holds no readings")
    events += _marked(document["measurements"])
    return Trace(
        document["source"] or "replay",
        tuple(channels),
        tuple(events),
        tuple(loops),
        period_s=document["sensor_period_s"],
        baseline_w=document["baseline_power_watts"],
        notes=(*document["notes"], *_doubts(document["sampling_rate_ms"], channels)),
        facts=document["facts"],
    )


def _doubts(stated_ms: float | None, channels: Sequence[Channel]) -> list[str]:
    """Whether the time stamps fit the rate in the head: milliseconds are often written for seconds."""
    found = [step for one in channels if (step := sampling(one.times_s).median_s) is not None]
    if stated_ms is None or not found:
        return []
    times = max(found) * 1e3 / stated_ms
    if 0.1 < times < 10:
        return []
    return [f"the head says a reading every {stated_ms:g} ms, the time stamps one every {max(found):g} s"]


def _channels(measurements: Sequence[Mapping[str, Any]], name: str) -> list[Channel]:
    by_device: dict[str, list[Mapping[str, Any]]] = {}
    for row in measurements:
        by_device.setdefault(str(row.get("device", "0")), []).append(row)
    found = []
    for device, rows in by_device.items():
        readings: dict[str, list[float | None]] = {
            "power_w": [_watts(row) for row in rows],
            "utilization": [_share(row.get("gpu_util")) for row in rows],
            "memory_utilization": [_share(row.get("mem_util")) for row in rows],
            "temperature_c": [row.get("temp") for row in rows],
        }
        readings |= {quantity: [row.get(field) for row in rows] for field, quantity in _MORE.items()}
        kept = {key: values for key, values in readings.items() if any(v is not None for v in values)}
        found.append(channel(device, [float(row["timestamp"]) for row in rows], kept, name=name))
    return found


def _watts(row: Mapping[str, Any]) -> float | None:
    if row.get("power_w") is not None:
        return float(row["power_w"])
    return None if row.get("power_mw") is None else float(row["power_mw"]) / 1e3


def _share(percent: Any) -> float | None:
    return None if percent is None else float(percent) / 100


def _marked(measurements: Sequence[Mapping[str, Any]]) -> list[Event]:
    """Windows that a log marks with `begin` and `end` on its measurements."""
    open_at: dict[str, float] = {}
    found = []
    for row in measurements:
        name, moment = row.get("component"), float(row["timestamp"])
        if row.get("event") in ("begin", "start") and name:
            open_at[name] = moment
        elif row.get("event") in ("end", "stop") and name in open_at:
            begin = open_at.pop(name)
            if name in ORDER:
                found.append(Event("phase", name, begin, moment))
            else:
                found.append(Event("component", "request", begin, moment, component=name))
    return found


def _read_loop(loop: Mapping[str, Any]) -> LoopReads:
    import numpy as np

    columns: dict[str, Any] = {
        name: None
        if loop.get(name) is None
        else np.array([np.nan if v is None else v for v in loop[name]], dtype=np.float64)
        for name in _LOOP_COLUMNS
    }
    rest = {name: value for name, value in loop.items() if name not in _LOOP_COLUMNS}
    return LoopReads(**rest, **columns)
