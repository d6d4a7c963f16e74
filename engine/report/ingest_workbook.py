"""The workbook of a run folder: runs across and down, analyses, every file, every definition.

The cells are written by the same code as the workbook of a report; only the sheets are others.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.metrics import METRICS
from engine.report.clean import clean_text
from engine.report.excel import Make, live
from engine.report.ingest_charts import native_charts, printable_sheet
from engine.report.page import Column, Table
from engine.report.run_tables import RunTables, run_tables
from engine.report.sheets import MOST_ROWS, Formula, Place, Sheet, Workbook
from engine.score.scaling import Pick

if TYPE_CHECKING:
    from engine.results.tables import Tables

_MOST_RUNS_ACROSS: Final = 16_000
"""Columns of a sheet are 16,384 (Excel's limits); further runs stand on a second sheet."""
_BLUE: Final = "5B8DB8"


@dataclass(frozen=True)
class Provenance:
    """What a reader needs to make the workbook again."""

    made: dt.datetime
    title: str
    facts: Sequence[tuple[str, str]]
    """(what, value)."""
    spec_text: str
    """The experiment that stands behind the command."""


def write_ingest_workbook(
    tables: Tables, target: Path, provenance: Provenance, *, pick: Pick = "median"
) -> None:
    """Write the workbook of a run folder; parent folders are made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shown = run_tables(tables, pick=pick)
    book = Workbook(provenance.made, title=provenance.title)
    _attributes(book, shown)
    for family in shown.families:
        _family(book, family)
    _plain(book, "Comparison", shown.comparison)
    _front(_plain(book, "Trade-offs", shown.trade_offs), book.sheets["Trade-offs"])
    _scaling(book, shown.scaling)
    if shown.prediction.rows:
        _plain(book, "Prediction", shown.prediction)
    _plain(book, "Custom", shown.custom)
    native_charts(book, shown)
    _plain(book, "Runs", shown.files)
    _plain(book, "Diagnostics", shown.diagnostics)
    _definitions(book, shown)
    _plain(book, "Origins", shown.origins)
    _provenance(book, shown, provenance)
    book.save(target)


def _attributes(book: Workbook, shown: RunTables) -> None:
    """Attribute in the first column, one column per run."""
    count = len(shown.runs)
    for number, start in enumerate(range(0, max(count, 1), _MOST_RUNS_ACROSS)):
        stop = min(start + _MOST_RUNS_ACROSS, count)
        title = "Summary" if number == 0 else f"Summary {number + 1}"
        sheet = printable_sheet(book, title, widths=(40, *(22 for _ in range(stop - start))), freeze="B2")
        heads = ["Attribute", *(column.label for column in shown.attributes.columns[1 + start : 1 + stop])]
        book.heads(sheet, heads)
        for row in shown.attributes.rows:
            cells = [book.text(sheet, row[0], font=book.bold)]
            form = _form(str(row[0]), row[1:])
            for value in row[1 + start : 1 + stop]:
                if value is None:
                    cells.append(None)
                elif isinstance(value, str):
                    cells.append(book.text(sheet, value))
                else:
                    cells.append(book.number(sheet, float(value), form))
            sheet.add(cells)
        last = _letter(1 + stop - start)
        sheet.page.auto_filter.ref = f"A1:{last}{max(sheet.row, 1)}"


def _form(label: str, values: Sequence[Any]) -> str:
    """A number format with about four significant digits for the row."""
    if label.endswith("(%)"):
        return "0.0"
    known = [abs(v) for v in values if isinstance(v, int | float) and v]
    if not known or all(float(v).is_integer() for v in known):
        return "#,##0"
    places = max(0, min(6, 3 - math.floor(math.log10(sorted(known)[len(known) // 2]))))
    return "#,##0" + ("." + "0" * places if places else "")


def _letter(column: int) -> str:
    from openpyxl.utils import get_column_letter

    return str(get_column_letter(column))


def _widths(table: Table) -> list[float]:
    wide = {
        "how": 80.0,
        "file": 44.0,
        "reason": 44.0,
        "warnings": 60.0,
        "finding": 70.0,
        "evidence": 50.0,
        "run": 32.0,
        "group": 44.0,
        "note": 70.0,
        "change": 44.0,
        "variant": 32.0,
        "by": 32.0,
    }
    return [
        wide.get(column.name, max(_word_width(column), _text_width(table, at)))
        for at, column in enumerate(table.columns)
    ]


def _word_width(column: Column) -> float:
    """Room for the longest word of the heading."""
    return max(11.0, min(20.0, max(len(word) for word in column.heading.split()) + 4.0))


def _text_width(table: Table, at: int) -> float:
    """Room for the texts of a column, names of devices above all; numbers need none."""
    if table.columns[at].align == "number":
        return 0.0
    return min(28.0, max((len(str(row[at])) + 2.0 for row in table.rows[:200] if row[at]), default=0.0))


def _family(book: Workbook, table: Table) -> None:
    """One row a run; derived columns are live formulas where the row agrees with them."""
    sheet = printable_sheet(book, table.title, widths=_widths(table), freeze="B2")
    place = book.rows(sheet, table, formulas=_formulas(table))
    book.filter(sheet, place)
    # Printed without the long last column, which would shrink the numbers until nobody can read them.
    printed = [letter for name, letter in place.letters.items() if name != "how"]
    sheet.page.print_area = f"A1:{printed[-1]}{max(place.last, place.first)}"
    for name in ("throughput_tokens_per_s", "average_power_w", "memory_used_bytes", "peak_temperature_c"):
        if name in place.letters:
            _bars(sheet, place, name)


# Derived metric -> (the two metrics it is the quotient of, the formula over base units).
_DERIVED: Final[Mapping[str, tuple[tuple[str, str], str]]] = {
    "average_power_w": (("energy_j", "window_s"), "=({0})/({1})"),
    "energy_per_output_token_j": (("energy_j", "output_tokens"), "=({0})/({1})"),
    "tokens_per_s_per_w": (("throughput_tokens_per_s", "average_power_w"), "=({0})/({1})"),
    "tokens_per_joule": (("output_tokens", "energy_j"), "=({0})/({1})"),
}


def _quotient(values: Sequence[float]) -> float:
    return values[0] / values[1] if values[1] else math.nan


def _formulas(table: Table) -> dict[int, Make]:
    at = {column.name: i for i, column in enumerate(table.columns)}
    found = {}
    for target, (sources, template) in _DERIVED.items():
        if target in at and all(source in at for source in sources):
            found[at[target]] = live(
                table, at[target], [at[source] for source in sources], _quotient, template
            )
    return found


def _bars(sheet: Sheet, place: Place, name: str) -> None:
    """Bars behind the numbers: length, not colour, tells."""
    from openpyxl.formatting.rule import DataBarRule

    if place.last >= place.first:
        area = f"{place.letters[name]}{place.first}:{place.letters[name]}{place.last}"
        ends = {"start_type": "num", "start_value": 0, "end_type": "max"}
        rule: Any = DataBarRule(color=_BLUE, **ends)  # type: ignore[no-untyped-call]
        sheet.page.conditional_formatting.add(area, rule)


def _plain(book: Workbook, title: str, table: Table, *, most: int = MOST_ROWS - 10) -> Place:
    """A table with a heading, filter buttons and a frozen heading."""
    sheet = printable_sheet(book, title, widths=_widths(table), freeze="A2")
    chosen = table if len(table.rows) <= most else _first(table, most)
    place = book.rows(sheet, chosen)
    if table.rows:
        book.filter(sheet, place)
    if chosen is not table:
        text = f"{len(table.rows) - most:,} more rows are in the tables of the run"
        sheet.add([book.text(sheet, text, font=book.quiet)])
    if table.note:
        sheet.add([book.text(sheet, table.note, font=book.quiet)])
    return place


def _first(table: Table, most: int) -> Table:
    return Table(table.name, table.title, table.columns, table.rows[:most], len(table.rows), table.note)


def _front(place: Place, sheet: Sheet) -> None:
    """Dominated runs in italic grey with a line through them: legible without colours."""
    from openpyxl.formatting.rule import FormulaRule
    from openpyxl.styles import Font

    if place.last >= place.first:
        letters = list(place.letters.values())
        area = f"A{place.first}:{letters[-1]}{place.last}"
        test = f'${place.letters["verdict"]}{place.first}="dominated"'
        font = Font(italic=True, strike=True, color="596068")
        rule: Any = FormulaRule(formula=[test], font=font)  # type: ignore[no-untyped-call]
        sheet.page.conditional_formatting.add(area, rule)


_EXPLAINED: Final = (
    "Scaling efficiency = performance ratio / resource ratio, from the first run of a group to each other.",
    "Above 1 performance grew faster than the resource. Ratios are exact.",
    "The other column rounds both ratios to two decimals first, as reports by hand do: 0.62 / 1.86 = 0.33.",
)


def _scaling(book: Workbook, table: Table) -> None:
    """Scaling efficiencies as live formulas over their two ratios, with the rounding explained."""
    sheet = printable_sheet(book, "Scaling", widths=_widths(table), freeze="A2")
    at = {column.name: i for i, column in enumerate(table.columns)}
    gain, cost = _letter(at["performance_ratio"] + 1), _letter(at["resource_ratio"] + 1)

    def exact(row: int, values: Sequence[Any]) -> Formula:
        return Formula(f"={gain}{row}/{cost}{row}", values[at["efficiency"]])

    def rounded(row: int, values: Sequence[Any]) -> Formula:
        return Formula(f"=ROUND({gain}{row},2)/ROUND({cost}{row},2)", values[at["rounded"]])

    place = book.rows(sheet, table, formulas={at["efficiency"]: exact, at["rounded"]: rounded})
    if table.rows:
        book.filter(sheet, place)
    sheet.add([])
    for text in (*_EXPLAINED, table.note):
        if text:
            sheet.add([book.text(sheet, text, font=book.quiet)])


def _definitions(book: Workbook, shown: RunTables) -> None:
    sheet = printable_sheet(book, "Definitions", widths=(34, 34, 14, 12, 90, 44), freeze="A2")
    book.heads(sheet, ("Metric", "Name", "Base unit", "Better", "Definition", "Formula"))
    names = [c.metric for table in shown.families for c in table.columns if c.metric]
    for name in dict.fromkeys(names):
        m = METRICS[name]
        texts = (m.label, m.name, m.unit, m.direction, m.definition, m.formula)
        sheet.add([book.text(sheet, text, wrap=True) for text in texts])
    sheet.page.auto_filter.ref = f"A1:F{max(sheet.row, 1)}"


def _provenance(book: Workbook, shown: RunTables, provenance: Provenance) -> None:
    sheet = printable_sheet(book, "Provenance", widths=(34, 110), freeze="A2")
    book.heads(sheet, ("What", "Value"))
    files = shown.files
    status = files.columns.index(next(c for c in files.columns if c.name == "status"))
    counts = {
        name: sum(row[status] == name for row in files.rows) for name in ("read", "partial", "unreadable")
    }
    for what, value in (
        *provenance.facts,
        ("Runs", f"{len(shown.runs):,}"),
        ("Files", ", ".join(f"{count:,} {name}" for name, count in counts.items())),
        ("Compared", f"{len(shown.compared):,} configurations, one run of each"),
    ):
        sheet.add([book.text(sheet, what), book.text(sheet, clean_text(value), wrap=True)])
    sheet.add([])
    sheet.add([book.text(sheet, "The experiment behind this workbook", font=book.bold)])
    for line in provenance.spec_text.splitlines()[:20_000]:
        sheet.add([None, book.text(sheet, clean_text(line))])
