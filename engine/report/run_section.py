"""The part of a report that only run folders fill: metrics by family, analyses, files and diagnostics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from engine.report.page import Section, Table
from engine.report.run_tables import run_tables

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_ROWS: Final = 200
"""Rows of a table on the page; the workbook holds all."""
_MOST_COLUMNS: Final = 8
"""Columns of numbers beside the names of a row: what a page is wide enough for."""
_SETTINGS: Final = ("model", "hardware", "quantization", "batch_size", "prompt_tokens", "settings")


def run_sections(tables: Mapping[str, pa.Table]) -> list[Section]:
    """Sections of the runs found in folders, a family of metrics each; none where no folder was read."""
    found = _tables(tables)
    if not found:
        return []
    (*families, origins), analyses, files = found
    sections = [
        Section(
            "runs", "Runs found in folders", "One row a run, read from its logs.", tables=_settings(families)
        )
    ]
    shown_already: set[str] = set()
    for table in families:
        own = _metrics(table, shown_already)
        sections.append(_section(f"runs-{table.name}", f"{table.title} of the runs", [own]))
        shown_already |= {column.name for column in own.columns[1:]}
    named = {table.name: table for table in analyses}
    for name, title, lead, members in _ANALYSES:
        shown = [named[member] for member in members if member in named]
        if shown:
            sections.append(_section(name, title, shown, lead))
    lead = "Every file with what was made of it, and how values came about or why they are absent."
    return [*sections, _section("files", "Files and origins", [*files, origins], lead)]


_ANALYSES: Final = (
    ("comparisons", "Comparisons of runs", "Runs that differ in one thing only.", ("comparison",)),
    ("run-trade-offs", "Trade-offs and scaling", "What power and scale buy.", ("trade-offs", "scaling")),
    ("run-predictions", "Theory and own metrics", "", ("prediction", "custom")),
)  # fmt: skip
"""Section name, title, lead and the tables in it: two at most, as many as a printed section holds."""


def _section(name: str, title: str, tables: Sequence[Table], lead: str = "") -> Section:
    return Section(name, title, lead, tables=_short(tuple(part for t in tables for part in _narrow(t))))


def _settings(families: Sequence[Table]) -> tuple[Table, ...]:
    """What tells the runs apart, once."""
    names = ("run", *_SETTINGS)
    return _short((_columns(families[0], names, title="Settings", name="run-settings"),)) if families else ()


def _metrics(table: Table, elsewhere: Set[str]) -> Table:
    """A family of metrics beside the names of the runs; what another family shows is left to it."""
    left_out = {*_SETTINGS, "how", *elsewhere}
    return _columns(table, [c.name for c in table.columns if c.name not in left_out])


def _columns(table: Table, names: Sequence[str], *, title: str = "", name: str = "") -> Table:
    """Some columns of a table, in its own order."""
    at = [i for i, column in enumerate(table.columns) if column.name in names]
    return replace(
        table,
        name=name or table.name,
        title=title or table.title,
        columns=tuple(table.columns[i] for i in at),
        rows=tuple(tuple(row[i] for i in at) for row in table.rows),
    )


def _narrow(table: Table) -> list[Table]:
    """The table in parts that fit a page, each with the names of its rows."""
    numbers = [c.name for c in table.columns if c.align == "number"]
    if len(numbers) <= _MOST_COLUMNS:
        return [table]
    names = [c.name for c in table.columns if c.align != "number"]
    parts = [numbers[i : i + _MOST_COLUMNS] for i in range(0, len(numbers), _MOST_COLUMNS)]
    return [
        _columns(
            table,
            (*names, *part),
            title=table.title if i == 0 else f"{table.title}, continued",
            name=table.name if i == 0 else f"{table.name}-{i + 1}",
        )
        for i, part in enumerate(parts)
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
        (*(table for table in shown.families if table.rows), shown.origins),
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
