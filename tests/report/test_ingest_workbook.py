"""The workbook of a run folder: typed cells, live formulas, and nothing that needs repair."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import openpyxl
import pytest

from engine.measure.run_folder import read_run_folder
from engine.measure.run_folder.example import write_example_runs
from engine.report.ingest_workbook import Provenance, write_ingest_workbook
from engine.report.run_section import run_sections
from engine.spec.run_folder import RunFolderSettings
from tests.measure.run_folder.trees import put, timings

_CHART = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"

PROVENANCE = Provenance(dt.datetime(2026, 3, 4, tzinfo=dt.UTC), "Runs", [("Folder", "runs")], "version: 1\n")


def write(root: Path, target: Path) -> Path:
    """The workbook of a folder."""
    settings = RunFolderSettings(kind="run_folder", path=str(root), predictions=False)
    write_ingest_workbook(read_run_folder(settings, jobs=1), target, PROVENANCE)
    return target


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    write_example_runs(folder / "runs")
    return write(folder / "runs", folder / "a.xlsx")


def rows(path: Path, sheet: str, *, values: bool = True) -> list[tuple[Any, ...]]:
    """Rows of a sheet, results of formulas by default."""
    return list(openpyxl.load_workbook(path, data_only=values)[sheet].iter_rows(values_only=True))


def test_summary_has_one_column_a_run_and_numbers_are_numbers(book: Path) -> None:
    summary = rows(book, "Summary")
    assert summary[0][0] == "Attribute"
    assert len(summary[0]) == 1 + 8
    speed = next(row for row in summary if row[0] == "Generation speed (tokens/s)")
    assert all(isinstance(value, int | float) for value in speed[1:])
    assert openpyxl.load_workbook(book)["Summary"].freeze_panes == "B2"


def test_derived_columns_are_live_and_agree_with_their_results(book: Path) -> None:
    heads, *live = rows(book, "Power", values=False)
    _, *results = rows(book, "Power")
    at = {str(name): i for i, name in enumerate(heads)}
    ratio = at["Power efficiency (tokens/s/W)"]
    assert all(str(row[ratio]).startswith("=") for row in live)
    for row in results:
        speed, watts = row[at["Generation speed (tokens/s)"]], row[at["Average power (W)"]]
        assert row[ratio] == pytest.approx(speed / watts)


def test_scaling_divides_its_two_ratios(book: Path) -> None:
    heads, first, *_ = rows(book, "Scaling", values=False)
    at = {str(name): i for i, name in enumerate(heads)}
    assert first[at["Scaling efficiency"]] == "=F2/G2"
    assert str(first[at["Efficiency of ratios rounded to 2 decimals"]]) == "=ROUND(F2,2)/ROUND(G2,2)"


def test_text_that_looks_like_a_formula_stays_text(tmp_path: Path) -> None:
    put(tmp_path, {"runs/=1+1_7b/batch_1/a.txt": timings()})
    target = write(tmp_path / "runs", tmp_path / "a.xlsx")
    cell = openpyxl.load_workbook(target)["Performance"]["A2"]
    assert (cell.value, cell.data_type) == ("=1+1_7b/batch_1", "s")


def test_the_same_tables_give_the_same_bytes(book: Path, tmp_path: Path) -> None:
    write_example_runs(tmp_path / "runs")
    again = write(tmp_path / "runs", tmp_path / "b.xlsx")
    assert again.read_bytes() == book.read_bytes()


def test_charts_are_native_and_dominated_runs_are_told_without_colour(book: Path) -> None:
    with zipfile.ZipFile(book) as archive:
        charts = [name for name in archive.namelist() if name.startswith("xl/charts/chart")]
        styles = archive.read("xl/styles.xml").decode()
    assert len(charts) == 5  # speed, power, temperature, batch impact, power against performance
    assert "<strike" in styles


@pytest.mark.office
@pytest.mark.filterwarnings("ignore:.*extension is not supported")  # what LibreOffice adds to bars
@pytest.mark.skipif(shutil.which("soffice") is None, reason="no LibreOffice here")
def test_libreoffice_opens_it_and_calculates_the_same(book: Path, tmp_path: Path) -> None:
    command = [
        "soffice",
        "--headless",
        f"-env:UserInstallation=file://{tmp_path}/profile",
        "--convert-to",
        "xlsx",
    ]
    subprocess.run(
        [*command, "--outdir", str(tmp_path), str(book)], check=True, capture_output=True, timeout=180
    )
    for sheet in ("Power", "Scaling"):
        ours, theirs = rows(book, sheet), rows(tmp_path / "a.xlsx", sheet)
        for mine, other in zip(ours, theirs, strict=False):
            for a, b in zip(mine, other, strict=False):
                if isinstance(a, int | float):
                    assert b == pytest.approx(a, rel=1e-9), sheet


def test_it_reads_well_in_libreoffice_too(book: Path) -> None:
    """What a viewer without Excel's defaults shows: fonts by name, heads in full, marks in a colour."""
    opened = openpyxl.load_workbook(book)
    thermal = opened["Thermal"]
    assert thermal["A1"].font.name == "Calibri"
    assert (
        thermal.row_dimensions[1].height >= 4 * 15
    )  # `Peak temperature of the whole log (°C)` takes four lines
    device = next(cell.column_letter for cell in thermal[1] if cell.value == "Device")
    assert thermal.column_dimensions[device].width >= len("a100-sxm-80gb")
    heads = [str(cell.value) for cell in thermal[1]]
    assert heads[-1] == "How the values came about"
    last = thermal.print_area.split(":")[1].replace("$", "")
    assert thermal[last].column == len(heads) - 1  # printed without the last column
    with zipfile.ZipFile(book) as archive:
        charts = [archive.read(name).decode() for name in archive.namelist() if "charts/chart" in name]
    (scatter,) = [ET.fromstring(chart) for chart in charts if "scatterChart" in chart]
    # The prefixes of names depend on which library wrote the XML.
    (marker, *_) = scatter.iter(f"{_CHART}marker")
    assert [marker.find(f"{_CHART}{name}").get("val") for name in ("symbol", "size")] == ["diamond", "9"]
    assert marker.find(f"{_CHART}spPr/{_DRAWING}solidFill") is not None


def test_pages_hold_every_family_in_parts_that_fit(tmp_path: Path) -> None:
    write_example_runs(tmp_path / "runs")
    settings = RunFolderSettings(kind="run_folder", path=str(tmp_path / "runs"), predictions=False)
    sections = run_sections(read_run_folder(settings, jobs=1))
    assert [section.name for section in sections] == [
        "runs", "runs-performance", "runs-power", "runs-memory", "runs-thermal",
        "comparisons", "run-trade-offs", "files",
    ]  # fmt: skip
    for section in sections:
        assert len(section.tables) <= 2  # what print shows of a section
        for table in section.tables:
            assert sum(column.align == "number" for column in table.columns) <= 8
            assert "how" not in [column.name for column in table.columns] or table.name == "origins"


def test_the_uncertainty_of_an_energy_stands_beside_it(book: Path) -> None:
    heads, *found = rows(book, "Power")
    at = {str(name): i for i, name in enumerate(heads)}
    for row in found:
        energy, spread = row[at["Energy (kJ)"]], row[at["Energy, ± (kJ)"]]
        assert 0 < spread < 0.1 * energy
        token = row[at["Energy per output token, ± (J/token)"]]
        assert token == pytest.approx(1000 * spread / row[at["Output tokens (tokens)"]])
