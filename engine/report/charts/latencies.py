"""How latencies spread: percentiles of each load, and the share of requests at or below each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.metrics import METRICS
from engine.report.charts.story import Story, chart_table
from engine.report.charts.style import PALETTE, SHAPES, WIDTH, Measure, description, log_axis, rounded
from engine.report.numbers import Scale
from engine.report.page import Chart, Column
from engine.report.records import MEASURED
from engine.units import counted

_ENOUGH: Final = {"p50": 1, "p90": 10, "p95": 20, "p99": 100}
"""Observations that a percentile needs: one beyond it, at least."""
_MOST_ROWS: Final = 24
_LATENCIES: Final = ("ttft_s", "itl_s", "tpot_s", "e2e_s")
_MS: Final = Scale("ms", 1e-3, 1)


def percentiles(story: Story) -> Chart | None:
    """Median to p99 of each latency, where enough requests stand behind them."""
    data = _percentile_rows(story)
    names = list(dict.fromkeys(row["what"] for row in data))[:_MOST_ROWS]
    data = [row for row in data if row["what"] in set(names)]
    if not data:
        return None
    measured = Measure("ttft_s", _MS)
    shown = [
        {**row, "value": measured.value(row["value"]), "metric": METRICS[row["metric"]].label} for row in data
    ]
    panels = list(dict.fromkeys(row["metric"] for row in shown))
    alt = (
        f"Dots of the median, 90th, 95th and 99th percentile of {len(panels)} latencies for "
        f"{counted(len(names), 'load')}."
    )
    columns = (
        Column("what", "Point"),
        Column("metric", "Latency"),
        Column("percentile", "Percentile"),
        Column("value", "Value", "", "number", Scale("ms", 1e-3, 2)),
        Column("n", "n", "", "number"),
    )
    rows = [[r["what"], METRICS[r["metric"]].label, r["percentile"], r["value"], r["n"]] for r in data]
    caption = (
        "A percentile is shown only with values enough behind it: p99 needs 299 where requests were measured "
        "here, 100 in the logs of others."
    )
    return Chart(
        "percentiles", "Latency percentiles", caption, alt,
        description(_percentile_body(names, panels), shown, alt=alt),
        chart_table("percentiles", "Percentiles", columns, rows),
    )  # fmt: skip


def _percentile_rows(story: Story) -> list[dict[str, Any]]:
    rows = story.found.where(story.found.mask("source", *MEASURED) & story.found.mask("status", "ok")).rows()
    return [
        {"what": story.name(row), "metric": name, "percentile": percentile, "value": value,
         "n": row.get(f"{name}_n"), "hardware": row.get("hardware"), "quantization": row.get("quantization")}
        for name in _LATENCIES
        for row in rows
        for percentile, enough in _ENOUGH.items()
        if (value := row.get(f"{name}_{percentile}")) is not None and (row.get(f"{name}_n") or 0) >= enough
    ]  # fmt: skip


def _percentile_body(names: Sequence[str], panels: Sequence[str]) -> dict[str, Any]:
    header = {"labelAngle": 0, "labelAlign": "left", "labelOrient": "top", "labelAnchor": "start"}
    axis = {"ticks": False, "domain": False, "labelLimit": 320, "labelFontSize": 9.5, "grid": True}
    one = {"field": "percentile", "type": "nominal", "title": None}
    return {
        "facet": {"row": {"field": "metric", "type": "nominal", "sort": list(panels), "title": None,
                          "header": header}},
        "resolve": {"scale": {"x": "independent"}},
        "spec": {
            "width": WIDTH - 230,
            "height": {"step": 18},
            "mark": {"type": "point", "filled": True, "size": 50},
            "encoding": {
                "y": {"field": "what", "type": "nominal", "sort": list(names), "title": None, "axis": axis},
                "x": {"field": "value", "type": "quantitative", "title": "ms", "scale": {"zero": True}},
                "color": {**one, "legend": {"columns": 4},
                          "scale": {"domain": list(_ENOUGH), "range": list(PALETTE[:4])}},
                "shape": {**one, "scale": {"domain": list(_ENOUGH), "range": list(SHAPES[:4])}},
                "tooltip": [
                    {"field": "what", "title": "Point"},
                    {"field": "percentile", "title": "Percentile"},
                    {"field": "value", "title": "ms", "format": ",.4~g"},
                    {"field": "n", "title": "n"},
                ],
            },
        },
    }  # fmt: skip


def distributions(story: Story) -> list[Chart]:
    """Share of requests at or below each time, from the requests themselves."""
    loads = measured_requests(story)
    groups = loads[: len(PALETTE)]
    # A request in one piece has no last token; its latency counts to its end, as in `e2e_s`.
    waits = {
        "ttft": ("Time to first token", ("first_token_s",)),
        "latency": ("Request latency", ("last_token_s", "done_s")),
    }
    caption = "Requests of the measured loads that ended well."
    if len(loads) > len(groups):
        caption += f" The first {len(groups)} of {len(loads)} loads."
    charts = (_distribution(name, label, ends, groups, caption) for name, (label, ends) in waits.items())
    return [chart for chart in charts if chart is not None]


def measured_requests(story: Story) -> list[tuple[Mapping[str, Any], list[dict[str, Any]]]]:
    """(row of the load with its name as `line`, its requests that ended well), for each load."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = story.tables.get("requests")
    if table is None or not table.num_rows:
        return []
    ok = pc.and_(
        pc.equal(table["outcome"].cast(pa.string()), "ok"),
        pc.is_in(table["run_phase"].cast(pa.string()), pa.array(["measured", "drain"])),
    )
    columns = [name for name in table.column_names if name != "token_times_s"]
    groups: dict[tuple[Any, str], list[dict[str, Any]]] = {}
    for row in table.filter(ok).select(columns).to_pylist():
        groups.setdefault((row["point"], row["variant"] or ""), []).append(row)
    rows = story.found.rows() if story.found.size < 5000 else []
    known = {(row.get("point"), row.get("variant") or ""): row for row in rows}
    found: list[tuple[Mapping[str, Any], list[dict[str, Any]]]] = []
    for (point, variant), requests in groups.items():
        row = known.get((point, variant))
        plain = f"point {point}, {variant}" if variant else f"point {point}"
        found.append(({**(row or {}), "line": story.name(row) if row else plain}, requests))
    return found


def _distribution(
    name: str,
    label: str,
    ends: Sequence[str],
    groups: Sequence[tuple[Mapping[str, Any], list[dict[str, Any]]]],
    caption: str,
) -> Chart | None:
    import numpy as np

    data: list[dict[str, Any]] = []
    rows = []
    for load, requests in groups:
        ended = [(r["sent_s"], next((r[end] for end in ends if r[end] is not None), None)) for r in requests]
        waited = [end - sent for sent, end in ended if sent is not None and end is not None]
        if not waited:
            continue
        ordered = np.sort(np.array(waited)) * 1e3
        # Two hundred steps show what a picture can show.
        for k in np.unique(np.linspace(0, len(ordered) - 1, min(200, len(ordered))).astype(int)):
            data.append(
                {"line": load["line"], "x": rounded(float(ordered[k])),
                 "y": rounded(100 * (k + 1) / len(ordered)), "hardware": load.get("hardware"),
                 "quantization": load.get("quantization")}
            )  # fmt: skip
        middle = (float(np.quantile(ordered, q)) / 1e3 for q in (0.5, 0.9))
        rows.append([load["line"], len(ordered), *middle, float(ordered[-1]) / 1e3])
    return _distribution_chart(name, label, data, rows, caption=caption) if data else None


def _distribution_chart(
    name: str, label: str, data: Sequence[dict[str, Any]], rows: Sequence[Sequence[Any]], *, caption: str
) -> Chart:
    lines = list(dict.fromkeys(row["line"] for row in data))
    share = {"field": "y", "type": "quantitative", "title": "Share of requests at or below (%)",
             "scale": {"domain": [0, 100]}}  # fmt: skip
    color = {"field": "line", "type": "nominal", "title": None, "legend": {"columns": 1, "labelLimit": 560},
             "scale": {"domain": lines, "range": list(PALETTE[: len(lines)])}}  # fmt: skip
    body = {
        "width": WIDTH,
        "height": 220,
        "mark": {"type": "line", "interpolate": "step-after"},
        "encoding": {
            "x": log_axis("x", f"{label} (ms)", [row["x"] for row in data]),
            "y": share,
            "color": color,
            "tooltip": [
                {"field": "line", "title": "Load"},
                {"field": "x", "title": f"{label} (ms)", "format": ",.4~g"},
                {"field": "y", "title": "Share (%)", "format": ".1f"},
            ],
        },
    }
    columns = (
        Column("line", "Load"),
        Column("n", "n", "", "number"),
        Column("median", "Median", "", "number", _MS),
        Column("p90", "p90", "", "number", _MS),
        Column("largest", "Largest", "", "number", _MS),
    )
    alt = f"Cumulative distribution of {label.lower()} for {counted(len(lines), 'load')}."
    return Chart(
        f"distribution-{name}", f"{label}: all requests",
        caption, alt, description(body, data, alt=alt),
        chart_table(f"distribution-{name}", label, columns, rows),
    )  # fmt: skip
