"""How the best score comes about, how sure the ranking is, and what other weights do to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from engine.metrics import METRICS
from engine.report.charts.scores import axes_of, label_of_objective, names_of
from engine.report.charts.story import Story, chart_table, filtered_by
from engine.report.charts.style import PALETTE, QUIET, WIDTH, description, log_axis, rounded
from engine.report.numbers import Scale, quantity, significant
from engine.report.page import Chart, Column

if TYPE_CHECKING:
    from engine.score.weights import ScoreResult

_RANKED: Final = 12
_COMPARED: Final = 8
_PLAIN: Final = Scale("", 1, 3)


def score_pictures(story: Story, result: ScoreResult | None) -> list[Chart]:
    """Waterfall of the best score, ranking with intervals, ranks under other weights."""
    if result is None or not result.ranked:
        return []
    found = [_waterfall(story, result), _ranking(story, result), _moved(story, result)]
    return [chart for chart in found if chart is not None]


def _waterfall(story: Story, result: ScoreResult) -> Chart | None:
    """From nothing (a sum) or from 1 (a product) to the best score, one factor after another."""
    factors = result.factors(1).to_pylist()
    adds = result.scoring.aggregation == "weighted_sum" and result.scoring.preset is None
    steps = list(_steps(factors, adds=adds))
    if not steps or (not adds and any(step["to"] <= 0 or step["from"] <= 0 for step in steps)):
        return None  # a factor of 0 has no place on a logarithmic axis
    best = result.scores.slice(0, 1).to_pylist()
    name = next(iter(names_of(story, best).values()))
    title = "How the best score comes about"
    start = "Bars add up from 0" if adds else "Each bar multiplies what stands before it, starting at 1"
    sentences = [f"{name}. {start}; grey is what comes out.", *_sum_of_parts(factors)]
    caption = " ".join([*sentences, *(_sentence(n) for n in result.notes)])
    rows = [[s["what"], s["value"], s["by"], s["to"]] for s in steps]
    columns = (
        Column("factor", "Factor"),
        Column("value", "Value"),
        Column("by", "Adds" if adds else "Multiplies by", "", "number", _PLAIN),
        Column("then", "Then", "Score after this factor.", "number", _PLAIN),
    )
    alt = f"Waterfall of {len(steps)} steps to a score of {significant(best[0]['score'])}."
    x: dict[str, Any] = {"field": "from", "type": "quantitative", "title": "Score so far"}
    if not adds:
        x = log_axis("from", "Score so far", [step[end] for step in steps for end in ("from", "to")])
    body = {
        "width": WIDTH - 230,
        "height": {"step": 24},
        "mark": {"type": "bar"},
        "encoding": {
            "y": _names([s["what"] for s in steps]),
            "x": x,
            "x2": {"field": "to"},
            "color": _kinds(),
            "tooltip": [{"field": "what", "title": "Factor"}, {"field": "value", "title": "Value"},
                        {"field": "to", "title": "Then", "format": ".4~g"}],
        },
    }  # fmt: skip
    data = [{**s, "from": rounded(s["from"]), "to": rounded(s["to"])} for s in steps]
    metrics = tuple(sorted({f["metric"] for f in factors if f["metric"] in METRICS}))
    return Chart(
        "score-waterfall", title, caption, alt, description(body, data, alt=alt),
        chart_table("score-waterfall", title, columns, rows), metrics,
        filtered_by(story.tables, best[0]["point"]),
    )  # fmt: skip


def _sum_of_parts(factors: Sequence[dict[str, Any]]) -> Iterator[str]:
    """How the parts of a preset become its score."""
    parts = list(dict.fromkeys(factor["part"] for factor in factors if factor["part"] != "score"))
    if len(parts) < 2:
        return
    weights = [f"{f['weight']:g} x {f['metric']}" for f in factors if f["part"] == "score"]
    yield f"Score = {' + '.join(weights or [f'{part} score' for part in parts])}."


def _sentence(note: str) -> str:
    """A note as a sentence; code marks of the terminal are none on a page."""
    return f"{note[:1].upper()}{note[1:]}.".replace("`", "")


def _steps(factors: Sequence[dict[str, Any]], *, adds: bool) -> Iterator[dict[str, Any]]:
    """Bars from one level to the next; parts of a preset each start anew and end in their own product, and
    the last bar is their weighted sum."""
    level = start = 0.0 if adds else 1.0
    part: str | None = None
    parts: list[float] = []
    weighted = [factor["contribution"] for factor in factors if factor["part"] == "score"]
    for factor in factors:
        if factor["part"] == "score":
            continue
        if factor["part"] != part and part is not None:
            yield _result(part, level, start)
            parts.append(level)
            level = start
        part = factor["part"]
        by = factor["contribution"]
        reached = level + by if adds else level * by
        helps = reached >= level
        what = label_of_objective(factor["metric"])
        yield {
            "what": f"{part}: {what}" if part else what,
            "value": _value(factor),
            "from": level,
            "to": reached,
            "by": by,
            "kind": "helps" if helps else "costs",
        }
        level = reached
    yield _result(part or "score", level, start)
    if parts:
        yield _result("score", sum(weighted or [*parts, level]), start)


def _result(part: str, level: float, start: float) -> dict[str, Any]:
    what = "score" if part == "score" else f"{part} score"
    return {
        "what": what,
        "value": significant(level),
        "from": start,
        "to": level,
        "by": level,
        "kind": "result",
    }


def _value(factor: dict[str, Any]) -> str:
    metric = METRICS.get(factor["metric"])
    if factor["value"] is None:
        return "–"
    if metric is None:
        return significant(factor["value"])
    return quantity(metric.name, metric.unit, factor["value"])


def _kinds() -> dict[str, Any]:
    domain = ["helps", "costs", "result"]
    scale = {"domain": domain, "range": [PALETTE[0], PALETTE[1], QUIET]}
    return {"field": "kind", "type": "nominal", "title": None, "scale": scale, "legend": {"columns": 3}}


def _ranking(story: Story, result: ScoreResult) -> Chart | None:
    """The best rows with the intervals that their values give their scores."""
    scores = result.scores.slice(0, min(_RANKED, result.ranked)).to_pylist()
    if len(scores) < 2:
        return None
    names, narrowing = names_of(story, scores), axes_of(story, scores)
    data: list[dict[str, Any]] = []
    rows = []
    for row in scores:
        name = f"{row['rank']}. {names[row['point'], row['variant']]}"
        low = row["score"] if row["score_low"] is None else row["score_low"]
        high = row["score"] if row["score_high"] is None else row["score_high"]
        ranks = _span(row["rank_best"], row["rank_worst"])
        data.append({"what": name, "score": rounded(row["score"]), "low": rounded(low), "high": rounded(high),
                     "ranks": ranks, **narrowing[row["point"], row["variant"]]})  # fmt: skip
        rows.append([name, row["score"], row["score_low"], row["score_high"], ranks])
    known = any(row["score_low"] is not None for row in scores)
    title = "Ranking"
    sure = "Lines are the score with every value at the bad or the good end of its interval."
    caption = sure if known else "No value has an interval, so neither has the score."
    left = result.ranked - len(scores)
    if left:
        caption += f" {left:,} more rows rank below."
    columns = (
        Column("point", "Point"),
        Column("score", "Score", "", "number", _PLAIN),
        Column("low", "At the bad ends", "", "number", _PLAIN),
        Column("high", "At the good ends", "", "number", _PLAIN),
        Column("ranks", "Ranks", "Best and worst rank the intervals allow."),
    )
    alt = f"Scores of the {len(rows)} best rows, the first one {significant(scores[0]['score'])}."
    y = _names([row["what"] for row in data])
    x = {"type": "quantitative", "title": "Score", "scale": {"zero": False}}
    tip = [{"field": "what", "title": "Point"}, {"field": "score", "title": "Score"},
           {"field": "ranks", "title": "Possible ranks"}]  # fmt: skip
    body = {
        "width": WIDTH - 230,
        "height": {"step": 22},
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 2, "color": QUIET},
             "encoding": {"y": y, "x": {"field": "low", **x}, "x2": {"field": "high"}}},
            {"mark": {"type": "point", "filled": True, "size": 60, "color": PALETTE[0]},
             "encoding": {"y": y, "x": {"field": "score", **x}, "tooltip": tip}},
        ],
    }  # fmt: skip
    return Chart("score-ranking", title, caption, alt, description(body, data, alt=alt),
                 chart_table("score-ranking", title, columns, rows))  # fmt: skip


def _span(best: int, worst: int) -> str:
    return str(best) if best == worst else f"{best} to {worst}"


def _moved(story: Story, result: ScoreResult) -> Chart | None:
    """Ranks of the best rows when a weight is a fifth larger or smaller."""
    moved = result.moved_ranks(_COMPARED)
    if not moved:
        return None
    scores = result.scores.slice(0, min(_COMPARED, result.ranked)).to_pylist()
    names, narrowing = names_of(story, scores), axes_of(story, scores)
    order = [names[row["point"], row["variant"]] for row in scores]
    data, rows = [], []
    for cell in moved:
        before = scores[cell["row"]]["rank"]
        sign = "+" if cell["change"] > 0 else "−"
        change = f"{label_of_objective(cell['metric'])} {sign}{abs(cell['change']):.0%}"
        data.append({"what": order[cell["row"]], "change": change, "rank": cell["rank"],
                     "places": before - cell["rank"],
                     **narrowing[scores[cell["row"]]["point"], scores[cell["row"]]["variant"]]})  # fmt: skip
        rows.append([order[cell["row"]], change, before, cell["rank"]])
    changes = list(dict.fromkeys(row["change"] for row in data))
    title = "Ranks under other weights"
    turned = sum(row["places"] != 0 for row in data)
    caption = (
        "Each column moves one weight by a fifth; numbers are ranks then: blue gained places, orange lost."
        if turned
        else "Each column moves one weight by a fifth: none of these rows changes its place."
    )
    columns = (
        Column("point", "Point"),
        Column("change", "Weight"),
        Column("before", "Rank", "", "number"),
        Column("after", "Rank then", "", "number"),
    )
    alt = f"Ranks of {len(order)} rows under {len(changes)} changes of a weight; {turned} cells differ."
    largest = max([abs(row["places"]) for row in data] + [1])
    shared = {
        "y": _names(order),
        "x": {"field": "change", "type": "nominal", "sort": changes, "title": None,
              "axis": {"labelAngle": -30, "labelLimit": 260, "ticks": False, "domain": False}},
    }  # fmt: skip
    scale = {"domain": [-largest, 0, largest], "range": [PALETTE[1], "#f2f2f2", PALETTE[0]]}
    color = {"field": "places", "type": "quantitative", "legend": None, "scale": scale}
    body = {
        "width": {"step": 62},
        "height": {"step": 26},
        "layer": [
            {"mark": {"type": "rect"}, "encoding": {**shared, "color": color}},
            # Not the ink that turns light on a dark page: the cells behind these numbers stay light.
            {"mark": {"type": "text", "color": "#111111"}, "encoding": {**shared, "text": {"field": "rank"}}},
        ],
    }
    return Chart("score-sensitivity", title, caption, alt, description(body, data, alt=alt),
                 chart_table("score-sensitivity", title, columns, rows))  # fmt: skip


def _names(order: Sequence[str]) -> dict[str, Any]:
    axis = {"ticks": False, "domain": False, "labelLimit": 300, "labelFontSize": 9.5}
    return {"field": "what", "type": "nominal", "sort": list(order), "title": None, "axis": axis}
