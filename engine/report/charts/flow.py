"""Flow diagrams: ribbons whose widths are the values, laid out here because Vega has no mark for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from engine.report.charts.style import INK, WIDTH, rounded

_RIBBON_STEPS: Final = 30


def sankey(
    links: Sequence[tuple[str, str, float]], columns: Sequence[Sequence[str]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Ribbons and nodes of a flow diagram; heights are the values themselves, stacked without gaps lost.

    Each ribbon is sampled along 3u^2 - 2u^3, so that it leaves and enters level.
    """
    totals = {name: max(sum(v for s, _, v in links if s == name), sum(v for _, t, v in links if t == name))
              for column in columns for name in column}  # fmt: skip
    whole = max(sum(totals[name] for name in column) for column in columns)
    tops: dict[str, float] = {}
    nodes: list[dict[str, Any]] = []
    for x, column in enumerate(columns):
        gap = 0.25 * whole / max(1, len(column)) if len(column) > 1 else 0.0
        y = 0.0
        for name in column:
            tops[name] = y
            nodes.append(
                {
                    "kind": "node",
                    "name": name,
                    "x": x,
                    "y0": rounded(y),
                    "y1": rounded(y + totals[name]),
                    "middle": rounded(y + totals[name] / 2),
                    "value": totals[name],
                }
            )
            y += totals[name] + gap
    _name_where_there_is_room(nodes)
    place = {name: x for x, column in enumerate(columns) for name in column}
    out, into = dict(tops), dict(tops)
    ribbons: list[dict[str, Any]] = []
    rank = {name: i for column in columns for i, name in enumerate(column)}
    for number, (source, target, value) in enumerate(
        sorted(links, key=lambda link: (place[link[0]], rank[link[0]], rank[link[1]]))
    ):
        for step in range(_RIBBON_STEPS + 1):
            u = step / _RIBBON_STEPS
            bend = 3 * u * u - 2 * u**3
            y = out[source] + (into[target] - out[source]) * bend
            ribbons.append(
                {
                    "kind": "ribbon",
                    "link": number,
                    "x": rounded(place[source] + 0.06 + u * (place[target] - place[source] - 0.06)),
                    "y0": rounded(y),
                    "y1": rounded(y + value),
                    "from": source,
                    "to": target,
                    "value": rounded(value),
                    "phase": source if place[source] else target,
                }
            )
        out[source] += value
        into[target] += value
    return ribbons, nodes


_HEIGHT: Final = 340
_LINE: Final = 11.0
"""Pixels of a line of words."""


def _name_where_there_is_room(nodes: Sequence[dict[str, Any]]) -> None:
    """Mark the nodes whose words do not run into those of a larger one; the others speak when pointed at."""
    whole = max(node["y1"] for node in nodes) or 1.0
    kept: dict[int, list[float]] = {}
    for node in sorted(nodes, key=lambda node: -node["value"]):
        middle = node["middle"] / whole * _HEIGHT
        others = kept.setdefault(node["x"], [])
        node["named"] = all(abs(middle - other) >= _LINE for other in others)
        if node["named"]:
            others.append(middle)


def sankey_body(
    title: str, phases: Sequence[str], *, palette: Sequence[str], columns: int = 3
) -> dict[str, Any]:
    """How ribbons and nodes are drawn, in so many columns."""
    x = {"field": "x", "type": "quantitative", "axis": None, "scale": {"domain": [-0.02, columns - 0.25]}}
    y = {"field": "y0", "type": "quantitative", "axis": None, "scale": {"reverse": True, "zero": True}}
    return {
        "width": WIDTH + 30,
        "height": _HEIGHT,
        "layer": [
            {
                "transform": [{"filter": "datum.kind == 'ribbon'"}],
                "mark": {"type": "area", "opacity": 0.45, "interpolate": "linear"},
                "encoding": {
                    "x": x,
                    "y": y,
                    "y2": {"field": "y1"},
                    "detail": {"field": "link"},
                    "color": {
                        "field": "phase",
                        "type": "nominal",
                        "title": "Phase",
                        "scale": {"domain": list(phases), "range": list(palette[: len(phases)])},
                    },
                    "tooltip": [
                        {"field": "from", "title": "From"},
                        {"field": "to", "title": "To"},
                        {"field": "value", "title": title, "format": ",.4~g"},
                    ],
                },
            },
            {
                "transform": [
                    {"filter": "datum.kind == 'node'"},
                    {"calculate": "datum.x + 0.06", "as": "right"},
                ],
                "mark": {"type": "rect", "color": INK},
                "encoding": {
                    "x": x,
                    "x2": {"field": "right"},
                    "y": y,
                    "y2": {"field": "y1"},
                    "tooltip": [
                        {"field": "name", "title": "Part"},
                        {"field": "value", "title": title, "format": ",.4~g"},
                    ],
                },
            },
            {
                "transform": [
                    {"filter": "datum.kind == 'node' && datum.named"},
                    {"calculate": "datum.x + 0.08", "as": "right"},
                ],
                "mark": {"type": "text", "align": "left", "fontSize": 10, "color": INK, "baseline": "middle"},
                "encoding": {
                    "x": {**x, "field": "right"},
                    "y": {**y, "field": "middle"},
                    "text": {"field": "label"},
                },
            },
        ],
    }
