"""What a training run left behind: its metrics, its curves, and who does the multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from engine.metrics import METRICS
from engine.report.charts.story import chart_table, filtered_by
from engine.report.charts.style import PALETTE, QUIET, WIDTH, description, rounded
from engine.report.numbers import Scale, quantity, significant
from engine.report.page import Chart, Column, Section, Table

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_DOTS: Final = 2_000
"""Steps a curve shows; more would hide each other."""
_MOST_FILES: Final = 200
_METRICS: Final = (
    "training_mfu", "training_mfu_causal", "training_sequences_per_s", "training_step_s", "training_loss",
    "kernel_ratio", "training_flops_per_sequence", "training_flops_per_s_per_node",
)  # fmt: skip
_CURVES: Final = (
    ("training_loss", "training-loss", "Loss", "Loss"),
    ("sequences_per_s", "training-throughput", "Training throughput", "Throughput (sequences/s)"),
    ("learning_rate", "training-rate", "Learning rate", "Learning rate"),
)


def training_sections(tables: Mapping[str, pa.Table]) -> list[Section]:
    """The section of a training run; none where no training run was read."""
    rows = _training_rows(tables)
    if not rows:
        return []
    charts = tuple(chart for curve in _CURVES if (chart := _curve(tables, *curve)) is not None)
    found = (_metrics(rows), _kernels(tables))
    lead = "MFU twice: by the convention training scripts publish, and by what a causal model needs."
    shown = tuple(table for table in found if table is not None)
    return [Section("training", "Training", lead, charts, shown)]


def _training_rows(tables: Mapping[str, pa.Table]) -> list[dict[str, Any]]:
    import pyarrow.compute as pc

    summary = tables.get("summary")
    if summary is None or not summary.num_rows:
        return []
    phase = summary["phase"].cast("string")
    return [row for row in summary.filter(pc.equal(phase, "training")).to_pylist() if row["status"] == "ok"]


def _metrics(rows: list[dict[str, Any]]) -> Table | None:
    lines = []
    for row in rows:
        for name in _METRICS:
            value = row.get(name)
            if value is None:
                continue
            metric = METRICS[name]
            low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
            ends = [quantity(name, metric.unit, end) for end in (low, high) if end is not None]
            lines.append(
                (metric.label, quantity(name, metric.unit, value), " to ".join(ends), metric.definition)
            )
    if not lines:
        return None
    columns = (
        Column("metric", "Metric"),
        Column("value", "Value"),
        Column("interval", "95 % interval"),
        Column("definition", "Definition"),
    )
    note = "; ".join(dict.fromkeys(row["reason"] for row in rows if row.get("reason")))
    sentence = f"{note[:1].upper()}{note[1:]}.".replace("`", "") if note else ""
    return Table("training-metrics", "Training metrics", columns, tuple(lines), len(lines), sentence)


def _curve(tables: Mapping[str, pa.Table], column: str, name: str, title: str, axis: str) -> Chart | None:
    steps = tables.get("training_steps")
    if steps is None:
        return None
    rows = [row for row in steps.to_pylist() if row[column] is not None]
    if len(rows) < 2:
        return None
    every = -(-len(rows) // _MOST_DOTS)
    shown = rows[::every]
    numbered = all(row["step"] is not None for row in shown)
    along = "step" if numbered else "line"
    data = [{"at": row[along], "value": rounded(row[column]), "when": _when(row)} for row in shown]
    values = [row[column] for row in rows]
    caption = f"From {significant(values[0])} to {significant(values[-1])} over {len(rows):,} logged lines."
    if any(row["warmup"] for row in rows):
        caption += " Grey steps are cut from every average."
    if every > 1:
        caption += f" Every {every}th line is shown."
    if column == "sequences_per_s":
        caption += " Most frameworks log an average over some steps and repeat it until the next one."
    alt = (
        f"{title} over {len(rows)} logged lines, from {significant(values[0])} to {significant(values[-1])}."
    )
    columns = (
        Column("at", along.capitalize(), "", "number"),
        Column("value", axis, "", "number", Scale("", 1, 5)),
        Column("when", "Counted"),
    )
    lines = [[row[along], row[column], _when(row)] for row in shown]
    table = chart_table(name, title, columns, lines, total=len(rows))
    body = _line_and_dots(along.capitalize(), axis)
    points = list(dict.fromkeys(row["point"] for row in rows))
    only = filtered_by(tables, points[0]) if len(points) == 1 else {}
    return Chart(name, title, caption, alt, description(body, data, alt=alt), table, only=only)


def _line_and_dots(along: str, axis: str) -> dict[str, Any]:
    """A line with a dot a logged value, warm-up in grey."""
    x = {"field": "at", "type": "quantitative", "title": along, "axis": {"format": ",~f"}}
    y = {"field": "value", "type": "quantitative", "title": axis, "scale": {"zero": False}}
    scale = {"domain": ["counted", "warm-up"], "range": [PALETTE[0], QUIET]}
    color = {"field": "when", "type": "nominal", "title": None, "scale": scale, "legend": None}
    tip = [{"field": "at", "title": along}, {"field": "value", "title": axis}]
    dots = {"type": "point", "filled": True, "size": 28}
    return {
        "width": WIDTH - 60,
        "height": 190,
        "layer": [
            {"mark": {"type": "line", "color": QUIET, "strokeWidth": 1}, "encoding": {"x": x, "y": y}},
            {"mark": dots, "encoding": {"x": x, "y": y, "color": color, "tooltip": tip}},
        ],
    }


def _when(row: Mapping[str, Any]) -> str:
    return "warm-up" if row["warmup"] else "counted"


def _kernels(tables: Mapping[str, pa.Table]) -> Table | None:
    usage = tables.get("kernel_usage")
    if usage is None or not usage.num_rows:
        return None
    names = ("file", "status", "kernel_macs", "dot_macs", "convolution_macs", "kernel_ratio", "kernel_calls",
             "other_custom_calls", "reason")  # fmt: skip
    rows = tuple(tuple(row[name] for name in names) for row in usage.to_pylist())
    macs = Scale("billion", 1e9, 3)
    columns = (
        Column("file", "HLO module"),
        Column("status", "Status"),
        Column("kernel_macs", "Kernel multiply-adds", "", "number", macs),
        Column("dot_macs", "Dot multiply-adds", "", "number", macs),
        Column("convolution_macs", "Convolution multiply-adds", "", "number", macs),
        Column("kernel_ratio", "Kernel share", "", "number", Scale("%", 0.01, 2)),
        Column("kernel_calls", "Kernel calls", "", "number"),
        Column("other_custom_calls", "Other custom calls", "They add nothing.", "number"),
        Column("reason", "Reason"),
    )
    note = f"The first {_MOST_FILES} of {len(rows):,} modules." if len(rows) > _MOST_FILES else ""
    return Table("kernel-usage", "Custom kernels", columns, rows[:_MOST_FILES], len(rows), note)
