"""One look for every chart: colours that survive colour blindness, shapes and dashes beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.metrics import METRICS
from engine.report.numbers import Scale, scale_for

# Okabe & Ito, "Color Universal Design" (2008); yellow and black are left out, because neither shows on
# both a white and a dark page, and two greys take their place.
PALETTE: Final = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#A6761D",
)  # fmt: skip
SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right",
                 "triangle-left")  # fmt: skip
DASHES: Final = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 2], [10, 4], [1, 3], [6, 2, 1, 2])
INK: Final = "#333333"
QUIET: Final = "#8a8a8a"
FRONT: Final = "#333333"
WIDTH: Final = 640
"""Pixels of the drawing area of a plain chart; with axes and legend it fits a printed page."""

CONFIG: Final[dict[str, Any]] = {
    # vl-convert measures text in the font it knows; the same family stands in the page and in the PDF.
    "font": "DejaVu Sans",
    "background": None,
    # The whole picture has one description and a table beneath it; reading out each mark helps nobody.
    "aria": False,
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "labelFontSize": 10.5,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "gridColor": "#e4e4e4",
        "domainColor": "#9a9a9a",
        "tickColor": "#9a9a9a",
        "labelLimit": 220,
        "titlePadding": 8,
        "labelPadding": 4,
    },
    "legend": {
        "orient": "top",
        "direction": "horizontal",
        "labelColor": INK,
        "titleColor": INK,
        "labelFontSize": 10.5,
        "titleFontSize": 10.5,
        "titleFontWeight": "normal",
        "symbolStrokeWidth": 2,
        "labelLimit": 240,
        "columnPadding": 14,
        "layout": {"top": {"direction": "vertical", "anchor": "start"}},
        "titleLimit": 200,
        "symbolSize": 70,
    },
    "header": {
        "labelColor": INK,
        "titleColor": INK,
        "labelFontSize": 11,
        "labelFontWeight": "bold",
        "labelLimit": 260,
        "labelPadding": 6,
    },
    "line": {"strokeWidth": 2},
    "point": {"size": 45, "filled": True, "opacity": 0.9},
    "bar": {"discreteBandSize": {"band": 0.72}},
    "title": {"fontSize": 12, "color": INK, "anchor": "start", "fontWeight": "normal"},
}


@dataclass(frozen=True)
class Style:
    """Which colour, shape and dash each device and each number format has, the same in every chart."""

    devices: tuple[str, ...]
    formats: tuple[str, ...]
    models: tuple[str, ...] = ()

    def device_color(self, *, legend: bool = True, title: str = "Device") -> dict[str, Any]:
        """Colour by device."""
        return _nominal("hardware", self.devices, PALETTE, title=title if legend else None, legend=legend)

    def device_shape(self) -> dict[str, Any]:
        """Shape by device, merged into the colour's legend."""
        return _nominal("hardware", self.devices, SHAPES, title="Device", legend=True)

    def format_shape(self, *, legend: bool = True) -> dict[str, Any]:
        """Shape by number format."""
        return _nominal("quantization", self.formats, SHAPES, title="Number format", legend=legend)

    def format_color(self) -> dict[str, Any]:
        """Colour by number format, where no device is told apart."""
        return _nominal("quantization", self.formats, PALETTE, title="Number format", legend=True)


def _nominal(
    field: str, domain: Sequence[str], values: Sequence[Any], *, title: str | None, legend: bool
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "field": field,
        "type": "nominal",
        "scale": {"domain": list(domain), "range": [values[i % len(values)] for i in range(len(domain))]},
        "title": title,
    }
    found["legend"] = {"columns": legend_columns(domain)} if legend else None
    return found


def legend_columns(labels: Sequence[str]) -> int:
    """How many entries fit beside each other above a chart of the usual width."""
    widest = max((min(len(label), 34) for label in labels), default=1)
    return max(1, min(len(labels) or 1, int(WIDTH / (widest * 6.6 + 34))))


@dataclass(frozen=True)
class Measure:
    """A metric on an axis: its name and the unit it is shown in."""

    name: str
    scale: Scale

    @property
    def title(self) -> str:
        """Label and unit, from the metric's definition."""
        metric = METRICS[self.name]
        return f"{metric.label} ({self.scale.unit})" if self.scale.unit else metric.label

    def value(self, number: float | None) -> float | None:
        """The number in the shown unit, five significant digits: what a picture can show."""
        return rounded(None if number is None else number / self.scale.factor)

    def base(self, shown: float | None) -> float | None:
        """Back from the shown unit to the base unit."""
        return None if shown is None else shown * self.scale.factor


def measure(name: str, values: Iterable[float | None]) -> Measure:
    """A metric in the unit that suits these values."""
    metric = METRICS[name]
    return Measure(name, scale_for(name, metric.unit, values))


def rounded(number: float | None, digits: int = 5) -> float | None:
    """The number with that many significant digits; None where it is unknown."""
    if number is None or not math.isfinite(number):
        return None
    return float(f"{number:.{digits}g}")


def axis(measured: Measure, field: str, *, log: Sequence[float | None] | None = None) -> dict[str, Any]:
    """An axis titled by its metric's definition; logarithmic over `log`, the shown values, where given."""
    if log is not None:
        return log_axis(field, measured.title, log)
    return {
        "field": field, "type": "quantitative", "title": measured.title,
        "scale": {"zero": True, "nice": True}, "axis": {"format": ",~f", "tickCount": 6},
    }  # fmt: skip


def log_axis(
    field: str, title: str, values: Sequence[float | None], *, margin: float = 1.18, most: int = 9
) -> dict[str, Any]:
    """A logarithmic axis whose ticks are round numbers that do not run into each other."""
    positive = [v for v in values if v is not None and v > 0]
    low, high = (min(positive) / margin, max(positive) * margin) if positive else (0.5, 2.0)
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"type": "log", "nice": False, "domain": [rounded(low), rounded(high)]},
        "axis": {
            "format": ",~g" if high < 1e-3 or high >= 1e9 else ",~f",
            "values": log_ticks(low, high, most),
            "labelOverlap": "greedy",
        },
    }


def log_ticks(low: float, high: float, most: int = 9) -> list[float]:
    """Powers of ten between the ends, with 2 and 5 (or every digit) between them where few would show."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        found = [rounded(step * 10.0**power) or 0.0 for power in decades for step in steps]
        inside = [tick for tick in found if low <= tick <= high]
        if len(inside) >= 4:
            break
    return inside if len(inside) <= most else [tick for tick in inside if round(math.log10(tick)) % 2 == 0]


def tooltip(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    """(field, title) pairs as tooltip lines."""
    return [{"field": field, "title": title} for field, title in pairs]


def description(body: dict[str, Any], rows: Sequence[dict[str, Any]], *, alt: str) -> dict[str, Any]:
    """A whole Vega-Lite description: the data first, the shared look last."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": alt,
        "data": {"name": "rows", "values": list(rows)},
        **body,
        "config": CONFIG,
    }


def columns_for(panels: int) -> int:
    """How many panels stand side by side: four make two rows of two."""
    return panels if panels <= 3 else 2 if panels == 4 else 3
