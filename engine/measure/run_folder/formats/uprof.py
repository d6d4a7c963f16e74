"""AMD uProf timechart: a preamble with the date, then records whose times are `H:M:S:ms` without one."""

from __future__ import annotations

import re
from typing import Final

from engine.measure.run_folder.clock import parse_time
from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import number
from engine.measure.run_folder.record import Note, Read
from engine.measure.run_folder.recorder import Recorder
from engine.measure.run_folder.text import Source, Unreadable, lines
from engine.spec.run_folder import RunFolderSettings

_START: Final = re.compile(
    r"Profile Start Time:,\s*([A-Z][a-z]{2})-(\d{1,2})-(\d{4})_(\d{1,2})-(\d{1,2})-(\d{1,2})"
)
_MONTHS: Final = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_PACKAGE: Final = re.compile(r"^socket(\d+)-package-power$", re.IGNORECASE)
_TEMPERATURE: Final = re.compile(r"^socket(\d+)-(?:package-)?temp", re.IGNORECASE)
_DAY: Final = 86_400.0


def sniff(source: Source) -> bool:
    """Whether the report of a power profile starts the file."""
    return "PROFILE RECORDS" in source.head or "AMDPROFILER POWER PROFILE" in source.head[:2000]


def read(source: Source, settings: RunFolderSettings) -> Read:
    """Power of each socket; cores are inside the package and are not added."""
    roles: dict[int, tuple[str, str]] = {}
    midnight: float | None = None
    recorder = Recorder(zone="none")
    width = rows = dropped = days = 0
    before: float | None = None
    in_records = False
    for _, line in lines(source):
        if found := _START.search(line):
            month, day, year = (
                _MONTHS.index(found.group(1)) + 1 if found.group(1) in _MONTHS else 0,
                *found.group(2, 3),
            )
            midnight = parse_time(f"{year}-{month:02d}-{int(day):02d} 00:00:00")[0]
            recorder.zone = "local" if midnight is not None else "none"
        elif line.startswith("PROFILE RECORDS"):
            in_records = True
        elif in_records and line.startswith("RecordId"):
            names = [name.strip() for name in line.rstrip(", \t").split(",")]
            width = len(names)
            roles = {i: role for i, name in enumerate(names) if (role := _role(name))}
        elif in_records and width and line.strip():
            cells = [cell.strip() for cell in line.rstrip(", \t").split(",")]
            seconds = parse_time(cells[1])[0] if len(cells) == width else None
            if seconds is None:
                dropped += 1
                continue
            if before is not None and seconds < before - _DAY / 2:
                days += 1
            before = seconds
            rows += 1
            for at, (quantity, device) in roles.items():
                value = number(cells[at])
                if value is not None:
                    when = (midnight or 0.0) + days * _DAY + seconds
                    recorder.add(quantity, "package", device, when, value)  # type: ignore[arg-type]
    if not width:
        raise Unreadable("no-rows", "a power profile without records")
    notes = [*recorder.notes()]
    if dropped:
        notes.append(Note("row-cut", f"{dropped} records could not be read"))
    return Read(traces=recorder.finish(), rows_read=rows, rows_dropped=dropped, notes=tuple(notes))


def _role(name: str) -> tuple[str, str] | None:
    if found := _PACKAGE.match(name):
        return "power", f"socket{found.group(1)}"
    if found := _TEMPERATURE.match(name):
        return "temperature", f"socket{found.group(1)}"
    return None


FORMATS = (Format("AMD uProf timechart", "AMD uProf power timechart", sniff, read),)
