"""Figures of live benchmarks: nothing at the edge, whole numbers, whiskers that say what they are."""

import re

from engine.report.live_figures import Figure, Series, _top, draw_figure, mixed_figure


def test_points_and_whiskers_stay_inside():
    line = Series("a", [1, 2], [3.0, 4.0], [2.0, None], [8.0, None])
    assert _top([line]) == 8.8  # 1.1 x the whisker
    assert _top([line, Series("b", [1], [None])]) == 10.0  # 1.25: a legend needs room
    assert _top([Series("a", [1], [0.0])]) == 1.0


def test_requests_are_counted_in_whole_numbers(tmp_path):
    draw_figure(mixed_figure({128: [0.4, 0.42], 1024: [0.4, 0.42]}, model="m"), tmp_path / "f.svg")
    text = (tmp_path / "f.svg").read_text()
    assert "128 prompt tokens" in text
    assert not re.search(r">1\.[02468]</text>", text)


def test_whiskers_say_what_they_are(tmp_path):
    line = Series("a", [1, 2], [3.0, 4.0], [2.0, 3.0], [4.0, 5.0])
    for series, told in (([line], True), ([Series("a", [1, 2], [3.0, 4.0])], False)):
        draw_figure(Figure("x", "t", "requests at once", "s", series), tmp_path / "f.svg")
        assert ("whiskers: 95 % interval" in (tmp_path / "f.svg").read_text()) is told
