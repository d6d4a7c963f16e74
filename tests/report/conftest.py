"""One small run, viewed and drawn once for all tests of the report."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.report.draw import chart_svg
from engine.report.html import render_page
from engine.report.inputs import ReportInputs
from engine.report.page import View
from engine.report.view import build_view
from tests.report.samples import inputs, measured_inputs


@pytest.fixture(scope="session", autouse=True)
def _own_clock() -> Iterator[None]:
    kept = os.environ.pop("SOURCE_DATE_EPOCH", None)
    yield
    if kept is not None:
        os.environ["SOURCE_DATE_EPOCH"] = kept


@pytest.fixture(scope="session")
def sweep() -> ReportInputs:
    return inputs()


@pytest.fixture(scope="session")
def sweep_view(sweep: ReportInputs) -> View:
    return build_view(sweep)


@pytest.fixture(scope="session")
def measured_view() -> View:
    return build_view(measured_inputs())


@pytest.fixture(scope="session")
def sweep_svgs(sweep_view: View) -> dict[str, str]:
    return {chart.name: chart_svg(chart.name, chart.spec) for chart in sweep_view.charts}


@pytest.fixture(scope="session")
def sweep_page(sweep_view: View, sweep_svgs: dict[str, str]) -> str:
    return render_page(sweep_view, sweep_svgs, mode="screen", bundle="window.vegaEmbed = null;")


@pytest.fixture
def workbook_path(tmp_path: Path) -> Path:
    return tmp_path / "report.xlsx"
