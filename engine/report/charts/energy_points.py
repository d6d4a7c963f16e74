"""Metered energy of one point beside another: per token, gross and above idle, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.report.charts.story import Story, chart_table, filtered_by
from engine.report.charts.style import INK, PALETTE, WIDTH, description, rounded
from engine.report.numbers import scale_for
from engine.report.page import Chart, Column
from engine.units import counted

_MOST: Final = 24
_KINDS: Final = ("gross", "above idle", "predicted")


def energy_by_point(story: Story) -> Chart | None:
    """Bars of energy per output token over points; None for fewer than two metered points."""
    rows = _rows(story)
    if len({row["point"] for row in rows}) < 2:
        return None
    names = dict(zip((row["point"] for row in rows), _names(story, rows), strict=True))
    bars = [
        bar | filtered_by(story.tables, row["point"])
        for row in rows[:_MOST]
        for bar in _bars(row, names[row["point"]])
    ]
    scale = scale_for("energy_per_output_token_j", "J", [bar["value"] for bar in bars])
    data = [
        {**bar, **{key: None if bar[key] is None else rounded(bar[key] / scale.factor)
                   for key in ("value", "low", "high")}}
        for bar in bars
    ]  # fmt: skip
    order = list(dict.fromkeys(bar["name"] for bar in bars))
    kinds = [kind for kind in _KINDS if any(bar["kind"] == kind for bar in bars)]
    title = "Metered energy per output token"
    heading = f"Energy per output token ({scale.unit})"
    listed = [[bar[key] for key in ("name", "kind", "value", "low", "high", "n")] for bar in bars]
    table = chart_table("energy-points", title, (
        Column("name", "Point"), Column("kind", "Kind"), Column("value", "Energy", "", "number", scale),
        Column("low", "from", "", "number", scale), Column("high", "to", "", "number", scale),
        Column("n", "n", "", "number"),
    ), listed)  # fmt: skip
    alt = f"Bars of energy per output token of {counted(len(order), 'point')}, gross and above idle."
    caption = (
        "Whiskers are 95 % intervals over requests; the sensor's own gain of about 5 % moves all bars of a "
        "device together and is not in them."
    )
    if any(row.get("basis") == "simulated" for row in rows):
        caption += " This power is simulated."
    return Chart("energy-points", title, caption, alt,
                 description(_body(order, kinds, heading), data, alt=alt), table)  # fmt: skip


def _rows(story: Story) -> list[dict[str, Any]]:
    """One metered row a point: the request where it was metered, else decode."""
    table = story.tables.get("summary")
    if table is None or "energy_per_output_token_j" not in table.column_names:
        return []
    import pyarrow as pa
    import pyarrow.compute as pc

    metered = table.filter(pc.equal(table["source"].cast(pa.string()), "metered")).to_pylist()
    found: dict[int, dict[str, Any]] = {}
    for phase in ("decode", "request"):
        for row in metered:
            if row["phase"] == phase and row["energy_per_output_token_j"] and not row["variant"]:
                found[row["point"]] = row
    return [found[point] for point in sorted(found)]


def _names(story: Story, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tells the points apart."""
    table = story.tables.get("points")
    known = {} if table is None else {row["point"]: row for row in table.to_pylist()}
    settings = [known.get(row["point"], {}) for row in rows]
    shown = ("model", "hardware", "quantization", "prompt_tokens", "output_tokens", "batch_size")
    varied = [name for name in shown if len({str(s.get(name)) for s in settings}) > 1]
    labels = {"prompt_tokens": "prompt ", "output_tokens": "output ", "batch_size": "batch "}
    found = []
    for row, own in zip(rows, settings, strict=True):
        parts = [f"{labels.get(name, '')}{own.get(name)}" for name in varied]
        found.append(story.redact.text(", ".join(parts) or f"point {row['point']}"))
    return found


def _bars(row: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    tokens = row["energy_j"] / row["energy_per_output_token_j"]
    found = [_bar(name, "gross", row, "energy_per_output_token_j", 1.0)]
    if row.get("net_energy_j") is not None:
        found.append(_bar(name, "above idle", row, "net_energy_j", tokens))
    if row.get("predicted_energy_j") is not None:
        found.append(_bar(name, "predicted", row, "predicted_energy_j", tokens))
    return found


def _bar(name: str, kind: str, row: Mapping[str, Any], metric: str, over: float) -> dict[str, Any]:
    low, high = row.get(f"{metric}_low"), row.get(f"{metric}_high")
    return {
        "name": name,
        "kind": kind,
        "value": row[metric] / over,
        "low": None if low is None else low / over,
        "high": None if high is None else high / over,
        "n": row.get(f"{metric}_n"),
    }


def _body(order: Sequence[str], kinds: Sequence[str], heading: str) -> dict[str, Any]:
    y = {
        "field": "name", "type": "nominal", "sort": list(order), "title": None,
        "axis": {"ticks": False, "domain": False, "labelLimit": 220},
    }  # fmt: skip
    offset = {"field": "kind", "type": "nominal", "sort": list(kinds)}
    x = {"field": "value", "type": "quantitative", "title": heading, "scale": {"zero": True}}
    color = {
        "field": "kind", "type": "nominal", "title": "Energy",
        "scale": {"domain": list(kinds), "range": list(PALETTE[: len(kinds)])},
    }  # fmt: skip
    tooltip = [
        {"field": "name", "title": "Point"}, {"field": "kind", "title": "Energy"},
        {"field": "value", "title": heading, "format": ",.4~g"}, {"field": "n", "title": "n"},
    ]  # fmt: skip
    return {
        "width": WIDTH - 190,
        "height": {"step": 16, "for": "offset"},
        "layer": [
            {"mark": {"type": "bar"},
             "encoding": {"y": y, "yOffset": offset, "x": x, "color": color, "tooltip": tooltip}},
            {"mark": {"type": "rule", "color": INK, "strokeWidth": 1.3},
             "transform": [{"filter": "datum.low !== null"}],
             "encoding": {"y": y, "yOffset": {**offset, "bandPosition": 0.5},
                          "x": {**x, "field": "low"}, "x2": {"field": "high"}}},
        ],
    }  # fmt: skip
