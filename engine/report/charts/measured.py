"""Measured values: beside their predictions, over the load, and as distributions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.metrics import METRICS
from engine.report.charts.story import Story, chart_table
from engine.report.charts.style import (
    INK,
    PALETTE,
    SHAPES,
    WIDTH,
    Measure,
    axis,
    description,
    log_axis,
    measure,
    rounded,
)
from engine.report.numbers import Scale, count_of
from engine.report.page import Chart, Column
from engine.report.records import MEASURED

_COMPARED: Final = (
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "output_tokens_per_s",
    "energy_per_output_token_j",
    "average_power_w",
    "time_s",
)
_MOST_ROWS: Final = 24
_ENOUGH: Final = {"p50": 1, "p90": 10, "p95": 20, "p99": 100}
"""Observations that a percentile needs: one beyond it, at least."""
_LOAD: Final = re.compile(r"(concurrency|rate|users|qps)\s*=?\s*([0-9]+(?:\.[0-9]+)?)")


def measured_charts(story: Story) -> list[Chart]:
    """Everything that compares, spreads or loads measured rows."""
    return [
        chart
        for made in (_errors(story), *_over_load(story), _percentiles(story), *_distributions(story))
        if (chart := made) is not None
    ]


def pairs(story: Story) -> list[dict[str, Any]]:
    """Measured values with the prediction of the same point under the same load."""
    found = story.found
    measured = found.where(found.mask("source", *MEASURED) & found.mask("status", "ok"))
    if not measured.size or not found.mask("source", "predicted").any():
        return []
    predicted = found.where(found.mask("source", "predicted") & found.mask("status", "ok")).rows()
    by_point = {row["point"]: row for row in predicted}
    rows = []
    for row in measured.rows():
        other = _prediction(story, row, by_point)
        for name in _COMPARED if other else ():
            value, guess = row.get(name), (other or {}).get(name)
            if value and guess:
                rows.append({"row": row, "metric": name, "measured": value, "predicted": guess,
                             "low": row.get(f"{name}_low"), "high": row.get(f"{name}_high"),
                             "n": row.get(f"{name}_n"), "ratio": value / guess})  # fmt: skip
    return rows


def _prediction(
    story: Story, row: Mapping[str, Any], by_point: Mapping[Any, Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """The stored prediction; with another number of requests in flight one made for that number."""
    load = load_of(row.get("variant"))
    if row.get("point") is None or (load and load[0] not in ("concurrency", "users")):
        return None
    if load is None or int(load[1]) == row.get("batch_size"):
        return by_point.get(row["point"])
    return story.predictor.at(row["point"], int(load[1]))


def _errors(story: Story) -> Chart | None:
    found = pairs(story)
    if not found:
        return None
    names = list(dict.fromkeys(story.name(pair["row"]) for pair in found))
    shown = names[:_MOST_ROWS]
    listed = [pair for pair in found if story.name(pair["row"]) in set(shown)]
    data = []
    for pair in listed:
        low, high = (
            None if end is None else rounded(end / pair["predicted"]) for end in (pair["low"], pair["high"])
        )
        data.append(
            {"what": story.name(pair["row"]), "ratio": rounded(pair["ratio"]), "low": low, "high": high,
             "metric": METRICS[pair["metric"]].label, "hardware": pair["row"].get("hardware"),
             "quantization": pair["row"].get("quantization")}
        )  # fmt: skip
    metrics = list(dict.fromkeys(row["metric"] for row in data))
    table = chart_table(
        "prediction-error",
        "Predicted against measured",
        (
            Column("what", "Point"),
            Column("source", "Source"),
            Column("metric", "Metric"),
            Column("unit", "Unit"),
            Column("predicted", "Predicted", "", "number", Scale("", 1, 4)),
            Column("measured", "Measured", "", "number", Scale("", 1, 4)),
            Column("low", "Interval from", "", "number", Scale("", 1, 4)),
            Column("high", "to", "", "number", Scale("", 1, 4)),
            Column("n", "n", "", "number"),
            Column(
                "error",
                "Prediction off by",
                "Predicted over measured, minus 1.",
                "number",
                Scale("%", 0.01, 1),
            ),
        ),
        [
            [
                story.name(p["row"]),
                p["row"]["source"],
                METRICS[p["metric"]].label,
                METRICS[p["metric"]].unit,
                p["predicted"],
                p["measured"],
                p["low"],
                p["high"],
                p["n"],
                p["predicted"] / p["measured"] - 1,
            ]
            for p in found
        ],
    )
    alt = (
        f"Dots of measured over predicted for {count_of(len(shown), 'point')} and {len(metrics)} "
        "metrics, with a line at 1."
    )
    caption = (
        "Measured over predicted; on the line they agree. Right of it the measurement is larger. "
        "Requests in flight are predicted as a batch of that size. Whiskers are the 95 % interval of "
        "the measurement."
    )
    left = len(names) - len(shown)
    caption += f" {left:,} more points are in the table." if left else ""
    return Chart(
        "prediction-error",
        "Predicted against measured",
        caption,
        alt,
        description(_error_body(shown, metrics, data), data, alt=alt),
        table,
        tuple(dict.fromkeys(pair["metric"] for pair in found)),
    )


def _error_body(
    shown: Sequence[str], metrics: Sequence[str], data: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    ends = [v for row in data for v in (row["ratio"], row["low"], row["high"], 1.0)]
    y = {
        "field": "what",
        "type": "nominal",
        "sort": list(shown),
        "title": None,
        "axis": {"ticks": False, "domain": False, "labelLimit": 320, "labelFontSize": 9.5, "grid": True},
    }
    color = {"field": "metric", "type": "nominal", "title": None, "legend": {"columns": 3},
             "scale": {"domain": list(metrics), "range": list(PALETTE[: len(metrics)])}}  # fmt: skip
    shape = {**color, "scale": {"domain": list(metrics), "range": list(SHAPES[: len(metrics)])}}
    offset = {"field": "metric", "type": "nominal", "sort": list(metrics)}
    across = log_axis("ratio", "Measured over predicted", ends)
    return {
        "width": WIDTH - 240,
        "height": {"step": 26, "for": "position"},
        "layer": [
            {
                "mark": {"type": "rule", "color": INK, "strokeDash": [4, 3]},
                "encoding": {"x": {"datum": 1, "type": "quantitative"}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 1.6},
                "encoding": {
                    "y": y,
                    "yOffset": offset,
                    "x": {**across, "field": "low"},
                    "x2": {"field": "high"},
                    "color": color,
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 55},
                "encoding": {
                    "y": y,
                    "yOffset": offset,
                    "x": across,
                    "color": color,
                    "shape": shape,
                    "tooltip": [
                        {"field": "what", "title": "Point"},
                        {"field": "metric", "title": "Metric"},
                        {"field": "ratio", "title": "Measured over predicted", "format": ".3~f"},
                    ],
                },
            },
        ],
    }


def load_of(variant: str | None) -> tuple[str, float] | None:
    """The kind and size of a load named by a variant such as `concurrency 4`."""
    match = _LOAD.search(variant or "")
    return (match[1], float(match[2])) if match else None


def _over_load(story: Story) -> list[Chart]:
    """Throughput and latency over concurrency or rate, one line a point."""
    rows = (
        [
            row
            for row in story.found.where(story.found.mask("status", "ok")).rows()
            if load_of(row.get("variant"))
        ]
        if story.found.has("variant")
        else []
    )
    found = []
    for kind in dict.fromkeys(load[0] for row in rows if (load := load_of(row["variant"]))):
        mine = [row for row in rows if (load := load_of(row["variant"])) and load[0] == kind]
        if len({load[1] for row in mine if (load := load_of(row["variant"]))}) < 2:
            continue
        for name in ("output_tokens_per_s", "ttft_s", "tpot_s"):
            if any(row.get(name) is not None for row in mine):
                found.append(_load_chart(story, mine, kind, name))
    return found


def _load_chart(story: Story, rows: Sequence[dict[str, Any]], kind: str, name: str) -> Chart:
    metric = METRICS[name]
    rows = [row for row in rows if row.get(name) is not None]
    measured = measure(name, [row[name] for row in rows])
    data: list[dict[str, Any]] = []
    for row in rows:
        load = load_of(row["variant"])
        data.append(
            {
                "x": load[1] if load else None,
                "y": measured.value(row[name]),
                "low": measured.value(row.get(f"{name}_low")),
                "high": measured.value(row.get(f"{name}_high")),
                "line": story.name(row, without=("variant",)),
                "hardware": row.get("hardware"),
                "quantization": row.get("quantization"),
            }
        )
    lines = list(dict.fromkeys(row["line"] for row in data))[: len(PALETTE)]
    data = [row for row in data if row["line"] in lines]
    title = f"{metric.label} over {kind}"
    alt = f"Lines of {metric.label.lower()} over {kind} for {count_of(len(lines), 'point')}, with intervals."
    x = {
        "field": "x",
        "type": "quantitative",
        "title": kind.capitalize(),
        "axis": {"tickCount": 6, "format": ",~f"},
    }
    y = axis(measured, "y")
    color = {"field": "line", "type": "nominal", "title": None, "legend": {"columns": 1, "labelLimit": 560},
             "scale": {"domain": lines, "range": list(PALETTE[: len(lines)])}}  # fmt: skip
    body = {
        "width": WIDTH,
        "height": 260,
        "layer": [
            {
                "mark": {"type": "line", "point": {"filled": True, "size": 45}},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": color,
                    "tooltip": [
                        {"field": "line", "title": "Point"},
                        {"field": "x", "title": kind.capitalize()},
                        {"field": "y", "title": measured.title, "format": ",.4~g"},
                    ],
                },
            },
            {
                "mark": {"type": "rule", "strokeWidth": 1.4},
                "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": color},
            },
        ],
    }
    table = chart_table(
        f"{name}-over-{kind}",
        title,
        (
            Column("line", "Point"),
            Column("load", kind.capitalize(), "", "number", Scale("")),
            Column(name, metric.label, metric.definition, "number", measured.scale, name),
        ),
        [[row["line"], row["x"], measured.base(row["y"])] for row in data],
    )
    return Chart(
        f"{name.replace('_', '-')}-over-{kind}",
        title,
        "Whiskers are 95 % intervals of the mean over repeats.",
        alt,
        description(body, data, alt=alt),
        table,
        (name,),
    )


def _percentiles(story: Story) -> Chart | None:
    """Median to p99 of each latency, where enough requests stand behind them."""
    rows = story.found.where(story.found.mask("source", *MEASURED) & story.found.mask("status", "ok")).rows()
    data: list[dict[str, Any]] = []
    for name in ("ttft_s", "itl_s", "tpot_s", "e2e_s"):
        for row in rows:
            n = row.get(f"{name}_n")
            for percentile, enough in _ENOUGH.items():
                value = row.get(f"{name}_{percentile}")
                if value is not None and (n or 0) >= enough:
                    data.append(
                        {
                            "what": story.name(row),
                            "metric": name,
                            "percentile": percentile,
                            "value": value,
                            "n": n,
                        }
                    )
    names = list(dict.fromkeys(row["what"] for row in data))[:_MOST_ROWS]
    data = [row for row in data if row["what"] in set(names)]
    if not data:
        return None
    measured = Measure("ttft_s", Scale("ms", 1e-3, 1))
    shown = [
        {**row, "value": measured.value(row["value"]), "metric": METRICS[row["metric"]].label} for row in data
    ]
    panels = list(dict.fromkeys(row["metric"] for row in shown))
    alt = (
        f"Dots of the median, 90th, 95th and 99th percentile of {len(panels)} latencies for "
        f"{count_of(len(names), 'load')}."
    )
    table = chart_table(
        "percentiles",
        "Percentiles",
        (
            Column("what", "Point"),
            Column("metric", "Latency"),
            Column("percentile", "Percentile"),
            Column("value", "Value", "", "number", Scale("ms", 1e-3, 2)),
            Column("n", "n", "", "number"),
        ),
        [
            [row["what"], METRICS[row["metric"]].label, row["percentile"], row["value"], row["n"]]
            for row in data
        ],
    )
    body = {
        "facet": {
            "row": {
                "field": "metric",
                "type": "nominal",
                "sort": panels,
                "title": None,
                "header": {
                    "labelAngle": 0,
                    "labelAlign": "left",
                    "labelOrient": "top",
                    "labelAnchor": "start",
                },
            }
        },
        "resolve": {"scale": {"x": "independent"}},
        "spec": {
            "width": WIDTH - 230,
            "height": {"step": 18},
            "mark": {"type": "point", "filled": True, "size": 50},
            "encoding": {
                "y": {
                    "field": "what",
                    "type": "nominal",
                    "sort": names,
                    "title": None,
                    "axis": {
                        "ticks": False,
                        "domain": False,
                        "labelLimit": 320,
                        "labelFontSize": 9.5,
                        "grid": True,
                    },
                },
                "x": {"field": "value", "type": "quantitative", "title": "ms", "scale": {"zero": True}},
                "color": {
                    "field": "percentile",
                    "type": "nominal",
                    "title": None,
                    "legend": {"columns": 4},
                    "scale": {"domain": list(_ENOUGH), "range": list(PALETTE[:4])},
                },
                "shape": {
                    "field": "percentile",
                    "type": "nominal",
                    "title": None,
                    "scale": {"domain": list(_ENOUGH), "range": list(SHAPES[:4])},
                },
                "tooltip": [
                    {"field": "what", "title": "Point"},
                    {"field": "percentile", "title": "Percentile"},
                    {"field": "value", "title": "ms", "format": ",.4~g"},
                    {"field": "n", "title": "n"},
                ],
            },
        },
    }
    caption = "A percentile is shown only when at least one request lies beyond it: p99 needs 100 requests."
    return Chart("percentiles", "Latency percentiles", caption, alt, description(body, shown, alt=alt), table)


def _distributions(story: Story) -> list[Chart]:
    """Share of requests at or below each time to first token, from the requests themselves."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    table = story.tables.get("requests")
    if table is None or not table.num_rows:
        return []
    ok = pc.and_(
        pc.equal(table["outcome"].cast(pa.string()), "ok"),
        pc.equal(table["run_phase"].cast(pa.string()), "measured"),
    )
    table = table.filter(ok)
    waits = {"ttft": ("Time to first token", "first_token_s"), "latency": ("Request latency", "done_s")}
    found = []
    for name, (label, column) in waits.items():
        groups: dict[tuple[Any, str], list[float]] = {}
        columns = (table[c].to_pylist() for c in ("point", "variant", "sent_s", column))
        for point, variant, sent, seen in zip(*columns, strict=True):
            if sent is not None and seen is not None:
                groups.setdefault((point, variant or ""), []).append(seen - sent)
        data: list[dict[str, Any]] = []
        rows = []
        for (point, variant), values in list(groups.items())[: len(PALETTE)]:
            line = _line_name(story, point, variant)
            ordered = np.sort(np.array(values)) * 1e3
            # Two hundred steps show what a picture can show.
            for k in np.unique(np.linspace(0, len(ordered) - 1, min(200, len(ordered))).astype(int)):
                data.append(
                    {
                        "line": line,
                        "x": rounded(float(ordered[k])),
                        "y": rounded(100 * (k + 1) / len(ordered)),
                    }
                )
            rows.append(
                [
                    line,
                    len(ordered),
                    *(float(np.quantile(ordered, q)) / 1e3 for q in (0.5, 0.9)),
                    float(ordered[-1]) / 1e3,
                ]
            )
        if data:
            found.append(_distribution_chart(name, label, data, rows))
    return found


def _line_name(story: Story, point: int | None, variant: str) -> str:
    for row in story.found.rows() if story.found.size < 5000 else ():
        if row.get("point") == point and (row.get("variant") or "") == variant:
            return story.name(row)
    return f"point {point}, {variant}" if variant else f"point {point}"


def _distribution_chart(
    name: str, label: str, data: Sequence[dict[str, Any]], rows: Sequence[Sequence[Any]]
) -> Chart:
    lines = list(dict.fromkeys(row["line"] for row in data))
    body = {
        "width": WIDTH,
        "height": 240,
        "mark": {"type": "line", "interpolate": "step-after"},
        "encoding": {
            "x": log_axis("x", f"{label} (ms)", [row["x"] for row in data]),
            "y": {
                "field": "y",
                "type": "quantitative",
                "title": "Share of requests at or below (%)",
                "scale": {"domain": [0, 100]},
            },
            "color": {
                "field": "line",
                "type": "nominal",
                "title": None,
                "legend": {"columns": 1, "labelLimit": 560},
                "scale": {"domain": lines, "range": list(PALETTE[: len(lines)])},
            },
            "tooltip": [
                {"field": "line", "title": "Load"},
                {"field": "x", "title": f"{label} (ms)", "format": ",.4~g"},
                {"field": "y", "title": "Share (%)", "format": ".1f"},
            ],
        },
    }
    ms = Scale("ms", 1e-3, 1)
    table = chart_table(
        f"distribution-{name}",
        label,
        (
            Column("line", "Load"),
            Column("n", "n", "", "number"),
            Column("median", "Median", "", "number", ms),
            Column("p90", "p90", "", "number", ms),
            Column("largest", "Largest", "", "number", ms),
        ),
        rows,
    )
    alt = f"Cumulative distribution of {label.lower()} for {count_of(len(lines), 'load')}."
    return Chart(
        f"distribution-{name}",
        f"{label}: all requests",
        "Requests of the measured window that ended well.",
        alt,
        description(body, data, alt=alt),
        table,
    )
