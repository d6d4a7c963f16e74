"""Scores by hand, and what must hold for any scores."""

import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from engine.errors import UsageError
from engine.score.weights import ScoreResult, score
from engine.spec.scoring import Scoring
from tests.score.rows import points, summary


def judge(table: Any, **scoring: Any) -> ScoreResult:
    return score(Scoring.model_validate(scoring), points(table.num_rows), table)


def by_point(result: ScoreResult, column: str = "score") -> dict[int, Any]:
    return dict(zip(result.scores["point"].to_pylist(), result.scores[column].to_pylist(), strict=True))


THROUGHPUT = {"metric": "output_tokens_per_s", "weight": 0.6, "reference": 1000}
LATENCY = {"metric": "tpot_s", "weight": 0.4, "reference": 0.02}
TWO = summary(output_tokens_per_s=[2000.0, 500.0], tpot_s=[0.04, 0.01])


def test_weighted_sum_adds_weighted_ratios() -> None:
    found = judge(TWO, objectives=[THROUGHPUT, LATENCY], aggregation="weighted_sum")
    # 0.6 x 2000/1000 + 0.4 x 0.02/0.04 and 0.6 x 0.5 + 0.4 x 2
    assert by_point(found) == {0: pytest.approx(1.4), 1: pytest.approx(1.1)}


def test_geometric_mean_multiplies_powers() -> None:
    found = judge(TWO, objectives=[THROUGHPUT, LATENCY])
    assert by_point(found) == {0: pytest.approx(2**0.6 * 0.5**0.4), 1: pytest.approx(0.5**0.6 * 2**0.4)}
    assert by_point(found, "rank") == {0: 1, 1: 2}


def test_product_keeps_weights_as_exponents() -> None:
    plain = [{**THROUGHPUT, "weight": 1.0}, {**LATENCY, "weight": 2.0}]
    assert by_point(judge(TWO, objectives=plain, aggregation="product")) == {
        0: pytest.approx(2 * 0.5**2),
        1: pytest.approx(0.5 * 2**2),
    }


def test_weights_are_relative() -> None:
    tenfold = [{**THROUGHPUT, "weight": 6}, {**LATENCY, "weight": 4}]
    for aggregation in ("weighted_sum", "weighted_geometric_mean"):
        one = by_point(judge(TWO, objectives=[THROUGHPUT, LATENCY], aggregation=aggregation))
        assert by_point(judge(TWO, objectives=tenfold, aggregation=aggregation)) == pytest.approx(one)


def test_without_a_reference_the_best_ranked_value_is_it() -> None:
    table = summary(output_tokens_per_s=[100.0, 400.0, 900.0], ttft_s=[1.0, 1.0, 9.0])
    found = judge(table, objectives=[{"metric": "output_tokens_per_s"}], require={"ttft_s": "<= 2 s"})
    assert by_point(found) == {1: 1.0, 0: 0.25, 2: None}  # 900 is not ranked, so 400 is the best
    assert by_point(found, "reason")[2] == "`ttft_s` misses the required <= 2 s"


@pytest.mark.parametrize(
    ("objective", "factors"),
    [
        ({"normalization": "log_ratio", "reference": 0.02}, [0.0, 1.0, 3.0]),  # 1 + log2(0.02 / value)
        ({"normalization": "min_max"}, [0.0, 2 / 3, 14 / 14]),  # (0.04 - value) / (0.04 - 0.005), see below
        ({"normalization": "target", "reference": 0.02, "tolerance": 0.04}, [0.5, 1.0, 0.625]),
    ],
)
def test_normalizations(objective: dict[str, Any], factors: list[float]) -> None:
    values = [0.04, 0.02, 0.005]
    if objective["normalization"] == "min_max":
        values = [0.04, 0.04 - 0.035 * 2 / 3, 0.005]
    table = summary(tpot_s=values)
    found = judge(table, objectives=[{"metric": "tpot_s", **objective}], aggregation="weighted_sum")
    assert [by_point(found)[i] for i in range(3)] == pytest.approx(factors)


def test_min_max_of_equal_values_is_one() -> None:
    table = summary(tpot_s=[0.5, 0.5])
    objective = {"metric": "tpot_s", "normalization": "min_max"}
    found = judge(table, objectives=[objective], aggregation="weighted_sum")
    assert by_point(found) == {0: 1.0, 1: 1.0}
    assert by_point(found, "rank") == {0: 1, 1: 1}


def test_a_row_that_failed_is_not_ranked_and_says_why() -> None:
    table = summary(
        output_tokens_per_s=[5.0, 9.0], status=["ok", "does_not_fit"], reason=[None, "needs 3.0 GB more"]
    )
    found = judge(table, objectives=[THROUGHPUT], require={"ttft_s": "<= 1 s"}, missing="exclude")
    assert by_point(found, "eligible") == {0: False, 1: False}
    assert by_point(found, "reason") == {
        0: "`ttft_s` is not known, required <= 1 s",
        1: "does not fit: needs 3.0 GB more",
    }


def test_a_missing_metric_is_an_error_where_the_spec_says_so() -> None:
    table = summary(output_tokens_per_s=[5.0, None, math.nan])
    with pytest.raises(UsageError) as caught:
        judge(table, objectives=[THROUGHPUT], missing="error")
    assert caught.value.message == "`output_tokens_per_s` is not known for 2 of 3 rows, first point 1"


def test_a_missing_metric_leaves_the_row_unranked() -> None:
    found = judge(summary(output_tokens_per_s=[5.0, None]), objectives=[THROUGHPUT], missing="exclude")
    assert by_point(found, "rank") == {0: 1, 1: None}
    assert by_point(found, "reason")[1] == "`output_tokens_per_s` is not known"


def test_a_penalty_never_beats_a_known_value() -> None:
    table = summary(output_tokens_per_s=[50.0, None, 2000.0])
    found = judge(table, objectives=[THROUGHPUT], missing="penalty", penalty=0.9)
    assert by_point(found) == {2: 2.0, 0: pytest.approx(0.05), 1: pytest.approx(0.05)}
    assert by_point(found, "dominated_by")[1] == 2


def test_infinity_is_no_value() -> None:
    found = judge(summary(output_tokens_per_s=[math.inf, 5.0]), objectives=[THROUGHPUT])
    assert by_point(found, "rank") == {1: 1, 0: None}


def test_zero_has_no_ratio() -> None:
    with pytest.raises(UsageError) as caught:
        judge(summary(error_rate=[0.0, 0.5]), objectives=[{"metric": "error_rate", "reference": 0.1}])
    assert caught.value.message == "`error_rate` is 0 at a ranked point, which has no ratio to a reference"
    assert caught.value.hint == "give the objective `error_rate` `normalization: min_max` or `target`"


def test_intervals_reach_the_score_and_the_ranks() -> None:
    table = summary(
        output_tokens_per_s=[100.0, 90.0, 10.0],
        output_tokens_per_s_low=[80.0, 85.0, None],
        output_tokens_per_s_high=[120.0, 95.0, None],
    )
    found = judge(table, objectives=[{**THROUGHPUT, "reference": 100, "weight": 1}])
    assert by_point(found, "score_low") == {0: 0.8, 1: 0.85, 2: None}
    assert by_point(found, "score_high") == {0: 1.2, 1: 0.95, 2: None}
    assert by_point(found, "rank_best") == {0: 1, 1: 1, 2: 3}
    assert by_point(found, "rank_worst") == {0: 2, 1: 2, 2: 3}


def test_measured_rows_come_before_predicted_ones_and_borrow_joules() -> None:
    table = summary(
        point=[0, 0, 0, 1],
        source=["predicted", "live", "metered", "predicted"],
        output_tokens_per_s=[900.0, 500.0, None, 100.0],
        energy_per_output_token_j=[0.1, None, 0.5, 0.1],
        energy_per_output_token_j_low=[0.1, None, 0.4, 0.1],
    )
    joules = {"metric": "energy_per_output_token_j", "weight": 1, "reference": 1.0}
    found = judge(table, objectives=[{**THROUGHPUT, "weight": 1}, joules], aggregation="product")
    assert found.source == "live"
    assert by_point(found) == {0: pytest.approx(0.5 * 2.0)}
    assert by_point(found, "score_high") == {0: pytest.approx(0.5 * 1 / 0.4)}  # the interval is borrowed too
    predicted = judge(table, objectives=[joules], source="predicted")
    assert by_point(predicted) == {0: 10.0, 1: 10.0}


def test_bounds_beside_estimates_are_said() -> None:
    table = summary(output_tokens_per_s=[1.0, 2.0, 3.0], basis=["bound", "estimate", "estimate"])
    (note,) = judge(table, objectives=[THROUGHPUT]).notes
    assert note.startswith(
        "1 ranked rows are data-sheet bounds and 2 are calibrated estimates: bounds flatter"
    )
    alone = summary(output_tokens_per_s=[1.0, 2.0], basis=["bound", "bound"])
    assert judge(alone, objectives=[THROUGHPUT]).notes == ()


def test_factors_multiply_up_to_the_score() -> None:
    found = judge(TWO, objectives=[THROUGHPUT, LATENCY])
    rows = found.factors(1).to_pylist()
    assert [row["metric"] for row in rows] == ["output_tokens_per_s", "tpot_s"]
    assert [row["formula"] for row in rows] == ["value / 1000", "0.02 / value"]
    assert math.prod(row["contribution"] for row in rows) == pytest.approx(found.scores["score"][0].as_py())


def test_contributions_add_up_in_a_sum() -> None:
    found = judge(TWO, objectives=[THROUGHPUT, LATENCY], aggregation="weighted_sum")
    rows = found.factors(1).to_pylist()
    assert [row["contribution"] for row in rows] == pytest.approx([1.2, 0.2])


def test_sensitivity_finds_the_swap() -> None:
    # 0.6 ln 1.3 against 0.4 ln 1.4: the latency's weight need only grow by 17 % to turn the order.
    table = summary(output_tokens_per_s=[1300.0, 1000.0], tpot_s=[0.028, 0.02])
    found = judge(table, objectives=[THROUGHPUT, LATENCY])
    assert by_point(found, "rank") == {0: 1, 1: 2}
    gain, loss = 0.6 * math.log(1.3), 0.4 * math.log(1.4)
    swaps = found.swaps.to_pylist()
    assert [(s["metric"], s["change"], s["point"], s["overtaken_by"]) for s in swaps] == [
        ("output_tokens_per_s", -0.2, 0, 1),
        ("tpot_s", 0.2, 0, 1),
    ]
    assert swaps[0]["equal_at"] == pytest.approx(loss / gain - 1)
    assert swaps[1]["equal_at"] == pytest.approx(gain / loss - 1)
    rows = found.sensitivity.to_pylist()
    assert [(r["metric"], r["change"], r["best_point"], r["best_changed"]) for r in rows] == [
        ("output_tokens_per_s", -0.2, 1, True),
        ("output_tokens_per_s", 0.2, 0, False),
        ("tpot_s", -0.2, 0, False),
        ("tpot_s", 0.2, 1, True),
    ]


def test_nothing_to_judge() -> None:
    found = judge(summary(output_tokens_per_s=[1.0]), objectives=[THROUGHPUT], source="live")
    assert found.scores.num_rows == 0
    assert found.notes[0] == "no row of source `live` in phase `request`, so nothing is ranked"
    assert found.factors().num_rows == found.sensitivity.num_rows == found.swaps.num_rows == 0


def test_requirements_alone_rank_nothing_but_say_who_qualifies() -> None:
    found = judge(summary(ttft_s=[0.1, 3.0]), require={"ttft_s": "<= 500 ms"})
    assert by_point(found, "eligible") == {0: True, 1: False}
    assert by_point(found, "rank") == {0: None, 1: None}


# Properties: values come from a small set too, so that ties and equal columns are common.
VALUE = st.one_of(st.sampled_from([1.0, 2.0, 3.0]), st.floats(1e-6, 1e6))
ROW = st.tuples(VALUE, VALUE, VALUE)
WEIGHTS = st.tuples(*[st.sampled_from([0.0, 0.1, 0.5, 1.0])] * 3).filter(any)
KIND = st.sampled_from(["ratio", "log_ratio", "min_max", "target"])
METRICS = ("output_tokens_per_s", "tpot_s", "energy_per_output_token_j")


def table_of(rows: list[tuple[float, float, float]]) -> Any:
    return summary(**{name: [row[i] for row in rows] for i, name in enumerate(METRICS)})


@settings(max_examples=150, deadline=None)
@given(st.lists(ROW, min_size=2, max_size=12), WEIGHTS, st.tuples(KIND, KIND, KIND), st.booleans())
def test_a_dominated_point_never_outranks_its_dominator(
    rows: list[tuple[float, float, float]], weights: Any, kinds: Any, add: bool
) -> None:
    objectives: list[dict[str, Any]] = []
    for name, weight, kind in zip(METRICS, weights, kinds, strict=True):
        kind = kind if add else "ratio"
        extra = {"target": {"reference": 2.0, "tolerance": 5.0}, "log_ratio": {"reference": 2.0}}.get(
            kind, {}
        )
        objectives.append({"metric": name, "weight": weight, "normalization": kind, **extra})
    aggregation = "weighted_sum" if add else "weighted_geometric_mean"
    found = judge(table_of(rows), objectives=objectives, aggregation=aggregation)
    place = {point: i for i, point in enumerate(found.scores["point"].to_pylist())}
    rank = by_point(found, "rank")
    good = np.array(rows) * [1, -1, -1]
    for i, kind in enumerate(kinds if add else ()):
        if kind == "target":
            good[:, i] = -np.abs(np.array(rows)[:, i] - 2.0)
    dominated = by_point(found, "dominated_by")
    for a in range(len(rows)):
        above = [b for b in range(len(rows)) if (good[b] >= good[a]).all() and (good[b] > good[a]).any()]
        assert all(rank[b] <= rank[a] and place[b] < place[a] for b in above)
        assert (dominated[a] in above) if above else dominated[a] is None


@settings(max_examples=100, deadline=None)
@given(st.lists(ROW, min_size=2, max_size=8), st.tuples(*[st.floats(1e-3, 1e3)] * 3))
def test_the_geometric_ranking_does_not_depend_on_references(rows: Any, references: Any) -> None:
    weights = (0.5, 0.3, 0.2)
    one = [{"metric": m, "weight": w, "reference": 1.0} for m, w in zip(METRICS, weights, strict=True)]
    two = [{**o, "reference": r} for o, r in zip(one, references, strict=True)]
    first, second = (judge(table_of(rows), objectives=o) for o in (one, two))
    scores = by_point(first)
    for a, b in zip(first.scores["point"].to_pylist(), second.scores["point"].to_pylist(), strict=True):
        assert scores[a] == pytest.approx(scores[b], rel=1e-9)  # same order, up to ties


@settings(max_examples=100, deadline=None)
@given(st.lists(ROW, min_size=2, max_size=8), st.integers(0, 2), st.floats(1.01, 100.0))
def test_a_score_grows_with_every_factor(rows: Any, column: int, times: float) -> None:
    objectives = [{"metric": m, "weight": 1.0, "reference": 2.0} for m in METRICS]
    better = list(rows[0])
    better[column] *= times if column == 0 else 1 / times
    for aggregation in ("weighted_sum", "weighted_geometric_mean", "product"):
        before = judge(table_of(rows), objectives=objectives, aggregation=aggregation)
        after = judge(table_of([tuple(better), *rows[1:]]), objectives=objectives, aggregation=aggregation)
        assert by_point(after)[0] >= by_point(before)[0]
        assert by_point(after, "rank")[0] <= by_point(before, "rank")[0]


def test_moved_ranks_are_those_of_the_moved_weights() -> None:
    dice = np.random.default_rng(3)
    table = summary(
        output_tokens_per_s=list(dice.lognormal(7, 1, 40)), tpot_s=list(dice.lognormal(-4, 1, 40))
    )
    for aggregation in ("weighted_sum", "weighted_geometric_mean", "product"):
        found = judge(table, objectives=[THROUGHPUT, LATENCY], aggregation=aggregation)
        heavier = [{**THROUGHPUT, "weight": 0.6 * 1.2}, LATENCY]
        again = by_point(judge(table, objectives=heavier, aggregation=aggregation), "rank")
        points_in_order = found.scores["point"].to_pylist()
        moved = [
            m for m in found.moved_ranks(40) if (m["metric"], m["change"]) == ("output_tokens_per_s", 0.2)
        ]
        assert [m["rank"] for m in moved] == [again[points_in_order[m["row"]]] for m in moved]
        assert [m["row"] for m in moved] == list(range(40))
