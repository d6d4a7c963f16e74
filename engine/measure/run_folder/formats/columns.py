"""Any other CSV: columns the spec explains, or whose header says what they hold and in which unit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from engine.measure.run_folder.delimited import Layout, find_layout
from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import UNITS, header_unit, number
from engine.measure.run_folder.record import Note, Read
from engine.measure.run_folder.sensors import Role, SensorTable, merged_flags, read_sensor_table
from engine.measure.run_folder.text import Source, Unreadable
from engine.measure.run_folder.trace import Quantity, Scope
from engine.spec.run_folder import RunFolderSettings

_TIME: Final = re.compile(
    r"^(time(stamp)?|t|datetime|date[ _]?time|elapsed|seconds|epoch|ts)(_?(s|ms|us|ns|utc))?$", re.IGNORECASE
)
_DEVICE: Final = re.compile(r"^(gpu|device|index|gpu_?id|gpu_?index|card|socket|uuid)$", re.IGNORECASE)
_POWER: Final = re.compile(r"power|watt|(^|_)pwr|(^|_)w$", re.IGNORECASE)
_TEMPERATURE: Final = re.compile(r"temp(?!late)|(^|_)celsius$", re.IGNORECASE)
_MEMORY: Final = re.compile(r"mem.*used|used.*mem|memory(_used)?$|vram", re.IGNORECASE)
_NOT_USED: Final = re.compile(r"total(?!.*used)|free|limit|capacity|size", re.IGNORECASE)
# Sensors beside the die: their heat is shown by no metric of the document.
_BESIDE: Final = re.compile(r"mem|vram|hbm|inlet|ambient|vrm|ssd|nvme|board|pcb|psu", re.IGNORECASE)
_THROTTLE: Final = re.compile(r"throttl(?!e_?temp)", re.IGNORECASE)
_HITS: Final = re.compile(r"(l3|cache)[ _-]?hit([ _-]?(rate|ratio))?$|^l3hit", re.IGNORECASE)
_UNIT_ENDING: Final = re.compile(
    r"[_ ](mw|w|kw|watts?|c|degc|f|k|mb|mib|gb|gib|bytes|b|pct|percent)$", re.IGNORECASE
)
_ENDINGS: Final = {
    "mw": "mW", "w": "W", "kw": "kW", "watt": "W", "watts": "W", "c": "C", "degc": "C", "f": "F", "k": "K",
    "mb": "MB", "mib": "MiB", "gb": "GB", "gib": "GiB", "bytes": "B", "b": "B", "pct": "%", "percent": "%",
}  # fmt: skip


@dataclass(frozen=True)
class _Meaning:
    """What the columns of a file hold."""

    layout: Layout
    roles: tuple[Role, ...]
    time: tuple[int, ...]
    device: int | None


def _meaning(source: Source, settings: RunFolderSettings) -> _Meaning | None:
    layout = find_layout(source)
    if (
        layout is None
        or not any(layout.names)
        or any(number(name) is not None for name in layout.names if name)
    ):
        return None
    roles: list[Role] = []
    time: list[int] = []
    device: int | None = None
    for at, header in enumerate(layout.names):
        name, unit = header_unit(header)
        declared = settings.columns.get(header) or settings.columns.get(name)
        if declared is not None:
            if declared.quantity == "time" or declared.quantity == "date" or declared.quantity == "clock":
                time.append(at)
            elif declared.quantity == "device":
                device = at
            else:
                shown = declared.device or settings.rails.get(name, name)
                roles.append(Role(at, declared.quantity, shown, unit=declared.unit or unit))
        elif _TIME.match(name) or name.lower() in ("date", "clock"):
            time.append(at)
        elif _DEVICE.match(name):
            device = at
        elif (role := _guess(at, name, unit, settings)) is not None:
            roles.append(role)
    return _Meaning(layout, tuple(_without_parts(roles, layout)), tuple(time[:2]), device) if roles else None


def _guess(at: int, name: str, unit: str, settings: RunFolderSettings) -> Role | None:
    """What a header says it holds; a power needs a unit somewhere, or a name that is one."""
    ending = _UNIT_ENDING.search(name)
    unit = unit or (_ENDINGS[ending.group(1).lower()] if ending else "")
    quantity: Quantity
    if _THROTTLE.search(name):
        quantity = "throttle"
    elif _TEMPERATURE.search(name) and "limit" not in name.lower():
        quantity, unit = "temperature", unit if UNITS.get(unit, ("",))[0] == "temperature" else "C"
    elif _POWER.search(name) and "limit" not in name.lower() and "cap" not in name.lower():
        quantity, unit = "power", unit if UNITS.get(unit, ("",))[0] == "power" else "W"
    elif _HITS.search(name):
        quantity = "cache_hit_rate"
    elif _MEMORY.search(name) and not _NOT_USED.search(name) and UNITS.get(unit, ("",))[0] == "memory":
        quantity = "memory"
    else:
        return None
    shown = settings.rails.get(name, settings.rails.get(_bare(name), name))
    beside = quantity == "temperature" and _BESIDE.search(name) is not None
    return Role(at, quantity, shown, "part" if beside else _scope(name), unit)


def _bare(name: str) -> str:
    return _UNIT_ENDING.sub("", name)


def _scope(name: str) -> Scope:
    low = name.lower()
    if "pkg" in low or "package" in low or "cpu" in low:
        return "package"
    if "dram" in low or "ram_" in low:
        return "memory"
    if "node" in low or "system" in low or "psu" in low or "wall" in low:
        return "node"
    return "soc" if "soc" in low or "total" in low else "device"


def _without_parts(roles: list[Role], layout: Layout) -> list[Role]:
    """Roles of one power per scope: limits, means and parts beside it are not added to it."""
    kept: list[Role] = []
    for role in roles:
        name = layout.names[role.column].lower()
        derived = role.quantity == "power" and re.search(r"avg|average|mean|max|min|peak|core", name)
        if derived and any(r.quantity == "power" for r in roles if r is not role):
            continue
        kept.append(role)
    return kept


def sniff(source: Source) -> bool:
    """Whether some column of a table reads like a sensor; columns of the spec are looked up when reading."""
    first = source.first_lines(1)
    if not first or source.head.lstrip()[:1] in ("{", "[", "<"):
        return False
    layout = find_layout(source)
    return layout is not None and (len(layout.names) > 1) and len(source.first_lines(2)) > 1


def read(source: Source, settings: RunFolderSettings) -> Read:
    """Traces of the columns that were understood."""
    meaning = _meaning(source, settings)
    if meaning is None:
        raise Unreadable(
            "unknown-columns",
            "a table, but no column reads like a power, a temperature or a throttle flag; "
            "name them under `columns:`",
        )
    scale = _time_scale(source, meaning)
    table = SensorTable(
        meaning.layout, meaning.roles, time=meaning.time, device=meaning.device, interval_s=settings.interval
    )
    names = ", ".join(
        f"{meaning.layout.names[r.column]} ({r.quantity}, {r.unit or 'no unit'})" for r in meaning.roles[:8]
    )
    found = read_sensor_table(
        source, table, notes=[Note("guessed-columns", f"columns by their names: {names}", "note")]
    )
    traces = merged_flags(found.traces)
    if scale != 1.0:
        from dataclasses import replace

        traces = [
            replace(
                t, time_s=t.time_s * scale, integral=t.integral * scale,
                interval_s=t.interval_s * scale if t.interval_s else None,
                gaps=tuple((a * scale, b * scale) for a, b in t.gaps),
                half_integral=t.half_integral * scale if t.half_integral is not None else None,
                edges_s=tuple(x * scale for x in t.edges_s), set_s=tuple(x * scale for x in t.set_s),
            )
            for t in traces
        ]  # fmt: skip
    notes = found.notes
    if not meaning.time and settings.interval is None:
        notes = (*notes, Note("no-interval", "no column of times and no `interval`: no energy, plain means"))
    return Read(traces=tuple(traces), rows_read=found.rows_read, rows_dropped=found.rows_dropped, notes=notes)


def _time_scale(source: Source, meaning: _Meaning) -> float:
    """From small relative times in a stated unit to seconds; dates and epochs are in seconds already."""
    if len(meaning.time) != 1:
        return 1.0
    name, unit = header_unit(meaning.layout.names[meaning.time[0]])
    ending = re.search(r"_(ms|us|ns)$", name.lower())
    factor = {"ms": 1e-3, "us": 1e-6, "ns": 1e-9}.get(
        unit.lower() or (ending.group(1) if ending else ""), 1.0
    )
    cells = source.head_lines[1:2]
    first = number(cells[0].split(meaning.layout.delimiter)[meaning.time[0]]) if cells else None
    return factor if first is not None and first < 1e8 else 1.0


FORMATS = (Format("CSV by columns", "a table of sensors", sniff, read),)
