"""Which point wins, and which lie on the front."""

import numpy as np
import pytest

from engine.report.choose import choose, pareto_front, requirements
from engine.report.records import Records, records
from engine.results.tables import make_table
from engine.spec.scoring import Scoring


def judged(**columns: list[object]) -> Records:
    size = len(next(iter(columns.values())))
    base = {
        "point": list(range(size)),
        "source": ["predicted"] * size,
        "phase": ["request"] * size,
        "status": ["ok"] * size,
    }
    points = make_table("points", {"point": list(range(size)), "hardware": [f"d{i}" for i in range(size)]})
    return records({"summary": make_table("summary", base | columns), "points": points}, phase="request")


def test_the_fastest_that_meets_every_requirement_wins() -> None:
    rows = judged(output_tokens_per_s_per_device=[100.0, 300.0, 200.0], ttft_s=[0.1, 0.9, 0.2])
    choice = choose(rows, scoring=Scoring(require={"ttft_s": "<= 500 ms"}), scores=None)
    assert choice is not None
    # Point 1 is fastest and too late; of the other two, point 2 is faster.
    assert (choice.best, choice.qualified, choice.ok) == (2, 2, 3)
    assert [r.text for r in choice.requirements] == ["Time to first token ≤ 500 ms"]


def test_when_none_qualifies_there_is_no_best_but_a_nearest() -> None:
    rows = judged(output_tokens_per_s_per_device=[100.0, 300.0], ttft_s=[2.0, 3.0])
    choice = choose(rows, scoring=Scoring(require={"ttft_s": "<= 500 ms"}), scores=None)
    assert choice is not None
    assert choice.best is None
    assert choice.order[0] == 1


def test_an_unknown_value_meets_nothing() -> None:
    rows = judged(output_tokens_per_s_per_device=[100.0, 300.0], ttft_s=[0.1, None])
    choice = choose(rows, scoring=Scoring(require={"ttft_s": "<= 500 ms"}), scores=None)
    assert choice is not None
    assert choice.best == 0


def test_measured_rows_are_judged_before_predicted_ones() -> None:
    rows = judged(output_tokens_per_s_per_device=[100.0, 90.0], source=["predicted", "live"])
    choice = choose(rows, scoring=None, scores=None)
    assert choice is not None
    assert choice.source == "live"


def test_a_failed_row_never_wins() -> None:
    rows = judged(output_tokens_per_s_per_device=[100.0, 900.0], status=["ok", "failed"])
    choice = choose(rows, scoring=None, scores=None)
    assert choice is not None
    assert choice.best == 0


def test_scores_rank_where_there_are_any() -> None:
    rows = judged(output_tokens_per_s_per_device=[100.0, 90.0])
    scores = make_table("scores", {"point": [0, 1], "source": ["predicted"] * 2, "score": [0.5, 0.8]})
    choice = choose(rows, scoring=None, scores=scores)
    assert choice is not None
    assert (choice.metric, choice.best) == ("score", 1)


def test_an_unreadable_requirement_is_told() -> None:
    found, unread = requirements({"ttft_s": "fast"})
    assert found == []
    assert unread[0].startswith("ttft_s: fast is not applied, because")


@pytest.mark.parametrize(
    ("higher_y", "front"),
    [
        # (1,9) (2,8) (3,3) (2,2) nan: with both upwards 2, 1 and 0 are unbeaten, by falling x.
        (True, [2, 1, 0]),
        # With y downwards (3,3) is beaten by none and (2,2) neither; (2,2) has the smaller y.
        (False, [2, 3]),
    ],
)
def test_the_front_is_what_nothing_beats_in_both(higher_y: bool, front: list[int]) -> None:
    x, y = [1.0, 2.0, 3.0, 2.0, 9.0], [9.0, 8.0, 3.0, 2.0, np.nan]
    assert pareto_front(x, y, higher_y=higher_y).tolist() == front


def test_a_bound_does_not_win_over_estimates() -> None:
    rows = judged(
        output_tokens_per_s_per_device=[900.0, 300.0, 200.0], basis=["bound", "estimate", "estimate"]
    )
    choice = choose(rows, scoring=None, scores=None)
    assert choice is not None
    assert (choice.order, choice.passed_over) == ((1, 2, 0), 0)


def test_among_bounds_alone_the_best_wins() -> None:
    rows = judged(output_tokens_per_s_per_device=[900.0, 300.0], basis=["bound", "bound"])
    choice = choose(rows, scoring=None, scores=None)
    assert choice is not None
    assert (choice.order, choice.passed_over) == ((0, 1), None)


def test_a_row_above_its_roof_never_wins() -> None:
    rows = judged(output_tokens_per_s_per_device=[900.0, 300.0], mfu=[1.4, 0.5])
    choice = choose(rows, scoring=None, scores=None)
    assert choice is not None
    assert (choice.best, choice.ok) == (1, 1)


def with_lengths(lengths: list[tuple[int, int]], **columns: list[object]) -> Records:
    size = len(lengths)
    points = {
        "point": list(range(size)),
        "hardware": [f"d{i}" for i in range(size)],
        "prompt_tokens": [prompt for prompt, _ in lengths],
        "output_tokens": [output for _, output in lengths],
    }
    base = {"point": list(range(size)), "source": ["predicted"] * size, "phase": ["request"] * size,
            "status": ["ok"] * size}  # fmt: skip
    tables = {"summary": make_table("summary", base | columns), "points": make_table("points", points)}
    return records(tables, phase="request")


SHORT, LONG = (512, 128), (8192, 512)


def test_points_of_other_lengths_are_not_ranked_against_each_other() -> None:
    rows = with_lengths([SHORT, LONG, LONG, SHORT], output_tokens_per_s_per_device=[900.0, 50.0, 60.0, 800.0])
    choice = choose(rows, scoring=None, scores=None, own=LONG)
    assert choice is not None
    # Short requests make more tokens a second, but they are other work than the long ones asked about.
    assert (choice.workload, choice.order, choice.ok) == (LONG, (2, 1), 2)
    assert choice.best_of_each_workload == (0, 2)


def test_without_own_lengths_the_answer_is_about_those_that_qualify_most() -> None:
    rows = with_lengths([SHORT, LONG, LONG], output_tokens_per_s_per_device=[900.0, 50.0, 60.0])
    choice = choose(rows, scoring=None, scores=None, own=(1, 1))
    assert choice is not None
    assert choice.workload == LONG


def test_one_workload_needs_no_naming() -> None:
    rows = with_lengths([LONG, LONG], output_tokens_per_s_per_device=[50.0, 60.0])
    choice = choose(rows, scoring=None, scores=None, own=SHORT)
    assert choice is not None
    assert (choice.workload, choice.order) == (None, (1, 0))
