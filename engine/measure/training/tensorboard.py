"""Scalars of TensorBoard event files, without TensorBoard.

A file is records of length (8 bytes), its checksum (4), an `Event` message and its checksum (4). An event has
a time, a step and a summary of values with a tag and a number, or a tensor of one number. The last record of
a run that was killed is cut short; what came before it counts. Checksums are not compared. Formats:
tensorflow/tensorflow, core/lib/io/record_writer.h, core/util/event.proto and core/framework/summary.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.errors import MeasurementError
from engine.measure.training.wire import BYTES, FIXED32, FIXED64, VARINT, Damaged, Field, fields, signed, text

_LARGEST_RECORD: Final = 64 * 2**20
_MOST_STEPS: Final = 5_000_000
_LATEST: Final = 4e9
"""Seconds since 1970 of the year 2096: a later time is damage."""
# Event, Summary, Summary.Value, TensorProto
_TIME, _STEP, _SUMMARY, _VALUE, _TAG, _SIMPLE, _TENSOR, _CONTENT, _FLOATS = 1, 2, 5, 1, 1, 2, 8, 4, 5


def is_event_file(path: Path) -> bool:
    """Whether the name is that of an event file."""
    return "tfevents" in path.name


@dataclass(frozen=True)
class Events:
    """Scalars of event files."""

    scalars: Mapping[int, Mapping[str, float]]
    """Tag -> value by step."""
    times: Mapping[int, float]
    """Seconds since 1970 at which a step was written, by step."""
    notes: tuple[str, ...]
    """Files that end before their last record does."""


def read_events(path: Path) -> Events:
    """Scalars by step, of one event file or of all in a folder, later files last.

    Raises `MeasurementError` when there is no event file or nothing in it can be read.
    """
    files = sorted(p for p in path.rglob("*tfevents*") if p.is_file()) if path.is_dir() else [path]
    if not files:
        raise MeasurementError(f"no TensorBoard event file in `{path}`")
    found: dict[int, dict[str, float]] = {}
    times: dict[int, float] = {}
    notes: list[str] = []
    for file in files:
        try:
            for time, step, tag, value in _scalars(file):
                found.setdefault(step, {})[tag] = value
                if time is not None:
                    times[step] = time
                if len(found) > _MOST_STEPS:
                    raise MeasurementError(f"`{file}` has more than {_MOST_STEPS:,} steps")
        except Damaged as err:
            if not found:
                raise MeasurementError(f"`{file}` is no TensorBoard event file: {err}") from err
            notes.append(f"`{file.name}` was read up to where it is damaged: {err}")
        except OSError as err:
            raise MeasurementError(f"`{file}` cannot be read: {(err.strerror or str(err)).lower()}") from err
    return Events(found, times, tuple(notes))


def _scalars(file: Path) -> Iterator[tuple[float | None, int, str, float]]:
    with file.open("rb") as stream:
        while head := stream.read(12):
            (length,) = struct.unpack("<Q", head[:8].ljust(8, b"\0"))
            if length > _LARGEST_RECORD:
                raise Damaged("a record is larger than any event")
            data = stream.read(length)
            if len(head) < 12 or len(data) < length or len(stream.read(4)) < 4:
                raise Damaged("the last record is cut short")
            yield from _event(data)


def _event(data: bytes) -> Iterator[tuple[float | None, int, str, float]]:
    step = 0
    time: float | None = None
    summaries: list[Field] = []
    for part in fields(data, 0, len(data)):
        if part.number == _TIME and part.kind == FIXED64:
            (seconds,) = struct.unpack("<d", data[part.start : part.stop])
            time = seconds if 0 < seconds < _LATEST else None
        elif part.number == _STEP and part.kind == VARINT:
            step = signed(part.value)
        elif part.number == _SUMMARY and part.kind == BYTES:
            summaries.append(part)
    for summary in summaries:
        for value in fields(data, summary.start, summary.stop):
            if value.number == _VALUE and value.kind == BYTES:
                tag, number = _value(data, value)
                if tag and number is not None:
                    yield time, step, tag, number


def _value(data: bytes, place: Field) -> tuple[str, float | None]:
    tag, number = "", None
    for part in fields(data, place.start, place.stop):
        if part.number == _TAG:
            tag = text(data, part)
        elif part.number == _SIMPLE and part.kind == FIXED32:
            number = _float(data[part.start : part.stop])
        elif part.number == _TENSOR and part.kind == BYTES:
            number = _tensor(data, part)
    return tag, number


def _tensor(data: bytes, place: Field) -> float | None:
    """A tensor of one 32-bit number; None for any other."""
    for part in fields(data, place.start, place.stop):
        if part.number in (_CONTENT, _FLOATS) and part.stop - part.start == 4:
            return _float(data[part.start : part.stop])
    return None


def _float(data: bytes) -> float:
    value: float = struct.unpack("<f", data)[0]
    return value
