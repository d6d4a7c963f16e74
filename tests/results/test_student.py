"""Student's t against closed forms and any table of the distribution."""

from __future__ import annotations

import math

import pytest

from engine.results.student import t_quantile, t_tail


@pytest.mark.parametrize("t", [0.1, 1.0, 6.3138, 12.7062, 300.0])
def test_one_degree_is_the_cauchy_distribution(t: float) -> None:
    # P(|T| > t) = 1 - 2/pi atan(t)
    assert t_tail(t, 1) == pytest.approx(1 - 2 / math.pi * math.atan(t), rel=1e-9)


@pytest.mark.parametrize("t", [0.5, 2.0, 4.3027, 50.0])
def test_two_degrees_have_a_closed_form(t: float) -> None:
    # P(|T| > t) = 1 - t / sqrt(2 + t^2)
    assert t_tail(t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-8)


def test_many_degrees_are_the_normal_distribution() -> None:
    assert t_tail(1.959964, math.inf) == pytest.approx(0.05, abs=1e-7)
    assert t_tail(1.959964, 1e8) == pytest.approx(t_tail(1.959964, math.inf), rel=1e-5)


@pytest.mark.parametrize(
    ("degrees", "factor"), [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (30, 2.042), (math.inf, 1.960)]
)
def test_quantiles_are_those_of_the_tables(degrees: float, factor: float) -> None:
    assert t_quantile(degrees) == pytest.approx(factor, abs=5e-4)


@pytest.mark.parametrize("degrees", [1.0, 1.7, 3.9, 40.2, 1e5])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_tail_and_quantile_are_inverse(degrees: float, confidence: float) -> None:
    assert t_tail(t_quantile(degrees, confidence), degrees) == pytest.approx(1 - confidence, rel=1e-8)


def test_no_degrees_of_freedom_have_no_interval() -> None:
    with pytest.raises(ValueError, match="an interval needs at least two values"):
        t_quantile(0)
