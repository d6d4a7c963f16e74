"""Measured values beside their predictions, and everything else that is drawn from measured rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.metrics import METRICS
from engine.report.charts.latencies import distributions, percentiles
from engine.report.charts.loads import load_of, over_load
from engine.report.charts.story import Story, chart_table
from engine.report.charts.style import INK, PALETTE, SHAPES, WIDTH, description, log_axis, rounded
from engine.report.charts.timeline import timelines
from engine.report.numbers import Scale
from engine.report.page import Chart, Column, Table
from engine.report.records import MEASURED
from engine.units import counted

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


def measured_charts(story: Story) -> list[Chart]:
    """Everything that compares, spreads or loads measured rows."""
    made = (
        prediction_errors(story),
        *over_load(story),
        percentiles(story),
        *distributions(story),
        *timelines(story),
    )
    return [chart for chart in made if chart is not None]


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


def prediction_errors(story: Story) -> Chart | None:
    """Measured over predicted, a dot for each metric of each point."""
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
    table = _error_table(story, found)
    alt = (
        f"Dots of measured over predicted for {counted(len(shown), 'point')} and {len(metrics)} "
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


def _error_table(story: Story, found: Sequence[Mapping[str, Any]]) -> Table:
    plain = Scale("", 1, 4)
    columns = (
        Column("what", "Point"),
        Column("source", "Source"),
        Column("metric", "Metric"),
        Column("unit", "Unit"),
        Column("predicted", "Predicted", "", "number", plain),
        Column("measured", "Measured", "", "number", plain),
        Column("low", "Interval from", "", "number", plain),
        Column("high", "to", "", "number", plain),
        Column("n", "n", "", "number"),
        Column("error", "Prediction off by", "Predicted over measured, minus 1.", "number",
               Scale("%", 0.01, 1)),
    )  # fmt: skip
    rows = []
    for pair in found:
        metric = METRICS[pair["metric"]]
        values = (pair[name] for name in ("predicted", "measured", "low", "high", "n"))
        error = pair["predicted"] / pair["measured"] - 1
        rows.append(
            [story.name(pair["row"]), pair["row"]["source"], metric.label, metric.unit, *values, error]
        )
    return chart_table("prediction-error", "Predicted against measured", columns, rows)


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
