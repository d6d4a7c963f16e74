"""The roofline for a paper: operators on the roof of a device, x axis broken where nothing lies.

Points are placed on the roof, at what the device could attain at most; they are not measurements, and the
figure says so. Both panels share one y axis and one logarithmic scale; their x ranges never overlap and
every point lies in exactly one of them. The legend is a picture of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from engine.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES: Final = (".png", ".svg", ".pdf")

# Okabe and Ito's palette, told apart by colour-blind readers; https://jfly.uni-koeln.de/color/ (2008).
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
_SHAPES: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES: Final = ("-", "--", "-.", ":")
# A gap is worth a break when the axis would otherwise spend most of a decade on nothing.
_WORTH_BREAKING: Final = 5.0
_MARGIN: Final = 1.6


@dataclass(frozen=True)
class RoofPoint:
    """An operator in a phase: FLOPs per byte of memory traffic."""

    operation: str
    phase: str
    flops_per_byte: float


@dataclass(frozen=True)
class Roof:
    """A device as a roofline sees it."""

    name: str
    peak_flops_per_s: float
    bandwidth_bytes_per_s: float

    @property
    def ridge_flops_per_byte(self) -> float:
        """Intensity where memory and compute bind alike."""
        return self.peak_flops_per_s / self.bandwidth_bytes_per_s

    def attainable(self, flops_per_byte: float) -> float:
        """FLOP/s under the roof: min(peak, intensity x bandwidth)."""
        return min(self.peak_flops_per_s, flops_per_byte * self.bandwidth_bytes_per_s)


def broken_ranges(values: Sequence[float]) -> list[tuple[float, float]]:
    """One or two x ranges that hold every value: two when the widest gap is worth a break."""
    ordered = sorted(set(values))
    gaps = [(b / a, a, b) for a, b in itertools.pairwise(ordered)]
    low, high = ordered[0] / _MARGIN, ordered[-1] * _MARGIN
    ratio, left, right = max(gaps, default=(1.0, low, high))
    if ratio < _WORTH_BREAKING:
        return [(low, high)]
    # Both panels keep a margin inside the gap; its middle stays in neither.
    room = min(_MARGIN, ratio**0.4)
    return [(low, left * room), (right / room, high)]


def draw_roofline(
    points: Sequence[RoofPoint], roofs: Sequence[Roof], target: Path, *, title: str = ""
) -> list[Path]:
    """Write the figure and `<name>_legend`, both in the format of the suffix; returns both paths.

    Points lie on the roof of the first device. Raises `UsageError` for another suffix or nothing to draw.
    """
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"no picture format `{target.suffix}`", hint="formats: " + ", ".join(SUFFIXES))
    if not points or not roofs:
        raise UsageError("a roofline needs at least one operator that moves bytes and one device")
    with _style():
        figure = _figure(points, roofs, title)
        legend = _legend(points, roofs)
        legend_target = target.with_name(f"{target.stem}_legend{target.suffix}")
        target.parent.mkdir(parents=True, exist_ok=True)
        for drawn, path in ((figure, target), (legend, legend_target)):
            drawn.savefig(path, metadata=_no_date(path), bbox_inches="tight", dpi=200)
    return [target, legend_target]


def _style() -> Any:
    import matplotlib as mpl

    # No display is needed and nothing of the user's own style leaks in; text in SVG stays text.
    plain = {**cast("dict[str, Any]", mpl.rcParamsDefault)}
    plain |= {"backend": "agg", "svg.fonttype": "none", "svg.hashsalt": "engine"}
    plain |= {"font.size": 9, "axes.spines.top": False}
    return mpl.rc_context(cast("Any", plain))


def _no_date(path: Path) -> dict[str, Any]:
    return {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[path.suffix.lower()]


def _figure(points: Sequence[RoofPoint], roofs: Sequence[Roof], title: str) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    ridges = [roof.ridge_flops_per_byte for roof in roofs]
    ranges = broken_ranges([*(p.flops_per_byte for p in points), *ridges])
    figure = Figure(figsize=(7.0, 4.2), layout=ConstrainedLayoutEngine(wspace=0.0, w_pad=0.02))
    panels = _panels(figure, ranges)
    _roofs(panels, ranges, roofs)
    _points(panels, ranges, points, roofs[0])
    if len(panels) == 2:
        _break_marks(*panels)
    figure.supxlabel("Arithmetic intensity (FLOP/byte)", fontsize=9)
    panels[0].set_ylabel("Attainable rate (FLOP/s)")
    note = f"Points lie on the roof of {roofs[0].name}: attainable at most, not measured."
    figure.suptitle(f"{title}\n{note}" if title else note, fontsize=8)
    return figure


def _panels(figure: Figure, ranges: Sequence[tuple[float, float]]) -> list[Axes]:
    import numpy as np
    from matplotlib.ticker import LogFormatterSciNotation, NullFormatter

    widths = [max(float(np.log10(high / low)), 0.6) for low, high in ranges]
    panels = list(figure.subplots(1, len(ranges), sharey=True, squeeze=False, width_ratios=widths)[0])
    for panel, (low, high) in zip(panels, ranges, strict=True):
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlim(low, high)
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.xaxis.set_major_formatter(LogFormatterSciNotation())
        panel.grid(visible=True, which="major", linewidth=0.4, color="#dddddd")
    return panels


def _roofs(panels: Sequence[Axes], ranges: Sequence[tuple[float, float]], roofs: Sequence[Roof]) -> None:
    import numpy as np

    for i, roof in enumerate(roofs):
        dash, ridge = _DASHES[i % len(_DASHES)], roof.ridge_flops_per_byte
        for panel, (low, high) in zip(panels, ranges, strict=True):
            xs = np.unique(np.clip([*np.geomspace(low, high, 60), ridge], low, high))
            panel.plot(xs, [roof.attainable(float(x)) for x in xs], dash, color="#333333", linewidth=1.2)
            if low <= ridge <= high:
                panel.plot([ridge], [roof.peak_flops_per_s], marker="|", color="#333333", markersize=9)
                panel.annotate(
                    f"ridge {ridge:.4g} FLOP/byte",
                    (ridge, roof.peak_flops_per_s),
                    xytext=(5, -11),
                    textcoords="offset points",
                    ha="left",
                    fontsize=7,
                )
        panels[-1].annotate(
            f"{roof.name}: peak {_rate(roof.peak_flops_per_s)}, {_bandwidth(roof.bandwidth_bytes_per_s)}",
            (ranges[-1][1], roof.peak_flops_per_s),
            xytext=(-2, 4),
            textcoords="offset points",
            ha="right",
            fontsize=7,
        )


def _points(
    panels: Sequence[Axes], ranges: Sequence[tuple[float, float]], points: Sequence[RoofPoint], roof: Roof
) -> None:
    looks = _looks(points)
    for point in points:
        x = point.flops_per_byte
        panel = next(p for p, (low, high) in zip(panels, ranges, strict=True) if low <= x <= high)
        look = looks[point.operation, point.phase]
        panel.plot([x], [roof.attainable(x)], gid=f"point {point.phase} {point.operation}", **look)


def _looks(points: Sequence[RoofPoint]) -> dict[tuple[str, str], dict[str, Any]]:
    """Marker of each (operation, phase): colour and edge by operation, shape by phase."""
    operations = list(dict.fromkeys(p.operation for p in points))
    phases = list(dict.fromkeys(p.phase for p in points))
    looks: dict[tuple[str, str], dict[str, Any]] = {}
    for point in points:
        i = operations.index(point.operation)
        colour = _COLOURS[i % len(_COLOURS)]
        # Past eight operations colours come again with another edge.
        edge, face = [("white", colour), ("black", colour), (colour, "white")][i // len(_COLOURS) % 3]
        looks[point.operation, point.phase] = {
            "marker": _SHAPES[phases.index(point.phase) % len(_SHAPES)],
            "markerfacecolor": face,
            "markeredgecolor": edge,
            "markeredgewidth": 0.8,
            "markersize": 6,
            "linestyle": "none",
        }
    return looks


def _break_marks(left: Axes, right: Axes) -> None:
    left.spines["right"].set_visible(False)
    right.spines["left"].set_visible(False)
    right.tick_params(left=False, which="both")
    slash: dict[str, Any] = {"marker": [(-0.6, -1), (0.6, 1)], "markersize": 8, "color": "black"}
    left.plot([1], [0], transform=left.transAxes, clip_on=False, linestyle="none", **slash)
    right.plot([0], [0], transform=right.transAxes, clip_on=False, linestyle="none", **slash)


def _legend(points: Sequence[RoofPoint], roofs: Sequence[Roof]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], label=f"{operation}, {phase}", **look)
        for (operation, phase), look in _looks(points).items()
    ]
    handles += [
        Line2D([], [], linestyle=_DASHES[i % len(_DASHES)], color="#333333", label=roof.name)
        for i, roof in enumerate(roofs)
    ]
    columns = 3 if len(handles) > 12 else 2
    figure = Figure(figsize=(7.0, 0.22 * -(-len(handles) // columns) + 0.3))
    figure.legend(handles=handles, loc="center", ncols=columns, frameon=False, fontsize=8)
    return figure


def _rate(value: float) -> str:
    return f"{value / 1e12:.4g} TFLOP/s"


def _bandwidth(value: float) -> str:
    return f"{value / 1e12:.4g} TB/s" if value >= 1e12 else f"{value / 1e9:.4g} GB/s"
