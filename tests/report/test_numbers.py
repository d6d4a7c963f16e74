"""Numbers as people read them."""

import math

import pytest

from engine.report.numbers import ABSENT, Scale, each_scale, quantity, scale_for, significant
from engine.units import counted


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.31244, "0.312"),
        (1234.5, "1,230"),
        (12.0, "12.0"),
        (0, "0"),
        (-3.14159, "−3.14"),
        (math.inf, "∞"),
        (1e-7, "1.00e-07"),
        (math.nan, ABSENT),
        (None, ABSENT),
        (999.6, "1,000"),
    ],
)
def test_significant_digits(number: float | None, text: str) -> None:
    assert significant(number) == text


@pytest.mark.parametrize(
    ("name", "unit", "value", "text"),
    [
        ("ttft_s", "s", 0.0123, "12.3 ms"),
        ("ttft_s", "s", 1.5, "1.50 s"),
        ("weights_bytes", "B", 16.06e9, "16.1 GB"),
        ("mfu", "", 0.4567, "45.7 %"),
        ("energy_j", "J", 0.00123, "1.23 mJ"),
        ("output_tokens_per_s", "tokens/s", 12345.0, "12,300 tokens/s"),
        ("ttft_s", "s", None, ABSENT),
    ],
)
def test_a_lone_value_gets_the_unit_that_suits_it(
    name: str, unit: str, value: float | None, text: str
) -> None:
    assert quantity(name, unit, value) == text


def test_a_column_has_one_unit_and_aligned_decimals() -> None:
    scale = scale_for("ttft_s", "s", [0.0101, 0.0234, 0.512])
    assert scale.unit == "ms"
    assert [scale.text(v) for v in (0.0101, 0.0234, 0.512)] == ["10.1", "23.4", "512.0"]


def test_what_would_round_to_nothing_keeps_two_digits() -> None:
    assert Scale("s", 1.0, 1).text(0.00234) == "0.0023"


def test_unknown_is_never_zero() -> None:
    scale = Scale("ms", 1e-3, 1)
    assert scale.text(None) == scale.text(math.nan) == scale.with_unit(None) == ABSENT


def test_cells_that_span_powers_of_ten_have_their_own_units() -> None:
    scale = each_scale("FLOP")
    assert [scale.text(v) for v in (1.924e15, 131_000.0)] == ["1.92 PFLOP", "131,000 FLOP"]


def test_counts_are_words() -> None:
    assert (counted(1, "point"), counted(1234, "point")) == ("1 point", "1,234 points")
