"""Means and their intervals by hand, and by how often they hold the truth."""

from __future__ import annotations

import random

import pytest

from engine.results.estimate import estimate


def test_interval_by_hand() -> None:
    found = estimate([1.0, 2.0, 3.0, 4.0, 5.0])
    # spread sqrt(2.5), half width 2.7764 x 1.58114 / sqrt(5) = 1.9632
    assert found is not None
    assert (found.mean, found.n) == (3.0, 5)
    assert found.half_width == pytest.approx(1.9632, abs=1e-4)


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    found = estimate([2.0])
    assert found is not None
    assert (found.mean, found.low, found.high, found.half_width) == (2.0, None, None, None)
    assert estimate([]) is None


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    chance = random.Random(3)
    hits = 0
    for _ in range(2000):
        found = estimate([chance.gauss(10, 2) for _ in range(5)])
        assert found is not None
        assert found.half_width is not None
        hits += abs(found.mean - 10) <= found.half_width
    assert 0.935 < hits / 2000 < 0.965
