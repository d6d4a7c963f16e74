"""Stored tables as they are, for the workbook and the downloads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from engine.report.charts.story import label_of
from engine.report.clean import Redactor
from engine.report.numbers import Scale, scale_for
from engine.report.page import Column, Table, Value
from engine.results.tables import TABLES
from engine.results.tables import Column as Declared
from engine.units import counted

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS: Final = 100_000
"""Rows of a stored table in the workbook; beyond that a note says where the rest is."""
_LEFT_OUT: Final = frozenset({"token_times_s"})
_TITLES: Final = {"requests": "Requests", "components": "Components", "samples": "Samples"}


def raw_tables(tables: Mapping[str, pa.Table], redact: Redactor) -> tuple[Table, ...]:
    """Requests, components and samples, where there are any."""
    return tuple(
        _raw(name, tables[name], redact) for name in _TITLES if name in tables and tables[name].num_rows
    )


def _raw(name: str, table: pa.Table, redact: Redactor) -> Table:
    declared = [c for c in TABLES[name] if c.name not in _LEFT_OUT and c.name in table.column_names]
    declared = [c for c in declared if table[c.name].null_count < table.num_rows]
    first = table.slice(0, MOST_ROWS)
    columns = []
    values: list[list[Value]] = []
    for one in declared:
        found = [_value(v, one, redact) for v in first[one.name].to_pylist()]
        columns.append(_column(one, found))
        values.append(found)
    total = table.num_rows
    note = ""
    if total > MOST_ROWS:
        note = f"{MOST_ROWS:,} of {counted(total, 'row')}; `engine export RUN {name}` writes all of them."
    rows = tuple(zip(*values, strict=True))
    return Table(name, _TITLES[name], tuple(columns), rows, total, note, tuple(c.unit for c in declared))


def _value(value: Any, declared: Declared, redact: Redactor) -> Value:
    if isinstance(value, str):
        return (
            redact.entry("device_uuid", value)
            if declared.name == "device" and redact.share
            else redact.text(value)
        )
    if isinstance(value, float) and value != value:
        return None
    found: Value = value
    return found


def _column(declared: Declared, values: list[Value]) -> Column:
    label = label_of(declared.name)
    if declared.kind in ("int", "float"):
        if declared.kind == "int":
            return Column(declared.name, label, declared.meaning, "number", Scale(declared.unit))
        numbers = [v for v in values if isinstance(v, int | float)]
        label = (
            label.removesuffix(" s")
            .removesuffix(" j")
            .removesuffix(" w")
            .removesuffix(" c")
            .removesuffix(" bytes")
        )
        return Column(
            declared.name, label, declared.meaning, "number", scale_for(declared.name, declared.unit, numbers)
        )
    return Column(declared.name, label, declared.meaning)
