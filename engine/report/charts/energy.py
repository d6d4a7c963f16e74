"""Where the energy goes: its flow into phases and components, and every other chart of metered rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.report.charts.components import MOST_COMPONENTS, component_bars, layer_map, quantity_of
from engine.report.charts.energy_points import energy_by_point
from engine.report.charts.flow import sankey, sankey_body
from engine.report.charts.power import power_over_time
from engine.report.charts.request_flow import request_flow
from engine.report.charts.story import Story, chart_table, filtered_by
from engine.report.charts.style import PALETTE, description
from engine.report.numbers import Scale, scale_for
from engine.report.page import Chart, Column, Table


def energy_charts(story: Story) -> list[Chart]:
    """Charts of the components and samples tables, where they have rows."""
    rows = _components(story)
    measured = _measured(story)
    of_one = (
        request_flow(story, measured),
        _flows(story, rows),
        component_bars(rows),
        layer_map(story, rows),
    )
    only = filtered_by(story.tables, measured[0]["point"]) if measured else {}
    shown = [replace(chart, only=only) for chart in of_one if chart is not None]
    made = (energy_by_point(story), *shown, power_over_time(story))
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
    key, word, unit = quantity_of(rows)
    summed = _summed(rows, key)
    if not summed:
        return None
    scale = scale_for("", unit, list(summed.values()))
    phases: dict[str, float] = {}
    parts: dict[str, float] = {}
    for (phase, part), value in summed.items():
        phases[phase] = phases.get(phase, 0.0) + value / scale.factor
        parts[part] = parts.get(part, 0.0) + value / scale.factor
    order = sorted(parts, key=lambda p: (-parts[p], p))[:MOST_COMPONENTS]
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
        share = 100 * node["value"] / total
        node["label"] = f"{node['name']} {f'{share:.0f}' if share >= 0.5 else '< 1'} %"
    title = f"Where the {word.lower()} goes"
    table = _flow_table(title, word, scale, summed)
    alt = (
        f"Flow diagram of {word.lower()} from the whole into {len(phases)} phases and {len(targets)} "
        "components."
    )
    body = sankey_body(f"{word} ({scale.unit})", list(phases), palette=PALETTE)
    caption = (
        f"One step of each phase; widths are in {scale.unit}. Components are measured alone, so their "
        "sum may differ from a whole step. The smallest parts are named in the table."
    )
    return Chart("energy-flows", title, caption, alt, description(body, [*data, *nodes], alt=alt), table)


def _flow_table(title: str, word: str, scale: Scale, summed: Mapping[tuple[str, str], float]) -> Table:
    total = sum(summed.values())
    columns = (
        Column("phase", "Phase"),
        Column("component", "Component"),
        Column("value", word, "", "number", scale),
        Column("share", "Share", "", "number", Scale("%", 0.01, 1)),
    )
    largest = sorted(summed.items(), key=lambda item: -item[1])
    return chart_table("energy-flows", title, columns, [[p, c, v, v / total] for (p, c), v in largest])
