"""Intel PCM CSV: two header rows (group, name); energies per interval, cache hit rates as ratios."""

from __future__ import annotations

from typing import Final

from engine.measure.run_folder.clock import parse_time
from engine.measure.run_folder.delimited import split
from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import number
from engine.measure.run_folder.record import Note, Read
from engine.measure.run_folder.recorder import Recorder
from engine.measure.run_folder.text import Source, lines
from engine.measure.run_folder.trace import Scope
from engine.spec.run_folder import RunFolderSettings
from engine.units import counted

_ENERGIES: Final[dict[str, Scope]] = {"proc energy (joules)": "package", "dram energy (joules)": "memory"}
_HITS: Final = ("l3hit", "l3 hit", "l3-hit")
_MARKS: Final = ("l3hit", "l2hit", "proc energy (joules)", "l3miss", "physic cores ipc")


def _header(source: Source) -> tuple[str, int] | None:
    for at, line in enumerate(source.head_lines[:10]):
        low = line.lower()
        if any(mark in low for mark in _MARKS) and "date" in low and "time" in low:
            return (";" if line.count(";") > line.count(",") else ","), at
    return None


def sniff(source: Source) -> bool:
    """Whether PCM's second header row stands near the start."""
    return _header(source) is not None


def read(source: Source, settings: RunFolderSettings) -> Read:
    """Package and memory power from energies, and the rate of last-level cache hits."""
    delimiter, header = _header(source) or (",", 0)
    heads = source.head_lines
    names = [name.lower() for name in split(heads[header], delimiter)]
    groups = _filled(split(heads[header - 1], delimiter), len(names)) if header else [""] * len(names)
    system = [
        i
        for i, group in enumerate(groups)
        if group.lower() in ("system", "socket system", "system - pack c-states", "")
    ]
    recorder = Recorder(zone="local", held=True)
    rows = dropped = 0
    last: float | None = None
    started = False
    counters = [0.0, 0.0]
    for at, line in lines(source):
        if at <= header + 1 or not line.strip():
            continue
        cells = split(line, delimiter)
        if len(cells) < len(names) - 1:
            dropped += 1
            continue
        row = {names[i]: cells[i] for i in (system or range(len(names))) if i < len(cells)}
        stamp = parse_time(f"{cells[names.index('date')]} {cells[names.index('time')]}")[0]
        if stamp is None:
            dropped += 1
            continue
        rows += 1
        step = stamp - last if last is not None else settings.interval
        if step and not started:  # an energy fills the interval before its row: the first needs a beginning
            _take(recorder, row, stamp - step, step, [0.0, 0.0], comma=delimiter == ";")
            started = True
        last = stamp
        _take(recorder, row, stamp, step, counters, comma=delimiter == ";")
    notes = [*recorder.notes()]
    if dropped:
        notes.append(Note("row-cut", f"{counted(dropped, 'row')} could not be read"))
    facts, how = {}, {}
    if sum(counters) > 0:
        facts["cache_hit_rate"] = counters[0] / sum(counters)
        how["cache_hit_rate"] = "L3 hits / (hits + misses) over the log"
    return Read(
        traces=recorder.finish(),
        facts=facts,
        how=how,
        rows_read=rows,
        rows_dropped=dropped,
        notes=tuple(notes),
    )


def _filled(groups: list[str], width: int) -> list[str]:
    """Group of each column: names stand over their first column only."""
    filled: list[str] = []
    for i in range(width):
        own = groups[i] if i < len(groups) else ""
        filled.append(own or (filled[-1] if filled else ""))
    return filled


def _take(
    recorder: Recorder,
    row: dict[str, str],
    stamp: float,
    step: float | None,
    counters: list[float],
    *,
    comma: bool,
) -> None:
    for name, scope in _ENERGIES.items():
        joules = number(row.get(name, ""), comma=comma)
        if joules is not None and step:
            recorder.add("power", scope, "", stamp, joules / step)
    for name in _HITS:
        ratio = number(row.get(name, ""), comma=comma)
        if ratio is not None:
            recorder.add("cache_hit_rate", "package", "L3", stamp, ratio)
    hits, misses = (number(row.get(name, ""), comma=comma) for name in ("l3hits", "l3miss"))
    if hits is not None and misses is not None:
        counters[0] += hits
        counters[1] += misses


FORMATS = (Format("Intel PCM CSV", "Intel Performance Counter Monitor", sniff, read),)
