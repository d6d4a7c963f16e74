"""`dcgmi dmon`: a header of short field names that differ by version, rows that start with an entity."""

from __future__ import annotations

import re
from typing import Final

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import number
from engine.measure.run_folder.record import Note, Read
from engine.measure.run_folder.recorder import Recorder, without_values
from engine.measure.run_folder.text import Source, lines
from engine.measure.run_folder.trace import Quantity
from engine.spec.run_folder import RunFolderSettings
from engine.units import counted

_HEADER: Final = re.compile(r"^#\s*Entity\s+(.*)$", re.IGNORECASE)
_ROW: Final = re.compile(r"^\s*(GPU|GPU-I|GPU-CI|Switch|CPU)\s+(\d+)\s+(.*)$")
_DEFAULT_INTERVAL_S: Final = 1.0  # dcgmi dmon's own default delay, 1000 ms
_FIELDS: Final[dict[str, tuple[Quantity, float]]] = {
    **dict.fromkeys(("POWER", "POWR", "PWR"), ("power", 1.0)),
    **dict.fromkeys(("GTEMP", "GPUT", "TMPTR"), ("temperature", 1.0)),
    "FBUSD": ("memory", 2.0**20),
    # Cycles in which device memory sends or receives: "memory BW utilization" (DCGM field 1005).
    **dict.fromkeys(("DRAMA", "DRACT"), ("bandwidth", 1.0)),
    "GPUTL": ("utilization", 0.01),
}


def sniff(source: Source) -> bool:
    """Whether the header of dcgmi stands in the first lines."""
    return any(_HEADER.match(line) for line in source.head_lines[:20])


def read(source: Source, settings: RunFolderSettings) -> Read:
    """Power, temperature and memory of each GPU; instances and switches are left out."""
    names: list[str] = []
    interval = settings.interval or _DEFAULT_INTERVAL_S
    recorder = Recorder(zone="none")
    counts: dict[str, int] = {}
    missing: dict[str, int] = {}
    rows = dropped = 0
    for _, line in lines(source):
        if header := _HEADER.match(line):
            names = header.group(1).split()
            continue
        row = _ROW.match(line)
        if row is None or not names:
            continue
        kind, device, rest = row.groups()
        cells = rest.split()
        if kind != "GPU":
            continue
        if len(cells) != len(names):
            dropped += 1
            continue
        rows += 1
        at = counts.get(device, 0)
        counts[device] = at + 1
        for name, cell in zip(names, cells, strict=True):
            value = number(cell)
            if name in _FIELDS:
                quantity, factor = _FIELDS[name]
                if value is None:
                    missing[quantity] = missing.get(quantity, 0) + 1
                else:
                    recorder.add(quantity, "device", device, at * interval, value * factor)
    notes = [*recorder.notes(), *without_values(missing)]
    if settings.interval is None:
        notes.append(
            Note(
                "assumed-interval",
                f"no times: samples taken as {interval:g} s apart, dcgmi's default",
                "note",
            )
        )
    if dropped:
        notes.append(
            Note("row-cut", f"{counted(dropped, 'row')} with another number of fields than the header")
        )
    return Read(traces=recorder.finish(), rows_read=rows, rows_dropped=dropped, notes=tuple(notes))


FORMATS = (Format("dcgmi dmon", "dcgmi dmon", sniff, read),)
