"""Energy files of other tools: energies by phase as CSV, and runs with and without a component as JSON."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from engine.errors import MeasurementError
from engine.measure.energy.trace import Event, Trace

_INFERENCE: Final = re.compile(r"start-inference-(\d+)-(\d+)")
_PHASES: Final = {
    "tokenizer": "tokenize",
    "model load": "load",
    "pipeline load": "load",
    "inference": "request",
}
_DEVICE: Final = re.compile(r"(?:gpu-?\d* energy \(mj\)|nvidia_gpu_\d+)", re.IGNORECASE)


def is_phase_csv(text: str) -> bool:
    """Whether a text starts like a table of energies by phase."""
    head = text.lstrip("\ufeff").split("\n", 1)[0].lower()
    return ("phase" in head and "gpu energy" in head) or ("tag" in head and "nvidia_gpu_" in head)


def read_phase_csv(text: str, *, file: str) -> Trace:
    """Windows with their stated energies: mJ of every device added, tokens over the whole batch."""
    head = text.lstrip("\ufeff").split("\n", 1)[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff")), delimiter=delimiter)
    events: list[Event] = []
    dropped = 0
    try:
        for row in reader:
            try:
                events.append(_phase_event({str(k).lower(): v for k, v in row.items() if k}, len(events)))
            except (KeyError, ValueError, TypeError):
                dropped += 1
    except csv.Error as err:
        raise MeasurementError(f"`{file}` is no table: {err}") from err
    if not events:
        raise MeasurementError(f"`{file}` holds no usable rows", hint="is the file empty or cut?")
    notes = [f"{dropped} rows of `{file}` could not be used"] if dropped else []
    notes.append("energies are those the file states; how they were read is not known")
    return Trace("replay", (), tuple(events), notes=tuple(notes))


def _phase_event(row: Mapping[str, str], number: int) -> Event:
    begin = float(row["timestamp"])
    seconds = float(row["runtime (s)"] if "runtime (s)" in row else row["duration"])
    name = (row["phase"] if "phase" in row else row["tag"]).strip()
    if not (math.isfinite(begin) and 0 < seconds < math.inf):
        raise ValueError(f"a window of {seconds} s")
    millijoules = sum(float(v) for k, v in row.items() if _DEVICE.fullmatch(k))
    found = _INFERENCE.fullmatch(name)
    batch = int(row["batch size"]) if row.get("batch size") else None
    if found is None:
        return Event(
            "phase",
            _PHASES.get(name, name),
            begin,
            begin + seconds,
            energy_j=millijoules / 1e3,
            repeat=number,
        )
    tokens, iteration = int(found[1]), int(found[2])
    variant = f"batch {batch}, {tokens} tokens" if batch else f"{tokens} tokens"
    return Event(
        "phase", "request", begin, begin + seconds, repeat=iteration, warmup=iteration == 0,
        tokens=tokens * (batch or 1), variant=variant, energy_j=millijoules / 1e3,
    )  # fmt: skip


def is_variant_json(document: Mapping[str, Any]) -> bool:
    """Whether a JSON document holds runs of variants: energy, power and duration lists by name."""
    return any(
        isinstance(value, dict) and isinstance(value.get("energy"), list) for value in document.values()
    )


def read_variant_json(document: Mapping[str, Any], *, file: str) -> Trace:
    """Windows of each variant, one a run; the first variant is the baseline.

    Raises `MeasurementError` where energies and durations do not go together.
    """
    try:
        events = _variant_events(document)
    except (KeyError, TypeError, ValueError) as err:
        raise MeasurementError(
            f"`{file}`: energies and durations of a variant do not go together: {err}"
        ) from err
    if not events:
        raise MeasurementError(f"`{file}` holds no runs")
    return Trace("replay", (), tuple(events), notes=("energies are those the file states",))


def _variant_events(document: Mapping[str, Any]) -> list[Event]:
    events = []
    for name, value in document.items():
        if not isinstance(value, dict) or not isinstance(value.get("energy"), list):
            continue
        begin = 0.0
        for repeat, (joules, seconds) in enumerate(zip(value["energy"], value["duration"], strict=True)):
            events.append(
                Event("phase", "request", begin, begin + float(seconds), repeat=repeat, variant=name,
                      energy_j=float(joules))
            )  # fmt: skip
            begin += float(seconds)
    return events
