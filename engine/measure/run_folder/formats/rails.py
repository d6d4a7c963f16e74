"""Summaries of rails: `Rail Name,Min,Max,Average` and `Run Time`, in W and s unless the heads say else."""

from __future__ import annotations

import re
from typing import Final

from engine.measure.run_folder.delimited import split
from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import UNITS, header_unit, number, to_base
from engine.measure.run_folder.record import Note, Read
from engine.measure.run_folder.text import Source, lines
from engine.spec.run_folder import RunFolderSettings

_HEADER: Final = re.compile(
    r"^\ufeff?\s*\"?(Rail Name|Component|Rail|Domain)\"?\s*,.*\b(Average|Avg)", re.IGNORECASE
)
_TIMES: Final = ("run time", "duration")  # rows in s, whatever the heads say
_ROLE: Final = "_POWER_RAIL_NAME"
_TOTAL: Final = f"SOC{_ROLE}"
# Names of a whole chip, likeliest first; a rail map names it for certain.
_WHOLE: Final = ("p_soc_total", "soc_total", "total", "package", "cpu/package_0", "p_soc", "soc")


def sniff(source: Source) -> bool:
    """Whether a header of rails with averages stands near the start."""
    return any(_HEADER.match(line) for line in source.head_lines[:20])


def read(source: Source, settings: RunFolderSettings) -> Read:
    """Average and peak power of the whole chip, and its energy over the run time."""
    columns: list[str] = []
    units: list[str] = []
    rows: dict[str, dict[str, float]] = {}
    for _, line in lines(source):
        if _HEADER.match(line):
            heads = split(line.lstrip("\ufeff"), ",")
            columns = [re.sub(r"\W.*", "", cell.lower()) for cell in heads]
            units = [header_unit(cell)[1] for cell in heads]
        elif columns and line.strip():
            cells = split(line, ",")
            timed = cells[0].lower() in _TIMES
            rows[cells[0]] = {
                c: to_base(v, unit) if UNITS.get(unit, ("",))[0] == "power" and not timed else v
                for c, unit, cell in zip(columns[1:], units[1:], cells[1:], strict=False)
                if (v := number(cell)) is not None
            }
    total = _total(rows, settings)
    if total is None:
        note = Note("no-total", f"no rail is known to be the total; name one: `rails: {{{_TOTAL}: ...}}`")
        return Read(rows_read=len(rows), notes=(note, _parts(rows, settings)))
    shown = _shown(total, settings)
    values = rows[total]
    average = values.get("average", values.get("avg"))
    facts, how = {}, {}
    if average is not None:
        facts["average_power_w"], how["average_power_w"] = average, f"average of rail {shown}"
    if "max" in values:
        facts["peak_power_w"], how["peak_power_w"] = values["max"], f"largest sample of rail {shown}"
    run_time = next((v for name, v in rows.items() if name.lower() in _TIMES), {})
    seconds = run_time.get("average", run_time.get("avg", run_time.get("max")))
    if average is not None and seconds:
        facts["energy_j"], how["energy_j"] = average * seconds, f"average of rail {shown} x run time"
        facts["window_s"], how["window_s"] = seconds, "run time as printed"
    return Read(facts=facts, how=how, rows_read=len(rows), notes=(_parts(rows, settings),))


def _total(rows: dict[str, dict[str, float]], settings: RunFolderSettings) -> str | None:
    named = settings.rails.get(_TOTAL)
    if named in rows:
        return named
    lower = {name.lower(): name for name in rows}
    return next((lower[name] for name in _WHOLE if name in lower), None)


def _shown(name: str, settings: RunFolderSettings) -> str:
    """A rail under the name or the role that a rail map gives it: `SOC (P_SOC_TOTAL)`."""
    role = next((k for k, v in settings.rails.items() if v == name and k.endswith(_ROLE)), None)
    if role is not None:
        return f"{role.removesuffix(_ROLE)} ({name})"
    return settings.rails.get(name, name)


def _parts(rows: dict[str, dict[str, float]], settings: RunFolderSettings) -> Note:
    parts = [
        f"{_shown(name, settings)} {row.get('average', row.get('avg')):g} W"
        for name, row in rows.items()
        if row.get("average", row.get("avg")) is not None and name.lower() not in _TIMES
    ]
    return Note("rails", "rails: " + ", ".join(parts[:12]), "note")


FORMATS = (Format("rail summary", "rails with minimum, maximum and average", sniff, read),)
