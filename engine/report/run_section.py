"""The part of a report that only run folders fill: metrics by family, analyses, files and diagnostics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from engine.report.page import Section, Table
from engine.report.run_tables import run_tables

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_ROWS: Final = 200
"""Rows of a table on the page; the workbook holds all."""


def run_sections(tables: Mapping[str, pa.Table]) -> list[Section]:
    """Sections of the runs found in folders; none where no folder was read."""
    found = _tables(tables)
    if not found:
        return []
    measured, analyses, files = found
    return [
        Section(
            "runs", "Runs found in folders", "One row a run, read from its logs.", tables=_short(measured)
        ),
        Section(
            "comparisons",
            "Comparisons of runs",
            "Runs that differ in one thing only, their trade-offs, and what scaling costs.",
            tables=_short(analyses),
        ),
        Section("files", "Files", "Every file with what was made of it.", tables=_short(files)),
    ]


def run_data(tables: Mapping[str, pa.Table]) -> tuple[Table, ...]:
    """The same tables whole, for the workbook."""
    found = _tables(tables)
    return tuple(table for group in found for table in group) if found else ()


def _tables(
    tables: Mapping[str, pa.Table],
) -> tuple[tuple[Table, ...], tuple[Table, ...], tuple[Table, ...]] | None:
    if "files" not in tables or not tables["files"].num_rows:
        return None
    shown = run_tables(tables)
    analyses = (shown.comparison, shown.trade_offs, shown.scaling, shown.prediction, shown.custom)
    return (
        tuple(table for table in shown.families if table.rows),
        tuple(table for table in analyses if table.rows),
        (shown.files,),
    )


def _short(tables: tuple[Table, ...]) -> tuple[Table, ...]:
    return tuple(
        table
        if len(table.rows) <= _MOST_ROWS
        else replace(
            table,
            rows=table.rows[:_MOST_ROWS],
            note=f"The first {_MOST_ROWS} of {table.total:,} rows; the workbook holds all.",
        )
        for table in tables
    )
