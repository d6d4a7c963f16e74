"""Throughput and latency as the load grows, a line for each point and way of serving."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.metrics import METRICS
from engine.report.charts.story import Story, chart_table
from engine.report.charts.style import DASHES, PALETTE, WIDTH, Measure, axis, description, measure
from engine.report.numbers import Scale
from engine.report.page import Chart, Column
from engine.units import counted

_LOAD: Final = re.compile(r"(concurrency|rate|users|qps)\s*=?\s*([0-9]+(?:\.[0-9]+)?)")
_METRICS: Final = ("output_tokens_per_s", "ttft_s", "tpot_s")


def load_of(variant: str | None) -> tuple[str, float] | None:
    """The kind and size of a load named by a variant such as `concurrency 4`."""
    match = _LOAD.search(variant or "")
    return (match[1], float(match[2])) if match else None


def _way_of(variant: str) -> str:
    """What else a variant says: `concurrency 4 (generate())` -> `generate()`."""
    rest = _LOAD.sub("", variant).strip(" ,")
    return rest[1:-1] if rest.startswith("(") and rest.endswith(")") else rest


def over_load(story: Story) -> list[Chart]:
    """A chart for each kind of load and each metric that was measured at two loads or more."""
    if not story.found.has("variant"):
        return []
    rows = story.found.where(story.found.mask("status", "ok")).rows()
    by_kind: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for row in rows:
        load = load_of(row.get("variant"))
        if load:
            by_kind.setdefault(load[0], []).append((load[1], row))
    return [
        _chart(story, [(size, row) for size, row in loaded if row.get(name) is not None], kind, name)
        for kind, loaded in by_kind.items()
        if len({size for size, _ in loaded}) > 1
        for name in _METRICS
        if any(row.get(name) is not None for _, row in loaded)
    ]


def _chart(story: Story, loaded: Sequence[tuple[float, dict[str, Any]]], kind: str, name: str) -> Chart:
    metric = METRICS[name]
    measured = measure(name, [row[name] for _, row in loaded])
    data = [_datum(story, size, row, measured) for size, row in loaded]
    lines = list(dict.fromkeys(row["line"] for row in data))
    shown = lines[: len(PALETTE)]
    data = [row for row in data if row["line"] in shown]
    title = f"{metric.label} over {kind}"
    alt = f"Lines of {metric.label.lower()} over {kind} for {counted(len(shown), 'point')}, with intervals."
    columns = (
        Column("line", "Point"),
        Column("load", kind.capitalize(), "", "number", Scale("")),
        Column(name, metric.label, metric.definition, "number", measured.scale, name),
    )
    rows = [[row["line"], row["x"], measured.base(row["y"])] for row in data]
    caption = "Whiskers are 95 % intervals of the mean over repeats."
    if len(lines) > len(shown):
        caption += f" {counted(len(lines) - len(shown), 'more line')} in the table of points."
    return Chart(
        f"{name.replace('_', '-')}-over-{kind}", title, caption, alt,
        description(_body(measured, kind, shown), data, alt=alt),
        chart_table(f"{name}-over-{kind}", title, columns, rows), (name,),
    )  # fmt: skip


def _datum(story: Story, size: float, row: Mapping[str, Any], measured: Measure) -> dict[str, Any]:
    # Two ways of serving the same load are two lines, not one that jumps between them.
    parts = (story.name(row, without=("variant",)), _way_of(row["variant"]))
    line = ", ".join(part for part in parts if part)
    return {
        "x": size,
        "y": measured.value(row[measured.name]),
        "low": measured.value(row.get(f"{measured.name}_low")),
        "high": measured.value(row.get(f"{measured.name}_high")),
        "line": line,
        "hardware": row.get("hardware"),
        "quantization": row.get("quantization"),
    }


def _body(measured: Measure, kind: str, lines: Sequence[str]) -> dict[str, Any]:
    x = {"field": "x", "type": "quantitative", "title": kind.capitalize(),
         "axis": {"tickCount": 6, "format": ",~f", "tickMinStep": 1}}  # fmt: skip
    y = axis(measured, "y")
    color = _by_line(lines, list(PALETTE))
    tips = [
        {"field": "line", "title": "Point"},
        {"field": "x", "title": kind.capitalize()},
        {"field": "y", "title": measured.title, "format": ",.4~g"},
    ]
    return {
        "width": WIDTH,
        "height": 220,
        "layer": [
            {
                "mark": {"type": "line", "point": {"filled": True, "size": 45}},
                "encoding": {"x": x, "y": y, "color": color, "strokeDash": _by_line(lines, list(DASHES)),
                             "tooltip": tips},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 1.4},
                "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": color},
            },
        ],
    }  # fmt: skip


def _by_line(lines: Sequence[str], values: list[Any]) -> dict[str, Any]:
    return {"field": "line", "type": "nominal", "title": None, "legend": {"columns": 1, "labelLimit": 560},
            "scale": {"domain": list(lines), "range": values[: len(lines)]}}  # fmt: skip
