"""HWiNFO sensor logs: `Date`, `Time`, then `Name [unit]`; delimiter, decimals and encoding by locale."""

from __future__ import annotations

import re
from typing import Final

from engine.measure.run_folder.delimited import find_layout
from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import UNITS, header_unit
from engine.measure.run_folder.record import Read
from engine.measure.run_folder.sensors import Role, SensorTable, merged_flags, read_sensor_table
from engine.measure.run_folder.text import Source, Unreadable
from engine.measure.run_folder.trace import Quantity, Scope
from engine.spec.run_folder import RunFolderSettings

_FIRST: Final = re.compile(r'^\ufeff?"?Date"?[,;\t]"?Time"?[,;\t].*\[', re.IGNORECASE)
# What counts as the die and as the power of the whole part; everything else hangs below it.
_DIE: Final = re.compile(
    r"^(gpu temperature|cpu package|cpu \(tctl/tdie\)|cpu die|cpu|gpu)\b(?!.*hot ?spot)", re.IGNORECASE
)
_GPU: Final = re.compile(r"\bGPU\b", re.IGNORECASE)
_GPU_POWER: Final = re.compile(
    r"^(gpu power|total graphics power|gpu chip power|total board power|gpu board power)", re.IGNORECASE
)
_CPU_POWER: Final = re.compile(r"^cpu package power|^package power", re.IGNORECASE)
_MEMORY: Final = re.compile(r"^gpu memory (used|usage|allocated)|^gpu d3d memory dedicated", re.IGNORECASE)
_SYSTEM_MEMORY: Final = re.compile(r"^physical memory used", re.IGNORECASE)
_MARGIN: Final = re.compile(r"distance to tj ?max", re.IGNORECASE)
_THROTTLE: Final = re.compile(r"throttling|performance limit.*thermal", re.IGNORECASE)


def sniff(source: Source) -> bool:
    """Whether Date, Time and sensors with units head the file."""
    first = source.first_lines(1)
    return (
        bool(first)
        and bool(_FIRST.match(first[0]))
        and any(f"[{u}" in first[0] for u in ("W", "°", "�", "Yes", "MB", "%"))
    )


def read(source: Source, settings: RunFolderSettings) -> Read:
    """Power, temperature, memory and throttling; sensors of one name are numbered and all kept."""
    layout = find_layout(source)
    if layout is None:
        raise Unreadable("no-rows", "a header without rows")
    roles: list[Role] = []
    seen: dict[str, int] = {}
    for at, header in enumerate(layout.names):
        name, unit = header_unit(header)
        seen[name] = seen.get(name, 0) + 1
        device = name if seen[name] == 1 else f"{name} #{seen[name]}"
        role = _role(at, name, unit, device)
        if role is not None:
            roles.append(role)
    if not roles:
        raise Unreadable("no-readings", "no power, temperature or throttle sensor")
    found = read_sensor_table(source, SensorTable(layout, tuple(_one_power(roles)), time=(0, 1)))
    # At its end the log repeats the header and names the devices: no reading, and none lost.
    footer = sum(line == source.head_lines[0] for line in source.sample_lines[1:])
    dropped = max(0, found.rows_dropped - footer)
    return Read(
        traces=tuple(merged_flags(found.traces)),
        rows_read=found.rows_read,
        rows_dropped=dropped,
        notes=tuple(note for note in found.notes if dropped or note.code != "rows-without-values"),
    )


def _role(at: int, name: str, unit: str, device: str) -> Role | None:
    if unit == "Yes/No":
        return Role(at, "throttle") if _THROTTLE.search(name) else None
    quantity: Quantity
    scope: Scope
    known = UNITS.get(unit.replace("\ufffd", "°"), ("", 1.0))[0]
    if known == "temperature" and _MARGIN.search(name):
        quantity, scope = "margin", "package"
    elif known == "temperature":
        scope = "part" if not _DIE.match(name) else "device" if _GPU.search(name) else "package"
        quantity = "temperature"
    elif known == "power":
        quantity = "power"
        scope = "device" if _GPU_POWER.match(name) else "package" if _CPU_POWER.match(name) else "part"
    elif known == "memory" and _MEMORY.match(name):
        return Role(at, "memory", "GPU", unit={"MB": "MiB"}.get(unit, unit))  # HWiNFO's MB are MiB
    elif known == "memory" and _SYSTEM_MEMORY.search(name):
        return Role(at, "memory", "system", "node", {"MB": "MiB"}.get(unit, unit))
    else:
        return None
    return Role(at, quantity, device, scope, unit)


def _one_power(roles: list[Role]) -> list[Role]:
    """Of several names for one part's power the first: they overlap and must not be added."""
    kept: list[Role] = []
    used: set[tuple[str, str]] = set()
    for role in roles:
        key = (role.quantity, role.scope)
        if role.quantity == "power" and role.scope != "part":
            if key in used:
                continue
            used.add(key)
        kept.append(role)
    return kept


FORMATS = (Format("HWiNFO CSV", "HWiNFO sensor log", sniff, read),)
