"""Lines over the load, and bars of requests over time."""

from itertools import pairwise
from typing import Any

import pytest

from engine.report.charts.loads import load_of
from engine.report.page import View


def chart(view: View, name: str) -> Any:
    return next(chart for chart in view.charts if chart.name == name)


@pytest.mark.parametrize(
    ("variant", "load"),
    [
        ("concurrency 4 (generate())", ("concurrency", 4.0)),
        ("rate=2.5", ("rate", 2.5)),
        ("x", None),
        (None, None),
    ],
)
def test_a_variant_names_its_load(variant: str | None, load: tuple[str, float] | None) -> None:
    assert load_of(variant) == load


def test_every_request_is_split_into_its_phases(measured_view: View) -> None:
    found = chart(measured_view, "timeline")
    bars = found.spec["data"]["values"]
    assert {bar["phase"] for bar in bars} <= {"queue", "prefill", "decode"}
    assert all(bar["to"] > bar["from"] >= 0 for bar in bars)
    for row in found.table.rows:
        assert all(part >= 0 for part in row[3:])


def test_phases_of_a_request_follow_each_other(measured_view: View) -> None:
    bars = chart(measured_view, "timeline").spec["data"]["values"]
    one = [bar for bar in bars if (bar["line"], bar["request"]) == (bars[0]["line"], bars[0]["request"])]
    ends = sorted((bar["from"], bar["to"]) for bar in one)
    assert all(before[1] == after[0] for before, after in pairwise(ends))


def test_distributions_show_the_requests_and_times_of_the_summary(measured_view: View) -> None:
    """Draining ones count, as in `e2e_s`, and the latency ends with the last token, not with the answer."""
    found = chart(measured_view, "distribution-latency")
    _, n, median, _, largest = found.table.rows[0]
    # 0.5 s after a wait of 20 ms x (1 + k / 100), k from 0 to 99 without the failed 63: the middle is k = 49.
    assert n == 99
    assert (median, largest) == (pytest.approx(0.5298), pytest.approx(0.5398))
    assert found.caption == "Requests of the measured loads that ended well."


def test_without_requests_there_is_no_timeline(sweep_view: View) -> None:
    assert not [chart for chart in sweep_view.charts if chart.name == "timeline"]
