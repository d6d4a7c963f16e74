"""The pictures of a score show the numbers of the score."""

from typing import Any

import pytest
import vl_convert

from engine.report.charts.score_pictures import score_pictures
from engine.report.page import Chart
from engine.report.view import build_view
from engine.results.tables import make_table
from tests.report import samples

OBJECTIVES: list[dict[str, Any]] = [
    {"metric": "output_tokens_per_s_per_device", "weight": 0.6, "reference": 1000},
    {"metric": "tpot_s", "weight": 0.4, "reference": 0.02},
]


def charts(**scoring: Any) -> dict[str, Chart]:
    view = build_view(samples.inputs(experiment_changes={"scoring": scoring}))
    return {chart.name: chart for chart in view.charts if chart.name.startswith("score")}


def waterfall_of(preset: str, variants: list[str | None]) -> Chart:
    """A training run with inference results of these variants, judged by a preset."""
    count = 1 + len(variants)
    rows = {
        "point": [0] * count, "source": ["training"] * count, "status": ["ok"] * count,
        "phase": ["training"] + ["request"] * len(variants), "variant": [None, *variants],
        "training_mfu": [0.2] + [None] * len(variants), "kernel_ratio": [0.25] + [None] * len(variants),
        "training_sequences_per_s": [50.0] + [None] * len(variants),
        "e2e_s": [None] + [20.0] * len(variants), "e2e_s_p99": [None] + [25.0] * len(variants),
        "total_tokens_per_s": [None] + [30.0] * len(variants),
    }  # fmt: skip
    tables = {"points": make_table("points", {"point": [0]}), "summary": make_table("summary", rows)}
    view = build_view(samples.inputs(experiment_changes={"scoring": {"preset": preset}}, tables=tables))
    return next(chart for chart in view.charts if chart.name == "score-waterfall")


@pytest.fixture(scope="module")
def product() -> dict[str, Chart]:
    return charts(objectives=OBJECTIVES)


def test_all_pictures_are_there_and_can_be_drawn(product: dict[str, Chart]) -> None:
    assert list(product) == ["score-waterfall", "score-ranking", "score-sensitivity", "score-parts"]
    for chart in product.values():
        assert "<svg" in vl_convert.vegalite_to_svg(chart.spec)
        assert chart.alt
        assert chart.caption


def test_the_waterfall_of_a_product_starts_at_one_and_ends_at_the_score(product: dict[str, Chart]) -> None:
    *steps, result = product["score-waterfall"].table.rows
    level = 1.0
    for _, _, by, then in steps:
        level *= by
        assert then == pytest.approx(level)
    best = product["score-ranking"].table.rows[0][1]
    assert result[0] == "score"
    assert result[3] == pytest.approx(level) == pytest.approx(best)


def test_the_waterfall_of_a_sum_starts_at_zero() -> None:
    found = charts(objectives=OBJECTIVES, aggregation="weighted_sum")
    *steps, result = found["score-waterfall"].table.rows
    assert sum(step[2] for step in steps) == pytest.approx(result[3])
    assert result[3] == pytest.approx(found["score-ranking"].table.rows[0][1])


def test_the_waterfall_of_a_preset_ends_in_the_weighted_sum_of_its_parts() -> None:
    chart = waterfall_of("nki-llama", [None])
    *_, inference, score = chart.table.rows
    # 0.4 x (0.2/0.5 x 50/100 x 1.25) + 0.6 x (50/20 x 30/10 x 1.25) = 0.1 + 5.625
    assert (inference[0], inference[3]) == ("inference score", pytest.approx(9.375))
    assert (score[0], score[3]) == ("score", pytest.approx(5.725))
    assert "Score = 0.4 x training score + 0.6 x inference score." in chart.caption
    assert "`" not in chart.caption


def test_the_waterfall_of_the_contest_starts_anew_for_each_prompt() -> None:
    rows = waterfall_of("nki-llama-contest", ["prompt 0", "prompt 1"]).table.rows
    # 50/25 x 30/10 x 1.25 for each of two prompts
    assert [(row[0], row[3]) for row in rows if "score" in row[0]] == [
        ("prompt 0 score", pytest.approx(7.5)),
        ("prompt 1 score", pytest.approx(7.5)),
        ("score", pytest.approx(15.0)),
    ]


def test_pairs_that_change_places_are_named() -> None:
    view = build_view(samples.inputs(experiment_changes={"scoring": {"objectives": OBJECTIVES}}))
    tables = {table.name: table for section in view.sections for table in section.tables}
    swaps = tables["swaps"]
    assert swaps.total == sum(row[4] for row in tables["sensitivity"].rows) > len(swaps.rows) == 15
    assert [row[2] for row in swaps.rows] == sorted(int(str(row[2])) for row in swaps.rows)
    assert all(row[2] < row[4] and row[3] != row[5] for row in swaps.rows)  # type: ignore[operator]
    assert all(abs(float(str(row[1]).replace("−", "-").rstrip("%"))) <= 20 for row in swaps.rows)


def test_a_factor_of_zero_has_no_waterfall() -> None:
    far = [
        {"metric": "tpot_s", "weight": 1.0, "normalization": "target", "reference": 1000.0, "tolerance": 1.0}
    ]
    found = charts(objectives=far)
    assert "score-waterfall" not in found
    assert "score-ranking" in found


def test_one_objective_has_no_weights_to_argue_about() -> None:
    assert "score-sensitivity" not in charts(objectives=OBJECTIVES[:1])


def test_nothing_is_drawn_without_scores() -> None:
    assert charts() == {}
    assert score_pictures(None, None) == []  # type: ignore[arg-type]
