"""Numbers as people read them: one unit a column, aligned decimals, no walls of digits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

ABSENT: Final = "–"
"""What an unknown value looks like; never 0."""

RATIOS: Final = frozenset(
    {
        "mfu", "mbu", "error_rate", "bandwidth_utilization", "cache_hit_rate", "accuracy", "training_mfu",
        "training_mfu_causal", "kernel_ratio", "utilization",
    }
)  # fmt: skip
"""Metrics without a unit that are shares: shown in percent."""

# Base unit -> (factor, name), smallest first. A unit that is absent here is shown as it is.
_PREFIXED: Final[dict[str, tuple[tuple[float, str], ...]]] = {
    "s": ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s")),
    "B": ((1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB")),
    "FLOP": ((1.0, "FLOP"), (1e6, "MFLOP"), (1e9, "GFLOP"), (1e12, "TFLOP"), (1e15, "PFLOP")),
    "FLOP/s": ((1.0, "FLOP/s"), (1e9, "GFLOP/s"), (1e12, "TFLOP/s"), (1e15, "PFLOP/s")),
    "J": ((1e-6, "µJ"), (1e-3, "mJ"), (1.0, "J"), (1e3, "kJ"), (1e6, "MJ")),
    "W": ((1.0, "W"), (1e3, "kW")),
    "Hz": ((1.0, "Hz"), (1e6, "MHz"), (1e9, "GHz")),
    "C": ((1.0, "°C"),),
}


@dataclass(frozen=True)
class Scale:
    """How a column is shown: `value / factor` with `decimals` places, followed by `unit` in the heading."""

    unit: str
    factor: float = 1.0
    decimals: int = 0
    each: str = ""
    """Base unit, where values differ so much that every cell gets the unit that suits it."""

    def shown(self, value: float) -> float:
        """The number in the unit shown, not rounded."""
        return value / self.factor

    def text(self, value: float | None) -> str:
        """The number without its unit; what would round to nothing keeps two significant digits."""
        if value is None or math.isnan(value):
            return ABSENT
        if math.isinf(value):
            return "∞" if value > 0 else "-∞"
        if self.each:
            return quantity("", self.each, value)
        number = value / self.factor
        if number and abs(number) < 0.5 * 10.0**-self.decimals:
            return significant(number, 2)
        return (
            f"{number:,.{self.decimals}f}".replace("-", "−") if number < 0 else f"{number:,.{self.decimals}f}"
        )

    def with_unit(self, value: float | None) -> str:
        """The number and its unit: `12.3 ms`, `45 %`."""
        text = self.text(value)
        return text if text == ABSENT or not self.unit else f"{text} {self.unit}"


def scale_for(name: str, unit: str, values: Iterable[float | None], *, digits: int = 3) -> Scale:
    """The unit and decimals in which most of the values show `digits` significant digits."""
    finite = sorted(abs(v) for v in values if v is not None and math.isfinite(v) and v != 0)
    if name in RATIOS:
        return Scale("%", 0.01, _decimals(finite, 0.01, digits))
    if not finite:
        return Scale(_PREFIXED[unit][-1][1] if unit == "C" else unit)
    middle = finite[len(finite) // 2]
    factor, shown = 1.0, unit
    if unit in _PREFIXED:
        fitting = [(f, name) for f, name in _PREFIXED[unit] if middle >= f * 0.9995]
        factor, shown = fitting[-1] if fitting else _PREFIXED[unit][0]
    return Scale(shown, factor, _decimals(finite, factor, digits))


def _decimals(finite: Sequence[float], factor: float, digits: int) -> int:
    if not finite:
        return 0
    if all(float(v / factor).is_integer() for v in finite):
        return 0
    low = finite[len(finite) // 4] / factor
    return min(6, max(0, digits - 1 - math.floor(math.log10(low))))


def significant(number: float | None, digits: int = 3) -> str:
    """A lone number with that many significant digits and thousands separators."""
    if number is None or math.isnan(number):
        return ABSENT
    if number == 0 or math.isinf(number):
        return "0" if number == 0 else ("∞" if number > 0 else "−∞")
    magnitude = math.floor(math.log10(abs(number)))
    if not -5 <= magnitude < 15:
        return f"{number:.{digits - 1}e}"
    text = f"{abs(round(number, digits - 1 - magnitude)):,.{max(0, digits - 1 - magnitude)}f}"
    return text if number > 0 else "−" + text


def quantity(name: str, unit: str, value: float | None, *, digits: int = 3) -> str:
    """A lone value with its unit: `312 ms`, `24.1 GB`, `62.0 %`."""
    if value is None or math.isnan(value):
        return ABSENT
    scale = scale_for(name, unit, [value])
    number = significant(value / scale.factor, digits)
    return f"{number} {scale.unit}" if scale.unit else number


def each_scale(unit: str) -> Scale:
    """Every cell with a unit of its own, for columns that span many powers of ten."""
    return Scale("", each=unit) if unit in _PREFIXED else Scale(unit, 1.0, 2)


def prefixes(unit: str) -> tuple[tuple[float, str], ...]:
    """(factor, name) of the units a base unit is shown in, smallest first."""
    return _PREFIXED.get(unit, ())
