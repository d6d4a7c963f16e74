from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.report.publication import Roof, RoofPoint, broken_ranges, draw_roofline

A100 = Roof("A100", 312e12, 2.039e12)
H100 = Roof("H100", 989e12, 3.35e12)
POINTS = [
    RoofPoint("scores", "Prefill", 118.72),
    RoofPoint("scores", "Decode", 3.87),
    RoofPoint("xW_Q", "Prefill", 1024.0),
    RoofPoint("xW_Q", "Decode", 1.0),
]


def test_attainable_is_the_lower_of_both_roofs() -> None:
    assert A100.ridge_flops_per_byte == pytest.approx(153.016, abs=1e-3)  # 312e12 / 2.039e12
    assert A100.attainable(1.0) == 2.039e12
    assert A100.attainable(1024.0) == 312e12


@given(st.lists(st.floats(1e-3, 1e5), min_size=1, max_size=40))
def test_every_value_lies_in_exactly_one_range(values: list[float]) -> None:
    ranges = broken_ranges(values)
    for value in values:
        assert sum(low <= value <= high for low, high in ranges) == 1
    for (_, end), (start, _) in pairwise(ranges):
        assert end < start


def test_one_range_where_nothing_is_worth_a_break() -> None:
    assert len(broken_ranges([1.0, 2.0, 4.0, 8.0])) == 1
    (low, left), (right, high) = broken_ranges([1.0, 2.0, 100.0, 200.0])
    assert low < 1.0 < 2.0 < left < right < 100.0 < 200.0 < high


def test_figure_and_legend_say_what_is_drawn(tmp_path: Path) -> None:
    figure, legend = draw_roofline(POINTS, [A100, H100], tmp_path / "out" / "roof.svg", title="Llama")
    assert (figure.name, legend.name) == ("roof.svg", "roof_legend.svg")
    text = figure.read_text(encoding="utf-8")
    assert text.count('id="point ') == len(POINTS)
    for words in ("ridge 153 FLOP/byte", "ridge 295.2 FLOP/byte", "A100: peak 312 TFLOP/s, 2.039 TB/s"):
        assert words in text
    assert "attainable at most, not measured" in text
    for pair in ("scores, Prefill", "scores, Decode", "xW_Q, Prefill", "xW_Q, Decode"):
        assert legend.read_text(encoding="utf-8").count(f">{pair}<") == 1


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_pictures_are_the_same_every_time(tmp_path: Path, suffix: str) -> None:
    first = draw_roofline(POINTS, [A100], tmp_path / f"a{suffix}")
    second = draw_roofline(POINTS, [A100], tmp_path / f"b{suffix}")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert all(p.stat().st_size > 2000 for p in first)


def test_other_formats_and_nothing_to_draw_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no picture format `.gif`"):
        draw_roofline(POINTS, [A100], tmp_path / "roof.gif")
    with pytest.raises(UsageError, match="at least one operator"):
        draw_roofline([], [A100], tmp_path / "roof.svg")
