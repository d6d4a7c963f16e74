"""What a report shows, as data."""

import json
import re
from dataclasses import replace

import pytest

from engine.perfmodel.deployment import Deployment
from engine.perfmodel.parameter_sets import choose
from engine.perfmodel.point import predict_point
from engine.report import points as points_module
from engine.report.clean import Redactor
from engine.report.inputs import ReportInputs
from engine.report.page import View
from engine.report.provenance import environment_facts
from engine.report.view import build_view
from tests.report.samples import ENVIRONMENT, KV_TOKEN_BYTES, PARAMETERS, inputs, measured_inputs, plan


def test_the_verdict_names_the_best_point_its_numbers_and_their_basis(sweep_view: View) -> None:
    assert re.fullmatch(
        r"At 512 prompt \+ 128 output tokens the best of those that qualify is h200-sxm, w4a16-g128, "
        r"batch 64: 7,\d+ tokens/s per device, "
        r"first token after 88\d ms, 1\.9\d ms per token after it\. 39 of 53 points of these lengths "
        r"meet every requirement\.",
        sweep_view.verdict,
    )
    assert "predicted bound" in sweep_view.verdict_basis
    assert sweep_view.verdict_tone == "good"


def test_the_number_in_a_tile_is_the_one_of_the_formula(sweep_view: View) -> None:
    # Weights at 4.25 bits and the cache of 64 x (512 + 64) positions, over 4.8 TB/s.
    weights = PARAMETERS * 4.25 / 8
    tpot = (weights + KV_TOKEN_BYTES * 64 * (512 + 64)) / 4.8e12
    tile = next(tile for tile in sweep_view.tiles if tile.name == "tpot_s")
    assert tile.number == pytest.approx(tpot * 1e3, rel=1e-9)
    assert (tile.unit, tile.source, tile.interval) == (
        "ms",
        "predicted bound",
        "no interval: one computed value",
    )


def test_points_without_a_result_are_counted_and_explained(sweep_view: View) -> None:
    assert dict(sweep_view.counts) == {"ok": 89, "do not fit": 21}
    (notice,) = sweep_view.notices
    assert (notice.status, notice.count) == ("does_not_fit", 21)
    assert "by device: a100-sxm-80gb 4, h100-sxm-80gb 6, h200-sxm 3, l40s 8" in notice.reason
    assert notice.detail.startswith("Short by 3.03 GB at the least")


def test_every_point_is_in_the_table_and_unknown_is_absent(sweep_view: View) -> None:
    table = sweep_view.points
    assert len(table.rows) == table.total == 110
    names = [column.name for column in table.columns]
    status, ttft = names.index("status"), names.index("ttft_s")
    for i, row in enumerate(table.rows):
        if row[status] != "ok":
            assert row[ttft] is None
            assert table.text(i, ttft) == "–"


def test_headings_carry_units_and_lead_to_definitions(sweep_view: View) -> None:
    defined = {definition.name for definition in sweep_view.definitions}
    for column in sweep_view.points.columns:
        if column.metric:
            assert column.metric in defined
    assert "Time per output token (ms)" in [column.heading for column in sweep_view.points.columns]


def test_each_chart_has_words_and_numbers(sweep_view: View, measured_view: View) -> None:
    for view in (sweep_view, measured_view):
        names = [chart.name for chart in view.charts]
        assert len(set(names)) == len(names)
        for chart in view.charts:
            assert chart.alt.endswith(".")
            assert chart.caption
            assert chart.table.rows, chart.name
            json.dumps(chart.spec, allow_nan=False)


def test_the_story_of_a_sweep(sweep_view: View) -> None:
    assert [section.name for section in sweep_view.sections] == [
        "trade-offs",
        "scaling",
        "memory",
        "roofline",
        "operators",
    ]


def test_measured_runs_show_errors_intervals_and_energy(measured_view: View) -> None:
    names = {chart.name for chart in measured_view.charts}
    assert {
        "prediction-error",
        "percentiles",
        "distribution-ttft",
        "energy-flows",
        "component-bars",
        "layers",
        "power",
        "ttft-s-over-concurrency",
        "score-parts",
    } <= names
    assert "95 % interval" in measured_view.verdict
    assert any("n = 120" in tile.source for tile in measured_view.tiles)
    assert [f.rule for f in measured_view.findings] == ["weights-dominate", "no-price"]
    assert any(notice.title == "Failed" for notice in measured_view.notices)


def test_the_error_of_a_prediction_is_predicted_over_measured(measured_view: View) -> None:
    chart = next(chart for chart in measured_view.charts if chart.name == "prediction-error")
    names = [column.name for column in chart.table.columns]
    row = dict(zip(names, chart.table.rows[0], strict=True))
    # Concurrency 1 at batch 1 is 15 % slower than predicted: 1 / 1.15 - 1 = -13.04 %.
    assert row["error"] == pytest.approx(1 / 1.15 - 1)


def test_the_flows_add_up(measured_view: View) -> None:
    chart = next(chart for chart in measured_view.charts if chart.name == "energy-flows")
    nodes = {row["name"]: row["value"] for row in chart.spec["data"]["values"] if row["kind"] == "node"}
    # Components 0.8 + 1.9 + 0.1 + 0.4 = 3.2 J a decode step, five times that in prefill.
    assert nodes["all"] == pytest.approx(19.2)
    assert nodes["prefill"] == pytest.approx(16.0)
    assert nodes["mlp"] == pytest.approx(6 * 1.9)


def test_p99_needs_a_hundred_requests() -> None:
    given = measured_inputs()
    few = given.tables["summary"].set_column(
        given.tables["summary"].column_names.index("ttft_s_n"), "ttft_s_n",
        [[None if v is None else 40 for v in given.tables["summary"]["ttft_s_n"].to_pylist()]],
    )  # fmt: skip
    view = build_view(replace(given, tables={**given.tables, "summary": few}))
    chart = next(chart for chart in view.charts if chart.name == "percentiles")
    shown = {(row[1], row[2]) for row in chart.table.rows}
    assert ("Time to first token", "p95") in shown
    assert ("Time to first token", "p99") not in shown
    assert ("Request latency", "p99") in shown


def test_nothing_at_all_still_makes_a_report(sweep: ReportInputs) -> None:
    view = build_view(replace(sweep, tables={}))
    assert view.verdict == "No point has a result to rank."
    assert view.points.rows == ()


def test_too_many_points_are_said_to_be_left_out(
    monkeypatch: pytest.MonkeyPatch, sweep: ReportInputs
) -> None:
    monkeypatch.setattr(points_module, "MOST_ROWS", 30)
    table = build_view(sweep).points
    assert (len(table.rows), table.total) == (30, 110)
    assert "30 rows of 110" in table.note
    assert "engine export RUN summary" in table.note


def test_assumptions_and_provenance_hold_what_the_numbers_rest_on(sweep_view: View) -> None:
    statements = [f"{row.subject}: {row.value}" for row in sweep_view.assumptions]
    assert any(s.startswith("Performance model: attention: streamed") for s in statements)
    assert any(row.subject == "h200-sxm" and "confidence" in row.source for row in sweep_view.assumptions)
    facts = {(fact.group, fact.name): fact.value for fact in sweep_view.provenance}
    assert facts["Plan", "Fingerprint"] == plan().fingerprint
    assert facts["Environment", "host"] == ENVIRONMENT["host"]
    assert ("Plan", "Dropped: 10 points") in facts
    assert sweep_view.made.isoformat() == "2026-01-02T03:04:12+00:00"


def test_source_date_epoch_decides_the_date(monkeypatch: pytest.MonkeyPatch, sweep: ReportInputs) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert build_view(sweep).made.isoformat() == "2023-11-14T22:13:20+00:00"


def test_a_shared_report_names_no_host_and_no_device() -> None:
    view = build_view(measured_inputs(), share=True)
    text = repr(view)
    for secret in ("rack7-node12", "/home/alice", "GPU-11111111-2222-3333-4444-555555555555"):
        assert secret not in text


def test_operators_are_worked_out_again_where_none_are_stored() -> None:
    given = inputs()
    view = build_view(
        replace(given, tables={name: t for name, t in given.tables.items() if name != "operators"})
    )
    tables = [table for table in view.data if table.name.startswith("operators-")]
    assert tables[0].title == "h200-sxm, w4a16-g128, batch 64, 512 + 128 tokens"
    formulas = [row[-1] for row in tables[0].rows]
    assert any("2·T·" in str(formula) for formula in formulas)


def test_a_row_above_its_roof_is_a_banner(sweep: ReportInputs) -> None:
    table = sweep.tables["summary"]
    values = [1.5 if i == 0 else v for i, v in enumerate(table["mfu"].to_pylist())]
    changed = table.set_column(table.column_names.index("mfu"), "mfu", [values])
    view = build_view(replace(sweep, tables={**sweep.tables, "summary": changed}))
    (notice,) = [notice for notice in view.notices if notice.status == "impossible"]
    assert (notice.count, notice.tone) == (1, "bad")
    assert notice.examples == ("a100-sxm-80gb, bf16, batch 1, 512 + 128 tokens",)


def test_operators_stand_beside_their_estimates_which_add_up_to_the_phase() -> None:
    given = inputs()
    view = build_view(
        replace(given, tables={name: t for name, t in given.tables.items() if name != "operators"})
    )
    best = next(table for table in view.data if table.name.startswith("operators-"))
    names = [column.name for column in best.columns]
    estimate, count, phase = (names.index(name) for name in ("estimate_s", "count", "phase"))
    total = sum(row[estimate] * row[count] for row in best.rows if row[phase] == "prefill")
    point = given.plan.point(int(best.name.removeprefix("operators-")))
    c = point.combination
    chosen = choose("auto", c.hardware, c.calibrations)
    deployment = Deployment(c.model, c.hardware, c.quantization, c.parallelism, calibration=chosen)
    assert total == pytest.approx(predict_point(deployment, point.workload).phases["prefill"]["time_s"])
    low, high = best.intervals[0][estimate] or (0, 0)
    assert low < best.rows[0][estimate] < high
    assert "Estimates times counts add up to the estimate of the step" in best.note


def test_operators_without_fitted_parameters_say_so_once() -> None:
    given = inputs(experiment_changes={"measurements": [{"kind": "analytical", "calibration": "none"}]})
    view = build_view(
        replace(given, tables={name: t for name, t in given.tables.items() if name != "operators"})
    )
    best = next(table for table in view.data if table.name.startswith("operators-"))
    assert "estimate_s" not in [column.name for column in best.columns]
    assert best.note == "Times are bounds: the experiment asks for bounds (`calibration: none`)."


def test_the_filter_of_the_page_reaches_every_chart(sweep_view: View, measured_view: View) -> None:
    # By the rows, which have a device and a format, or by those of the one point a chart shows.
    for view in (sweep_view, measured_view):
        for chart in view.charts:
            rows = [row for row in chart.spec["data"]["values"] if row.get("kind") != "roof"]
            own = all({"hardware", "quantization"} <= set(row) for row in rows)
            assert own or set(chart.only) == {"hardware", "quantization"}, chart.name
    waterfall = next(chart for chart in measured_view.charts if chart.name == "score-waterfall")
    assert waterfall.only == {"hardware": "h100-sxm-80gb", "quantization": "bf16"}


def test_scaling_names_what_is_held() -> None:
    axes = {
        "model": ["llama-3.1-8b", "mistral-7b-v0.3"],
        "parallelism.tensor": [1, 2],
        "workload.batch_size": [1, 16],
    }
    view = build_view(inputs(experiment_changes={"sweep": {"axes": axes}}))
    (section,) = [section for section in view.sections if section.name == "scaling"]
    winner = view.points.rows[0]
    names = [column.name for column in view.points.columns]
    expected = f"{winner[names.index('model')]}, TP {winner[names.index('tensor')]}."
    assert section.charts[0].caption.startswith("At 2,048 prompt and 256 output tokens, " + expected)


def test_what_is_not_there_is_told_from_what_nobody_knows() -> None:
    environment = {"packages": {"numpy": "2.4", "ray": None}, "gpus": [], "host": None}
    found = {fact.name: fact.value for fact in environment_facts(environment, Redactor(share=False))}
    assert found == {"numpy": "2.4", "ray": "not installed", "gpus": "none", "host": "unknown"}
