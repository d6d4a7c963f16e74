"""What the score is made of, and what happens when somebody argues about the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from engine.metrics import METRICS
from engine.report.charts.story import Story, chart_table
from engine.report.charts.style import PALETTE, WIDTH, description, rounded
from engine.report.numbers import Scale, quantity, significant
from engine.report.page import Chart, Column, Table

if TYPE_CHECKING:
    from engine.report.score_sheet import ScoreSheet
    from engine.score.weights import ScoreResult

_SHOWN: Final = 8
_SWAPS: Final = 15
_PLAIN: Final = Scale("", 1, 3)
_PARTS: Final = (
    Column("point", "Point"),
    Column("objective", "Objective"),
    Column("value", "Value"),
    Column("factor", "Factor", "What the value was turned into; larger is better.", "number", _PLAIN),
    Column("weight", "Weight", "Weight or exponent.", "number", _PLAIN),
    Column(
        "contribution", "Contribution", "What it adds to the score, or multiplies it by.", "number", _PLAIN
    ),
)


def score_charts(story: Story, result: ScoreResult | None) -> list[Chart]:
    """Bars of each objective's part of the score for the best points; a preset has its own picture."""
    if result is None or not result.ranked or result.scoring.preset is not None:
        return []
    factors = result.factors(min(_SHOWN, result.ranked)).to_pylist()
    scores = result.scores.slice(0, min(_SHOWN, result.ranked)).to_pylist()
    names, narrowing = names_of(story, scores), axes_of(story, scores)
    adds = result.scoring.aggregation == "weighted_sum"
    data: list[dict[str, Any]] = []
    rows = []
    for factor in factors:
        name = names[factor["point"], factor["variant"]]
        value = factor["contribution"] if adds else factor["factor"]
        part, text = label_of_objective(factor["metric"]), _text(factor)
        axes = narrowing[factor["point"], factor["variant"]]
        data.append({"what": name, "part": part, "value": rounded(value), "text": text, **axes})
        rows.append([name, part, text, factor["factor"], factor["weight"], factor["contribution"]])
    order = [names[row["point"], row["variant"]] for row in scores]
    parts = list(dict.fromkeys(row["part"] for row in data))
    title = "What the score is made of"
    how = (
        "Bars add up to the score."
        if adds
        else "Each bar is an objective's factor, 1 being the reference; the score is their weighted product."
    )
    alt = f"Bars of {len(parts)} objectives for the {len(order)} best points by score."
    body = _stacked(order, parts) if adds else _grouped(order, parts)
    return [
        Chart(
            "score-parts",
            title,
            how,
            alt,
            description(body, data, alt=alt),
            chart_table("score-parts", title, _PARTS, rows),
            tuple(sorted({f["metric"] for f in factors if f["metric"] in METRICS})),
        )
    ]


def score_sheet_of(story: Story, result: ScoreResult | None) -> ScoreSheet | None:
    """What the workbook's sheet of scores shows; None when nothing is ranked."""
    from engine.report.score_sheet import MOST_ROWS, ScoreSheet

    if result is None or not result.ranked:
        return None
    scores = result.scores.slice(0, min(MOST_ROWS, result.ranked)).to_pylist()
    names = names_of(story, scores)
    return ScoreSheet(result, tuple(names[row["point"], row["variant"]] for row in scores))


def names_of(story: Story, scores: list[dict[str, Any]]) -> dict[tuple[Any, Any], str]:
    """What to call the rows of a ranking, by point and variant."""
    numbers = story.rows.numbers("point")
    variants = story.rows.texts("variant")
    places = {(n, v): i for i, (n, v) in enumerate(zip(numbers, variants, strict=True))}
    found = {}
    for row in scores:
        place = places.get((row["point"], row["variant"] or ""))
        found[row["point"], row["variant"]] = (
            story.name(story.rows.take([place]).rows()[0]) if place is not None else "–"
        )
    return found


def axes_of(story: Story, scores: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, Any], dict[str, Any]]:
    """Device and number format of the rows of a ranking, by which a reader narrows every chart."""
    numbers, variants = story.rows.numbers("point"), story.rows.texts("variant")
    places = {key: i for i, key in enumerate(zip(numbers, variants, strict=True))}
    found = {}
    for row in scores:
        place = places.get((row["point"], row["variant"] or ""))
        known = story.rows.take([place]).rows()[0] if place is not None else {}
        found[row["point"], row["variant"]] = {name: known.get(name) for name in ("hardware", "quantization")}
    return found


def label_of_objective(metric: str) -> str:
    """Label of a metric, or the name of a factor that is none."""
    return METRICS[metric].label if metric in METRICS else metric


def _text(factor: dict[str, Any]) -> str:
    metric = METRICS.get(factor["metric"])
    return quantity(metric.name, metric.unit, factor["value"]) if metric else significant(factor["value"])


def _stacked(order: list[str], parts: list[str]) -> dict[str, Any]:
    return {
        "width": WIDTH - 230,
        "height": {"step": 24},
        "mark": {"type": "bar"},
        "encoding": {
            "y": _points(order),
            "x": {"field": "value", "type": "quantitative", "title": "Score", "stack": "zero"},
            **_shared(parts),
        },
    }


def _grouped(order: list[str], parts: list[str]) -> dict[str, Any]:
    return {
        "width": WIDTH - 230,
        "height": {"step": 12},
        "mark": {"type": "bar"},
        "encoding": {
            "y": _points(order),
            "yOffset": {"field": "part", "type": "nominal", "sort": parts},
            "x": {"field": "value", "type": "quantitative", "title": "Factor (1 is the reference)"},
            **_shared(parts),
        },
    }


def _points(order: list[str]) -> dict[str, Any]:
    axis = {"ticks": False, "domain": False, "labelLimit": 300, "labelFontSize": 9.5}
    return {"field": "what", "type": "nominal", "sort": order, "title": None, "axis": axis}


def _shared(parts: list[str]) -> dict[str, Any]:
    colors = [PALETTE[i % len(PALETTE)] for i in range(len(parts))]
    return {
        "color": {
            "field": "part",
            "type": "nominal",
            "title": None,
            "legend": {"columns": 2},
            "scale": {"domain": parts, "range": colors},
        },
        "tooltip": [
            {"field": "what", "title": "Point"},
            {"field": "part", "title": "Objective"},
            {"field": "text", "title": "Value"},
            {"field": "value", "title": "Part", "format": ".3~f"},
        ],
    }


def score_tables(story: Story, result: ScoreResult | None) -> list[Table]:
    """What a fifth more or less of each weight does to the ranking."""
    if result is None or not result.ranked:
        return []
    rows = []
    for row in result.sensitivity.to_pylist():
        names = names_of(story, [{"point": row["best_point"], "variant": row["best_variant"]}])
        change = _change(row["change"], ".0%")
        rows.append(
            (
                label_of_objective(row["metric"]),
                change,
                "another point wins" if row["best_changed"] else "the same point wins",
                next(iter(names.values())),
                row["swapped_pairs"],
                row["pairs"],
                row["largest_move"],
            )
        )
    if not rows:
        return []
    columns = (
        Column("metric", "Objective"),
        Column("change", "Weight changed by"),
        Column("outcome", "Outcome"),
        Column("best", "Best point then"),
        Column("swapped", "Pairs turned round", "Pairs of the best 200 rows whose order turns.", "number"),
        Column("pairs", "Pairs compared", "", "number"),
        Column("move", "Largest move", "Most places that one of them moves.", "number"),
    )
    firm = Table("sensitivity", "How firm the ranking is", columns, tuple(rows), len(rows))
    swaps = _swaps(story, result)
    return [firm] if swaps is None else [firm, swaps]


def _swaps(story: Story, result: ScoreResult) -> Table | None:
    """Pairs whose order turns, those at the top of the ranking first."""
    best = result.scores.slice(0, result.ranked).to_pylist()
    ranks = {(row["point"], row["variant"]): row["rank"] for row in best}
    pairs = sorted(
        result.swaps.to_pylist(),
        key=lambda pair: (ranks[pair["point"], pair["variant"]], abs(pair["equal_at"])),
    )
    if not pairs:
        return None
    rows = []
    for pair in pairs[:_SWAPS]:
        sides = (
            {"point": pair["point"], "variant": pair["variant"]},
            {"point": pair["overtaken_by"], "variant": pair["overtaken_by_variant"]},
        )
        ahead, behind = names_of(story, list(sides)).values()
        change = _change(pair["equal_at"], ".1%")
        ranked = tuple(ranks[side["point"], side["variant"]] for side in sides)
        rows.append((label_of_objective(pair["metric"]), change, ranked[0], ahead, ranked[1], behind))
    columns = (
        Column("metric", "Objective"),
        Column("equal_at", "Equal at", "Change of the objective's weight at which both scores are equal."),
        Column("rank", "Rank", "", "number"),
        Column("ahead", "Ahead now"),
        Column("rank_behind", "Rank", "", "number"),
        Column("behind", "Ahead beyond that"),
    )
    left = len(pairs) - len(rows)
    others = f"The {len(rows)} highest in the ranking; engine score RUN --format json lists {left:,} more."
    note = others if left else ""
    return Table("swaps", "Pairs that change places within a fifth", columns, tuple(rows), len(pairs), note)


def _change(share: float, form: str) -> str:
    return f"{'+' if share > 0 else '−'}{abs(share):{form}}"
