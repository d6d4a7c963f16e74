"""The workbook: typed, live, bounded, the same every time."""

import datetime as dt
import re
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import openpyxl
import pytest

from engine.report.draw import chart_svg
from engine.report.excel import write_workbook
from engine.report.numbers import Scale
from engine.report.page import Column, Table, View
from engine.report.sheets import MOST_CHARACTERS, Workbook, cut
from engine.report.view import build_view
from tests.report.canaries import SECRET, hostile_inputs

SHEETS = [
    "Summary",
    "Points",
    "Charts",
    "Pictures",
    "Operators",
    "Findings",
    "Definitions",
    "Assumptions",
    "Provenance",
]


@pytest.fixture(scope="module")
def book_path(sweep_view: View, sweep_svgs: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("xlsx") / "report.xlsx"
    write_workbook(sweep_view, sweep_svgs, target)
    return target


@pytest.fixture(scope="module")
def book(book_path: Path) -> openpyxl.Workbook:
    return openpyxl.load_workbook(book_path)


def test_the_sheets_tell_the_story(book: openpyxl.Workbook) -> None:
    assert book.sheetnames == SHEETS


def test_numbers_are_numbers_in_the_unit_of_the_heading(book: openpyxl.Workbook, sweep_view: View) -> None:
    sheet = book["Points"]
    heads = {cell.value: cell.column for cell in sheet[1]}
    column = heads["Time per output token (ms)"]
    place = [c.name for c in sweep_view.points.columns].index("tpot_s")
    for i in range(5):
        cell = sheet.cell(i + 2, column)
        stored = sweep_view.points.rows[i][place]
        if stored is None:
            assert cell.value is None
        else:
            assert isinstance(stored, float)
            assert cell.value == pytest.approx(stored * 1e3)
            assert cell.data_type == "n"
    assert sheet.freeze_panes is not None
    assert sheet.auto_filter.ref.startswith("A1:")
    assert sheet.max_row >= 111


def test_shares_are_percentages(book: openpyxl.Workbook) -> None:
    sheet = book["Points"]
    heads = {cell.value: cell.column for cell in sheet[1]}
    cell = sheet.cell(2, heads["Model FLOPs utilisation"])
    assert cell.number_format == "0.0%"
    assert cell.value == pytest.approx(0.6)


def test_derived_columns_are_live_and_carry_their_result(book: openpyxl.Workbook, book_path: Path) -> None:
    sheet = book["Points"]
    heads = {cell.value: cell.column for cell in sheet[1]}
    live = sheet.cell(2, heads["Interactivity (tokens/s)"])
    tpot = sheet.cell(2, heads["Time per output token (ms)"])
    assert live.value == f"=1/({tpot.coordinate}*0.001)"
    results = openpyxl.load_workbook(book_path, data_only=True)["Points"]
    assert results[live.coordinate].value == pytest.approx(1000 / tpot.value)
    price = sheet.cell(2, sheet.max_column)
    assert "price_usd_per_device_hour/3600" in str(price.value)
    assert "price_usd_per_device_hour" in book.defined_names


def test_what_is_absent_is_said_with_its_reason(book: openpyxl.Workbook) -> None:
    rows = {row[0]: row[3] for row in book["Summary"].iter_rows(values_only=True)}
    assert rows["Requests"] == "no live measurement of this run sent requests"
    assert rows["Components"] == "nothing was metered in this run"


def test_shares_of_points_add_up(book: openpyxl.Workbook, book_path: Path) -> None:
    live, known = (openpyxl.load_workbook(book_path, data_only=only)["Summary"] for only in (False, True))
    (row,) = [cell.row for cell in live["A"] if cell.value == "ok"]
    assert str(live.cell(row, 3).value).startswith(f"=B{row}/SUM($B${row}:$B$")
    assert known.cell(row, 3).value == pytest.approx(known.cell(row, 2).value / 110)


@pytest.mark.slow
def test_a_calculator_finds_no_error_and_our_results(
    book_path: Path, measured_view: View, tmp_path: Path
) -> None:
    office = shutil.which("soffice") or pytest.skip("no LibreOffice on this machine")
    svgs = {chart.name: chart_svg(chart.name, chart.spec) for chart in measured_view.charts}
    write_workbook(measured_view, svgs, tmp_path / "measured.xlsx")
    books = [book_path, tmp_path / "measured.xlsx"]
    command = [office, f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}", "--headless",
               "--convert-to", "xlsx", "--outdir", str(tmp_path / "computed"), *map(str, books)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    for path in books:
        ours = openpyxl.load_workbook(path, data_only=True)
        formulas = openpyxl.load_workbook(path)
        theirs = openpyxl.load_workbook(tmp_path / "computed" / path.name, data_only=True)
        assert theirs.sheetnames == ours.sheetnames
        compared = 0
        for sheet in formulas:
            for row in sheet.iter_rows():
                for cell in row:
                    computed = theirs[sheet.title][cell.coordinate]
                    assert computed.data_type != "e", f"{sheet.title}!{cell.coordinate}: {computed.value}"
                    if cell.data_type == "f":
                        stored = ours[sheet.title][cell.coordinate].value
                        assert (computed.value or None) == (
                            pytest.approx(stored) if isinstance(stored, int | float) else stored or None
                        ), f"{sheet.title}!{cell.coordinate}"
                        compared += 1
        assert compared > 1


def test_charts_are_native_and_pictures_are_there(book: openpyxl.Workbook, sweep_view: View) -> None:
    assert len(book["Charts"]._charts) >= 3
    assert len(book["Pictures"]._images) == len(sweep_view.charts)


def test_the_same_run_gives_the_same_workbook(
    book_path: Path, sweep_view: View, sweep_svgs: dict[str, str], workbook_path: Path
) -> None:
    write_workbook(sweep_view, sweep_svgs, workbook_path)
    assert workbook_path.read_bytes() == book_path.read_bytes()
    with zipfile.ZipFile(book_path) as archive:
        assert {info.date_time for info in archive.infolist()} == {(2026, 1, 2, 3, 4, 12)}


def test_hostile_texts_stay_texts(workbook_path: Path) -> None:
    view = build_view(hostile_inputs())
    svgs = {chart.name: chart_svg(chart.name, chart.spec) for chart in view.charts}
    write_workbook(view, svgs, workbook_path)
    book = openpyxl.load_workbook(workbook_path)
    for sheet in book:
        for row in sheet.iter_rows():
            for cell in row:
                if cell.data_type == "f":
                    assert not {"HYPERLINK", "evil", "cmd"} & set(re.findall("[A-Za-z]+", str(cell.value))), (
                        cell.value
                    )
                assert cell.hyperlink is None
                assert SECRET not in str(cell.value)
    with zipfile.ZipFile(workbook_path) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert SECRET.encode() not in content
            assert (
                b"evil.example" not in content
                or name.startswith("xl/worksheets/")
                or "chart" in name
                or "core" in name
            )


@pytest.mark.parametrize("length", [MOST_CHARACTERS - 1, MOST_CHARACTERS, MOST_CHARACTERS + 1])
def test_a_cell_holds_what_it_may_and_says_when_it_was_cut(length: int) -> None:
    found = cut("x" * length)
    assert len(found) <= MOST_CHARACTERS
    assert found.endswith("[cut: longer than a cell may be]") == (length > MOST_CHARACTERS)


def test_names_of_sheets_are_clean_and_unique(workbook_path: Path) -> None:
    book = Workbook(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), title="t")
    for title in ("a/b:c", "a/b:c", "x" * 40, "x" * 40):
        sheet = book.sheet(title)
        sheet.add([book.text(sheet, "=1+1")])
    book.save(workbook_path)
    loaded = openpyxl.load_workbook(workbook_path)
    assert loaded.sheetnames == ["a b c", "a b c 2", "x" * 31, "x" * 27 + " 2"]
    assert loaded["a b c"]["A1"].data_type == "s"


def test_more_rows_than_a_sheet_holds_are_told(
    monkeypatch: pytest.MonkeyPatch, workbook_path: Path, sweep_view: View
) -> None:
    monkeypatch.setattr("engine.report.sheets.MOST_ROWS", 12)
    column = Column("n", "n", align="number", scale=Scale(""))
    table = Table("requests", "Requests", (column,), tuple((i,) for i in range(20)), 20)
    write_workbook(replace(sweep_view, data=(table,), sections=()), {}, workbook_path)
    values = [row[0].value for row in openpyxl.load_workbook(workbook_path)["Requests"].iter_rows()]
    assert values[:3] == ["n", 0, 1]
    assert "11 more rows do not fit on a sheet" in values
