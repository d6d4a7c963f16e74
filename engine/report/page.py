"""The shapes of what a report shows: plain data that HTML, PDF and workbook read alike."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.report.numbers import ABSENT, Scale

Align = Literal["text", "number"]
Tone = Literal["good", "plain", "warning", "bad"]
PLAIN = Scale("")
Value = str | int | float | bool | None


@dataclass(frozen=True)
class Column:
    """One column of a table that is shown."""

    name: str
    label: str
    meaning: str = ""
    align: Align = "text"
    scale: Scale = PLAIN
    metric: str | None = None
    """Name of the metric its heading leads to, if it is one."""
    optional: bool = False
    """Hidden on screen until the reader asks for it; always in workbook and downloads."""
    low: str | None = None
    """Column with the lower end of the interval, shown behind the value."""
    high: str | None = None

    @property
    def heading(self) -> str:
        """Label and unit: `Time to first token (ms)`."""
        return f"{self.label} ({self.scale.unit})" if self.scale.unit else self.label


@dataclass(frozen=True)
class Table:
    """Rows of raw values in base units; a cell's text is made by its column."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    total: int
    """Rows there are; more than `rows` when some are left out."""
    note: str = ""
    """What a reader must know: what was left out and where the rest lies."""
    units: tuple[str, ...] = ()
    """Base unit of each column, for downloads; empty where the scale's unit is the base unit."""
    intervals: tuple[tuple[tuple[float, float] | None, ...], ...] = ()
    """Per row and column the interval behind a value, where one is known; empty without any."""

    def text(self, row: int, column: int) -> str:
        """The cell as people read it."""
        value = self.rows[row][column]
        shown = cell_text(self.columns[column], value)
        between = self.intervals[row][column] if self.intervals else None
        if between is None:
            return shown
        scale = self.columns[column].scale
        return f"{shown} [{scale.text(between[0])}, {scale.text(between[1])}]"

    def texts(self, *, limit: int | None = None) -> list[list[str]]:
        """Every shown cell, row by row."""
        return [
            [self.text(i, j) for j in range(len(self.columns))]
            for i in range(len(self.rows) if limit is None else min(limit, len(self.rows)))
        ]


def cell_text(column: Column, value: Value) -> str:
    """One value as people read it in its column."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and column.align == "number":
        return column.scale.text(value)
    return str(value)


@dataclass(frozen=True)
class Chart:
    """One Vega-Lite description, the words that stand in for it, and the numbers behind it."""

    name: str
    title: str
    caption: str
    """What one sees and what to look for; says what was left out."""
    alt: str
    """What the picture shows, for those who do not see it."""
    spec: Mapping[str, Any]
    table: Table
    metrics: tuple[str, ...] = ()
    """Metrics on its axes, whose definitions it leads to."""
    only: Mapping[str, str] = field(default_factory=dict)
    """Device and number format of the one point it shows, for the filter of the page; empty where its rows
    have their own."""


@dataclass(frozen=True)
class Tile:
    """One number of the first screen with its source and how sure we are."""

    label: str
    value: str
    unit: str
    source: str
    """`predicted bound`, `measured, n = 5` ..."""
    interval: str = ""
    metric: str | None = None
    tone: Tone = "plain"
    name: str = ""
    number: float | None = None
    """The value as a number in `unit`; None where it is words."""


@dataclass(frozen=True)
class Notice:
    """Something that went wrong or was left out, with how often and why."""

    status: str
    title: str
    count: int
    reason: str
    examples: tuple[str, ...] = ()
    detail: str = ""
    tone: Tone = "warning"


@dataclass(frozen=True)
class Definition:
    """A metric that occurs in the report."""

    name: str
    label: str
    unit: str
    direction: str
    definition: str
    formula: str


@dataclass(frozen=True)
class Assumption:
    """Something the numbers rest on that was not measured."""

    subject: str
    statement: str
    value: str
    source: str


@dataclass(frozen=True)
class Fact:
    """One line of the provenance."""

    group: str
    name: str
    value: str


@dataclass(frozen=True)
class Finding:
    """Advice with its evidence and the change that would try it."""

    rule: str
    severity: str
    finding: str
    evidence: str
    gain: str
    change: str
    point: str


@dataclass(frozen=True)
class Section:
    """A heading with its charts and tables, in reading order."""

    name: str
    title: str
    lead: str = ""
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class View:
    """Everything a report shows, prepared once."""

    title: str
    name: str
    description: str
    subtitle: str
    verdict: str
    verdict_basis: str
    verdict_tone: Tone
    tiles: tuple[Tile, ...]
    notices: tuple[Notice, ...]
    counts: tuple[tuple[str, int], ...]
    """Rows by status."""
    fixed: tuple[tuple[str, str], ...]
    """Settings that are the same at every point."""
    sections: tuple[Section, ...]
    points: Table
    best: Table
    """The points worth paper: the best by rank."""
    data: tuple[Table, ...]
    """Further tables for the workbook and the downloads: operators, requests, components, samples."""
    findings: tuple[Finding, ...]
    definitions: tuple[Definition, ...]
    assumptions: tuple[Assumption, ...]
    provenance: tuple[Fact, ...]
    spec_text: str
    resolved_text: str
    page: str
    """Paper of the PDF: A4 or Letter."""
    made: dt.datetime
    """When the data was made; the same inputs give the same time."""
    share: bool
    fingerprint: str
    version: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "Experiment report"
    """What the page is, above its title."""
    points_title: str = "Points"
    counted_as: str = "Points"
    """What `counts` counts."""
    """Heading of the table of points."""

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All charts in reading order."""
        return tuple(chart for section in self.sections for chart in section.charts)
