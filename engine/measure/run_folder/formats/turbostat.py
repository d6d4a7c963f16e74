"""turbostat: summary rows or rows per processor; package power is whole-system only on the `-` row."""

from __future__ import annotations

from typing import Final

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import number
from engine.measure.run_folder.record import Note, Read
from engine.measure.run_folder.recorder import Recorder, undeclared_interval
from engine.measure.run_folder.text import Source, lines
from engine.measure.run_folder.trace import Quantity, Scope
from engine.spec.run_folder import RunFolderSettings
from engine.units import counted

_KNOWN: Final = frozenset(
    ("PkgWatt", "CorWatt", "PkgTmp", "Busy%", "Bzy_MHz", "Avg_MHz", "RAMWatt", "Pkg_J", "CoreTmp")
)
# CorWatt and GFXWatt are inside PkgWatt, so they are no power of the run.
_COLUMNS: Final[dict[str, tuple[Quantity, Scope, float]]] = {
    "PkgWatt": ("power", "package", 1.0),
    "RAMWatt": ("power", "memory", 1.0),
    "SysWatt": ("power", "node", 1.0),
    "PkgTmp": ("temperature", "package", 1.0),
    "CoreTmp": ("temperature", "part", 1.0),
    "CoreThr": ("throttle", "package", 1.0),
}
_ENERGIES: Final[dict[str, Scope]] = {"Pkg_J": "package", "RAM_J": "memory"}


def _header(source: Source) -> list[str]:
    for line in source.head_lines[:40]:
        cells = line.split()
        if len(_KNOWN & set(cells)) >= 2:
            return cells
    return []


def sniff(source: Source) -> bool:
    """Whether columns of turbostat stand in a line near the start."""
    return bool(_header(source))


def read(source: Source, settings: RunFolderSettings) -> Read:
    """Package and memory power, temperature and throttling."""
    names: list[str] = []
    first = _header(source)
    timed = "Time_Of_Day_Seconds" in first
    recorder = Recorder(zone="utc" if timed else "none", timed=timed or settings.interval is not None)
    rows = short = 0
    for _, line in lines(source):
        cells = line.split("\t") if "\t" in line else line.split()
        cells = [cell.strip() for cell in cells]
        if len(_KNOWN & set(cells)) >= 2:
            names = cells
            continue
        if not names or not cells or not any(cells):
            continue
        row = dict(zip(names, cells, strict=False))
        if "CPU" in row and row.get("CPU") != "-":
            continue  # parts of the system row
        if len(cells) < len(names):
            short += 1
            continue
        seconds = number(row.get("Time_Of_Day_Seconds", "")) if timed else rows * (settings.interval or 1.0)
        rows += 1
        if seconds is not None:
            _take(recorder, row, seconds, settings.interval)
    notes = [*recorder.notes()]
    if not timed and settings.interval is None:
        notes.append(undeclared_interval("turbostat"))
    if short:
        notes.append(Note("row-cut", f"{counted(short, 'row')} cut short"))
    return Read(traces=recorder.finish(), rows_read=rows, rows_dropped=short, notes=tuple(notes))


def _take(recorder: Recorder, row: dict[str, str], seconds: float, interval: float | None) -> None:
    for name, (quantity, scope, factor) in _COLUMNS.items():
        value = number(row.get(name, ""))
        if value is None or (name == "RAMWatt" and value == 0):  # 0.00 mostly means: not supported
            continue
        recorder.add(
            quantity, scope, "", seconds, min(value, 1.0) if quantity == "throttle" else value * factor
        )
    for name, scope in _ENERGIES.items():
        value = number(row.get(name, ""))
        if value is not None and interval:
            recorder.add("power", scope, "", seconds, value / interval)


FORMATS = (Format("turbostat", "turbostat table", sniff, read),)
