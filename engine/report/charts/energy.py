"""Where the energy goes: flows, components, layers, and power over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from engine.report.charts.energy_points import energy_by_point
from engine.report.charts.flow import sankey, sankey_body
from engine.report.charts.request_flow import request_flow
from engine.report.charts.story import Story, chart_table
from engine.report.charts.style import INK, PALETTE, WIDTH, description, rounded
from engine.report.numbers import Scale, count_of, scale_for
from engine.report.page import Chart, Column

_MOST_COMPONENTS: Final = 16
_MOST_SAMPLES: Final = 1500


def energy_charts(story: Story) -> list[Chart]:
    """Charts of the components and samples tables, where they have rows."""
    rows = _components(story)
    made = (
        energy_by_point(story),
        request_flow(story, _measured(story)),
        _flows(story, rows),
        _bars(story, rows),
        _layers(story, rows),
        _power(story),
    )
    return [chart for chart in made if chart is not None]


def _measured(story: Story) -> list[dict[str, Any]]:
    """Valid rows of the winner's point, or of the first measured one."""
    table = story.tables.get("components")
    if table is None or not table.num_rows:
        return []
    # A difference of two steps checks a part, and a decode step is a moment: neither is a further part.
    rows = [
        row
        for row in table.to_pylist()
        if row["valid"] is not False and row["method"] != "ablation" and row["step"] is None
    ]
    points = list(dict.fromkeys(row["point"] for row in rows))
    winner = (story.winner or {}).get("point")
    chosen = winner if winner in points else points[0] if points else None
    return [row for row in rows if row["point"] == chosen]


def _components(story: Story) -> list[dict[str, Any]]:
    """Parts and not their sums, each as often as it runs in a step."""
    rows = _measured(story)
    parents = {(row["phase"], row["parent"]) for row in rows if row["parent"]}
    leaves = [row for row in rows if (row["phase"], row["component"]) not in parents]
    for row in leaves:
        times = row["count"] or 1
        row["energy"] = None if row["energy_j"] is None else row["energy_j"] * times
        row["time"] = None if row["time_s"] is None else row["time_s"] * times
        for end in ("low", "high"):
            value = row[f"energy_{end}_j"]
            row[f"energy_{end}"] = None if value is None else value * times
            value = row[f"time_{end}_s"]
            row[f"time_{end}"] = None if value is None else value * times
        row["component"] = story.redact.text(row["component"] or "unnamed")
        row["phase"] = row["phase"] or "all"
    return leaves


def _quantity(rows: Sequence[dict[str, Any]]) -> tuple[str, str, str]:
    """(key, word, unit): energy where power was read, else time."""
    if any(row["energy"] for row in rows):
        return "energy", "Energy", "J"
    return "time", "Time", "s"


def _summed(rows: Sequence[dict[str, Any]], key: str) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for row in rows:
        if row[key]:
            place = (row["phase"], row["component"])
            found[place] = found.get(place, 0.0) + row[key]
    return found


def _flows(story: Story, rows: Sequence[dict[str, Any]]) -> Chart | None:
    """A Sankey diagram: everything into phases into components; widths are the quantity itself."""
    if not rows:
        return None
    # Layers measured one by one repeat what their sums already hold.
    rows = [row for row in rows if row["layer"] is None] or rows
    key, word, unit = _quantity(rows)
    summed = _summed(rows, key)
    if not summed:
        return None
    scale = scale_for("", unit, list(summed.values()))
    phases: dict[str, float] = {}
    parts: dict[str, float] = {}
    for (phase, part), value in summed.items():
        phases[phase] = phases.get(phase, 0.0) + value / scale.factor
        parts[part] = parts.get(part, 0.0) + value / scale.factor
    order = sorted(parts, key=lambda p: (-parts[p], p))[:_MOST_COMPONENTS]
    links = [("all", phase, value) for phase, value in phases.items()]
    rest: dict[str, float] = {}
    for (phase, part), value in summed.items():
        target = part if part in order else "others"
        rest_key = f"{phase}\x1f{target}"
        rest[rest_key] = rest.get(rest_key, 0.0) + value / scale.factor
    links += [(place.split("\x1f")[0], place.split("\x1f")[1], value) for place, value in rest.items()]
    targets = [*order, "others"] if any(link[1] == "others" for link in links) else order
    data, nodes = sankey(links, [["all"], list(phases), targets])
    total = sum(phases.values())
    for node in nodes:
        node["label"] = f"{node['name']} {100 * node['value'] / total:.0f} %"
    title = f"Where the {word.lower()} goes"
    table = chart_table(
        "energy-flows",
        title,
        (
            Column("phase", "Phase"),
            Column("component", "Component"),
            Column("value", word, "", "number", scale),
            Column("share", "Share", "", "number", Scale("%", 0.01, 1)),
        ),
        [[p, c, v, v / scale.factor / total] for (p, c), v in sorted(summed.items(), key=lambda i: -i[1])],
    )
    alt = (
        f"Flow diagram of {word.lower()} from the whole into {len(phases)} phases and {len(targets)} "
        "components."
    )
    body = sankey_body(f"{word} ({scale.unit})", list(phases), palette=PALETTE)
    caption = (
        f"One step of each phase; widths are in {scale.unit}. Components are measured alone, so their "
        "sum may differ from a whole step."
    )
    return Chart("energy-flows", title, caption, alt, description(body, [*data, *nodes], alt=alt), table)


def _bars(story: Story, rows: Sequence[dict[str, Any]]) -> Chart | None:
    """Each component with the interval of its measurement."""
    listed = [row for row in rows if row["layer"] is None] or list(rows)
    if not listed:
        return None
    key, word, unit = _quantity(listed)
    listed = sorted((row for row in listed if row[key]), key=lambda row: -row[key])[: 2 * _MOST_COMPONENTS]
    if not listed:
        return None
    scale = scale_for("", unit, [row[key] for row in listed])

    def value(row: dict[str, Any], name: str) -> float | None:
        return None if row[name] is None else rounded(row[name] / scale.factor)

    data = [
        {
            "component": r["component"],
            "phase": r["phase"],
            "value": value(r, key),
            "low": value(r, f"{key}_low"),
            "high": value(r, f"{key}_high"),
            "n": r["n"],
            "method": r["method"],
        }
        for r in listed
    ]
    order = list(dict.fromkeys(row["component"] for row in data))
    phases = list(dict.fromkeys(row["phase"] for row in data))
    title = f"{word} of each component"
    y = {
        "field": "component",
        "type": "nominal",
        "sort": order,
        "title": None,
        "axis": {"ticks": False, "domain": False, "labelLimit": 200},
    }
    offset = {"field": "phase", "type": "nominal", "sort": phases}
    x = {"field": "value", "type": "quantitative", "title": f"{word} ({scale.unit})", "scale": {"zero": True}}
    color = {
        "field": "phase",
        "type": "nominal",
        "title": "Phase",
        "scale": {"domain": phases, "range": list(PALETTE[: len(phases)])},
    }
    body = {
        "width": WIDTH - 150,
        "height": {"step": 24, "for": "position"},
        "layer": [
            {
                "mark": {"type": "bar"},
                "encoding": {
                    "y": y,
                    "yOffset": offset,
                    "x": x,
                    "color": color,
                    "tooltip": [
                        {"field": "component", "title": "Component"},
                        {"field": "phase", "title": "Phase"},
                        {"field": "value", "title": f"{word} ({scale.unit})", "format": ",.4~g"},
                        {"field": "n", "title": "n"},
                        {"field": "method", "title": "Method"},
                    ],
                },
            },
            {
                "mark": {"type": "rule", "color": INK, "strokeWidth": 1.3},
                "encoding": {"y": y, "yOffset": offset, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
            },
        ],
    }
    table = chart_table(
        "component-bars",
        title,
        (
            Column("component", "Component"),
            Column("phase", "Phase"),
            Column("method", "Method"),
            Column("value", word, "All occurrences in a step.", "number", scale),
            Column("low", "from", "", "number", scale),
            Column("high", "to", "", "number", scale),
            Column("n", "n", "", "number"),
        ),
        [
            [r["component"], r["phase"], r["method"], r[key], r[f"{key}_low"], r[f"{key}_high"], r["n"]]
            for r in listed
        ],
    )
    alt = f"Bars of {word.lower()} of {count_of(len(order), 'component')} with 95 % intervals."
    return Chart(
        "component-bars",
        title,
        "All occurrences in one step; whiskers are 95 % intervals over trials.",
        alt,
        description(body, data, alt=alt),
        table,
    )


def _layers(story: Story, rows: Sequence[dict[str, Any]]) -> Chart | None:
    """Layer by component, where layers were measured one by one."""
    listed = [row for row in rows if row["layer"] is not None]
    if len({row["layer"] for row in listed}) < 3:
        return None
    key, word, unit = _quantity(listed)
    listed = [row for row in listed if row[key]]
    if not listed:
        return None
    scale = scale_for("", unit, [row[key] for row in listed])
    data = [
        {
            "layer": row["layer"],
            "component": f"{row['component']}, {row['phase']}",
            "value": rounded(row[key] / scale.factor),
        }
        for row in listed
    ]
    data += _invalid_cells(story, listed[0]["point"])
    order = sorted({row["component"] for row in data})
    place = {
        "x": {
            "field": "layer",
            "type": "ordinal",
            "title": "Layer",
            "axis": {"labelOverlap": "greedy", "labelAngle": 0},
        },
        "y": {"field": "component", "type": "nominal", "sort": order, "title": None},
    }
    color = {
        "field": "value",
        "type": "quantitative",
        "title": f"{word} ({scale.unit})",
        "scale": {"scheme": "viridis"},
        "legend": {"gradientLength": 180},
    }
    tooltip = [
        {"field": "component", "title": "Component"},
        {"field": "layer", "title": "Layer"},
        {"field": "value", "title": f"{word} ({scale.unit})", "format": ",.4~g"},
    ]
    body = {
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
    title = f"{word} by layer"
    table = chart_table(
        "layers",
        title,
        (
            Column("layer", "Layer", "", "number"),
            Column("component", "Component"),
            Column("value", word, "", "number", scale),
        ),
        [[r["layer"], r["component"], r["value"] * scale.factor if r["value"] else None] for r in data],
    )
    alt = (
        f"Heat map of {word.lower()} over {len({r['layer'] for r in data})} layers and {len(order)} "
        "components."
    )
    shared = any(
        row["method"] == "time_weighted" and row["layer"] is not None
        for row in story.tables["components"].to_pylist()
    )
    how = "each component's own loop, shared over layers by time; " if shared else ""
    caption = f"One step; {how}brighter is more, hatched is invalid."
    return Chart("layers", title, caption, alt, description(body, data, alt=alt), table)


def _invalid_cells(story: Story, point: int | None) -> list[dict[str, Any]]:
    """Cells of layers whose trials failed a check, without a value."""
    table = story.tables["components"]
    return [
        {
            "layer": row["layer"],
            "component": f"{story.redact.text(row['component'] or 'unnamed')}, {row['phase']}",
            "value": None,
        }
        for row in table.to_pylist()
        if row["valid"] is False and row["layer"] is not None and row["point"] == point
    ]


def _power(story: Story) -> Chart | None:
    """Power of each device over time, thinned to what a line can show."""
    import numpy as np

    table = story.tables.get("samples")
    if table is None or not table.num_rows or table["power_w"].null_count == table.num_rows:
        return None
    points = list(dict.fromkeys(table["point"].to_pylist()))
    winner = (story.winner or {}).get("point")
    chosen = winner if winner in points else points[0]
    rows = [
        r
        for r in table.to_pylist()
        if r["point"] == chosen and r["power_w"] is not None and r["time_s"] is not None
    ]
    if len(rows) < 2:
        return None
    keep = set(np.linspace(0, len(rows) - 1, min(_MOST_SAMPLES, len(rows))).astype(int).tolist())
    data = [
        {
            "t": rounded(r["time_s"]),
            "p": rounded(r["power_w"]),
            "device": story.redact.text(r["device"] or "device"),
            "phase": r["phase"] or "",
        }
        for i, r in enumerate(rows)
        if i in keep
    ]
    devices = list(dict.fromkeys(row["device"] for row in data))
    phases = [p for p in dict.fromkeys(row["phase"] for row in data) if p]
    spans = _spans(rows)
    body = {
        "width": WIDTH,
        "height": 240,
        "layer": [
            {
                "data": {"values": spans},
                "mark": {"type": "rect", "opacity": 0.13},
                "encoding": {
                    "x": {"field": "from", "type": "quantitative"},
                    "x2": {"field": "to"},
                    "color": {
                        "field": "phase",
                        "type": "nominal",
                        "title": "Phase",
                        "scale": {"domain": phases, "range": list(PALETTE[2 : 2 + len(phases)])},
                    },
                },
            },
            {
                "mark": {"type": "line", "strokeWidth": 1.3},
                "encoding": {
                    "x": {"field": "t", "type": "quantitative", "title": "Time (s)", "axis": {"grid": False}},
                    "y": {
                        "field": "p",
                        "type": "quantitative",
                        "title": "Power (W)",
                        "scale": {"zero": True},
                    },
                    "strokeDash": {
                        "field": "device",
                        "type": "nominal",
                        "title": "Device",
                        "scale": {"domain": devices},
                    },
                    "tooltip": [
                        {"field": "t", "title": "Time (s)"},
                        {"field": "p", "title": "Power (W)"},
                        {"field": "device", "title": "Device"},
                        {"field": "phase", "title": "Phase"},
                    ],
                },
            },
        ],
        "resolve": {"scale": {"color": "independent"}},
    }
    if not phases:
        body["layer"] = body["layer"][1:]  # type: ignore[index]
    table_rows = []
    for device in devices:
        for phase in phases or [""]:
            watts = [
                r["power_w"]
                for r in rows
                if (r["device"] or "device") == device and (r["phase"] or "") == phase
            ]
            if watts:
                table_rows.append(
                    [device, phase or "all", len(watts), float(np.mean(watts)), float(np.max(watts))]
                )
    watt = Scale("W", 1, 1)
    shown = chart_table(
        "power",
        "Power",
        (
            Column("device", "Device"),
            Column("phase", "Phase"),
            Column("samples", "Samples", "", "number"),
            Column("mean", "Mean", "Plain mean of samples.", "number", watt),
            Column("largest", "Largest", "", "number", watt),
        ),
        table_rows,
    )
    left = len(rows) - len(data)
    caption = "Readings as the sensor gave them." + (
        f" {left:,} readings are thinned out of the picture." if left else ""
    )
    alt = (
        f"Line of power over {rows[-1]['time_s'] - rows[0]['time_s']:.0f} s for "
        f"{count_of(len(devices), 'device')}."
    )
    return Chart("power", "Power over time", caption, alt, description(body, data, alt=alt), shown)


def _spans(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stretches of time with one phase."""
    found: list[dict[str, Any]] = []
    for row in rows:
        if found and found[-1]["phase"] == row["phase"]:
            found[-1]["to"] = rounded(row["time_s"], 7)
        elif row["phase"]:
            if found and found[-1]["open"]:
                found[-1]["to"] = rounded(row["time_s"], 7)
            found.append(
                {
                    "phase": row["phase"],
                    "from": rounded(row["time_s"], 7),
                    "to": rounded(row["time_s"], 7),
                    "open": True,
                }
            )
    return [{k: v for k, v in span.items() if k != "open"} for span in found]
