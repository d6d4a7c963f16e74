"""Trade-offs: what one metric costs in another, and the points that nothing beats in both."""

from __future__ import annotations

from typing import Any, Final

from engine.metrics import METRICS
from engine.report.charts.story import Story, chart_table, setting_column
from engine.report.charts.style import FRONT, QUIET, WIDTH, Measure, axis, description, measure
from engine.report.choose import pareto_front
from engine.report.numbers import count_of
from engine.report.page import Chart, Column

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
    for name, x, y, title, words in _PAIRS:
        if story.rows.has(x) and story.rows.has(y):
            chart = _trade_off(story, name, x, y, title, words)
            if chart is not None:
                found.append(chart)
    return found


def _trade_off(story: Story, name: str, x: str, y: str, title: str, words: str) -> Chart | None:
    import numpy as np

    rows = story.rows
    ok = rows.mask("status", "ok")
    across, up = (np.where(ok, rows.numbers(metric), np.nan) for metric in (x, y))
    positive = np.isfinite(across) & np.isfinite(up) & (across > 0) & (up > 0)
    if int(positive.sum()) < 2:
        return None
    front = pareto_front(
        np.where(positive, across, np.nan), np.where(positive, up, np.nan),
        higher_x=METRICS[x].direction != "lower", higher_y=METRICS[y].direction != "lower",
    )  # fmt: skip
    dominated = positive.copy()
    dominated[front] = False
    others = np.flatnonzero(dominated)
    shown = (
        others
        if len(others) <= MOST_POINTS
        else others[np.linspace(0, len(others) - 1, MOST_POINTS).astype(int)]
    )
    drawn = np.concatenate([shown, front])
    measured_x, measured_y = measure(x, across[drawn]), measure(y, up[drawn])
    data = _data(story, [*(int(i) for i in shown)], measured_x, measured_y, front=False)
    data += _data(story, [int(i) for i in front], measured_x, measured_y, front=True)
    left_out = len(others) - len(shown)
    caption = words + (f" {left_out:,} dominated points are not drawn." if left_out else "")
    alt = (
        f"Scatter of {count_of(len(data), 'point')}: {METRICS[y].label.lower()} over "
        f"{METRICS[x].label.lower()}, {len(front)} of them on the front."
    )
    columns = [
        *(setting_column(s) for s in story.varied),
        _metric_column(measured_x),
        _metric_column(measured_y),
    ]
    table = chart_table(
        f"{name}-front",
        f"{title}: the front",
        columns,
        [[*(row[s] for s in story.varied), row[x], row[y]] for row in rows.take(front).rows()],
    )
    return Chart(
        name,
        title,
        caption,
        alt,
        description(_body(story, measured_x, measured_y, data), data, alt=alt),
        table,
        (x, y),
    )


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
        }
        for row in story.rows.take(picked).rows()
    ]


def _body(story: Story, x: Measure, y: Measure, data: list[dict[str, Any]]) -> dict[str, Any]:
    tips = [
        {"field": "hardware", "title": "Device"},
        {"field": "quantization", "title": "Number format"},
        {"field": "what", "title": "Point"},
        {"field": "x", "title": x.title, "format": ",.4~g"},
        {"field": "y", "title": y.title, "format": ",.4~g"},
    ]
    place = {name: axis(m, name, log=[row[name] for row in data]) for name, m in (("x", x), ("y", y))}
    return {
        "width": WIDTH,
        "height": 360,
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
