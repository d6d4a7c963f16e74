"""Fronts, best points, crossings and largest batches on small tables."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from engine.errors import UsageError
from engine.score.pareto import UNDECIDED, dominators, pareto_front
from engine.score.search import best_under, break_even, largest_batch
from tests.score.rows import points, summary


def test_the_front_follows_the_metrics_directions() -> None:
    table = summary(output_tokens_per_s=[10.0, 20.0, 30.0, 15.0], ttft_s=[1.0, 2.0, 3.0, 2.5])
    assert pareto_front(table, ["output_tokens_per_s", "ttft_s"]).tolist() == [2, 1, 0]
    worst = {"output_tokens_per_s": "lower", "ttft_s": "higher"}
    assert pareto_front(table, ["output_tokens_per_s", "ttft_s"], directions=worst).tolist() == [0, 3, 2]


def test_failed_and_incomplete_rows_are_not_on_the_front() -> None:
    table = summary(ttft_s=[0.1, None, 0.2], status=["failed", "ok", "ok"])
    assert pareto_front(table, ["ttft_s"]).tolist() == [2]


@pytest.mark.parametrize(
    ("metric", "message"),
    [("flops", "`flops` has no better direction"), ("speed", "there is no metric `speed`")],
)
def test_a_front_needs_directions(metric: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        pareto_front(summary(ttft_s=[1.0]), ["ttft_s", metric])
    assert caught.value.message == message


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0, 3.0]), min_size=width, max_size=width),
            min_size=1,
            max_size=25,
        )
    )
)
def test_dominators_agree_with_the_definition(rows: list[list[float]]) -> None:
    values = np.array(rows)
    found = dominators(values)
    for i, row in enumerate(values):
        above = [j for j, o in enumerate(values) if (o >= row).all() and (o > row).any()]
        assert (found[i] in above) if above else found[i] == -1
        if above:
            assert found[found[i]] == -1  # who is named is on the front


def test_dominators_of_a_large_front_are_found_quickly() -> None:
    angle = np.random.default_rng(1).uniform(0, np.pi / 2, (20_000, 2))
    inside = np.random.default_rng(2).uniform(0.2, 0.9, 20_000)
    sphere = np.stack(
        [
            np.cos(angle[:, 0]),
            np.sin(angle[:, 0]) * np.cos(angle[:, 1]),
            np.sin(angle[:, 0]) * np.sin(angle[:, 1]),
        ],
        axis=1,
    )
    found = dominators(np.concatenate([sphere, sphere * inside[:, None]]))
    assert (found[:20_000] == -1).all()  # nothing on a sphere dominates anything else on it
    assert (found[20_000:] >= 0).all()


def test_what_a_limit_leaves_open_is_marked() -> None:
    line = np.arange(100.0)
    front = np.stack([line, -line, line, -line], axis=1)
    assert (dominators(front) == -1).all()
    limited = dominators(front, limit=150)
    assert (limited == UNDECIDED).sum() == 99  # the first row takes 100 comparisons, the second 99 more


def test_best_point_under_limits() -> None:
    table = summary(output_tokens_per_s=[10.0, 30.0, 20.0], ttft_s=[0.1, 0.9, 0.2])
    assert best_under(table, "output_tokens_per_s") == 1
    assert best_under(table, "output_tokens_per_s", require={"ttft_s": "<= 500 ms"}) == 2
    assert best_under(table, "ttft_s", require={"output_tokens_per_s": "> 10"}) == 2
    assert best_under(table, "ttft_s", require={"ttft_s": "< 1 ms"}) is None


BATCHES = [1, 4, 16, 1, 4, 16]
TWO_DEVICES = points(
    6, batch_size=BATCHES, hardware=["l4"] * 3 + ["h100"] * 3, model=["m"] * 6, prompt_tokens=[100] * 6
)


def test_break_even_between_two_devices() -> None:
    curves = [100 * x**0.5 for x in (1, 4, 16)] + [40 * x for x in (1, 4, 16)]
    (found,) = break_even(
        TWO_DEVICES,
        summary(output_tokens_per_s=curves),
        axis="hardware",
        first="l4",
        second="h100",
        along="batch_size",
        metric="output_tokens_per_s",
    )
    # Both are straight on logarithmic scales: 100 x^0.5 = 40 x at x = 6.25, where both give 250.
    assert found.at == pytest.approx(6.25)
    assert found.metric_value == pytest.approx(250.0)
    assert (found.better_below, found.better_above, found.between) == ("l4", "h100", (4.0, 16.0))
    assert found.settings == {"model": "m", "prompt_tokens": 100}


def test_no_break_even_where_one_is_always_better() -> None:
    (found,) = break_even(
        TWO_DEVICES, summary(tpot_s=[1.0, 2.0, 3.0, 0.5, 1.0, 2.0]), axis="hardware", first="l4",
        second="h100", along="batch_size", metric="tpot_s",
    )  # fmt: skip
    assert (found.at, found.better_below, found.better_above) == (None, "h100", "h100")


def test_a_touch_is_no_crossing() -> None:
    (found,) = break_even(
        TWO_DEVICES, summary(tpot_s=[1.0, 2.0, 3.0, 0.5, 2.0, 2.0]), axis="hardware", first="l4",
        second="h100", along="batch_size", metric="tpot_s",
    )  # fmt: skip
    assert found.at is None


def test_an_unknown_axis_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        break_even(
            TWO_DEVICES, summary(tpot_s=[1.0] * 6), axis="colour", first="a", second="b",
            along="batch_size", metric="tpot_s",
        )  # fmt: skip
    assert caught.value.message == "points have no setting `colour`"


def test_largest_batch_under_a_latency_limit() -> None:
    table = summary(
        tpot_s=[0.01, 0.02, 0.09, 0.01, 0.02, None],
        status=["ok"] * 5 + ["does_not_fit"],
        reason=[None] * 5 + ["needs 3.0 GB more than the 24.0 GB usable"],
    )
    small, large = largest_batch(TWO_DEVICES, table, require={"tpot_s": "<= 50 ms"})
    assert (small.settings["hardware"], small.batch_size, small.row, small.next_batch_size) == (
        "l4",
        4,
        1,
        16,
    )
    assert small.limited_by == "tpot_s <= 50 ms"
    assert (large.batch_size, large.limited_by) == (4, "needs 3.0 GB more than the 24.0 GB usable")


def test_no_batch_meets_the_limit() -> None:
    found = largest_batch(TWO_DEVICES, summary(tpot_s=[1.0] * 6), require={"tpot_s": "<= 50 ms"})
    assert [(f.batch_size, f.row, f.next_batch_size, f.limited_by) for f in found] == [
        (None, None, None, "tpot_s <= 50 ms")
    ] * 2
