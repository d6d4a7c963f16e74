"""Contrasts and corrections against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from engine.results.significance import Side, beyond, contrast, corrected, same
from engine.results.spread import from_values
from engine.results.student import t_quantile, t_tail


def known(value: float, error: float, degrees: float) -> Side:
    return Side(value, "repeats", error, error, degrees, 5)


def test_two_groups_of_repeats_are_compared_by_welch() -> None:
    # 1, 2, 3: mean 2, variance 1, standard error 1/sqrt(3). 4, 6, 8: mean 6, variance 4, 2/sqrt(3).
    found = contrast(from_values([1.0, 2.0, 3.0], how="repeats"), from_values([4.0, 6.0, 8.0], how="repeats"))
    # Variances of the means: 1/3 and 4/3; error sqrt(5/3); degrees (5/3)^2 / ((1/3)^2/2 + (4/3)^2/2) = 50/17.
    error, degrees = math.sqrt(5 / 3), 50 / 17
    assert found.difference == 4
    half = t_quantile(degrees) * error
    assert (found.low, found.high) == (pytest.approx(4 - half), pytest.approx(4 + half))
    assert found.p == pytest.approx(t_tail(4 / error, degrees))


def test_an_effect_moves_the_question() -> None:
    # Is 110 more than 5 % above 100? The contrast is 110 - 1.05 x 100 = 5, its error hypot(1, 1.05).
    found = contrast(known(100.0, 1.0, 8), known(110.0, 1.0, 8), effect=0.05)
    error = math.hypot(1.0, 1.05)
    freedom = (1.05**2 + 1) ** 2 / (1.05**4 / 8 + 1 / 8)
    assert found.p == pytest.approx(t_tail(5 / error, freedom))
    assert contrast(known(100.0, 1.0, 8), known(104.0, 0.1, 8), effect=0.05).p == 1.0


def test_an_effect_of_a_negative_value_is_a_share_of_its_size() -> None:
    # From -100 to -90 is 10 up: beyond 5 % by 5, and the contrast is -90 - 0.95 x -100.
    found = contrast(known(-100.0, 1.0, 8), known(-90.0, 1.0, 8), effect=0.05)
    error = math.hypot(1.0, 0.95)
    freedom = (0.95**2 + 1) ** 2 / (0.95**4 / 8 + 1 / 8)
    assert found.p == pytest.approx(t_tail(5 / error, freedom))


def test_lopsided_intervals_count_with_the_end_that_matters() -> None:
    before = Side(10.0, "band", 1.0, 3.0)  # may well be higher
    after = Side(20.0, "repeats", 4.0, 1.0, math.inf, 5)  # may well be lower
    found = contrast(before, after)
    assert found.low == pytest.approx(10 - 1.959964 * 5, abs=1e-5)  # hypot(3, 4)
    assert found.high == pytest.approx(10 + 1.959964 * math.sqrt(2), abs=1e-5)
    assert found.p == pytest.approx(t_tail(10 / 5, math.inf))


def test_predictions_are_not_tested() -> None:
    found = contrast(Side(1.0, "predicted"), Side(1.5, "predicted"))
    assert (found.low, found.high, found.p) == (0.5, 0.5, None)
    assert same(0.1 + 0.2, 0.3)
    assert not same(0.3, 0.3 * (1 + 1e-6))
    assert beyond(100.0, 103.0, 0.02)
    assert not beyond(100.0, 101.9, 0.02)
    assert beyond(0.0, 1.0, 0.02)


def test_a_prediction_adds_no_noise_beside_a_measurement() -> None:
    found = contrast(Side(100.0, "predicted"), known(110.0, 2.0, 4))
    assert found.low == pytest.approx(10 - t_quantile(4) * 2)
    assert found.p == pytest.approx(t_tail(5, 4))


def test_nothing_is_said_about_a_value_measured_once() -> None:
    found = contrast(Side(1.0, "once"), known(2.0, 0.1, 4))
    assert (found.difference, found.low, found.high, found.p) == (1.0, None, None, None)


def test_groups_without_spread_are_as_sure_as_their_number() -> None:
    # Three equal values against three others: 2 of the 20 ways to deal six values come apart so completely.
    three = from_values([1.0, 1.0, 1.0], how="repeats"), from_values([2.0, 2.0, 2.0], how="repeats")
    assert contrast(*three).p == pytest.approx(2 / 20)
    # Against a known value: all three on one side, 2 x 0.5^3.
    assert contrast(Side(1.0, "predicted"), three[1]).p == pytest.approx(0.25)
    assert contrast(three[0], three[0]).p == 1.0


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, never falling.
    assert corrected([0.01, 0.04, 0.03, 0.005], "holm") == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_benjamini_and_hochberg_by_hand() -> None:
    # Times 4/rank: 0.02, 0.02, 0.04, 0.04, never rising towards the smallest.
    assert corrected([0.01, 0.04, 0.03, 0.005], "bh") == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert corrected([0.9, 0.6], "bh") == pytest.approx([0.9, 0.9])


def test_no_correction_and_no_tests() -> None:
    assert corrected([0.2, 0.01], "none") == [0.2, 0.01]
    assert corrected([], "holm") == []
