"""The table of points: what was varied, the numbers, and what became of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from engine.metrics import METRICS
from engine.report.charts.story import Story, label_of, setting_column
from engine.report.choose import pareto_front
from engine.report.numbers import Scale, scale_for
from engine.report.page import Column, Table, Value
from engine.report.workloads import words
from engine.results.tables import POINTS
from engine.units import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_ROWS: Final = 5_000
"""Rows shown; beyond that the ranked best, the front and the nearest misses, with a note."""
BEST_ROWS: Final = 40
"""Rows on paper: WeasyPrint takes 20 ms for each."""
_FIRST: Final[tuple[str, ...]] = (
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "output_tokens_per_s_per_device",
    "output_tokens_per_s_per_user",
    "memory_needed_bytes",
    "memory_free_bytes",
    "energy_per_output_token_j",
    "cost_per_million_output_tokens_usd",
    "training_sequences_per_s",
    "training_mfu",
)
_POINT_SETTINGS: Final = frozenset(column.name for column in POINTS)
_SCORE: Final = Column(
    "score",
    "Score",
    "Weighted score of the spec's objectives; 1 is the reference.",
    "number",
    Scale("", 1, 3),
)


def shown_rows(story: Story) -> NDArray[np.int64]:
    """Which judged rows are listed: all, or at most `MOST_ROWS` of them in the plan's order."""
    import numpy as np

    size = story.rows.size
    if size <= MOST_ROWS:
        return np.arange(size)
    front = pareto_front(
        np.where(story.choice.among, story.rows.numbers("output_tokens_per_s_per_user"), np.nan),
        story.rows.numbers("output_tokens_per_s_per_device"),
    )
    ok = story.rows.mask("status", "ok")
    chosen: dict[int, None] = dict.fromkeys(int(i) for i in front[:1000])
    chosen.update(dict.fromkeys(story.choice.order))
    values = np.where(ok, story.rows.numbers(story.choice.metric), np.nan)
    ranked = np.argsort(-values if story.choice.higher else values, kind="stable")[:MOST_ROWS]
    chosen.update(dict.fromkeys(int(i) for i in ranked))
    return np.sort(np.array(list(chosen)[:MOST_ROWS], dtype=np.int64))


def points_table(story: Story) -> Table:
    """Judged rows with settings, metrics, status and reason; every metric that has a value is a column."""
    picked = shown_rows(story)
    rows = story.rows.take(picked).rows()
    columns = _columns(story, rows)
    values = tuple(tuple(_value(story, column, row) for column in columns) for row in rows)
    total = story.rows.size
    note = ""
    if total > len(rows):
        note = (
            f"{counted(len(rows), 'row')} of {total:,}: the best by rank and the trade-off front. "
            f"The other {total - len(rows):,} are in the run's tables; `engine export RUN summary` "
            "writes all of them."
        )
    return Table("points", "Points", columns, values, total, note,
                 units=tuple(METRICS[c.metric].unit if c.metric else "" for c in columns),
                 intervals=_intervals(columns, rows))  # fmt: skip


def best_table(story: Story, points: Table) -> Table:
    """The best rows by rank, for paper."""
    picked = list(story.choice.order[:BEST_ROWS])
    rows = story.rows.take(picked).rows()
    values = tuple(tuple(_value(story, column, row) for column in points.columns) for row in rows)
    of = f" at {words(story.choice.workload)}" if story.choice.workload else ""
    note = (
        f"The best {counted(len(rows), 'point')}{of} by rank. All {points.total:,} are in the HTML "
        "report and in the workbook."
    )
    return Table(
        "best",
        "Best points",
        points.columns,
        values,
        points.total,
        note,
        points.units,
        _intervals(points.columns, rows),
    )


_BRIEF: Final = frozenset(
    {"model", "hardware", "quantization", "batch_size", "tensor", "score", "ttft_s", "tpot_s",
     "output_tokens_per_s_per_device", "energy_per_output_token_j", "cost_per_million_output_tokens_usd"}
)  # fmt: skip
"""Columns of a table that has the width of a page."""


def best_of_workloads(story: Story) -> tuple[Table, ...]:
    """The best point of each pair of lengths; nothing where all points do the same work."""
    if story.choice.workload is None:
        return ()
    picked = list(story.choice.best_of_each_workload)
    rows = story.rows.take(picked).rows()
    columns = tuple(column for column in _columns(story, rows) if not column.optional)
    lengths = [c for c in columns if c.name in ("prompt_tokens", "output_tokens")]
    columns = (*lengths, *(c for c in columns if c not in lengths and c.name in _BRIEF))
    values = tuple(tuple(_value(story, column, row) for column in columns) for row in rows)
    units = tuple(METRICS[c.metric].unit if c.metric else "" for c in columns)
    left = len(story.choice.workloads.lengths) - len(rows)
    note = f"{counted(left, 'further workload')} without a best point or not listed." if left > 0 else ""
    return (
        Table("best-of-workloads", "Best point of each workload", columns, values, len(rows), note, units,
              _intervals(columns, rows)),
    )  # fmt: skip


def _columns(story: Story, rows: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    """Varied settings, then the main metrics, then what else there is (hidden until asked for)."""
    settings = [setting_column(name) for name in story.varied]
    if any(row.get("variant") for row in rows):
        settings.append(Column("variant", label_of("variant"), "What else tells rows of one point apart."))
    present = [
        name
        for name in METRICS
        if name not in _POINT_SETTINGS and any(row.get(name) is not None for row in rows)
    ]
    main = [name for name in _FIRST if name in present]
    rest = [name for name in present if name not in main]
    if not main:
        main, rest = rest[:6], rest[6:]
    metrics = [_metric(name, rows, optional=False) for name in main]
    more = [_metric(name, rows, optional=True) for name in rest]
    score = [_SCORE] if any(row.get("score") is not None for row in rows) else []
    ends = (
        [Column("bound", label_of("bound"), "What limits the phase.")]
        if any(r.get("bound") for r in rows)
        else []
    )
    ends += [
        Column(
            "basis",
            label_of("basis"),
            "bound (data sheet), estimate (calibrated) or measured.",
            optional=True,
        ),
        Column("status", label_of("status"), "ok, or what kept the point from a result."),
    ]
    if any(row.get("reason") for row in rows):
        ends.append(
            Column(
                "reason",
                label_of("reason"),
                "Why a row is not ok, or what a reader must know.",
                optional=True,
            )
        )
    number = Column("point", label_of("point"), "Number of the design point.", "number", optional=True)
    return (*settings, *score, *metrics, *ends, *more, *_counts(present, rows), number)


def _metric(name: str, rows: Sequence[Mapping[str, Any]], *, optional: bool) -> Column:
    metric = METRICS[name]
    scale = scale_for(name, metric.unit, [row.get(name) for row in rows])
    return Column(
        name, metric.label, metric.definition, "number", scale, name, optional, f"{name}_low", f"{name}_high"
    )


def _counts(present: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """`n` and percentiles of measured metrics."""
    found = []
    for name in present:
        metric = METRICS[name]
        for suffix, word in (
            ("_n", "n"),
            ("_p50", "median"),
            ("_p90", "p90"),
            ("_p95", "p95"),
            ("_p99", "p99"),
        ):
            column = name + suffix
            if any(row.get(column) is not None for row in rows):
                scale = (
                    Scale("")
                    if suffix == "_n"
                    else scale_for(name, metric.unit, [r.get(column) for r in rows])
                )
                found.append(
                    Column(column, f"{metric.label}, {word}", metric.definition, "number", scale, name, True)
                )
    return found


def _value(story: Story, column: Column, row: Mapping[str, Any]) -> Value:
    value = row.get(column.name)
    if isinstance(value, str):
        return (
            story.redact.text(value)
            .replace("does_not_fit", "does not fit")
            .replace("beyond_context", "beyond context")
        )
    if isinstance(value, float) and value != value:
        return None
    if value is None or isinstance(value, bool | int | float):
        return value
    return story.redact.text(value)


def _intervals(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]
) -> tuple[tuple[tuple[float, float] | None, ...], ...]:
    bounded = [c for c in columns if c.low and any(row.get(c.low) is not None for row in rows)]
    if not bounded:
        return ()
    names = {c.name for c in bounded}
    return tuple(tuple(_interval(c, row) if c.name in names else None for c in columns) for row in rows)


def _interval(column: Column, row: Mapping[str, Any]) -> tuple[float, float] | None:
    low, high = row.get(column.low or ""), row.get(column.high or "")
    return None if low is None or high is None else (float(low), float(high))
