"""The pictures of a score show the numbers of the score."""

from typing import Any

import pytest
import vl_convert

from engine.report.charts.score_pictures import score_pictures
from engine.report.page import Chart
from engine.report.view import build_view
from tests.report import samples

OBJECTIVES: list[dict[str, Any]] = [
    {"metric": "output_tokens_per_s_per_device", "weight": 0.6, "reference": 1000},
    {"metric": "tpot_s", "weight": 0.4, "reference": 0.02},
]


def charts(**scoring: Any) -> dict[str, Chart]:
    view = build_view(samples.inputs(experiment_changes={"scoring": scoring}))
    return {chart.name: chart for chart in view.charts if chart.name.startswith("score")}


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
