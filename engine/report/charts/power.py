"""Power of each device over time, with the phases behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from engine.report.charts.story import Story, chart_table, filtered_by
from engine.report.charts.style import PALETTE, WIDTH, description, rounded
from engine.report.numbers import Scale
from engine.report.page import Chart, Column, Table
from engine.units import counted

_MOST_SAMPLES: Final = 1500
"""Readings that a line of the usual width can show."""


def power_over_time(story: Story) -> Chart | None:
    """Readings of the winner's point, or of the first metered one, thinned to what a line can show."""
    import numpy as np

    rows = _readings(story)
    if len(rows) < 2:
        return None
    keep = np.linspace(0, len(rows) - 1, min(_MOST_SAMPLES, len(rows))).astype(int).tolist()
    data = [
        {"t": rounded(row["time_s"]), "p": rounded(row["power_w"]), "device": row["device"],
         "phase": row["phase"]}
        for row in (rows[i] for i in dict.fromkeys(keep))
    ]  # fmt: skip
    devices = list(dict.fromkeys(row["device"] for row in data))
    phases = [p for p in dict.fromkeys(row["phase"] for row in data) if p]
    left = len(rows) - len(data)
    caption = "Readings as the sensor gave them."
    caption += f" {left:,} readings are thinned out of the picture." if left else ""
    seconds = rows[-1]["time_s"] - rows[0]["time_s"]
    alt = f"Line of power over {seconds:.0f} s for {counted(len(devices), 'device')}."
    body = _body(devices, phases, _spans(rows))
    return Chart("power", "Power over time", caption, alt, description(body, data, alt=alt),
                 _table(rows, devices, phases), only=filtered_by(story.tables, rows[0]["point"]))  # fmt: skip


def _readings(story: Story) -> list[dict[str, Any]]:
    table = story.tables.get("samples")
    if table is None or not table.num_rows or table["power_w"].null_count == table.num_rows:
        return []
    points = list(dict.fromkeys(table["point"].to_pylist()))
    winner = (story.winner or {}).get("point")
    chosen = winner if winner in points else points[0]
    return [
        {**row, "device": story.redact.text(row["device"] or "device"), "phase": row["phase"] or ""}
        for row in table.to_pylist()
        if row["point"] == chosen and row["power_w"] is not None and row["time_s"] is not None
    ]


def _table(rows: Sequence[dict[str, Any]], devices: Sequence[str], phases: Sequence[str]) -> Table:
    """Mean and largest power of each device in each phase."""
    watt = Scale("W", 1, 1)
    columns = (
        Column("device", "Device"),
        Column("phase", "Phase"),
        Column("samples", "Samples", "", "number"),
        Column("mean", "Mean", "Plain mean of samples.", "number", watt),
        Column("largest", "Largest", "", "number", watt),
    )
    cells = []
    for device in devices:
        for phase in phases or [""]:
            watts = [row["power_w"] for row in rows if (row["device"], row["phase"]) == (device, phase)]
            if watts:
                cells.append([device, phase or "all", len(watts), sum(watts) / len(watts), max(watts)])
    return chart_table("power", "Power", columns, cells)


def _body(devices: Sequence[str], phases: Sequence[str], spans: Sequence[dict[str, Any]]) -> dict[str, Any]:
    colors = [*PALETTE[2:], *PALETTE[:2]]
    behind = {
        "data": {"values": list(spans)},
        "mark": {"type": "rect", "opacity": 0.13},
        "encoding": {
            "x": {"field": "from", "type": "quantitative"},
            "x2": {"field": "to"},
            "color": {"field": "phase", "type": "nominal", "title": "Phase",
                      "scale": {"domain": list(phases), "range": colors[: len(phases)]}},
        },
    }  # fmt: skip
    line = {
        "mark": {"type": "line", "strokeWidth": 1.3},
        "encoding": {
            "x": {"field": "t", "type": "quantitative", "title": "Time (s)", "axis": {"grid": False}},
            "y": {"field": "p", "type": "quantitative", "title": "Power (W)", "scale": {"zero": True}},
            "strokeDash": {"field": "device", "type": "nominal", "title": "Device",
                           "scale": {"domain": list(devices)}},
            "tooltip": [
                {"field": "t", "title": "Time (s)"},
                {"field": "p", "title": "Power (W)"},
                {"field": "device", "title": "Device"},
                {"field": "phase", "title": "Phase"},
            ],
        },
    }  # fmt: skip
    return {
        "width": WIDTH,
        "height": 240,
        "layer": [behind, line] if phases else [line],
        "resolve": {"scale": {"color": "independent"}},
    }


def _spans(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stretches of time with one phase; each ends where the next begins."""
    found: list[dict[str, Any]] = []
    for row in rows:
        moment = rounded(row["time_s"], 7)
        if found and (row["phase"] == found[-1]["phase"] or row["phase"]):
            found[-1]["to"] = moment
        if row["phase"] and (not found or row["phase"] != found[-1]["phase"]):
            found.append({"phase": row["phase"], "from": moment, "to": moment})
    return found
