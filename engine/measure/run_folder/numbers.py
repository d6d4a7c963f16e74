"""Numbers as logs print them: with units, decimal commas and many ways to say that there is none."""

from __future__ import annotations

import re
from typing import Any, Final

ABSENT: Final = frozenset(
    {
        "", "-", "--", "n/a", "na", "[n/a]", "nan", "[nan]", "none", "null", "inf", "-inf", "[inf]",
        "[not supported]", "not supported", "[unknown error]", "unknown", "[gpu requires reset]", "err!",
        "[insufficient permissions]", "?", "<na>", "#n/a",
    }
)  # fmt: skip
_NUMBER: Final = re.compile(
    r"^([+-]?(?:[0-9]+(?:[.,][0-9]*)*|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?)\s*(\S.{0,15})?$"
)
_THOUSANDS: Final = re.compile(r"^[+-]?[0-9]{1,3}(,[0-9]{3})+$")

# Unit -> (quantity, factor to the base unit). Case matters: mW is not MW.
UNITS: Final[dict[str, tuple[str, float]]] = {
    "W": ("power", 1.0), "Watts": ("power", 1.0), "watts": ("power", 1.0), "Watt": ("power", 1.0),
    "mW": ("power", 1e-3), "kW": ("power", 1e3), "uW": ("power", 1e-6), "µW": ("power", 1e-6),
    "J": ("energy", 1.0), "Joules": ("energy", 1.0), "mJ": ("energy", 1e-3), "uJ": ("energy", 1e-6),
    "kJ": ("energy", 1e3), "Wh": ("energy", 3600.0), "kWh": ("energy", 3.6e6), "mWh": ("energy", 3.6),
    "C": ("temperature", 1.0), "°C": ("temperature", 1.0), "ºC": ("temperature", 1.0),
    "�C": ("temperature", 1.0), "degC": ("temperature", 1.0), "°F": ("temperature", 1.0),
    "F": ("temperature", 1.0), "K": ("temperature", 1.0),
    "%": ("share", 0.01), "s": ("time", 1.0), "sec": ("time", 1.0), "sec.": ("time", 1.0),
    "seconds": ("time", 1.0), "ms": ("time", 1e-3), "us": ("time", 1e-6), "µs": ("time", 1e-6),
    "ns": ("time", 1e-9), "min": ("time", 60.0), "h": ("time", 3600.0),
    "B": ("memory", 1.0), "KB": ("memory", 1e3), "kB": ("memory", 1e3), "MB": ("memory", 1e6),
    "GB": ("memory", 1e9), "TB": ("memory", 1e12), "KiB": ("memory", 2.0**10), "MiB": ("memory", 2.0**20),
    "GiB": ("memory", 2.0**30), "TiB": ("memory", 2.0**40),
    "Hz": ("frequency", 1.0), "kHz": ("frequency", 1e3), "MHz": ("frequency", 1e6), "GHz": ("frequency", 1e9),
}  # fmt: skip

# Outside these a reading is a fault of the sensor or of the column, not a measurement.
PLAUSIBLE: Final[dict[str, tuple[float, float]]] = {
    "power": (0.01, 20_000.0),
    "temperature": (-40.0, 150.0),
    "margin": (-40.0, 150.0),
    "memory": (0.0, 1e15),
    "utilization": (0.0, 1.0001),
    "bandwidth": (0.0, 1.0001),
    "cache_hit_rate": (0.0, 1.0001),
}


def split_number(text: str, *, comma: bool = False) -> tuple[float | None, str]:
    """The number and the unit behind it; no number when the text says that there is none.

    `comma` says that the file writes decimal commas; otherwise `1,234` is a thousand.
    """
    text = text.strip().strip('"').strip().replace("\u00a0", " ")
    if text.lower() in ABSENT:
        return None, ""
    found = _NUMBER.match(text)
    if found is None:
        return None, ""
    digits, unit = found.group(1), (found.group(2) or "").strip()
    try:
        return float(_point(digits, comma=comma)), unit
    except ValueError:
        return None, unit


def _point(digits: str, *, comma: bool) -> str:
    """The digits with a decimal point and without thousands separators."""
    if "," not in digits:
        return digits if digits.count(".") < 2 else digits.replace(".", "")
    if "." in digits:  # the last of the two is the decimal sign
        if digits.rindex(",") > digits.rindex("."):
            return digits.replace(".", "").replace(",", ".")
        return digits.replace(",", "")
    if comma or not _THOUSANDS.match(digits):
        return digits.replace(",", ".")
    return digits.replace(",", "")


def number(text: str | None, *, comma: bool = False) -> float | None:
    """The number in a cell, units ignored; None when there is none, or no cell (a short row)."""
    return split_number(text, comma=comma)[0] if text is not None else None


def to_base(value: float, unit: str) -> float:
    """The value in base units; unknown units count as base units already."""
    if unit in ("°F", "F"):
        return (value - 32) / 1.8
    if unit == "K":
        return value - 273.15
    return value * UNITS[unit][1] if unit in UNITS else value


def header_unit(header: str) -> tuple[str, str]:
    """A column's name and unit: `power.draw [W]` and `Runtime (s)` become (`power.draw`, `W`)."""
    found = re.match(r"^(.*?)\s*[\[(]([^\[\]()]{1,16})[\])]\s*$", header.strip())
    return (found.group(1).strip(), found.group(2).strip()) if found else (header.strip(), "")


def finite(value: Any) -> float | None:
    """A finite number from JSON; None for text, booleans, NaN and what is missing."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return number(value) if isinstance(value, str) else None
    return float(value) if abs(value) < 1e300 and value == value else None
