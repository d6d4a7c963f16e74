"""`nvidia-smi dmon`: two header lines that begin with `#`, blanks between columns, `-` for no value."""

from __future__ import annotations

import re
from typing import Final

from engine.measure.run_folder.clock import parse_time
from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import number
from engine.measure.run_folder.record import Note, Read
from engine.measure.run_folder.recorder import Recorder
from engine.measure.run_folder.text import Source, lines
from engine.measure.run_folder.trace import Quantity
from engine.spec.run_folder import RunFolderSettings
from engine.units import counted

_HEADER: Final = re.compile(r"^#\s*(?:Date\s+)?(?:Time\s+)?gpu\s+", re.IGNORECASE)
_DEFAULT_INTERVAL_S: Final = 1.0  # nvidia-smi dmon samples once a second unless -d says otherwise
_COLUMNS: Final[dict[str, tuple[Quantity, float]]] = {
    "pwr": ("power", 1.0), "gtemp": ("temperature", 1.0), "temp": ("temperature", 1.0),
    "fb": ("memory", 2.0**20), "sm": ("utilization", 0.01), "tviol": ("throttle", 1.0),
}  # fmt: skip


def sniff(source: Source) -> bool:
    """Whether the header of dmon stands in the first lines."""
    return any(_HEADER.match(line) for line in source.head_lines[:20])


def read(source: Source, settings: RunFolderSettings) -> Read:
    """Power, temperature, memory and use of each device."""
    names: list[str] = []
    recorder = Recorder()
    rows = dropped = 0
    counts: dict[str, int] = {}
    interval = settings.interval or _DEFAULT_INTERVAL_S
    for _, line in lines(source):
        cells = line.lstrip("# ").split()
        if line.lstrip().startswith("#"):
            if _HEADER.match(line.lstrip()):
                names = [cell.lower() for cell in cells]
            continue
        if not cells or not names:
            continue
        if len(cells) != len(names):
            dropped += 1
            continue
        row = dict(zip(names, cells, strict=True))
        device = row["gpu"]
        stamp = " ".join(row[key] for key in ("date", "time") if key in row)
        if stamp:
            seconds, recorder.zone = parse_time(_dashed(stamp))
        else:
            seconds, recorder.zone = counts.get(device, 0) * interval, "none"
        counts[device] = counts.get(device, 0) + 1
        if seconds is None:
            dropped += 1
            continue
        rows += 1
        for name, (quantity, factor) in _COLUMNS.items():
            value = number(row.get(name, "-"))
            if value is not None:
                recorder.add(quantity, "device", device, seconds, value * factor)
    notes = list(recorder.notes())
    if dropped:
        notes.append(
            Note("row-cut", f"{counted(dropped, 'row')} with another number of fields than the header")
        )
    if "date" not in names and "time" not in names:
        notes.append(Note("assumed-interval", f"no times: samples taken as {interval:g} s apart", "note"))
    return Read(traces=recorder.finish(), rows_read=rows, rows_dropped=dropped, notes=tuple(notes))


def _dashed(stamp: str) -> str:
    return re.sub(r"^([0-9]{4})([0-9]{2})([0-9]{2})\b", r"\1-\2-\3", stamp)


FORMATS = (Format("nvidia-smi dmon", "nvidia-smi dmon", sniff, read),)
