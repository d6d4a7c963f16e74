"""nvidia-smi `--query-gpu ... --format=csv`, with units in the cells, in the header, or in both."""

from __future__ import annotations

import re
from typing import Final

from engine.measure.run_folder.delimited import find_layout
from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import header_unit
from engine.measure.run_folder.record import Read
from engine.measure.run_folder.sensors import Role, SensorTable, merged_flags, read_sensor_table
from engine.measure.run_folder.text import Source, Unreadable
from engine.measure.run_folder.trace import Quantity
from engine.spec.run_folder import RunFolderSettings

# power.draw first: the sensor everybody means. The others stand in where it is missing.
_POWER: Final = ("power.draw", "power.draw.average", "power.draw.instant", "module.power.draw")
_QUANTITIES: Final[dict[str, Quantity]] = {
    "temperature.gpu": "temperature",
    "memory.used": "memory",
    "utilization.gpu": "utilization",
    "temperature.gpu.tlimit": "margin",
}
_THERMAL: Final = re.compile(
    r"clocks_(?:throttle|event)_reasons\.(?:active|hw_slowdown|hw_thermal_slowdown|sw_thermal_slowdown|"
    r"hw_power_brake_slowdown)$"
)
_DEVICE: Final = ("index", "uuid", "gpu_uuid", "pci.bus_id", "gpu_bus_id", "serial")
_KNOWN: Final = re.compile(
    r"\b(power\.draw|temperature\.(gpu|memory)|utilization\.(gpu|memory)|memory\.(used|total|free)|"
    r"clocks_(throttle|event)_reasons|clocks\.(sm|mem|current|gr))", re.IGNORECASE
)  # fmt: skip


def _header_line(source: Source) -> int | None:
    for at, line in enumerate(source.head_lines[:20]):
        if _KNOWN.search(line) and "[" not in line.split(",")[0] and not re.search(r"\d{4}/\d\d/\d\d", line):
            return at
    return None


def sniff(source: Source) -> bool:
    """Whether one of the first lines names queries of nvidia-smi."""
    return _header_line(source) is not None


def read(source: Source, settings: RunFolderSettings) -> Read:
    """Power, temperature, memory, use and throttling of each device."""
    layout = find_layout(source, header_line=_header_line(source) or 0)
    if layout is None:
        raise Unreadable("no-rows", "a header without rows")
    names = [header_unit(name) for name in layout.names]
    lower = [name.lower() for name, _ in names]
    roles = []
    power = next((lower.index(name) for name in _POWER if name in lower), None)
    if power is not None:
        roles.append(Role(power, "power", unit=names[power][1] or "W"))
    for at, name in enumerate(lower):
        if name in _QUANTITIES:
            unit = names[at][1] or {"memory.used": "MiB", "utilization.gpu": "%"}.get(name, "C")
            roles.append(Role(at, _QUANTITIES[name], unit=unit))
        elif _THERMAL.fullmatch(name):
            roles.append(Role(at, "throttle"))
    if not roles:
        raise Unreadable("no-readings", "no power, temperature, memory or throttle column")
    table = SensorTable(
        layout,
        tuple(roles),
        time=(lower.index("timestamp"),) if "timestamp" in lower else (),
        device=next((lower.index(name) for name in _DEVICE if name in lower), None),
        interval_s=settings.interval,
    )
    found = read_sensor_table(source, table)
    texts = {}
    if "name" in lower:
        texts["hardware"] = _first(source, layout.header_line, lower.index("name"))
    return Read(
        traces=tuple(merged_flags(found.traces)), texts={k: v for k, v in texts.items() if v},
        rows_read=found.rows_read, rows_dropped=found.rows_dropped, notes=found.notes,
    )  # fmt: skip


def _first(source: Source, header: int, column: int) -> str:
    for line in source.head_lines[header + 1 : header + 3]:
        cells = line.split(",")
        if len(cells) > column:
            return cells[column].strip()
    return ""


FORMATS = (Format("nvidia-smi CSV", "nvidia-smi --query-gpu as CSV", sniff, read),)
