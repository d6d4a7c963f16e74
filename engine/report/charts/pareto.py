"""Trade-offs: what one metric costs in another, and the points that nothing beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from engine.metrics import METRICS
from engine.report.charts.story import Story, chart_table, setting_column
from engine.report.charts.style import FRONT, QUIET, WIDTH, Measure, axis, description, measure
from engine.report.choose import pareto_front
from engine.report.page import Chart, Column, Table
from engine.report.workloads import lengths_of, words
from engine.units import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_POINTS: Final = 1200
"""Dominated points drawn beside the front; a picture with more says no more."""

_PAIRS: Final = (
    (
        "pareto",
        "output_tokens_per_s_per_user",
        "output_tokens_per_s_per_device",
        "Throughput against interactivity",
        "Up: more tokens from each device. Right: faster for each user. None beats the line in both.",
    ),
    (
        "energy",
        "e2e_s",
        "energy_per_output_token_j",
        "Energy against latency",
        "Down and left is better. Points on the line are beaten by none in both.",
    ),
    (
        "cost",
        "e2e_s",
        "cost_per_million_output_tokens_usd",
        "Cost against latency",
        "Down and left is better. Points on the line are beaten by none in both.",
    ),
)


def trade_offs(story: Story) -> list[Chart]:
    """The trade-off charts for which both metrics have values."""
    found = []
    for name, x, y, title, what in _PAIRS:
        if story.rows.has(x) and story.rows.has(y):
            chart = _trade_off(story, name, x, y, title, what)
            if chart is not None:
                found.append(chart)
    return found


def _trade_off(story: Story, name: str, x: str, y: str, title: str, what: str) -> Chart | None:
    import numpy as np

    rows = story.rows
    across, up = rows.numbers(x), rows.numbers(y)
    with np.errstate(invalid="ignore"):
        usable = rows.mask("status", "ok") & np.isfinite(across) & np.isfinite(up) & (across > 0) & (up > 0)
    panels = _panels(story, usable)
    usable &= np.isin(story.choice.workloads.codes, panels)
    if int(usable.sum()) < 2:
        return None
    front = _fronts(story, usable, panels, x, y)
    dominated = usable.copy()
    dominated[front] = False
    others = np.flatnonzero(dominated)
    shown = (
        others
        if len(others) <= MOST_POINTS
        else others[np.linspace(0, len(others) - 1, MOST_POINTS).astype(int)]
    )
    drawn = np.concatenate([shown, front])
    scaled = measure(x, across[drawn]), measure(y, up[drawn])
    data = _data(story, [*(int(i) for i in shown)], *scaled, front=False)
    data += _data(story, [int(i) for i in front], *scaled, front=True)
    left_out = len(others) - len(shown)
    caption = what + (f" {left_out:,} dominated points are not drawn." if left_out else "")
    if len({row["basis"] for row in data} & {"bound", "estimate"}) == 2:
        caption += " Bounds of devices without a calibration are drawn, but on no line: nothing reaches them."
    if story.choice.workload is not None:
        more = len(story.choice.workloads.lengths) - len(panels)
        caption += " Points of different lengths do different work, so each pair of lengths has its own front"
        caption += f"; {counted(more, 'more pair')} in the table of points." if more > 0 else "."
    alt = (
        f"Scatter of {counted(len(data), 'point')}: {METRICS[y].label.lower()} over "
        f"{METRICS[x].label.lower()}, {len(front)} of them on the front."
    )
    body = _body(story, *scaled, data, [_load(story, place) for place in panels])
    return Chart(name, title, caption, alt, description(body, data, alt=alt),
                 _front_table(story, name, title, scaled, front), (x, y))  # fmt: skip


_MOST_PANELS: Final = 4


def _panels(story: Story, usable: NDArray[np.bool_]) -> list[int]:
    """Places of the lengths that are drawn: the answer's own, then those with most points, in their order."""
    import numpy as np

    loads = story.choice.workloads
    counts = np.bincount(loads.codes[usable], minlength=len(loads.lengths))
    if story.choice.workload is not None:
        counts[loads.lengths.index(story.choice.workload)] += len(usable)
    most = np.argsort(-counts, kind="stable")[:_MOST_PANELS]
    return sorted(int(place) for place in most if counts[place])


def _fronts(
    story: Story, usable: NDArray[np.bool_], panels: Sequence[int], x: str, y: str
) -> NDArray[np.int64]:
    """The points that nothing of the same lengths beats in both metrics."""
    import numpy as np

    across, up = story.rows.numbers(x), story.rows.numbers(y)
    bound = story.rows.mask("basis", "bound")
    found = []
    for place in panels:
        here = usable & story.choice.workloads.mask(place)
        # Bounds are what no deployment reaches: beside estimates they are on no front.
        here = here & ~bound if (here & ~bound).any() else here
        found.append(
            pareto_front(
                np.where(here, across, np.nan), np.where(here, up, np.nan),
                higher_x=METRICS[x].direction != "lower", higher_y=METRICS[y].direction != "lower",
            )
        )  # fmt: skip
    return np.concatenate(found)


def _front_table(
    story: Story, name: str, title: str, scaled: tuple[Measure, Measure], front: NDArray[np.int64]
) -> Table:
    columns = [*(setting_column(s) for s in story.varied), *(_metric_column(one) for one in scaled)]
    rows = [
        [row[column.name] for column in columns] for row in story.rows.take([int(i) for i in front]).rows()
    ]
    return chart_table(f"{name}-front", f"{title}: the front", columns, rows)


def _load(story: Story, place: int) -> str:
    return words(story.choice.workloads.lengths[place])


def _metric_column(measured: Measure) -> Column:
    metric = METRICS[measured.name]
    return Column(metric.name, metric.label, metric.definition, "number", measured.scale, metric.name)


def _data(story: Story, picked: list[int], x: Measure, y: Measure, *, front: bool) -> list[dict[str, Any]]:
    return [
        {
            "x": x.value(row[x.name]),
            "y": y.value(row[y.name]),
            "hardware": row.get("hardware"),
            "quantization": row.get("quantization"),
            "what": story.name(row, without=("hardware", "quantization")),
            "front": front,
            "load": words(lengths_of(row)),
            "basis": row.get("basis"),
        }
        for row in story.rows.take(picked).rows()
    ]


def _body(
    story: Story, x: Measure, y: Measure, data: list[dict[str, Any]], loads: Sequence[str]
) -> dict[str, Any]:
    tips = [
        {"field": "hardware", "title": "Device"},
        {"field": "quantization", "title": "Number format"},
        {"field": "what", "title": "Point"},
        {"field": "basis", "title": "Basis"},
        {"field": "x", "title": x.title, "format": ",.4~g"},
        {"field": "y", "title": y.title, "format": ",.4~g"},
    ]
    place: dict[str, Any] = {
        name: axis(m, name, log=[row[name] for row in data]) for name, m in (("x", x), ("y", y))
    }
    across = min(2, len(loads))
    panel: dict[str, Any] = {
        "width": int((WIDTH - 24 * (across - 1)) / across),
        "height": 360 if across == 1 else 180,
        "layer": [
            {
                "transform": [{"filter": "datum.front"}],
                "mark": {"type": "line", "color": FRONT, "strokeWidth": 1.2, "interpolate": "linear"},
                "encoding": {**place, "order": {"field": "x"}},
            },
            {
                "params": [
                    {"name": "zoom", "select": "interval", "bind": "scales"},
                ],
                "mark": {"type": "point", "filled": True},
                "encoding": {
                    **place,
                    "color": story.style.device_color(),
                    "shape": story.style.format_shape(),
                    "opacity": {"condition": {"test": "datum.front", "value": 1}, "value": 0.32},
                    "size": {"condition": {"test": "datum.front", "value": 80}, "value": 28},
                    "stroke": {"condition": {"test": "datum.front", "value": FRONT}, "value": QUIET},
                    "strokeWidth": {"condition": {"test": "datum.front", "value": 1}, "value": 0},
                    "tooltip": tips,
                },
            },
        ],
    }
    if across == 1:
        return panel
    return {
        "facet": {"field": "load", "type": "nominal", "sort": list(loads), "title": None},
        "columns": across,
        "spacing": 24,
        "spec": panel,
    }
