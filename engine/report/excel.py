"""The workbook: typed numbers with units in the headings, live formulas, native charts, no surprises."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from engine.report.draw import png, svg_size
from engine.report.page import Table, Value, View
from engine.report.score_sheet import score_sheet
from engine.report.sheets import Formula, Place, Sheet, Workbook, cut, heading

_PRICE: Final = "price_usd_per_device_hour"
_COST: Final = "Cost at the price on Summary (USD per million output tokens)"
_PICTURE_WIDTH: Final = 760
_LINE_ROWS: Final = 60_000
"""Lines of a text that get rows of their own; a longer spec says where it was cut."""

Make = Callable[[int, Sequence[Value]], Formula | None]


def write_workbook(view: View, svgs: Mapping[str, str], target: Path) -> None:
    """Write the workbook of a view; the same view gives the same bytes."""
    book = Workbook(view.made, title=view.title)
    _summary(book, view)
    points = _points(book, view)
    if view.extra.get("score") is not None:
        score_sheet(book, view.extra["score"])
    _charts(book, view, svgs)
    for title, tables in _further(view):
        if tables:
            _stacked(book, title, tables)
    _listing(
        book,
        "Findings",
        ("Severity", "Rule", "Point", "Finding", "Evidence", "Estimated gain", "Change"),
        [(f.severity, f.rule, f.point, f.finding, f.evidence, f.gain, f.change) for f in view.findings],
        (11, 22, 12, 60, 60, 30, 50),
        "No rule found anything to change.",
    )
    _listing(book, "Definitions", ("Metric", "Name", "Unit", "Direction", "Definition", "Formula"),
             [(d.label, d.name, d.unit, d.direction, d.definition, d.formula) for d in view.definitions],
             (30, 36, 16, 22, 80, 44))  # fmt: skip
    _listing(
        book,
        "Assumptions",
        ("About", "Assumption", "Value", "Source"),
        [(a.subject, a.statement, a.value, a.source) for a in view.assumptions],
        (26, 60, 40, 80),
    )
    _provenance(book, view)
    last_column = list(points.letters.values())[-1]
    last_row = max(points.last, points.first)
    book.name("points", f"'{points.sheet}'!$A${points.first - 1}:${last_column}${last_row}")
    book.save(target)


def _summary(book: Workbook, view: View) -> None:
    sheet = book.sheet("Summary", widths=(38, 18, 14, 36, 44))
    sheet.add([book.text(sheet, view.title, font=book.large)])
    if view.description:
        sheet.add([book.text(sheet, view.description)])
    sheet.add([book.text(sheet, view.subtitle, font=book.quiet)])
    sheet.add([])
    sheet.add([book.text(sheet, view.verdict, font=book.bold)])
    sheet.add([book.text(sheet, view.verdict_basis, font=book.quiet)])
    sheet.add([])
    book.heads(sheet, ("Best point", "Value", "Unit", "Source", "Interval"))
    for tile in view.tiles:
        value = (
            book.text(sheet, tile.value)
            if tile.number is None
            else book.number(sheet, tile.number, "#,##0.00")
        )
        sheet.add(
            [
                book.text(sheet, tile.label),
                value,
                *(book.text(sheet, t) for t in (tile.unit, tile.source, tile.interval)),
            ]
        )
    sheet.add([])
    book.heads(sheet, ("Assumption to change", "Value", "Unit", "What it moves"))
    row = sheet.add(
        [
            book.text(sheet, "Price of a device-hour"),
            None,
            book.text(sheet, "USD/h"),
            book.text(sheet, "type a price here: the last column of Points is the cost at this price"),
        ]
    )
    book.name(_PRICE, f"'{sheet.title}'!$B${row}")
    sheet.add([])
    _counts(book, sheet, view)
    absent = [title for title, tables in _further(view) if not tables]
    if absent:
        sheet.add([])
        book.heads(sheet, ("Sheets left out", "", "", "Why"))
        for title in absent:
            blank = book.text(sheet, "")
            sheet.add([book.text(sheet, title), blank, blank, book.text(sheet, _NOTHING[title])])


_NOTHING: Final = {
    "Operators": "no operator was predicted in this run",
    "Requests": "no live measurement of this run sent requests",
    "Components": "nothing was metered in this run",
}


def _counts(book: Workbook, sheet: Sheet, view: View) -> None:
    """How many came out how, as numbers and as live shares, and why some have no result."""
    first = book.heads(sheet, (view.counted_as, "Count", "Share")) + 1
    total = sum(count for _, count in view.counts)
    whole = f"SUM($B${first}:$B${first + len(view.counts) - 1})"
    for words, count in view.counts:
        sheet.add([book.text(sheet, words), book.number(sheet, count, "#,##0"),
                   _share(book, sheet, count, total, whole)])  # fmt: skip
    if view.notices:
        sheet.add([])
        book.heads(sheet, ("What is missing", view.counted_as, "Share", "Why", "Details"))
    for notice in view.notices:
        detail = notice.detail or "; ".join(notice.examples)
        sheet.add([book.text(sheet, notice.title), book.number(sheet, notice.count, "#,##0"),
                   _share(book, sheet, notice.count, total, whole), book.text(sheet, notice.reason),
                   book.text(sheet, detail)])  # fmt: skip


def _share(book: Workbook, sheet: Sheet, count: int, total: int, whole: str) -> Any:
    if not total or count > total:  # of rows that are not among the judged ones
        return None
    return book.formula(sheet, Formula(f"=B{sheet.row + 1}/{whole}", count / total), "0.0%")


def _points(book: Workbook, view: View) -> Place:
    table = view.points
    widths = [
        max(9.0, min(26.0, max(len(part) for part in heading(c).split()) + 4.0)) for c in table.columns
    ] + [22.0]
    settings = sum(1 for column in table.columns if column.metric is None and column.name in _FROZEN)
    sheet = book.sheet("Points", widths=widths, freeze=_cell(min(settings, 3), 2))
    rate = _index(table, "output_tokens_per_s_per_device")
    formulas = _derived(table)
    extra: tuple[str, ...] = ()
    if rate is not None:
        extra = (_COST,)
        formulas[len(table.columns)] = _cost(rate, table)
    place = book.rows(sheet, table, formulas=formulas, extra=extra)
    book.filter(sheet, place)
    if table.note:
        sheet.add([])
        sheet.add([book.text(sheet, table.note, font=book.quiet)])
    return place


_FROZEN: Final = ("model", "hardware", "quantization")


def _index(table: Table, name: str) -> int | None:
    return next((i for i, column in enumerate(table.columns) if column.name == name), None)


def _cell(column: int, row: int) -> str:
    from openpyxl.utils import get_column_letter

    return f"{get_column_letter(column + 1)}{row}"


def _cost(rate: int, table: Table) -> Make:
    factor = table.columns[rate].scale.factor

    def made(row: int, values: Sequence[Value]) -> Formula | None:
        if not isinstance(values[rate], int | float) or not values[rate]:
            return None
        shown = f"{_cell(rate, row)}*{factor:g}" if factor != 1 else _cell(rate, row)
        return Formula(f'=IF({_PRICE}="","",{_PRICE}/3600/({shown})*1000000)', "")

    return made


_PARTS: Final = ("weights_bytes", "kv_cache_bytes", "activations_bytes", "reserve_bytes")


def _derived(table: Table) -> dict[int, Make]:
    """Columns that follow from others of the row, as live formulas; where they disagree the value stays."""
    found: dict[int, Make] = {}
    user, tpot = _index(table, "output_tokens_per_s_per_user"), _index(table, "tpot_s")
    if user is not None and tpot is not None:
        found[user] = live(table, user, [tpot], lambda v: 1 / v[0] if v[0] else math.nan, "=1/({0})")
    needed = _index(table, "memory_needed_bytes")
    parts = [_index(table, part) for part in _PARTS]
    if needed is not None and all(part is not None for part in parts):
        columns = [part for part in parts if part is not None]
        found[needed] = live(table, needed, columns, math.fsum, "={0}+{1}+{2}+{3}")
    return found


def live(
    table: Table,
    target: int,
    sources: Sequence[int],
    value: Callable[[Sequence[float]], float],
    template: str,
) -> Make:
    factors = [table.columns[i].scale.factor for i in sources]
    own = table.columns[target].scale.factor

    def made(row: int, values: Sequence[Value]) -> Formula | None:
        numbers = [values[i] for i in sources]
        stored = values[target]
        if not isinstance(stored, int | float) or not all(isinstance(n, int | float) for n in numbers):
            return None
        known = [float(n) for n in numbers if isinstance(n, int | float)]
        if not math.isclose(value(known), stored, rel_tol=1e-6):
            return None
        # Cells hold shown units (ms, GB): each is brought back to its base unit first.
        terms = [
            _cell(i, row) if f == 1 else f"{_cell(i, row)}*{f:g}"
            for i, f in zip(sources, factors, strict=True)
        ]
        text = "=" + (
            "(" + template[1:].format(*terms) + f")/{own:g}" if own != 1 else template[1:].format(*terms)
        )
        return Formula(text, stored / own)

    return made


def _charts(book: Workbook, view: View, svgs: Mapping[str, str]) -> None:
    """Native charts with their data, then the report's own charts as pictures."""
    sheet = book.sheet("Charts", widths=(24, 18, *(14 for _ in range(8))))
    for chart in view.charts:
        if chart.name in _NATIVE:
            _NATIVE[chart.name](book, sheet, chart.table)
    if not sheet.row:
        sheet.add([book.text(sheet, "No chart of this run has a native form; see the pictures.")])
    pictures = book.sheet("Pictures", widths=(110,))
    from openpyxl.drawing.image import Image

    row = 1
    for chart in view.charts:
        while pictures.row < row - 1:
            pictures.add([])
        pictures.add([book.text(pictures, chart.title, font=book.bold)])
        image = Image(io.BytesIO(png(svgs[chart.name])))
        width, height = svg_size(svgs[chart.name])
        shrink = min(1.0, _PICTURE_WIDTH / width)
        image.width, image.height = int(width * shrink), int(height * shrink)
        pictures.page.add_image(image, f"A{row + 1}")
        below = row + 2 + math.ceil(image.height / 20)
        while pictures.row < below - 1:
            pictures.add([])
        pictures.add([book.text(pictures, chart.caption, font=book.quiet)])
        row = below + 3


def _pad(sheet: Sheet, rows: int) -> None:
    for _ in range(rows):
        sheet.add([])


def _pivot(
    table: Table, row: str, column: str, value: str
) -> tuple[list[Value], list[str], dict[tuple[Value, str], float]]:
    at = {name: _index(table, name) for name in (row, column, value)}
    r, c, v = (at[name] for name in (row, column, value))
    cells: dict[tuple[Value, str], float] = {}
    rows: dict[Value, None] = {}
    columns: dict[str, None] = {}
    if r is None or c is None or v is None:
        return [], [], {}
    for line in table.rows:
        number = line[v]
        if isinstance(number, int | float):
            rows.setdefault(line[r])
            columns.setdefault(str(line[c]))
            cells[line[r], str(line[c])] = float(number) / table.columns[v].scale.factor
    return list(rows), list(columns), cells


def _block(book: Workbook, sheet: Sheet, title: str, rows: Sequence[Value], columns: Sequence[str],
           cells: Mapping[tuple[Value, str], float], corner: str) -> tuple[int, int]:  # fmt: skip
    """A small table on the sheet; returns its first and last row."""
    sheet.add([book.text(sheet, title, font=book.bold)])
    first = book.heads(sheet, [corner, *columns])
    for row in rows:
        label = book.number(sheet, row) if isinstance(row, int | float) else book.text(sheet, row)
        numbers = [cells.get((row, column)) for column in columns]
        sheet.add([label, *(None if n is None else book.number(sheet, n, "#,##0.00") for n in numbers)])
    return first, sheet.row


def _place(
    book: Workbook, sheet: Sheet, chart: Any, first: int, last: int, columns: int, *, heading_text: str
) -> None:
    from openpyxl.chart import Reference

    data = Reference(sheet.page, min_col=2, max_col=1 + columns, min_row=first, max_row=last)
    chart.add_data(data, titles_from_data=True)
    chart.set_categories(Reference(sheet.page, min_col=1, min_row=first + 1, max_row=last))
    chart.title = heading_text
    chart.height, chart.width = max(8.5, 0.42 * (last - first)), 17
    for series in chart.series:
        series.smooth = False
    # Without this LibreOffice and newer Excel hide the axes that openpyxl writes.
    chart.x_axis.delete = False
    chart.y_axis.delete = False
    sheet.page.add_chart(chart, f"{_cell(max(columns + 2, 8), first)}")
    # A row is about half a centimetre high: the next block begins below the chart.
    _pad(sheet, max(2, math.ceil(chart.height / 0.5) + 2 - (last - first)))


def _best(book: Workbook, sheet: Sheet, table: Table) -> None:
    from openpyxl.chart import BarChart

    value = table.columns[-1]
    rows, columns, cells = _pivot(table, "hardware", "quantization", value.name)
    if not rows:
        return
    first, last = _block(book, sheet, f"Best {heading(value)}", rows, columns, cells, "Device")
    chart = BarChart()
    chart.type = "bar"
    chart.y_axis.title = heading(value)
    _place(book, sheet, chart, first, last, len(columns), heading_text=f"Best {value.label.lower()}")


def _memory(book: Workbook, sheet: Sheet, table: Table) -> None:
    from openpyxl.chart import BarChart

    labels: list[Value] = [f"{row[0]} {row[1]}" for row in table.rows]
    names = [column.label for column in table.columns[2:6]]
    cells = {
        (label, names[i]): float(number) / table.columns[2 + i].scale.factor
        for label, row in zip(labels, table.rows, strict=True)
        for i, number in enumerate(row[2:6])
        if isinstance(number, int | float)
    }
    first, last = _block(book, sheet, "Memory on the fullest device (GB)", labels, names, cells, "Deployment")
    chart = BarChart()
    chart.type, chart.grouping, chart.overlap = "bar", "stacked", 100
    chart.y_axis.title = "GB"
    _place(book, sheet, chart, first, last, len(names), heading_text="Memory")


def _lines(book: Workbook, sheet: Sheet, table: Table) -> None:
    from openpyxl.chart import LineChart

    along, value = table.columns[2], table.columns[3]
    formats = list(dict.fromkeys(str(row[1]) for row in table.rows))[:1]
    chosen = Table(
        table.name, table.title, table.columns, tuple(r for r in table.rows if str(r[1]) in formats), 0
    )
    rows, columns, cells = _pivot(chosen, along.name, "hardware", value.name)
    if not rows:
        return
    rows.sort(key=lambda r: float(r) if isinstance(r, int | float) else 0.0)
    title = f"{table.title}, {formats[0]}"
    first, last = _block(book, sheet, f"{title}: {heading(value)}", rows, columns, cells, heading(along))
    chart = LineChart()
    chart.x_axis.title, chart.y_axis.title = heading(along), heading(value)
    chart.y_axis.scaling.logBase = 10
    _place(book, sheet, chart, first, last, len(columns), heading_text=title)


_NATIVE: Final[dict[str, Callable[[Workbook, Sheet, Table], None]]] = {
    "best-points": _best,
    "memory-fit": _memory,
    "output-tokens-per-s-per-device-over-batch-size": _lines,
    "tpot-s-over-batch-size": _lines,
    "ttft-s-over-prompt-tokens": _lines,
}


def _further(view: View) -> list[tuple[str, list[Table]]]:
    """Sheet name -> tables of that kind."""
    kinds = {
        "operators": "Operators",
        "requests": "Requests",
        "components": "Components",
        "samples": "Samples",
    }
    found: dict[str, list[Table]] = {title: [] for title in kinds.values() if title != "Samples"}
    for table in view.data:
        title = kinds.get(table.name.split("-")[0], table.title)
        found.setdefault(title, []).append(table)
    return list(found.items())


def _stacked(book: Workbook, title: str, tables: Sequence[Table]) -> None:
    """One sheet with the tables of a kind below each other; the first one gets the filter."""
    alone = len(tables) == 1
    columns = tables[0].columns
    widths = [60.0 if c.name == "formula" else max(11.0, min(24.0, len(c.label) + 4.0)) for c in columns]
    sheet = book.sheet(title, widths=widths, freeze="A2" if alone else None)
    for table in tables:
        if not alone:
            sheet.add([book.text(sheet, table.title, font=book.bold)])
        place = book.rows(sheet, table)
        if alone:
            book.filter(sheet, place)
        if table.note:
            sheet.add([book.text(sheet, table.note, font=book.quiet)])
        sheet.add([])


def _listing(
    book: Workbook, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[float],
    nothing: str = "",
) -> None:  # fmt: skip
    sheet = book.sheet(title, widths=widths, freeze="A2")
    book.heads(sheet, heads)
    for row in rows:
        sheet.add([book.text(sheet, value, wrap=True) for value in row])
    if not rows and nothing:
        sheet.add([book.text(sheet, nothing, font=book.quiet)])
    elif rows:
        sheet.page.auto_filter.ref = f"A1:{_cell(len(heads) - 1, len(rows) + 1)}"


def _provenance(book: Workbook, view: View) -> None:
    sheet = book.sheet("Provenance", widths=(22, 34, 110), freeze="A2")
    book.heads(sheet, ("Group", "What", "Value"))
    for fact in view.provenance:
        sheet.add([book.text(sheet, t, wrap=True) for t in (fact.group, fact.name, fact.value)])
    for title, text in (("Spec as written", view.spec_text), ("Spec as resolved", view.resolved_text)):
        sheet.add([])
        sheet.add([book.text(sheet, title, font=book.bold)])
        lines = text.splitlines()
        for number, line in enumerate(lines[:_LINE_ROWS], start=1):
            sheet.add([None, book.number(sheet, number), book.text(sheet, cut(line))])
        if len(lines) > _LINE_ROWS:
            sheet.add([book.text(sheet, f"{len(lines) - _LINE_ROWS:,} more lines are in the run folder")])
