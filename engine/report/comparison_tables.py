"""The tables of a comparison: every change with its verdict, what had no partner, and what differed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.metrics import METRICS
from engine.report.charts.story import setting_column
from engine.report.clean import Redactor
from engine.report.numbers import Scale, quantity, scale_for, significant
from engine.report.page import Column, Table, Value
from engine.report.points import BEST_ROWS, MOST_ROWS
from engine.results.compared import Against, Change, ComparedPoint, Comparison, Verdict
from engine.results.judging import metric_of
from engine.results.matching import FIELDS, Identity
from engine.results.significance import Side
from engine.units import counted

PERCENT: Final = Scale("%", 0.01, 1)
_NUMBER: Final = Scale("", 1, 4)
_URGENCY: Final[dict[Verdict, int]] = {
    "regressed": 0,
    "improved": 1,
    "changed": 2,
    "unknown": 3,
    "within noise": 4,
}
FOREMOST: Final = (
    "output_tokens_per_s_per_device", "output_tokens_per_s", "ttft_s", "tpot_s", "e2e_s",
    "energy_per_output_token_j", "average_power_w", "time_s",
)  # fmt: skip
"""Metrics that people look at first: their changes are told before larger ones of others."""
_LENGTHS: Final = ("prompt_tokens", "output_tokens")
"""Fields that a label names together."""
_MOST_DIFFERENCES: Final = 300


@dataclass(frozen=True)
class Line:
    """One row of the table of changes: a metric, or the status, of one point in one run."""

    against: Against
    point: ComparedPoint
    change: Change | None
    """None for a change of status."""

    @property
    def verdict(self) -> Verdict:
        """Of the change, or of the status."""
        return self.change.verdict if self.change else self.point.status_verdict

    @property
    def reason(self) -> str:
        """Why this verdict."""
        return self.change.reason if self.change else self.point.status_reason

    @property
    def is_foremost(self) -> bool:
        """Whether it is of a status or of a metric that people look at first."""
        return self.change is None or metric_of(self.change.metric) in FOREMOST

    @property
    def size(self) -> float:
        """How large the change is, for sorting; a status is larger than any number."""
        if self.change is None:
            return float("inf")
        found = self.change.relative
        # Rounded, so that equal shares stay in the order of their points.
        return round(abs(found), 9) if found is not None else 1e300


def lines_of(comparison: Comparison) -> list[Line]:
    """Every change, worst news first; the same order whatever order the rows came in."""
    found = [line for against in comparison.against for line in _lines(against)]
    return sorted(found, key=lambda line: (_URGENCY[line.verdict], not line.is_foremost, -line.size))


@dataclass
class News:
    """A line that stands for others like it."""

    line: Line
    metrics: int = 0
    """How many more metrics of its point changed by the very same share."""
    points: int = 0
    """At how many more points its metric went from the same value to the same value."""

    @property
    def lines(self) -> int:
        """How many lines of the table it stands for, itself included."""
        return (1 + self.metrics) * (1 + self.points)

    @property
    def metric(self) -> str:
        """`Output throughput and 3 alike`, `Status`."""
        change = self.line.change
        name = metric_label(change.metric) if change else "Status"
        return f"{name} and {self.metrics} alike" if self.metrics else name

    def point(self, varied: Sequence[str]) -> str:
        """`bf16, batch 1 and 70 points more`."""
        name = short_name(self.line.point, varied)
        return f"{name} and {counted(self.points, 'point')} more" if self.points else name


def distinct(lines: Sequence[Line]) -> list[News]:
    """Each piece of news once: throughputs of one time change by one share, and a setting of the whole run
    by the same values at every point."""
    of_point: dict[tuple[Any, ...], News] = {}
    for line in lines:
        share = line.change.relative if line.change else None
        key = (id(line.point), line.verdict, id(line) if share is None else round(share, 9))
        if key in of_point:
            of_point[key].metrics += 1
        else:
            of_point[key] = News(line)
    found: dict[tuple[Any, ...], News] = {}
    for news in of_point.values():
        line, change = news.line, news.line.change
        values = (id(line),) if change is None else (change.metric, change.before, change.after)
        alike = (id(line.against), line.verdict, news.metrics, *values)
        if alike in found:
            found[alike].points += 1
        else:
            found[alike] = news
    return list(found.values())


def _lines(against: Against) -> Iterator[Line]:
    for point in against.points:
        if point.status_verdict != "within noise":
            yield Line(against, point, None)
        for change in point.changes:
            yield Line(against, point, change)


def varied_fields(comparison: Comparison) -> tuple[str, ...]:
    """Fields in which the compared points differ from each other; `source` where their sources do."""
    points = [point for against in comparison.against for point in against.points]
    found = [f for f in FIELDS if len({point.identity.get(f) for point in points}) > 1]
    return (*found, "source") if len({sources_of(point) for point in points}) > 1 else tuple(found)


def sources_of(point: ComparedPoint) -> str:
    """`live`, `predicted against live`."""
    return " against ".join(dict.fromkeys((point.identity.source, point.other.source)))


def short_name(point: ComparedPoint, varied: Sequence[str]) -> str:
    """A point by what tells it from the others."""
    told = {*varied, *(_LENGTHS if any(name in varied for name in _LENGTHS) else ())}
    values = tuple(v if f in told else None for f, v in zip(FIELDS, point.identity.values, strict=True))
    label = point.identity.label
    if any(value is not None for value in values):
        label = Identity(values, point.identity.source, point.identity.phase).label
        label = label.removeprefix("model unknown, ").removeprefix("model unknown on ")
    return f"{label}, {sources_of(point)}" if "source" in varied else label


def metric_label(column: str) -> str:
    """`Time to first token`, `Time to first token, p99`."""
    base = metric_of(column)
    return METRICS[base].label + (f", {column.rpartition('_')[2]}" if base != column else "")


def side_text(column: str, side: Side) -> str:
    """`12.3 ms [12.1, 12.5]`: a value with its interval."""
    base = metric_of(column)
    unit = METRICS[base].unit
    shown = quantity(base, unit, side.value)
    if side.low is None or side.high is None:
        return shown
    scale = scale_for(base, unit, [side.value])
    ends = ", ".join(significant(end / scale.factor) for end in (side.low, side.high))
    return f"{shown} [{ends}]"


def change_text(change: Change) -> str:
    """`+12.3 % [+10.1, +14.5]`, or the difference where a share of nothing says nothing."""
    if change.relative is None:
        base = metric_of(change.metric)
        sign = "+" if change.contrast.difference > 0 else ""
        return sign + quantity(base, METRICS[base].unit, change.contrast.difference)
    text = f"{percent(change.relative)} %"
    low, high = change.relative_low, change.relative_high
    if low is None or high is None or low == high:
        return text
    return f"{text} [{percent(low)}, {percent(high)}]"


def percent(share: float) -> str:
    """`+12.3`; small ones keep two significant digits."""
    number = 100 * share
    if abs(number) >= 1000:
        text = f"{number:+,.0f}"
    else:
        text = f"{number:+.1f}" if abs(number) >= 0.05 or not number else f"{number:+.1g}"
    return text.replace("-", "−")


def changes_table(comparison: Comparison, redact: Redactor, *, most: int = MOST_ROWS) -> Table:
    """Every change with its values, interval and verdict, worst news first."""
    lines = lines_of(comparison)
    shown = lines[:most]
    varied = varied_fields(comparison)
    several = len(comparison.against) > 1
    columns = _columns(varied, several=several)
    rows = tuple(tuple(_cells(line, varied, redact, several=several)) for line in shown)
    note = ""
    if len(lines) > len(shown):
        note = f"{len(shown):,} of {len(lines):,} rows, worst news first; `engine compare --json` has all."
    place = next(i for i, column in enumerate(columns) if column.name == "change")
    between = tuple(
        tuple(_interval(line) if i == place else None for i in range(len(columns))) for line in shown
    )
    return Table("points", "Changes", columns, rows, len(lines), note, intervals=between)


def worst_table(table: Table) -> Table:
    """The rows worth paper: the first ones."""
    note = (
        f"The first {min(BEST_ROWS, len(table.rows)):,} of {table.total:,} rows, worst news first. All are "
        "in the HTML report and in the workbook."
    )
    return Table(
        "best",
        "Changes",
        table.columns,
        table.rows[:BEST_ROWS],
        table.total,
        note,
        intervals=table.intervals[:BEST_ROWS],
    )


def _interval(line: Line) -> tuple[float, float] | None:
    change = line.change
    if change is None or change.relative_low is None or change.relative_high is None:
        return None
    if change.relative_low == change.relative_high:
        return None
    return change.relative_low, change.relative_high


def _columns(varied: Sequence[str], *, several: bool) -> tuple[Column, ...]:
    found = [Column("verdict", "Verdict", "improved, regressed, changed, within noise or unknown.")]
    if several:
        found.append(Column("run", "Run", "The run that is compared with the baseline."))
    found += [
        Column("label", "Metric", "What is compared."),
        Column(
            "change", "Change", "Difference over the value before, with its 95 % interval.", "number", PERCENT
        ),
        *(setting_column(name) for name in varied if name != "source"),
        Column("before", "Before", "In the baseline, with its 95 % interval (a prediction: its 90 % band)."),
        Column("after", "Now", "In the other run."),
        Column("reason", "Why", "What the verdict rests on."),
        Column("notes", "To know", "What stands between the two points besides the numbers.", optional=True),
        Column("point", "Point", "The point in full.", optional=True),
        Column("sources", "Sources", "Where the values come from.", optional="source" not in varied),
        Column("phase", "Phase", "", optional=True),
        Column("metric", "Metric's name", "Column of `summary`.", optional=True),
        Column("before_value", "Before, exactly", "In the base unit.", "number", _NUMBER, optional=True),
        Column("after_value", "Now, exactly", "In the base unit.", "number", _NUMBER, optional=True),
        Column("unit", "Base unit", "", optional=True),
        Column(
            "p", "p", "Chance of such a difference when nothing changed.", "number", _NUMBER, optional=True
        ),
        Column("p_corrected", "p, corrected", "For the number of tests.", "number", _NUMBER, optional=True),
    ]
    return tuple(found)


def _cells(line: Line, varied: Sequence[str], redact: Redactor, *, several: bool) -> Iterator[Value]:
    point, change = line.point, line.change
    yield line.verdict
    if several:
        yield redact.text(line.against.run.title)
    yield metric_label(change.metric) if change else "Status"
    yield change.relative if change else None
    for name in varied:
        if name == "source":
            continue
        value = point.identity.get(name)
        yield redact.text(value) if isinstance(value, str) else value
    yield side_text(change.metric, change.before) if change else _words(point.status[0])
    yield side_text(change.metric, change.after) if change else _words(point.status[1])
    yield redact.text(line.reason)
    yield redact.text("; ".join(point.notes)) or None
    yield redact.text(point.identity.label)
    yield sources_of(point)
    yield point.identity.phase
    yield change.metric if change else "status"
    yield change.before.value if change else None
    yield change.after.value if change else None
    yield METRICS[metric_of(change.metric)].unit if change else None
    yield change.contrast.p if change else None
    yield change.p_corrected if change else None


def _words(status: str) -> str:
    return status.replace("_", " ")


def unmatched_table(comparison: Comparison, redact: Redactor) -> Table:
    """Points that only one run has, each with the reason."""
    found = [(against, one) for against in comparison.against for one in against.unmatched]
    names = {comparison.baseline.letter: comparison.baseline.title}
    names |= {against.run.letter: against.run.title for against in comparison.against}
    rows = [
        (
            redact.text(names[one.letter]),
            redact.text(against.run.title if one.letter == comparison.baseline.letter else names["A"]),
            redact.text(one.identity.label),
            one.identity.source,
            one.identity.phase,
            redact.text(one.reason),
        )
        for against, one in found
    ]
    columns = (
        Column("run", "Only in", "The run that has the point."),
        Column("other", "Not in", "The run that it was looked for in."),
        Column("point", "Point"),
        Column("source", "Source"),
        Column("phase", "Phase"),
        Column("reason", "Why it has no partner"),
    )
    return _table("unmatched", "Points without a partner", columns, rows)


def differences_tables(comparison: Comparison, redact: Redactor, *, which: str) -> tuple[Table, ...]:
    """One table a run: what its `spec` or its `environment` has otherwise than the baseline's."""
    found = []
    for against in comparison.against:
        values = against.spec if which == "spec" else against.environment
        columns = (
            Column("path", "Setting" if which == "spec" else "What"),
            Column("before", redact.text(comparison.baseline.title)),
            Column("after", redact.text(against.run.title)),
        )
        rows = [
            (
                redact.text(one.path),
                *(
                    redact.entry(one.path, text) if text is not None else None
                    for text in (one.before, one.after)
                ),
            )
            for one in values
        ]
        title = f"{'Spec' if which == 'spec' else 'Environment'}: {redact.text(against.run.title)}"
        if rows:
            found.append(_table(f"{which}-{against.run.letter.lower()}", title, columns, rows))
    return tuple(found)


def _table(name: str, title: str, columns: Sequence[Column], rows: Iterable[Sequence[Value]]) -> Table:
    listed = [tuple(row) for row in rows]
    more = len(listed) - _MOST_DIFFERENCES
    note = f"{more:,} more rows; `engine compare --json` has all of them." if more > 0 else ""
    return Table(name, title, tuple(columns), tuple(listed[:_MOST_DIFFERENCES]), len(listed), note)
