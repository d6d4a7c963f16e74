"""The score as a sheet to argue with: change a weight or a reference and the ranking moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.metrics import METRICS
from engine.report.sheets import Formula, Sheet, Workbook

if TYPE_CHECKING:
    from engine.score.normalise import Factor
    from engine.score.weights import ScoreResult
    from engine.spec.scoring import Objective

MOST_ROWS: Final = 1_000
"""Best rows on the sheet; a formula for each of a million points would not open."""
MOST_PLACES: Final = 10
_NUMBER: Final = "0.####"
_ARITHMETIC: Final = {
    ("ratio", True): "value / reference",
    ("ratio", False): "reference / value",
    ("log_ratio", True): "1 + log2(value / reference)",
    ("log_ratio", False): "1 + log2(reference / value)",
    **{("target", up): "max(0, 1 - |value - reference| / tolerance)" for up in (True, False)},
    **{("min_max", up): "(value - worst) / (reference - worst)" for up in (True, False)},
}
"""Value to factor without numbers, which the cells beside it hold; by normalisation and better direction."""


@dataclass(frozen=True)
class ScoreSheet:
    """What the sheet shows."""

    result: ScoreResult
    names: tuple[str, ...]
    """What each of the first rows of `result.scores` is called."""


def score_sheet(book: Workbook, shown: ScoreSheet) -> None:
    """Write the sheet `Score`: weights and references to change, and rows whose scores follow them."""
    if shown.result.scoring.preset is not None:
        _preset(book, shown)
    elif shown.result.objectives and shown.result.ranked:
        _objectives(book, shown)


def _objectives(book: Workbook, shown: ScoreSheet) -> None:
    result = shown.result
    factors, objectives = result.objectives, result.scoring.objectives
    count = len(factors)
    sheet = book.sheet("Score", widths=(44, 14, 14, 14, 16, 40, *(14 for _ in range(2 * count))))
    sheet.add([book.text(sheet, "Change a weight or a reference: scores and ranks follow.", font=book.bold)])
    book.heads(sheet, ("Objective", "Weight", "Share", "Reference", "Worst or tolerance", "Factor"))
    first = sheet.row + 1
    last = first + count - 1
    plain = result.scoring.aggregation == "product"
    for factor, objective in zip(factors, objectives, strict=True):
        row = sheet.row + 1
        share = f"=B{row}" if plain else f"=B{row}/SUM($B${first}:$B${last})"
        sheet.add(
            [
                book.text(sheet, _label(factor.metric)),
                book.number(sheet, objective.weight, _NUMBER),
                book.formula(sheet, Formula(share, factor.weight), _NUMBER),
                None if factor.reference is None else book.number(sheet, factor.reference),
                None if factor.other is None else book.number(sheet, factor.other),
                book.text(sheet, _ARITHMETIC[objective.kind, objective.higher]),
            ]
        )
    sheet.add([])
    added = result.scoring.aggregation == "weighted_sum"
    how = "sum of factors, each times its share" if added else "product of factors, each to its share"
    sheet.add([book.text(sheet, f"Score: {how}.", font=book.quiet)])
    sheet.add([])
    _places(book, sheet, shown)
    sheet.add([])
    _ranking(book, sheet, shown, first)
    for note in result.notes:
        sheet.add([book.text(sheet, note, font=book.quiet)])


def _places(book: Workbook, sheet: Sheet, shown: ScoreSheet) -> None:
    """Who is first, second and so on under the weights above; the table below gives each row its place."""
    scores = shown.result.scores.slice(0, min(shown.result.ranked, MOST_ROWS)).to_pylist()
    places = min(MOST_PLACES, len(scores))
    book.heads(sheet, ("Ranking now", "Place", "Score"))
    start = sheet.row + places + 3  # an empty line and the headings of the table come between
    end = start + len(scores) - 1
    order = _letter(5 + 2 * len(shown.result.objectives))
    for i in range(places):
        found = f"MATCH(B{sheet.row + 1},${order}${start}:${order}${end},0)"
        name = Formula(f"=INDEX($A${start}:$A${end},{found})", _called(shown, i))
        score = Formula(f"=INDEX($D${start}:$D${end},{found})", scores[i]["score"])
        sheet.add([book.formula(sheet, name), book.number(sheet, i + 1), book.formula(sheet, score, _NUMBER)])


def _called(shown: ScoreSheet, row: int) -> str:
    """What a row of the ranking is called."""
    if row < len(shown.names):
        return shown.names[row]
    return f"point {shown.result.scores['point'][row].as_py()}"


def _ranking(book: Workbook, sheet: Sheet, shown: ScoreSheet, first: int) -> None:
    """One line a row: rank, score, value and factor of each objective, then its place among all."""
    result = shown.result
    count = len(result.objectives)
    heads = ["Point", "Rank now", "Rank in the spec", "Score", "Interval of the score"]
    for factor in result.objectives:
        heads += [_label(factor.metric), f"Factor of {METRICS[factor.metric].label.lower()}"]
    book.heads(sheet, [*heads, "Place now"])
    scores = result.scores.slice(0, min(result.ranked, MOST_ROWS)).to_pylist()
    start, end = sheet.row + 1, sheet.row + len(scores)
    for i, row in enumerate(scores):
        line = sheet.row + 1
        cells: list[Any] = [
            book.text(sheet, _called(shown, i)),
            book.formula(sheet, Formula(f"=RANK(D{line},$D${start}:$D${end})", row["rank"])),
            book.number(sheet, row["rank"]),
            book.formula(sheet, Formula(_score(result, first, line), row["score"]), _NUMBER),
            None if row["score_low"] is None else book.text(sheet, _interval(row)),
        ]  # fmt: skip
        for k, factor in enumerate(result.objectives):
            cells += _value_and_factor(
                book, sheet, result.scoring.objectives[k], factor, i, k, first + k, line
            )
        # Rows of equal score share a rank, but every place has one row: the first of them comes first.
        place = f"=RANK(D{line},$D${start}:$D${end})+COUNTIF($D${start}:D{line},D{line})-1"
        sheet.add([*cells, book.formula(sheet, Formula(place, i + 1))])
    if result.ranked > MOST_ROWS:
        sheet.add([book.text(sheet, f"{result.ranked - MOST_ROWS:,} more rows; ranks here count these only")])
    unranked = result.scores.num_rows - result.ranked
    if unranked:
        sheet.add([book.text(sheet, f"{unranked:,} rows are not ranked; `eligible` in the scores says why")])
    sheet.page.auto_filter.ref = f"A{start - 1}:{_letter(5 + 2 * count)}{max(end, start)}"


def _interval(row: dict[str, Any]) -> str:
    return f"{row['score_low']:.4g} to {row['score_high']:.4g}"


def _score(result: ScoreResult, first: int, line: int) -> str:
    """The score of a line from its factors and the shares above."""
    pairs = [(f"{_letter(6 + 2 * k)}{line}", f"$C${first + k}") for k in range(len(result.objectives))]
    if result.scoring.aggregation == "weighted_sum":
        return "=" + "+".join(f"{share}*{factor}" for factor, share in pairs)
    return "=" + "*".join(f"{factor}^{share}" for factor, share in pairs)


def _value_and_factor(
    book: Workbook,
    sheet: Sheet,
    objective: Objective,
    factor: Factor,
    row: int,
    k: int,
    weight_row: int,
    line: int,
) -> list[Any]:
    """The value of an objective and its factor, live where the arithmetic is that of a cell."""
    value, known = float(factor.values[row]), float(factor.factor[row])
    if math.isnan(value):  # a penalty: there is no value to work with
        return [None, book.number(sheet, known, _NUMBER)]
    cell, reference, other = f"{_letter(5 + 2 * k)}{line}", f"$D${weight_row}", f"$E${weight_row}"
    ratio = f"{cell}/{reference}" if objective.higher else f"{reference}/{cell}"
    formulas = {
        "ratio": f"={ratio}",
        "log_ratio": f"=1+LOG({ratio},2)",
        "target": f"=MAX(0,1-ABS({cell}-{reference})/{other})",
        "min_max": f"=({cell}-{other})/({reference}-{other})",
    }
    if objective.kind == "min_max" and factor.other is None:  # all values are equal
        return [book.number(sheet, value), book.number(sheet, known, _NUMBER)]
    return [book.number(sheet, value), book.formula(sheet, Formula(formulas[objective.kind], known), _NUMBER)]


def _preset(book: Workbook, shown: ScoreSheet) -> None:
    """The best result of a preset, factor by factor, with live products and weights."""
    result = shown.result
    rows = result.factors(1).to_pylist()
    if not result.ranked or not rows:
        return
    sheet = book.sheet("Score", widths=(16, 30, 16, 16, 16, 44))
    title = f"{result.scoring.preset}: {shown.names[0] if shown.names else ''}".rstrip(": ")
    sheet.add([book.text(sheet, title, font=book.bold)])
    sheet.add(
        [book.text(sheet, "Change a value, a reference or a weight: the score follows.", font=book.quiet)]
    )
    book.heads(sheet, ("Part", "Factor", "Value", "Reference", "Factor", "Arithmetic"))
    spans: dict[str, list[int]] = {}
    kernels: int | None = None
    for row in rows:
        if row["part"] == "score":
            continue
        line = sheet.row + 1
        spans.setdefault(row["part"], []).append(line)
        same = kernels
        if row["metric"] == "kernel_ratio" and kernels is None:
            kernels = line
        sheet.add(
            [
                book.text(sheet, row["part"]),
                book.text(sheet, _label(row["metric"])),
                _value_cell(book, sheet, row, same),
                None if row["reference"] is None else book.number(sheet, row["reference"]),
                _factor_cell(book, sheet, row, line),
                book.text(sheet, row["formula"]),
            ]
        )
    sheet.add([])
    _totals(book, sheet, rows, spans, result.scores["score"][0].as_py())
    for note in result.notes:
        sheet.add([book.text(sheet, note, font=book.quiet)])


def _value_cell(book: Workbook, sheet: Sheet, row: dict[str, Any], same: int | None) -> Any:
    """A value to change; the kernel share, which several parts use, stands once and is looked up."""
    if row["value"] is None:
        return book.text(sheet, "unknown", font=book.quiet)
    if row["metric"] == "kernel_ratio" and same is not None:
        return book.formula(sheet, Formula(f"=C{same}", row["value"]))
    return book.number(sheet, row["value"])


def _factor_cell(book: Workbook, sheet: Sheet, row: dict[str, Any], line: int) -> Any:
    live = {
        "value / reference": f"=C{line}/D{line}",
        "reference / value": f"=D{line}/C{line}",
        "1 + value": f"=1+C{line}",
        "0.1 + value": f"=0.1+C{line}",
        "value": f"=C{line}",
        "1 from the reference on, else 0": f"=IF(C{line}>=D{line},1,0)",
    }.get(row["formula"])
    if live is None:
        return book.number(sheet, row["factor"], _NUMBER)
    return book.formula(sheet, Formula(live, row["factor"]), "0.000000")


def _totals(
    book: Workbook, sheet: Sheet, rows: Sequence[dict[str, Any]], spans: dict[str, list[int]], score: float
) -> None:
    """Products of the parts and their weighted sum; the contest adds up one product a prompt."""
    book.heads(sheet, ("Part", "", "Product", "Weight", "Contribution"))
    weights = {row["metric"].split()[0]: row["weight"] for row in rows if row["part"] == "score"}
    first = sheet.row + 1
    for part, lines in spans.items():
        line = sheet.row + 1
        groups = _groups(rows, part, lines)
        text = "=" + "+".join(f"PRODUCT(E{a}:E{b})" for a, b in groups)
        factors = [row["factor"] for row in rows if row["part"] == part]
        size = len(factors) // len(groups)
        value = sum(math.prod(factors[i : i + size]) for i in range(0, len(factors), size))
        weight = weights.get(part, 1.0)
        sheet.add(
            [
                book.text(sheet, part),
                None,
                book.formula(sheet, Formula(text, value), "0.000000"),
                book.number(sheet, weight, _NUMBER),
                book.formula(sheet, Formula(f"=C{line}*D{line}", value * weight), "0.000000"),
            ]
        )
    total = Formula(f"=SUM(E{first}:E{sheet.row})", score)
    sheet.add(
        [book.text(sheet, "score", font=book.bold), None, None, None, book.formula(sheet, total, "0.000000")]
    )


def _groups(rows: Sequence[dict[str, Any]], part: str, lines: list[int]) -> list[tuple[int, int]]:
    """First and last line of each product of a part: one, or one a prompt."""
    kinds = len({row["metric"] for row in rows if row["part"] == part})
    return [(lines[i], lines[i + kinds - 1]) for i in range(0, len(lines), kinds)]


def _label(metric: str) -> str:
    known = METRICS.get(metric)
    if known is None:
        return metric
    return f"{known.label} ({known.unit})" if known.unit else known.label


def _letter(column: int) -> str:
    """Letters of a column counted from 0."""
    from openpyxl.utils import get_column_letter

    return str(get_column_letter(column + 1))
