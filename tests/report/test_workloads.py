"""The answer says whose work it is about, and scores never cross workloads."""

from dataclasses import replace

import pyarrow as pa
import pytest

from engine.report.inputs import ReportInputs
from engine.report.page import View
from engine.report.view import build_view
from engine.report.workloads import words
from tests.report.samples import inputs


@pytest.fixture(scope="module")
def two_workloads() -> ReportInputs:
    """The sample sweep with every second point at other lengths."""
    given = inputs()
    points = given.tables["points"]
    for name, value in (("prompt_tokens", 64), ("output_tokens", 8)):
        column = [value if i % 2 else was for i, was in enumerate(points[name].to_pylist())]
        points = points.set_column(points.column_names.index(name), name, pa.array(column, points[name].type))
    return replace(given, tables={**given.tables, "points": points})


@pytest.fixture(scope="module")
def view(two_workloads: ReportInputs) -> View:
    return build_view(two_workloads)


def test_the_verdict_names_the_lengths_it_holds_for(view: View) -> None:
    assert view.verdict.startswith("At ")
    assert " prompt + " in view.verdict.split(" the best", 1)[0]
    assert "Other lengths are other work and are not ranked against it" in view.verdict_basis


def test_every_workload_has_its_best_point(view: View) -> None:
    (section,) = [section for section in view.sections if section.name == "trade-offs"]
    (table,) = section.tables
    lengths = [row[:2] for row in table.rows]
    assert table.title == "Best point of each workload"
    assert len(set(lengths)) == len(lengths) >= 2
    assert (64, 8) in lengths


def test_each_pair_of_lengths_has_a_panel_and_a_front(view: View) -> None:
    chart = next(chart for chart in view.charts if chart.name == "pareto")
    rows = chart.spec["data"]["values"]
    loads = {row["load"] for row in rows}
    assert loads == set(chart.spec["facet"]["sort"])
    assert all(any(row["front"] for row in rows if row["load"] == load) for load in loads)


def test_lengths_are_spelled_out() -> None:
    assert words((2048, 256)) == "2,048 prompt + 256 output tokens"
    assert words((None, 8)) == "? prompt + 8 output tokens"
