"""Charts that the spreadsheet draws itself, each beside the numbers it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from engine.report.run_tables import RunTables
from engine.report.sheets import Sheet, Workbook
from engine.score.scaling import PERFORMANCE, Run, comparisons

_MOST_BARS: Final = 30
_CHART_ROWS: Final = 18
_CHART_COLUMN: Final = 8
_MARK: Final = "1F4E79"
# Hatches and shapes tell series apart where colours do not (and on a black-and-white print).
_MARKERS: Final = ("circle", "square", "triangle", "diamond", "x", "plus", "star")


def printable_sheet(
    book: Workbook,
    title: str,
    *,
    widths: Sequence[float] = (),
    freeze: str | None = None,
    repeat: bool = True,
) -> Sheet:
    """A sheet that prints in landscape, as wide as one page, its headings on each."""
    from openpyxl.worksheet.properties import PageSetupProperties

    sheet = book.sheet(title, widths=widths, freeze=freeze)
    # Written before the first row or not at all.
    sheet.page.page_setup.orientation = "landscape"
    sheet.page.page_setup.fitToHeight = 0
    sheet.page.sheet_properties.pageSetUpPr = PageSetupProperties(fitToPage=True)
    if repeat:
        sheet.page.print_title_rows = "1:1"
    return sheet


def native_charts(book: Workbook, shown: RunTables) -> None:
    """Speed and power of the runs, batch impact, and power against performance."""
    sheet = printable_sheet(book, "Charts", widths=(40, *(16 for _ in range(6))), repeat=False)
    runs = [run for run in shown.compared if run.status == "ok"]
    made = _bars(book, sheet, runs, PERFORMANCE, "Generation speed", "tokens/s", 1.0)
    made |= _bars(book, sheet, runs, "average_power_w", "Average power", "W", 1.0)
    made |= _bars(book, sheet, runs, "peak_temperature_c", "Peak temperature", "°C", 1.0)
    made |= _batches(book, sheet, runs)
    made |= _scatter(book, sheet, runs)
    if not made:
        sheet.add([book.text(sheet, "No run holds a number that a chart could show.", font=book.quiet)])


def _bars(
    book: Workbook, sheet: Sheet, runs: Sequence[Run], metric: str, title: str, unit: str, factor: float
) -> bool:
    from openpyxl.chart import BarChart, Reference

    known = [(run.label, float(run.get(metric)) / factor) for run in runs if run.get(metric) is not None]
    if not known:
        return False
    left = len(known) - _MOST_BARS
    sheet.add([book.text(sheet, f"{title} ({unit})", font=book.bold)])
    first = book.heads(sheet, ("Run", f"{title} ({unit})"))
    for label, value in known[:_MOST_BARS]:
        sheet.add([book.text(sheet, label), book.number(sheet, value, "#,##0.00")])
    chart = BarChart()
    chart.type = "bar"
    chart.add_data(Reference(sheet.page, min_col=2, min_row=first, max_row=sheet.row), titles_from_data=True)
    chart.set_categories(Reference(sheet.page, min_col=1, min_row=first + 1, max_row=sheet.row))
    chart.y_axis.title = unit
    chart.legend = None
    # The first run on top, as in the table beside it; the axis of values stays below.
    chart.x_axis.scaling.orientation, chart.y_axis.crosses = "maxMin", "max"
    _put(sheet, chart, title, first)
    if left > 0:
        sheet.add([book.text(sheet, f"{left:,} more runs are on the sheets of metrics", font=book.quiet)])
    return True


def _batches(book: Workbook, sheet: Sheet, runs: Sequence[Run]) -> bool:
    from openpyxl.chart import LineChart, Reference
    from openpyxl.chart.legend import Legend

    groups = [(text, group) for text, group in comparisons(runs, "batch_size")][:6]
    sizes = sorted({int(run.get("batch_size")) for _, group in groups for run in group})
    if not sizes:
        return False
    sheet.add([book.text(sheet, "Generation speed over batch size (tokens/s)", font=book.bold)])
    first = book.heads(sheet, ("Batch size", *_names(groups)))
    for size in sizes:
        cells: list[Any] = [book.number(sheet, size, "0")]
        for _, group in groups:
            value = next((r.get(PERFORMANCE) for r in group if r.get("batch_size") == size), None)
            cells.append(None if value is None else book.number(sheet, float(value), "#,##0.00"))
        sheet.add(cells)
    chart = LineChart()
    data = Reference(sheet.page, min_col=2, max_col=1 + len(groups), min_row=first, max_row=sheet.row)
    chart.add_data(data, titles_from_data=True)
    chart.set_categories(Reference(sheet.page, min_col=1, min_row=first + 1, max_row=sheet.row))
    for series, marker in zip(chart.series, _MARKERS, strict=False):
        series.marker.symbol = marker
        series.marker.size = 8
    chart.x_axis.title, chart.y_axis.title = "Batch size", "tokens/s"
    chart.legend = Legend()
    chart.legend.position = "b"
    _put(sheet, chart, "Batch impact", first)
    return True


def _names(groups: Sequence[tuple[str, Sequence[Run]]]) -> list[str]:
    """The model of each group; everything its runs share where two groups have one model."""
    models = [str(group[0].get("model") or "runs") for _, group in groups]
    return models if len(set(models)) == len(models) else [text or "runs" for text, _ in groups]


def _scatter(book: Workbook, sheet: Sheet, runs: Sequence[Run]) -> bool:
    from openpyxl.chart import Reference, ScatterChart, Series

    known = [r for r in runs if r.get(PERFORMANCE) is not None and r.get("average_power_w") is not None]
    if len(known) < 2:
        return False
    sheet.add([book.text(sheet, "Power against performance", font=book.bold)])
    first = book.heads(sheet, ("Run", "Average power (W)", "Generation speed (tokens/s)"))
    for run in known[:1000]:
        numbers = (float(run.get("average_power_w")), float(run.get(PERFORMANCE)))
        sheet.add([book.text(sheet, run.label), *(book.number(sheet, n, "#,##0.00") for n in numbers)])
    chart = ScatterChart()
    chart.style = 13
    x = Reference(sheet.page, min_col=2, min_row=first + 1, max_row=sheet.row)
    y = Reference(sheet.page, min_col=3, min_row=first, max_row=sheet.row)
    series = Series(y, x, title_from_data=True)
    series.marker.symbol, series.marker.size = "diamond", 9
    # A marker without a colour of its own is drawn white by LibreOffice.
    series.marker.graphicalProperties.solidFill = _MARK
    series.marker.graphicalProperties.line.solidFill = _MARK
    series.graphicalProperties.line.noFill = True
    chart.series.append(series)
    chart.x_axis.title, chart.y_axis.title = "Average power (W)", "tokens/s"
    chart.legend = None
    _put(sheet, chart, "Power against performance", first)
    return True


def _put(sheet: Sheet, chart: Any, title: str, first: int) -> None:
    """The chart beside its numbers, with room below it for the next."""
    from openpyxl.utils import get_column_letter

    chart.title = title
    chart.height, chart.width = 8.5, 17
    # Without this LibreOffice and newer Excel hide the axes that openpyxl writes.
    chart.x_axis.delete = False
    chart.y_axis.delete = False
    sheet.page.add_chart(chart, f"{get_column_letter(_CHART_COLUMN)}{first}")
    for _ in range(max(2, first + _CHART_ROWS - sheet.row)):
        sheet.add([])
