"""The workbook of a comparison: every change as numbers, with what differed and how it was judged."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from engine.report.draw import png, svg_size
from engine.report.page import Table, Value, View
from engine.report.sheets import Formula, Sheet, Workbook

_PICTURE_WIDTH: Final = 760
_ROW_HEIGHT: Final = 20
"""Pixels of a row of a sheet at its usual height."""
_CHANGES: Final = "Changes"
_WIDTHS: Final = {
    "verdict": 14.0, "label": 34.0, "before": 24.0, "after": 24.0, "change": 11.0, "reason": 60.0,
    "notes": 40.0, "point": 60.0, "run": 22.0,
}  # fmt: skip


def write_comparison_workbook(view: View, svgs: Mapping[str, str], target: Path) -> None:
    """Write the workbook of a comparison; the same comparison gives the same bytes."""
    book = Workbook(view.made, title=view.title)
    _summary(book, view)
    _changes(book, view.points)
    for section in view.sections:
        if section.tables:
            _tables(book, section.title, section.tables)
    _pictures(book, view, svgs)
    _listing(book, "Definitions", ("Metric", "Name", "Unit", "Direction", "Definition", "Formula"),
             ((d.label, d.name, d.unit, d.direction, d.definition, d.formula) for d in view.definitions),
             (30, 36, 16, 22, 80, 44))  # fmt: skip
    _listing(book, "Method", ("About", "Rule", "Value", "Source"),
             ((a.subject, a.statement, a.value, a.source) for a in view.assumptions),
             (18, 90, 50, 50))  # fmt: skip
    _listing(book, "Provenance", ("Run", "What", "Value"),
             ((f.group, f.name, f.value) for f in view.provenance), (34, 20, 100))  # fmt: skip
    book.save(target)


def _summary(book: Workbook, view: View) -> None:
    sheet = book.sheet("Summary", widths=(34, 16, 90))
    sheet.add([book.text(sheet, view.title, font=book.large)])
    sheet.add([book.text(sheet, view.subtitle, font=book.quiet)])
    sheet.add([])
    sheet.add([book.text(sheet, view.verdict, font=book.bold)])
    sheet.add([book.text(sheet, view.verdict_basis, font=book.quiet)])
    sheet.add([])
    book.heads(sheet, ("Verdict", "Count", "Meaning"))
    for tile in view.tiles:
        count = book.number(sheet, tile.number or 0.0, "#,##0")
        sheet.add([book.text(sheet, tile.label), count, book.text(sheet, tile.source)])
    if view.notices:
        sheet.add([])
        book.heads(sheet, ("What to know", "Count", "Why"))
    for notice in view.notices:
        why = "; ".join((notice.reason, *notice.examples))
        count = book.number(sheet, notice.count, "#,##0")
        sheet.add([book.text(sheet, notice.title, wrap=True), count, book.text(sheet, why, wrap=True)])


def _changes(book: Workbook, table: Table) -> None:
    """Every change, the relative one a live formula of the two exact values."""
    sheet = book.sheet(_CHANGES, widths=[_WIDTHS.get(c.name, 14.0) for c in table.columns], freeze="B2")
    places = {column.name: i for i, column in enumerate(table.columns)}
    live = {places["change"]: _relative(places)}
    place = book.rows(sheet, table, formulas=live)
    book.filter(sheet, place)
    if table.note:
        sheet.add([book.text(sheet, table.note, font=book.quiet)])


def _relative(places: Mapping[str, int]) -> Callable[[int, Sequence[Value]], Formula | None]:
    """`=(now - before) / |before|`, with the stored change beside it."""
    from openpyxl.utils import get_column_letter

    before, after = (get_column_letter(places[name] + 1) for name in ("before_value", "after_value"))

    def made(row: int, values: Sequence[Value]) -> Formula | None:
        stored = values[places["change"]]
        if not isinstance(stored, int | float):
            return None
        return Formula(f"=({after}{row}-{before}{row})/ABS({before}{row})", float(stored))

    return made


def _tables(book: Workbook, title: str, tables: Sequence[Table]) -> None:
    sheet = book.sheet(title, widths=(44, 44, 60, 16, 14, 70))
    for table in tables:
        sheet.add([book.text(sheet, table.title, font=book.bold)])
        book.rows(sheet, table)
        if table.note:
            sheet.add([book.text(sheet, table.note, font=book.quiet)])
        sheet.add([])


def _pictures(book: Workbook, view: View, svgs: Mapping[str, str]) -> None:
    from openpyxl.drawing.image import Image

    if not view.charts:
        return
    sheet = book.sheet("Pictures", widths=(110,))
    for chart in view.charts:
        sheet.add([book.text(sheet, chart.title, font=book.bold)])
        image = Image(io.BytesIO(png(svgs[chart.name])))
        width, height = svg_size(svgs[chart.name])
        shrink = min(1.0, _PICTURE_WIDTH / width)
        image.width, image.height = int(width * shrink), int(height * shrink)
        sheet.page.add_image(image, f"A{sheet.row + 1}")
        _skip(sheet, image.height // _ROW_HEIGHT + 2)
        sheet.add([book.text(sheet, chart.caption, font=book.quiet)])
        _skip(sheet, 2)


def _skip(sheet: Sheet, rows: int) -> None:
    for _ in range(rows):
        sheet.add([])


def _listing(
    book: Workbook, title: str, heads: Sequence[str], rows: Iterator[Sequence[str]], widths: Sequence[float]
) -> None:
    sheet = book.sheet(title, widths=widths, freeze="A2")
    book.heads(sheet, heads)
    for row in rows:
        sheet.add([book.text(sheet, value, wrap=True) for value in row])
