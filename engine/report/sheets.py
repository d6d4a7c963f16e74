"""A workbook written row by row: typed cells, explicit text, cached formula results, fixed bytes."""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from engine.errors import ReportError
from engine.report.cells import CellColumn, put_rows, rows_xml
from engine.report.numbers import RATIOS
from engine.report.page import Column, Table

# Excel's own limits (specifications and limits of Excel, support.microsoft.com, read 2026-11).
MOST_ROWS: Final = 1_048_576
MOST_CHARACTERS: Final = 32_767
_TITLE_CHARACTERS: Final = 31
_CUT: Final = " [cut: longer than a cell may be]"
_UNFIT: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_FORMULA: Final = re.compile(rb"(<c [^>]*)>(<f>.*?</f>)<v\s*(?:/>|></v>)", re.S)
_MODIFIED: Final = re.compile(rb"(<dcterms:(?:created|modified)[^>]*>)[^<]*(</dcterms)")
_HEAD_FILL: Final = "E8EDF2"
_FONT: Final = "Calibri"
_LINE_POINTS: Final = 15.5


@dataclass(frozen=True)
class Formula:
    """A live cell: its formula, and the value that viewers without a calculator show."""

    text: str
    cached: float | str | None


@dataclass(frozen=True)
class Place:
    """Where a table was written: sheet, first and last data row, column letter by name."""

    sheet: str
    first: int
    last: int
    letters: Mapping[str, str]


@dataclass
class Sheet:
    """One sheet being written; rows go out as they come."""

    page: Any
    title: str
    row: int = 0
    cached: list[float | str | None] = field(default_factory=list)
    """Results of formulas that went through openpyxl, in order."""
    widths: Mapping[int, float] = field(default_factory=dict)
    """Characters that fit into each column, from 0."""
    raw: list[tuple[str, bytes, int]] = field(default_factory=list)
    """Marker, XML and number of rows that are put in when the book is saved."""

    def add(self, values: Sequence[Any]) -> int:
        """Append a row of cells or plain values and return its number."""
        self.page.append(list(values))
        self.row += 1
        return self.row


class Workbook:
    """Holds styles and sheets, and knows how to save the same bytes twice."""

    def __init__(self, made: dt.datetime, *, title: str) -> None:
        import openpyxl
        from openpyxl.styles import Alignment, Font, PatternFill

        self._book = openpyxl.Workbook(write_only=True)
        self._made = made
        self._book.properties.title = title[:200]
        self._book.properties.creator = "engine"
        # A font without a name is a serif in LibreOffice: every font says what the default cell says.
        self.bold = Font(name=_FONT, size=11, bold=True)
        self.quiet = Font(name=_FONT, size=11, color="596068")
        self.large = Font(name=_FONT, size=14, bold=True)
        self.fill = PatternFill("solid", fgColor=_HEAD_FILL)
        self.wrap = Alignment(wrap_text=True, vertical="top")
        self._head = Alignment(wrap_text=True, vertical="bottom")
        self.sheets: dict[str, Sheet] = {}

    def sheet(self, title: str, *, widths: Sequence[float] = (), freeze: str | None = None) -> Sheet:
        """A new sheet with a clean, unique name; widths and frozen panes must be known before any row."""
        from openpyxl.utils import get_column_letter
        from openpyxl.worksheet.properties import PageSetupProperties

        clean = re.sub(r"[\[\]:*?/\\']", " ", title).strip()[:_TITLE_CHARACTERS] or "Sheet"
        name, number = clean, 2
        while name in self.sheets:
            name = f"{clean[: _TITLE_CHARACTERS - 4]} {number}"
            number += 1
        page = self._book.create_sheet(name)
        for i, width in enumerate(widths, start=1):
            page.column_dimensions[get_column_letter(i)].width = width
        if freeze:
            page.freeze_panes = freeze
        page.page_setup.orientation = "landscape"
        page.page_setup.fitToHeight = 0
        page.sheet_properties.pageSetUpPr = PageSetupProperties(fitToPage=True)
        self.sheets[name] = Sheet(page, name, widths=dict(enumerate(widths)))
        return self.sheets[name]

    def text(
        self, sheet: Sheet, value: object, *, font: Any = None, wrap: bool = False, fill: bool = False
    ) -> Any:
        """A cell that is text whatever it begins with; `=` does not make it a formula."""
        from openpyxl.cell import WriteOnlyCell

        cell = WriteOnlyCell(sheet.page)
        cell.value = cut(str(value))
        cell.data_type = "s"
        if font is not None:
            cell.font = font
        if wrap:
            cell.alignment = self.wrap
        if fill:
            cell.fill = self.fill
        return cell

    def heads(self, sheet: Sheet, labels: Sequence[str]) -> int:
        """A row of headings, as high as the longest of them needs."""
        lines = max((_lines(label, sheet.widths.get(i, 10.0)) for i, label in enumerate(labels)), default=1)
        if lines > 1:
            sheet.page.row_dimensions[sheet.row + 1].height = _LINE_POINTS * lines
        cells = []
        for label in labels:
            cell = self.text(sheet, label, font=self.bold, fill=True)
            cell.alignment = self._head
            cells.append(cell)
        return sheet.add(cells)

    def number(self, sheet: Sheet, value: float, form: str = "General") -> Any:
        """A numeric cell."""
        from openpyxl.cell import WriteOnlyCell

        cell = WriteOnlyCell(sheet.page, value)
        cell.number_format = form
        return cell

    def formula(self, sheet: Sheet, formula: Formula, form: str = "General") -> Any:
        """A live cell; call it in the order in which cells are appended."""
        from openpyxl.cell import WriteOnlyCell

        cell = WriteOnlyCell(sheet.page, formula.text)
        cell.data_type = "f"
        cell.number_format = form
        sheet.cached.append(formula.cached)
        return cell

    def name(self, name: str, target: str) -> None:
        """A named range, such as `price` for `Summary!$B$9`."""
        from openpyxl.workbook.defined_name import DefinedName

        self._book.defined_names[name] = DefinedName(name, attr_text=target)

    def rows(
        self,
        sheet: Sheet,
        table: Table,
        *,
        formulas: Mapping[int, Any] | None = None,
        extra: Sequence[str] = (),
    ) -> Place:
        """Heading and rows of a table. `formulas` maps a column to a function (row number, row) -> Formula
        or None, columns beyond the table's own being `extra` headings."""
        from openpyxl.utils import get_column_letter

        self.heads(sheet, [*(heading(column) for column in table.columns), *extra])
        head = sheet.row
        shown = table.rows[: MOST_ROWS - sheet.row - 2]
        columns = self._cell_columns(sheet, table, len(extra))
        made = dict(formulas or {})

        def live(column: int, row: int, values: Sequence[Any]) -> tuple[str, Any] | None:
            formula = made[column](row, values) if column in made else None
            return None if formula is None else (formula.text, formula.cached)

        if shown:
            marker = f"@@rows-{len(sheet.raw)}@@"
            body = "".join(rows_xml(head + 1, shown, columns, live=live, text=cut)).encode("utf-8", "replace")
            sheet.page.append([marker])
            sheet.raw.append((marker, body, len(shown)))
            sheet.row += len(shown)
        last = sheet.row
        room = len(shown)
        if len(table.rows) > room:
            sheet.add([self.text(sheet, f"{len(table.rows) - room:,} more rows do not fit on a sheet")])
        letters = {column.name: get_column_letter(i) for i, column in enumerate(table.columns, start=1)}
        letters.update(
            {name: get_column_letter(len(table.columns) + i) for i, name in enumerate(extra, start=1)}
        )
        return Place(sheet.title, head + 1, last, letters)

    def _cell_columns(self, sheet: Sheet, table: Table, extra: int) -> list[CellColumn]:
        """How each column is written; a number's format is registered with the book."""
        from openpyxl.cell import WriteOnlyCell
        from openpyxl.utils import get_column_letter

        found = []
        for i in range(len(table.columns) + extra):
            column = table.columns[i] if i < len(table.columns) else None
            cell = WriteOnlyCell(sheet.page)
            cell.number_format = number_format(column) if column else "#,##0.000"
            number = column is None or column.align == "number"
            factor = 1.0 if column is None or is_ratio(column) else column.scale.factor
            found.append(CellColumn(get_column_letter(i + 1), cell.style_id, number, factor))
        return found

    def filter(self, sheet: Sheet, place: Place) -> None:
        """Filter buttons on the heading of a table."""
        letters = list(place.letters.values())
        sheet.page.auto_filter.ref = f"A{place.first - 1}:{letters[-1]}{max(place.last, place.first)}"

    def save(self, target: Path) -> None:
        """Write the file: fixed times, cached formula results, no trace of when or where."""
        made = self._made.replace(tzinfo=None)
        self._book.properties.created = made
        self._book.properties.modified = made
        raw = io.BytesIO()
        self._book.save(raw)
        partial = target.with_name(f".{target.name}.partial")
        try:
            partial.write_bytes(_fixed(raw, made, list(self.sheets.values())))
            partial.replace(target)
        except OSError as err:
            partial.unlink(missing_ok=True)
            raise ReportError(f"the workbook cannot be written: {err.strerror or err}") from err


def _fixed(raw: io.BytesIO, made: dt.datetime, sheets: Sequence[Sheet]) -> bytes:
    """The archive again with one time for all members, in sorted order, and results beside formulas."""
    stamp = max(made, dt.datetime(1980, 1, 1)).timetuple()[:6]  # noqa: DTZ001 - a zip archive knows no zone
    out = io.BytesIO()
    with zipfile.ZipFile(raw) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as new:
        for member in old.namelist():
            content = old.read(member)
            number = re.fullmatch(r"xl/worksheets/sheet(\d+)\.xml", member)
            if number:
                content = _finished(content, sheets[int(number.group(1)) - 1])
            elif member == "docProps/core.xml":
                moment = made.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
                content = _MODIFIED.sub(rb"\g<1>" + moment + rb"\g<2>", content)
            info = zipfile.ZipInfo(member, (stamp[0], stamp[1], stamp[2], stamp[3], stamp[4], stamp[5]))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o600 << 16
            new.writestr(info, content)
    return out.getvalue()


def _finished(content: bytes, sheet: Sheet) -> bytes:
    """A sheet with the results of its formulas and the rows that openpyxl did not write."""
    if sheet.cached:
        content = _with_results(content, iter(sheet.cached))
    for marker, rows, count in sheet.raw:
        content = put_rows(content, marker, rows, count=count)
    return content


def _with_results(content: bytes, results: Iterator[float | str | None]) -> bytes:
    def filled(match: re.Match[bytes]) -> bytes:
        value = next(results, None)
        cell, formula = match.groups()
        if value is None:
            return cell + b">" + formula
        if isinstance(value, str):
            return cell + b' t="str">' + formula + f"<v>{escape(value)}</v>".encode()
        return cell + b">" + formula + f"<v>{float(value)!r}</v>".encode()

    return _FORMULA.sub(filled, content)


def _lines(label: str, width: float) -> int:
    """Lines that a bold heading takes in a column, broken between words."""
    room = max(4.0, 0.85 * width)  # bold letters, and fonts of other systems, are wider
    lines, used = 1, 0.0
    for word in label.split():
        if used and used + 1 + len(word) > room:
            lines, used = lines + 1, 0.0
        used += len(word) + (1 if used else 0)
    return lines


def is_ratio(column: Column) -> bool:
    """Shares are kept as they are: the percent sign is the cell's format."""
    return column.scale.unit == "%" and (column.metric in RATIOS or column.scale.factor == 0.01)


def heading(column: Column) -> str:
    """Label and unit; a share needs no unit."""
    if column.scale.each:
        return f"{column.label} ({column.scale.each})"
    return column.label if is_ratio(column) else column.heading


def number_format(column: Column) -> str:
    """How Excel shows the column."""
    if column.align != "number":
        return "General"
    if column.scale.each:
        return "0.000E+00"
    places = "." + "0" * column.scale.decimals if column.scale.decimals else ""
    return f"0{places}%" if is_ratio(column) else f"#,##0{places}"


def cut(text: str) -> str:
    """The text as a cell can hold it: no control characters, and a note where it was too long."""
    text = _UNFIT.sub("", text)
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - len(_CUT)] + _CUT
