"""Quantities with units: text in, base units inside, text out; one table serves parser, printer and editor.

Case matters (`MW` is not `mW`), the unit is never optional, and `GB` (10^9) is not `GiB` (2^30). Link rates
may be given in bits, spelled out (`900 Gbit/s`), because `Gb` and `GB` are confused too easily.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal, get_args

from engine.errors import UnitError

__all__ = [
    "DIMENSIONS",
    "EXAMPLES",
    "Dimension",
    "exact_text",
    "format_quantity",
    "parse",
    "pattern_for",
    "units_of",
]

Dimension = Literal[
    "bytes",
    "bytes_per_s",
    "flops_per_s",
    "seconds",
    "watts",
    "joules",
    "hertz",
    "celsius",
    "usd_per_hour",
    "per_second",
    "joules_per_byte",
    "joules_per_flop",
]

DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)

# The longest text a person could mean; also keeps exact arithmetic on hostile numbers cheap.
_LONGEST_TEXT: Final = 80
_NUMBER: Final = r"(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?"
_SPLIT: Final = re.compile(rf"([+-]?{_NUMBER})[ ]?(.*)", re.DOTALL)
_SI: Final = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}


@dataclass(frozen=True, slots=True)
class _Table:
    """The units of one dimension; the first unit is the base unit."""

    noun: str
    units: dict[str, Fraction]
    shown: tuple[str, ...]
    """Units people read, smallest first."""
    example: str
    signed: bool = False
    thresholds: dict[str, float] = field(default_factory=dict)
    """Base-unit value from which a shown unit is used, where it is not one unit."""


def _scaled(unit: str, *, prefixes: str, base: Fraction = Fraction(1)) -> dict[str, Fraction]:
    return {f"{p}{unit}": base * 10 ** _SI[p] for p in ["", *prefixes]}


def _binary(unit: str) -> dict[str, Fraction]:
    return {f"{p}{unit}": Fraction(2) ** power for p, power in _BINARY.items()}


def _small(per: str) -> dict[str, Fraction]:
    """`J/B` and smaller: energies of single operations are published in picojoules."""
    powers = {"": 0, "m": 3, "u": 6, "µ": 6, "n": 9, "p": 12, "f": 15}
    return {f"{p}J/{per}": Fraction(1, 10**power) for p, power in powers.items()}


_TABLES: Final[dict[Dimension, _Table]] = {
    "bytes": _Table(
        "a size",
        {**_scaled("B", prefixes="kMGTP"), **_binary("B")},
        ("B", "kB", "MB", "GB", "TB", "PB"),
        "80 GB",
    ),
    "bytes_per_s": _Table(
        "a rate of bytes",
        {
            **_scaled("B/s", prefixes="kMGTP"),
            **_binary("B/s"),
            **{f"{p}bit/s": Fraction(10 ** _SI[p], 8) for p in "MGT"},
        },
        ("B/s", "kB/s", "MB/s", "GB/s", "TB/s", "PB/s"),
        "3.35 TB/s",
    ),
    "flops_per_s": _Table(
        "a rate of operations",
        {**_scaled("FLOP/s", prefixes="kMGTP"), **_scaled("OP/s", prefixes="GTP")},
        ("FLOP/s", "kFLOP/s", "MFLOP/s", "GFLOP/s", "TFLOP/s", "PFLOP/s"),
        "989 TFLOP/s",
    ),
    "seconds": _Table(
        "a duration",
        {
            "s": Fraction(1),
            "ms": Fraction(1, 10**3),
            "us": Fraction(1, 10**6),
            "µs": Fraction(1, 10**6),
            "ns": Fraction(1, 10**9),
            "min": Fraction(60),
            "h": Fraction(3600),
        },
        ("ns", "us", "ms", "s", "min", "h"),
        "500 ms",
        thresholds={"min": 120.0, "h": 7200.0},
    ),
    "watts": _Table(
        "a power",
        {"W": Fraction(1), "mW": Fraction(1, 1000), "kW": Fraction(1000), "MW": Fraction(10**6)},
        ("mW", "W", "kW", "MW"),
        "700 W",
    ),
    "joules": _Table(
        "an energy",
        {
            "J": Fraction(1),
            "mJ": Fraction(1, 1000),
            "kJ": Fraction(1000),
            "MJ": Fraction(10**6),
            "Wh": Fraction(3600),
            "kWh": Fraction(3_600_000),
        },
        ("mJ", "J", "kJ", "MJ"),
        "1.5 kJ",
    ),
    "hertz": _Table("a frequency", _scaled("Hz", prefixes="kMG"), ("Hz", "kHz", "MHz", "GHz"), "1.98 GHz"),
    "celsius": _Table("a temperature", {"C": Fraction(1)}, ("C",), "65 C", signed=True),
    "usd_per_hour": _Table("a price", {"USD/h": Fraction(1)}, ("USD/h",), "2.50 USD/h"),
    "per_second": _Table(
        "a rate",
        {
            "/s": Fraction(1),
            "requests/s": Fraction(1),
            "tokens/s": Fraction(1),
            "/min": Fraction(1, 60),
            "requests/min": Fraction(1, 60),
        },
        ("/s",),
        "10 requests/s",
    ),
    "joules_per_byte": _Table("an energy per byte", _small("B"), ("fJ/B", "pJ/B", "nJ/B"), "31 pJ/B"),
    "joules_per_flop": _Table(
        "an energy per operation", _small("FLOP"), ("fJ/FLOP", "pJ/FLOP", "nJ/FLOP"), "0.5 pJ/FLOP"
    ),
}

EXAMPLES: Final[dict[Dimension, str]] = {name: table.example for name, table in _TABLES.items()}


def units_of(dimension: Dimension) -> tuple[str, ...]:
    """The units that may be written for a dimension, base unit first."""
    return tuple(_TABLES[dimension].units)


def pattern_for(dimension: Dimension) -> str:
    """Regular expression of every text `parse` accepts, anchored at both ends, for the editor schema."""
    table = _TABLES[dimension]
    sign = "[+-]?" if table.signed else "[+]?"
    units = "|".join(re.escape(unit) for unit in sorted(table.units, key=len, reverse=True))
    return f"^{sign}{_NUMBER} ?(?:{units})$"


def parse(text: str, dimension: Dimension) -> float:
    """The value in base units of a text such as `80 GB`; raises `UnitError` with a hint."""
    table = _TABLES[dimension]
    match = _SPLIT.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    if match is None:
        raise UnitError(
            f"`{text[:_LONGEST_TEXT]}` is not {table.noun}",
            hint=f"write a number and a unit, e.g. `{table.example}`",
            code="bad-quantity",
        )
    number, unit = match.groups()
    factor = table.units.get(unit)
    if factor is None:
        raise _unknown_unit(text, unit, dimension)
    if number.startswith("-") and not table.signed and float(number) != 0:
        raise UnitError(f"`{text}` is negative", hint=f"write {table.noun} of zero or more", code="negative")
    value = _exact_product(number, factor)
    if not math.isfinite(value):
        raise UnitError(f"`{text}` is too large for a number", code="not-finite")
    return value


def _exact_product(number: str, factor: Fraction) -> float:
    """`number * factor` rounded once, so that `3.35 TB/s` is the float 3.35e12 and nothing beside it."""
    try:
        return float(Fraction(Decimal(number)) * factor)
    except OverflowError:
        return math.inf


def _unknown_unit(text: str, unit: str, dimension: Dimension) -> UnitError:
    table = _TABLES[dimension]
    if not unit:
        return UnitError(f"`{text}` needs a unit, e.g. `{table.example}`", code="needs-unit")
    if re.fullmatch(r"[,_'][0-9]{3}.*", unit, re.DOTALL):
        return UnitError(f"`{text}` is not {table.noun}", hint=_separators_hint(table), code="bad-quantity")
    if unit.strip() in table.units:
        hint = f"write one space between number and unit: `{text.split()[0]} {unit.strip()}`"
        return UnitError(f"`{text}` is not {table.noun}", hint=hint, code="bad-quantity")
    return UnitError(f"`{text}` is not {table.noun}", hint=_unit_hint(unit, dimension))


def _separators_hint(table: _Table) -> str:
    return f"write digits without separators, e.g. `{table.example}`"


def _unit_hint(unit: str, dimension: Dimension) -> str:
    table = _TABLES[dimension]
    if dimension == "bytes" and re.fullmatch(r"[kKMGTP]i?b(its?)?", unit):
        return f"bytes are written `{unit[0].replace('K', 'k')}B`; bits are spelled out: `{_prefix(unit)}bit`"
    if dimension == "bytes_per_s" and re.fullmatch(r"[kKMGTP]i?b(it)?(ps|/s|/sec)?", unit):
        spelled = _prefix(unit)
        return f"bytes are written `{spelled}B/s`; bits are spelled out: `{spelled}bit/s`"
    if dimension == "flops_per_s" and re.fullmatch(r"[kMGTP]?(FLOPS?|OPS|flops?|FLOPs(/s)?|OPs/s)", unit):
        return f"write `{unit[0] if unit[0] in 'kMGTP' else ''}{'FLOP' if 'F' in unit.upper() else 'OP'}/s`"
    near = [known for known in table.units if known.lower() == unit.lower().strip()]
    if near:
        return f"case matters: did you mean `{'` or `'.join(near)}`?"
    other = next((name for name, rival in _TABLES.items() if unit in rival.units), None)
    if other is not None:
        return f"`{unit}` makes {_TABLES[other].noun}; write e.g. `{table.example}`"
    units = [f"`{known}`" for known in table.units]
    return f"use one of {', '.join(units)}" if len(units) > 1 else f"use {units[0]}"


def _prefix(unit: str) -> str:
    return unit[0].replace("K", "k")


def exact_text(value: float, dimension: Dimension) -> str:
    """A text in the base unit that `parse` turns back into exactly the same number."""
    base = next(iter(_TABLES[dimension].units))
    number = f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e21 else repr(float(value))
    return f"{number} {base}"


def format_quantity(value: float | None, dimension: Dimension) -> str:
    """A short text for people, four significant digits: `80 GB`, `500 ms`; `unknown` for None and NaN."""
    if value is None or math.isnan(value):
        return "unknown"
    table = _TABLES[dimension]
    if math.isinf(value):
        return "unlimited" if value > 0 else "-unlimited"
    chosen = table.shown[0] if value else next(iter(table.units))
    for unit in table.shown:
        factor = float(table.units[unit])
        # Half of the fifth digit: what rounds up to 1000 MB is shown as 1 GB.
        if abs(value) * 1.00005 >= table.thresholds.get(unit, factor):
            chosen = unit
    return f"{_four_digits(value / float(table.units[chosen]))} {chosen}"


def short_text(text: str) -> str:
    """A quantity in its base unit as people write it, `2000000000 B` as `2 GB`; any other text, and whatever
    would lose a digit, stays as it is."""
    number, _, unit = text.partition(" ")
    for dimension, table in _TABLES.items():
        if unit == next(iter(table.units)) and re.fullmatch(_NUMBER, number):
            short = format_quantity(float(number), dimension)
            return short if parse(short, dimension) == float(number) else text
    return text


def _four_digits(number: float) -> str:
    if number == 0:
        return "0"
    if not 1e-4 <= abs(number) < 1e9:
        return f"{number:.4g}"
    digits = max(0, 3 - math.floor(math.log10(abs(number))))
    text = f"{number:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 point`, `2,000 points`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
