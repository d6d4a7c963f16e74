"""Units: one table for parser, printer and editor pattern."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UnitError
from engine.units import (
    DIMENSIONS,
    EXAMPLES,
    Dimension,
    exact_text,
    format_quantity,
    parse,
    pattern_for,
    short_text,
    units_of,
)

EXACT: list[tuple[str, Dimension, float]] = [
    ("80 GB", "bytes", 80e9),
    ("80GB", "bytes", 80e9),
    ("80 GiB", "bytes", 80 * 2**30),  # 85,899,345,920
    ("1 kB", "bytes", 1000.0),
    (".5 TiB", "bytes", 2**39),
    ("3.35 TB/s", "bytes_per_s", 3.35e12),
    ("3.35e12 B/s", "bytes_per_s", 3.35e12),
    ("900 Gbit/s", "bytes_per_s", 112.5e9),  # 900 / 8
    ("1 Tbit/s", "bytes_per_s", 125e9),
    ("989.4 TFLOP/s", "flops_per_s", 989.4e12),
    ("1979 TOP/s", "flops_per_s", 1979e12),
    ("500 ms", "seconds", 0.5),
    ("0.1 us", "seconds", 1e-7),
    ("0.1 µs", "seconds", 1e-7),
    ("1.5 h", "seconds", 5400.0),
    ("2 min", "seconds", 120.0),
    ("700 W", "watts", 700.0),
    ("1.5 mW", "watts", 0.0015),
    ("1.5 MW", "watts", 1.5e6),
    ("1 kWh", "joules", 3.6e6),
    ("1.98 GHz", "hertz", 1.98e9),
    ("-5 C", "celsius", -5.0),
    ("2.50 USD/h", "usd_per_hour", 2.5),
    ("10 requests/s", "per_second", 10.0),
    ("10 /s", "per_second", 10.0),
    ("30 requests/min", "per_second", 0.5),
    ("31 pJ/B", "joules_per_byte", 31e-12),
    ("0.5 pJ/FLOP", "joules_per_flop", 0.5e-12),
    ("-0 W", "watts", 0.0),
]

REFUSED: list[tuple[str, Dimension, str, str, str | None]] = [
    ("80", "bytes", "needs-unit", "`80` needs a unit, e.g. `80 GB`", None),
    (
        "80 Gb",
        "bytes",
        "bad-unit",
        "`80 Gb` is not a size",
        "bytes are written `GB`; bits are spelled out: `Gbit`",
    ),
    (
        "900 Gbps",
        "bytes_per_s",
        "bad-unit",
        "`900 Gbps` is not a rate of bytes",
        "bytes are written `GB/s`; bits are spelled out: `Gbit/s`",
    ),
    (
        "400 Gb/s",
        "bytes_per_s",
        "bad-unit",
        "`400 Gb/s` is not a rate of bytes",
        "bytes are written `GB/s`; bits are spelled out: `Gbit/s`",
    ),
    ("1 TFLOPS", "flops_per_s", "bad-unit", "`1 TFLOPS` is not a rate of operations", "write `TFLOP/s`"),
    ("1 TFLOP", "flops_per_s", "bad-unit", "`1 TFLOP` is not a rate of operations", "write `TFLOP/s`"),
    ("1 TOPS", "flops_per_s", "bad-unit", "`1 TOPS` is not a rate of operations", "write `TOP/s`"),
    ("1 FLOPS", "flops_per_s", "bad-unit", "`1 FLOPS` is not a rate of operations", "write `FLOP/s`"),
    ("80 gb", "bytes", "bad-unit", "`80 gb` is not a size", "case matters: did you mean `GB`?"),
    ("80 KB", "bytes", "bad-unit", "`80 KB` is not a size", "case matters: did you mean `kB`?"),
    ("1 mw", "watts", "bad-unit", "`1 mw` is not a power", "case matters: did you mean `mW` or `MW`?"),
    ("10 GB", "seconds", "bad-unit", "`10 GB` is not a duration", "`GB` makes a size; write e.g. `500 ms`"),
    ("87 F", "celsius", "bad-unit", "`87 F` is not a temperature", "use `C`"),
    (
        "10 rps",
        "per_second",
        "bad-unit",
        "`10 rps` is not a rate",
        "use one of `/s`, `requests/s`, `tokens/s`, `/min`, `requests/min`",
    ),
    (
        "1,000 s",
        "seconds",
        "bad-quantity",
        "`1,000 s` is not a duration",
        "write digits without separators, e.g. `500 ms`",
    ),
    (
        "10  s",
        "seconds",
        "bad-quantity",
        "`10  s` is not a duration",
        "write one space between number and unit: `10 s`",
    ),
    (
        "nan s",
        "seconds",
        "bad-quantity",
        "`nan s` is not a duration",
        "write a number and a unit, e.g. `500 ms`",
    ),
    ("inf W", "watts", "bad-quantity", "`inf W` is not a power", "write a number and a unit, e.g. `700 W`"),
    ("-1 s", "seconds", "negative", "`-1 s` is negative", "write a duration of zero or more"),
    ("1e999 B", "bytes", "not-finite", "`1e999 B` is too large for a number", None),
    ("", "bytes", "bad-quantity", "`` is not a size", "write a number and a unit, e.g. `80 GB`"),
]


@pytest.mark.parametrize(("text", "dimension", "value"), EXACT)
def test_reads_exactly(text: str, dimension: Dimension, value: float):
    assert parse(text, dimension) == value


@pytest.mark.parametrize(("text", "dimension", "code", "message", "hint"), REFUSED)
def test_refuses_with_a_way_out(text: str, dimension: Dimension, code: str, message: str, hint: str | None):
    with pytest.raises(UnitError) as caught:
        parse(text, dimension)
    assert (caught.value.code, str(caught.value), caught.value.hint) == (code, message, hint)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_examples_are_valid_and_match_the_pattern(dimension: Dimension):
    assert parse(EXAMPLES[dimension], dimension) > 0
    assert re.search(pattern_for(dimension), EXAMPLES[dimension])


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_every_unit_is_accepted_by_pattern_and_parser(dimension: Dimension):
    for unit in units_of(dimension):
        assert re.search(pattern_for(dimension), f"2.5 {unit}")
        assert parse(f"2.5 {unit}", dimension) > 0
    base = units_of(dimension)[0]
    assert parse(f"1 {base}", dimension) == 1.0


@given(
    st.sampled_from(DIMENSIONS), st.text(max_size=30) | st.from_regex(r"[-+]?[0-9.eE]{1,9} ?[A-Za-z/µ]{0,9}")
)
def test_pattern_and_parser_agree(dimension: Dimension, text: str):
    # Editors see the pattern, the engine the parser; they differ on numbers beyond 1e308 alone.
    matches = re.search(pattern_for(dimension), text) is not None and not text.endswith("\n")
    try:
        parse(text, dimension)
        accepted = True
    except UnitError as err:
        accepted = err.code == "not-finite"
    if text.startswith("-") and dimension != "celsius":
        assert not matches  # minus zero is read, but never offered
    else:
        assert matches == accepted


@given(st.sampled_from(DIMENSIONS), st.floats(min_value=0, allow_infinity=False, allow_nan=False))
def test_exact_text_round_trips(dimension: Dimension, value: float):
    assert parse(exact_text(value, dimension), dimension) == value


@given(st.sampled_from(DIMENSIONS), st.floats(min_value=1e-9, max_value=1e18))
def test_text_for_people_is_within_half_of_the_fourth_digit(dimension: Dimension, value: float):
    assert parse(format_quantity(value, dimension), dimension) == pytest.approx(value, rel=5.1e-4)


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (80e9, "bytes", "80 GB"),
        (0.5, "seconds", "500 ms"),
        (3.35e12, "bytes_per_s", "3.35 TB/s"),
        (999.96e6, "bytes", "1 GB"),
        (0.0, "seconds", "0 s"),
        (90.0, "seconds", "90 s"),
        (600.0, "seconds", "10 min"),
        (7200.0, "seconds", "2 h"),
        (31e-12, "joules_per_byte", "31 pJ/B"),
        (1234.5, "watts", "1.234 kW"),
        (-5.0, "celsius", "-5 C"),
        (None, "bytes", "unknown"),
        (math.nan, "bytes", "unknown"),
        (math.inf, "bytes", "unlimited"),
    ],
)
def test_text_for_people(value: float | None, dimension: Dimension, text: str):
    assert format_quantity(value, dimension) == text


def test_exact_text_names_the_base_unit():
    assert exact_text(80e9, "bytes") == "80000000000 B"
    assert exact_text(3.1e-11, "joules_per_byte") == "3.1e-11 J/B"


def test_short_text_keeps_every_digit():
    assert short_text("2000000000 B") == "2 GB"
    assert short_text("0.5 s") == "500 ms"
    assert short_text("2000000001 B") == "2000000001 B"
    assert short_text("two B") == "two B"
    assert short_text("h100 sxm") == "h100 sxm"


def test_hostile_numbers_cost_nothing():
    # Exact arithmetic on 10^999999999 would take gigabytes.
    for text in ("1e999999999 B", "1e-999999999 B", "9" * 10_000 + " B"):
        with pytest.raises(UnitError):
            parse(text, "bytes")
