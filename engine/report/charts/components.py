"""Energy or time of single components: bars with their intervals, and a map over layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.report.charts.story import Story, chart_table
from engine.report.charts.style import INK, PALETTE, WIDTH, description, rounded
from engine.report.numbers import Scale, scale_for
from engine.report.page import Chart, Column
from engine.units import counted

MOST_COMPONENTS: Final = 16

Row = Mapping[str, Any]


def quantity_of(rows: Sequence[Row]) -> tuple[str, str, str]:
    """(key, word, unit): energy where power was read, else time."""
    if any(row["energy"] for row in rows):
        return "energy", "Energy", "J"
    return "time", "Time", "s"


def component_bars(rows: Sequence[Row]) -> Chart | None:
    """Each component with the interval of its measurement."""
    listed = [row for row in rows if row["layer"] is None] or list(rows)
    key, word, unit = quantity_of(listed)
    listed = sorted((row for row in listed if row[key]), key=lambda row: -row[key])[: 2 * MOST_COMPONENTS]
    if not listed:
        return None
    scale = scale_for("", unit, [row[key] for row in listed])
    ends = {"value": key, "low": f"{key}_low", "high": f"{key}_high"}
    data = [
        {
            **{name: row[name] for name in ("component", "phase", "n", "method")},
            **{end: _shown(row[column], scale) for end, column in ends.items()},
        }
        for row in listed
    ]
    count = len({row["component"] for row in data})
    title = f"{word} of each component"
    columns = (
        Column("component", "Component"),
        Column("phase", "Phase"),
        Column("method", "Method"),
        Column("value", word, "All occurrences in a step.", "number", scale),
        Column("low", "from", "", "number", scale),
        Column("high", "to", "", "number", scale),
        Column("n", "n", "", "number"),
    )
    cells = [[r[name] for name in ("component", "phase", "method", *ends.values(), "n")] for r in listed]
    alt = f"Bars of {word.lower()} of {counted(count, 'component')} with 95 % intervals."
    caption = (
        "All occurrences in one step, each phase on its own axis; whiskers are 95 % intervals over trials."
    )
    return Chart("component-bars", title, caption, alt,
                 description(_bars_body(data, f"{word} ({scale.unit})"), data, alt=alt),
                 chart_table("component-bars", title, columns, cells))  # fmt: skip


def _shown(value: float | None, scale: Scale) -> float | None:
    return None if value is None else rounded(value / scale.factor)


def _bars_body(data: Sequence[Row], title: str) -> dict[str, Any]:
    phases = list(dict.fromkeys(row["phase"] for row in data))
    # Largest first; the list is sorted, and a component may stand in both phases.
    y = {"field": "component", "type": "nominal", "sort": None, "title": None,
         "axis": {"ticks": False, "domain": False, "labelLimit": 200}}  # fmt: skip
    x = {"field": "value", "type": "quantitative", "title": title, "scale": {"zero": True}}
    color = {"field": "phase", "type": "nominal", "legend": None,
             "scale": {"domain": phases, "range": list(PALETTE[: len(phases)])}}  # fmt: skip
    tooltip = [
        {"field": "component", "title": "Component"},
        {"field": "phase", "title": "Phase"},
        {"field": "value", "title": title, "format": ",.4~g"},
        {"field": "n", "title": "n"},
        {"field": "method", "title": "Method"},
    ]
    whiskers = {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}}
    bars = {"mark": {"type": "bar"}, "encoding": {"y": y, "x": x, "color": color, "tooltip": tooltip}}
    intervals = {"mark": {"type": "rule", "color": INK, "strokeWidth": 1.3}, "encoding": whiskers}
    return {
        # Each phase has its own axis: a prefill step takes a hundred times what a decode step does.
        "vconcat": [
            {
                "title": {"text": phase, "anchor": "start", "fontSize": 11},
                "transform": [{"filter": {"field": "phase", "equal": phase}}],
                "width": WIDTH - 150,
                "height": {"step": 18},
                "layer": [bars, intervals],
            }
            for phase in phases
        ],
        "spacing": 22,
    }


def layer_map(story: Story, rows: Sequence[Row]) -> Chart | None:
    """Layer by component, where layers were measured one by one."""
    listed = [row for row in rows if row["layer"] is not None]
    if len({row["layer"] for row in listed}) < 3:
        return None
    key, word, unit = quantity_of(listed)
    listed = [row for row in listed if row[key]]
    if not listed:
        return None
    scale = scale_for("", unit, [row[key] for row in listed])
    data = [
        {"layer": row["layer"], "component": f"{row['component']}, {row['phase']}",
         "value": rounded(row[key] / scale.factor)}
        for row in listed
    ]  # fmt: skip
    data += _invalid_cells(story, listed[0]["point"])
    order = sorted({row["component"] for row in data})
    title = f"{word} by layer"
    columns = (
        Column("layer", "Layer", "", "number"),
        Column("component", "Component"),
        Column("value", word, "", "number", scale),
    )
    cells = [[r["layer"], r["component"], r["value"] * scale.factor if r["value"] else None] for r in data]
    layers = len({row["layer"] for row in data})
    alt = f"Heat map of {word.lower()} over {layers} layers and {len(order)} components."
    sizes = [abs(row["value"]) for row in data if row["value"]] or [1.0]
    body = _map_body(order, f"{word} ({scale.unit})", min(sizes), max(sizes))
    return Chart("layers", title, _map_caption(story), alt, description(body, data, alt=alt),
                 chart_table("layers", title, columns, cells))  # fmt: skip


def _map_caption(story: Story) -> str:
    shared = any(
        row["method"] == "time_weighted" and row["layer"] is not None
        for row in story.tables["components"].to_pylist()
    )
    how = "each component's own loop, shared over layers by time; " if shared else ""
    return f"One step; {how}brighter is more (logarithmic), hatched is invalid."


def _map_body(order: Sequence[str], title: str, smallest: float, largest: float) -> dict[str, Any]:
    place = {
        "x": {"field": "layer", "type": "ordinal", "title": "Layer",
              "axis": {"labelOverlap": "greedy", "labelAngle": 0}},
        "y": {"field": "component", "type": "nominal", "sort": list(order), "title": None},
    }  # fmt: skip
    scale = {"scheme": "viridis", "type": "symlog", "constant": smallest}
    # Squares instead of a gradient, which the PDF's renderer leaves out of pictures.
    steps = [rounded(smallest * (largest / smallest) ** (i / 4)) for i in range(5)]
    legend = {"type": "symbol", "symbolType": "square", "symbolSize": 160, "symbolStrokeWidth": 0,
              "values": list(dict.fromkeys(steps)), "format": ",.3~g"}  # fmt: skip
    color = {"field": "value", "type": "quantitative", "title": title, "scale": scale, "legend": legend}
    tooltip = [
        {"field": "component", "title": "Component"},
        {"field": "layer", "title": "Layer"},
        {"field": "value", "title": title, "format": ",.4~g"},
    ]
    return {
        "width": WIDTH - 130,
        "height": {"step": 18},
        "layer": [
            {
                "transform": [{"filter": "datum.value !== null"}],
                "mark": {"type": "rect"},
                "encoding": {**place, "color": color, "tooltip": tooltip},
            },
            {
                # Hatched, not coloured: a failed check is no small value.
                "transform": [{"filter": "datum.value === null"}],
                "mark": {"type": "text", "text": "╱╱", "color": INK, "fontSize": 11},
                "encoding": {**place, "tooltip": tooltip[:2]},
            },
        ],
    }


def _invalid_cells(story: Story, point: int | None) -> list[dict[str, Any]]:
    """Cells of layers whose trials failed a check, without a value."""
    return [
        {
            "layer": row["layer"],
            "component": f"{story.redact.text(row['component'] or 'unnamed')}, {row['phase']}",
            "value": None,
        }
        for row in story.tables["components"].to_pylist()
        if row["valid"] is False and row["layer"] is not None and row["point"] == point
    ]
