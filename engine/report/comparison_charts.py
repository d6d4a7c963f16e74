"""The pictures of a comparison: the largest changes with their intervals, the course over several runs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.metrics import METRICS
from engine.report.charts.story import chart_table
from engine.report.charts.style import INK, PALETTE, QUIET, SHAPES, WIDTH, description, rounded
from engine.report.clean import Redactor
from engine.report.comparison_tables import (
    FOREMOST,
    PERCENT,
    Line,
    News,
    change_text,
    distinct,
    lines_of,
    varied_fields,
)
from engine.report.page import Chart, Column
from engine.results.compared import Against, Comparison
from engine.units import counted

_MOST_LINES: Final = 28
_MOST_RUNS: Final = 6
_MOST_COURSES: Final = 4
# Blue and orange of Okabe and Ito stand for good and bad: told apart by everybody, as red and green are not.
_COLORS: Final = {
    "regressed": PALETTE[1], "improved": PALETTE[0], "changed": PALETTE[3], "unknown": PALETTE[4],
    "within noise": QUIET,
}  # fmt: skip
_SHAPES: Final = {
    "regressed": "triangle-down", "improved": "triangle-up", "changed": "diamond", "unknown": "cross",
    "within noise": "circle",
}  # fmt: skip


def change_charts(comparison: Comparison, redact: Redactor) -> tuple[Chart, ...]:
    """The largest changes of each run, and with several runs what they came to one after the other."""
    varied = varied_fields(comparison)
    lines = lines_of(comparison)
    found = [_course(comparison, redact)] if len(comparison.against) > 1 else []
    for against in comparison.against[:_MOST_RUNS]:
        own = [line for line in lines if line.against is against and line.change and line.size < 1e300]
        found.append(_largest(comparison, against, own, varied, redact))
    return tuple(chart for chart in found if chart is not None)


def _largest(
    comparison: Comparison, against: Against, lines: Sequence[Line], varied: Sequence[str], redact: Redactor
) -> Chart | None:
    """A dot with its interval for each of the changes that matter most."""
    known = [line for line in lines if line.change and line.change.contrast.low is not None]
    single = distinct(known or lines)
    shown = [news.line for news in single[:_MOST_LINES]]
    if not shown:
        return None
    data = [_dot(news, varied, redact) for news in single[:_MOST_LINES]]
    verdicts = [verdict for verdict in _COLORS if any(row["verdict"] == verdict for row in data)]
    title = (
        f"Largest changes: {redact.text(against.run.title)} against {redact.text(comparison.baseline.title)}"
    )
    alt = (
        f"Dots of {counted(len(shown), 'relative change')} with 95 % intervals and a line at 0; the table "
        "has the numbers."
    )
    left = sum(news.lines for news in single[_MOST_LINES:] if news.line.verdict != "within noise")
    caption = (
        "Change over the value before; whiskers are 95 % intervals of the difference. A triangle "
        "pointing down is worse, one pointing up is better, whatever the direction of the metric."
        + (f" {counted(left, 'change')} more in the table." if left else "")
    )
    table = chart_table(
        f"largest-{against.run.letter.lower()}",
        title,
        (
            Column("what", "Metric and point"),
            Column("verdict", "Verdict"),
            Column("change", "Change", "", "number", PERCENT),
            Column("low", "from", "", "number", PERCENT),
            Column("high", "to", "", "number", PERCENT),
        ),
        [_numbers(line, row["what"]) for line, row in zip(shown, data, strict=True)],
    )
    metrics = dict.fromkeys(m for line in shown if line.change and (m := line.change.metric) in METRICS)
    body = _forest(data, verdicts, comparison.options.threshold)
    return Chart(
        f"largest-{against.run.letter.lower()}",
        title,
        caption,
        alt,
        description(body, data, alt=alt),
        table,
        tuple(metrics),
    )


def _dot(news: News, varied: Sequence[str], redact: Redactor) -> dict[str, Any]:
    line, change = news.line, news.line.change
    if change is None:
        return {}
    ends = (change.relative_low, change.relative_high)
    return {
        "what": f"{news.metric} – {redact.text(news.point(varied))}",
        "change": rounded(None if change.relative is None else 100 * change.relative),
        "low": rounded(None if ends[0] is None else 100 * ends[0]),
        "high": rounded(None if ends[1] is None else 100 * ends[1]),
        "verdict": line.verdict,
        "text": change_text(change),
        "hardware": redact.text(line.point.identity.get("hardware") or ""),
        "quantization": redact.text(line.point.identity.get("quantization") or ""),
    }


def _numbers(line: Line, what: str) -> tuple[Any, ...]:
    change = line.change
    if change is None:
        return (what, line.verdict, None, None, None)
    return what, line.verdict, change.relative, change.relative_low, change.relative_high


def _forest(data: Sequence[Mapping[str, Any]], verdicts: Sequence[str], threshold: float) -> dict[str, Any]:
    y = {
        "field": "what", "type": "nominal", "sort": list(dict.fromkeys(row["what"] for row in data)),
        "title": None,
        "axis": {"ticks": False, "domain": False, "labelLimit": 360, "labelFontSize": 9.5, "grid": True},
    }  # fmt: skip
    x = {"type": "quantitative", "title": "Change (%)", "axis": {"format": "+,~f", "tickCount": 7}}
    color = {
        "field": "verdict", "type": "nominal", "title": None, "legend": {"columns": 5},
        "scale": {"domain": list(verdicts), "range": [_COLORS[v] for v in verdicts]},
    }  # fmt: skip
    shape = {**color, "scale": {"domain": list(verdicts), "range": [_SHAPES[v] for v in verdicts]}}
    tips = [{"field": "what", "title": "What"}, {"field": "text", "title": "Change"},
            {"field": "verdict", "title": "Verdict"}]  # fmt: skip
    marks = sorted({0.0, 100 * threshold, -100 * threshold})
    rules = [
        {
            "data": {"values": [{"at": mark}]},
            "mark": {"type": "rule", "color": INK, "strokeDash": [1, 0] if mark == 0 else [3, 3], "size": 1},
            "encoding": {"x": {"field": "at", "type": "quantitative"}},
        }
        for mark in marks
    ]
    return {
        "width": WIDTH - 120,
        "height": {"step": 17},
        "layer": [
            *rules,
            {
                "mark": {"type": "rule", "strokeWidth": 1.6},
                "encoding": {
                    "x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y,
                    "color": color, "tooltip": tips,
                },
            },
            {
                "mark": {"type": "point", "size": 62, "filled": True, "opacity": 1},
                "encoding": {
                    "x": {**x, "field": "change"}, "y": y, "color": color, "shape": shape, "tooltip": tips,
                },
            },
        ],
    }  # fmt: skip


def _course(comparison: Comparison, redact: Redactor) -> Chart | None:
    """Median change of each metric from run to run, with the span that eight of ten points lie in."""
    rows = [row for name in FOREMOST for row in _course_of(comparison, name)]
    names = list(dict.fromkeys(row["metric"] for row in rows))[:_MOST_COURSES]
    rows = [row for row in rows if row["metric"] in names]
    if not rows:
        return None
    titles = [redact.text(run.title) for run in (comparison.baseline, *(a.run for a in comparison.against))]
    for row in rows:
        row["run"] = titles[row["place"]]
    alt = f"Median change against {titles[0]} over {counted(len(titles), 'run')}, a line a metric."
    table = chart_table(
        "course",
        "Course over the runs",
        (
            Column("run", "Run"),
            Column("metric", "Metric"),
            Column("points", "Points", "", "number"),
            Column("low", "A tenth below", "", "number", PERCENT),
            Column("median", "Median change", "", "number", PERCENT),
            Column("high", "A tenth above", "", "number", PERCENT),
        ),
        [
            (r["run"], r["metric"], r["points"], r["low"] / 100, r["median"] / 100, r["high"] / 100)
            for r in rows
        ],
    )
    return Chart(
        "course",
        "Course over the runs",
        "Median change against the baseline over the points that both runs have; the band holds eight of ten "
        "points. It says nothing about noise: the verdicts do.",
        alt,
        description(_course_body(names, titles), rows, alt=alt),
        table,
        tuple(m for m in FOREMOST if METRICS[m].label in names),
    )


def _course_of(comparison: Comparison, metric: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for place, against in enumerate(comparison.against, start=1):
        changes = [
            100 * c.relative
            for point in against.points
            for c in point.changes
            if c.metric == metric and c.relative is not None
        ]
        if not changes:
            continue
        tenths = statistics.quantiles(changes, n=10, method="inclusive") if len(changes) > 1 else changes * 9
        found.append(
            {
                "place": place, "metric": METRICS[metric].label, "points": len(changes),
                "low": rounded(tenths[0]), "median": rounded(statistics.median(changes)),
                "high": rounded(tenths[-1]),
            }
        )  # fmt: skip
    zero = {"place": 0, "metric": METRICS[metric].label, "low": 0.0, "median": 0.0, "high": 0.0}
    return [{**zero, "points": found[0]["points"]}, *found] if found else []


def _course_body(names: Sequence[str], titles: Sequence[str]) -> dict[str, Any]:
    x = {
        "field": "run", "type": "ordinal", "sort": list(titles), "title": None,
        "axis": {"labelAngle": 0 if len(titles) < 5 else -40, "labelLimit": 140},
    }  # fmt: skip
    color = {
        "field": "metric", "type": "nominal", "title": None,
        "legend": {"columns": 2, "symbolOpacity": 1},  # not as faint as the bands
        "scale": {"domain": list(names), "range": list(PALETTE[: len(names)])},
    }  # fmt: skip
    shape = {**color, "scale": {"domain": list(names), "range": list(SHAPES[: len(names)])}}
    y = {"type": "quantitative", "title": "Change (%)", "axis": {"format": "+,~f", "tickCount": 6}}
    tips = [{"field": name, "title": name.capitalize()} for name in ("run", "metric", "points", "median")]
    return {
        "width": WIDTH,
        "height": 240,
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.12},
                "encoding": {
                    "x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": color,
                },
            },
            {
                "mark": {"type": "line", "strokeWidth": 2},
                "encoding": {"x": x, "y": {**y, "field": "median"}, "color": color},
            },
            {
                "mark": {"type": "point", "size": 55, "filled": True, "opacity": 1},
                "encoding": {
                    "x": x, "y": {**y, "field": "median"}, "color": color, "shape": shape, "tooltip": tips,
                },
            },
        ],
    }  # fmt: skip
