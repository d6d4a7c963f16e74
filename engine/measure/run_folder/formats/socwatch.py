"""Intel SoC Watch summaries: titled tables of averages and residencies, units in the heads of the columns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from engine.measure.run_folder.delimited import split
from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import PLAUSIBLE, header_unit, number, to_base
from engine.measure.run_folder.record import Extra, Note, Read
from engine.measure.run_folder.text import Source, lines
from engine.spec.run_folder import LogTable, RunFolderSettings

# `Package Power Summary: Average Rate and Total`, `Temperature Metrics Summary - Sampled: Min/Max/Avg`.
_TITLE: Final = re.compile(r"^\ufeff?\s*\"?([^,\"]*\bSummary\b[^,\"]*)\"?[\s,]*$")
_KINDS: Final = re.compile(
    r"summary(?: - sampled)?:\s*"
    r"(?:average rate and total|(?:approximated )?residency \(|min/max/avg|type count)",
    re.IGNORECASE,
)
_RULE: Final = re.compile(r"^[\s,=\-]+$")
_DURATION: Final = re.compile(
    r"duration\s*\((?P<unit>sec|seconds|s|ms|msec)\)\s*[:=,]\s*(?P<value>[0-9.]+)", re.I
)
_WHOLE: Final = re.compile(r"package", re.IGNORECASE)


@dataclass
class _Table:
    """One titled table: heads of its columns and its rows, both as printed."""

    title: str
    heads: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)

    def column(self, *words: str) -> tuple[int, str] | None:
        """Position and unit of the first column whose head starts with one of the words."""
        for at, head in enumerate(self.heads):
            name, unit = header_unit(head)
            if name.lower().startswith(words):
                return at, unit
        return None

    def value(self, row: list[str], column: tuple[int, str] | None) -> float | None:
        """A cell in base units; None where there is none, or no number in it."""
        if column is None or column[0] >= len(row):
            return None
        found = number(row[column[0]])
        return None if found is None else to_base(found, column[1].replace("oC", "C"))


def sniff(source: Source) -> bool:
    """Whether a titled summary table of SoC Watch stands near the start or the end."""
    named = re.search(r"soc ?watch", source.head[:4096], re.IGNORECASE) is not None
    titles = [found.group(1) for line in source.sample_lines if (found := _TITLE.match(line))]
    return any(_KINDS.search(title) for title in titles) or (named and bool(titles))


def read(source: Source, settings: RunFolderSettings) -> Read:
    """Package power and energy, temperatures, and the tables that the spec asks for."""
    tables, duration = _tables(source)
    facts: dict[str, float] = {}
    how: dict[str, str] = {}
    for table in tables:
        _take_power(table, facts, how)
        _take_temperature(table, facts, how)
    if duration and "average_power_w" in facts:
        facts["window_s"], how["window_s"] = duration, "collection time as printed"
    if "energy_j" not in facts and duration and "average_power_w" in facts:
        facts["energy_j"] = facts["average_power_w"] * duration
        how["energy_j"] = "average package power x collection time"
    notes = []
    for wanted in settings.tables:
        if not any(wanted.lookup in table.title for table in tables):
            notes.append(Note("no-table", f"no table is titled `{wanted.lookup}`"))
    extras = [extra for wanted in settings.tables for table in tables for extra in _extras(table, wanted)]
    rows = sum(len(table.rows) for table in tables)
    if not any(_WHOLE.search(name) for table in tables for name in _names(table)) and not extras:
        notes.append(Note("no-total", "no table holds the power of a package"))
    return Read(facts=facts, how=how, extras=tuple(extras), rows_read=rows, notes=tuple(notes))


def _names(table: _Table) -> list[str]:
    return [row[0] for row in table.rows if row]


def _tables(source: Source) -> tuple[list[_Table], float | None]:
    """The tables in order, and for how long was collected in s."""
    found: list[_Table] = []
    duration: float | None = None
    open_table: _Table | None = None
    for _, line in lines(source):
        if title := _TITLE.match(line):
            open_table = _Table(title.group(1).strip())
            found.append(open_table)
        elif stated := _DURATION.search(line):
            duration = to_base(float(stated.group("value")), "ms" if stated.group("unit")[0] == "m" else "s")
        elif not line.strip(" ,\t"):
            open_table = None if open_table is not None and open_table.rows else open_table
        elif open_table is not None and not _RULE.match(line):
            cells = split(line, ",")
            if open_table.heads:
                open_table.rows.append(cells)
            else:
                open_table.heads = cells
    return found, duration


def _take_power(table: _Table, facts: dict[str, float], how: dict[str, str]) -> None:
    """Average power and energy of the package; rates in another unit than watts are no power."""
    rate, total = table.column("average", "avg"), table.column("total")
    if "power" not in table.title.lower() or rate is None or not rate[1].lower().endswith("w"):
        return
    row = next((row for row in table.rows if _WHOLE.search(row[0])), None)
    power = table.value(row, rate) if row is not None else None
    if row is None or power is None or not PLAUSIBLE["power"][0] <= power <= PLAUSIBLE["power"][1]:
        return
    facts["average_power_w"] = power
    how["average_power_w"] = f"processor package power, memory not included; `{table.title}`"
    energy = table.value(row, total)
    if energy and total is not None and total[1].lower().endswith("j"):
        facts["energy_j"], how["energy_j"] = energy, f"processor package; `{table.title}`"
        facts["window_s"], how["window_s"] = energy / power, "energy / average power"


def _take_temperature(table: _Table, facts: dict[str, float], how: dict[str, str]) -> None:
    """Highest and mean temperature: of the package where it is listed, else over what is."""
    largest, mean = table.column("max"), table.column("avg", "average")
    if "temperature" not in table.title.lower() or "peak_temperature_c" in facts:
        return
    rows = [row for row in table.rows if row and row[0].rsplit("/", 1)[-1].lower().startswith("package")]
    rows = rows or table.rows
    low, high = PLAUSIBLE["temperature"]
    for metric, column, combined in (
        ("peak_temperature_c", largest, max),
        ("average_temperature_c", mean, lambda values: sum(values) / len(values)),
    ):
        values = [v for row in rows if (v := table.value(row, column)) is not None and low <= v <= high]
        if values:
            facts[metric] = combined(values)
            how[metric] = f"{len(values)} rows of `{table.title}`" if len(values) > 1 else f"`{table.title}`"


def _extras(table: _Table, wanted: LogTable) -> Iterator[Extra]:
    """Numbers of a table that was asked for: a column each, summed into buckets where some are given."""
    if wanted.lookup not in table.title:
        return
    for at, head in enumerate(table.heads):
        name, unit = header_unit(head)
        cells = [(row[0], number(row[at])) for row in table.rows if at and at < len(row)]
        values = [(label, value) for label, value in cells if value is not None]
        if values:
            for label, value in _bucketed(values, wanted.buckets) if wanted.buckets else values:
                yield Extra(f"{wanted.key}: {label}, {name}", unit, value)


def _bucketed(values: list[tuple[str, float]], buckets: list[str]) -> Iterator[tuple[str, float]]:
    """Rows whose first cell is a number, such as a frequency, added up by ranges `1-999` or single values."""
    for bucket in buckets:
        low, _, high = bucket.partition("-")
        ends = (float(low), float(high or low))
        inside = [v for label, v in values if (at := number(label)) is not None and ends[0] <= at <= ends[1]]
        yield bucket, sum(inside)


FORMATS = (Format("SoC Watch summary", "Intel SoC Watch summary tables", sniff, read),)
