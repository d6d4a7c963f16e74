"""The answer says whose work it is about, and scores never cross workloads."""

from dataclasses import replace

import pyarrow as pa
import pytest

from engine.report.inputs import ReportInputs
from engine.report.page import View
from engine.report.view import build_view
from engine.report.workloads import words
from engine.results.tables import make_table
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


def test_a_preset_joins_a_training_run_with_results_of_other_lengths() -> None:
    rows = {
        "point": [0, 1], "source": ["training", "run_folder"], "phase": ["training", "request"],
        "status": ["ok"] * 2, "training_mfu": [0.2, None], "training_sequences_per_s": [50.0, None],
        "kernel_ratio": [0.25, None], "e2e_s": [None, 20.0], "total_tokens_per_s": [None, 30.0],
    }  # fmt: skip
    lengths = {"point": [0, 1], "prompt_tokens": [4096, 191], "output_tokens": [None, 449]}
    tables = {"points": make_table("points", lengths), "summary": make_table("summary", rows)}
    preset = {"scoring": {"preset": "nki-llama"}}
    found = build_view(inputs(experiment_changes=preset, tables=tables))
    waterfall = next(chart for chart in found.charts if chart.name == "score-waterfall")
    # 0.4 x 0.2/0.5 x 50/100 x 1.25 + 0.6 x 50/20 x 30/10 x 1.25
    assert waterfall.table.rows[-1][0] == "score"
    assert waterfall.table.rows[-1][3] == pytest.approx(5.725)
    assert [notice for notice in found.notices if notice.status == "unscored"] == []


def test_a_score_that_cannot_be_worked_out_is_said() -> None:
    found = build_view(inputs(experiment_changes={"scoring": {"preset": "nki-llama"}}))
    (notice,) = [notice for notice in found.notices if notice.status == "unscored"]
    assert notice.reason == (
        "`preset: nki-llama` needs a training run; add a measurement of `kind: training`"
    )


def test_a_source_without_rows_is_said() -> None:
    live = {"source": "live", "objectives": [{"metric": "tpot_s", "weight": 1.0}]}
    (notice,) = [
        n for n in build_view(inputs(experiment_changes={"scoring": live})).notices if n.tone == "bad"
    ]
    assert notice.reason == "no row of source `live` in phase `request`, so nothing is ranked"
