"""What runs of a folder say beside one another: ratios, scaling, trade-offs, and theory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from engine.metrics import METRICS
from engine.report.clean import clean_text
from engine.report.page import Column, Table, Value
from engine.report.run_columns import metric_column, number_column
from engine.score.scaling import (
    PERFORMANCE,
    Run,
    comparisons,
    label_of,
    prediction_errors,
    ratio,
    scalings,
    trade_offs,
)

if TYPE_CHECKING:
    from engine.results.tables import Tables

COMPARED: Final = (
    PERFORMANCE,
    "tpot_s",
    "ttft_s",
    "average_power_w",
    "tokens_per_s_per_w",
    "energy_per_output_token_j",
)
AXES: Final = {
    "batch_size": "Batch size",
    "parameters": "Model size",
    "quantization": "Number format",
    "hardware": "Platform",
    "settings": "Software, options and roots",
    "tensor": "Devices",
}


def comparison_table(runs: Sequence[Run]) -> Table:
    """Groups of runs that differ in one thing, each run with its ratios to the first of its group."""
    measured = [m for m in COMPARED if any(run.get(m) is not None for run in runs)]
    rows: list[tuple[Value, ...]] = []
    for axis, title in AXES.items():
        for group, members in comparisons(runs, axis):
            base = members[0]
            for run in members:
                cells: list[Value] = [title, group, _shown(axis, run), clean_text(run.label)]
                for metric in measured:
                    cells += [run.get(metric), ratio(run.get(metric), base.get(metric))]
                rows.append(tuple(cells))
    columns = [
        Column(n, t)
        for n, t in (("axis", "Compared"), ("group", "All else equal"), ("value", "Value"), ("run", "Run"))
    ]
    for metric in measured:
        columns.append(metric_column(metric, [run.get(metric) for run in runs]))
        columns.append(
            number_column(f"{metric}_ratio", f"{METRICS[metric].label}, ratio to first", decimals=3)
        )
    note = "" if rows else "No two runs differ in one setting only."
    return Table("comparison", "Comparison", tuple(columns), tuple(rows), len(rows), note)


def _shown(axis: str, run: Run) -> Value:
    value = run.get(axis)
    if axis == "parameters" and isinstance(value, int | float):
        return f"{value / 1e9:g} B ({clean_text(run.get('model') or '?')})"
    return clean_text(value) if value is not None else None


def trade_off_table(runs: Sequence[Run]) -> Table:
    """Power against performance; a dominated run has one beside it that is as fast at no more power."""
    found = trade_offs(runs)
    rows = [
        (
            clean_text(t.run.label),
            t.run.get("model"),
            t.run.get("batch_size"),
            t.power_w,
            t.performance,
            t.performance / t.power_w if t.power_w else None,
            "dominated" if t.dominated_by else "on the front",
            clean_text(t.dominated_by.label) if t.dominated_by else None,
        )
        for t in sorted(found, key=lambda t: t.power_w)
    ]
    columns = (
        Column("run", "Run"),
        Column("model", "Model"),
        Column("batch_size", "Batch", "", "number"),
        metric_column("average_power_w", [t.power_w for t in found]),
        metric_column(PERFORMANCE, [t.performance for t in found]),
        metric_column("tokens_per_s_per_w", []),
        Column("verdict", "Verdict"),
        Column("by", "Beaten by"),
    )
    note = "" if rows else "No run has both a power and a generation speed."
    return Table("trade-offs", "Power against performance", columns, tuple(rows), len(rows), note)


def scaling_table(runs: Sequence[Run]) -> Table:
    """Performance ratio over resource ratio, from the first run of each group to the others."""
    rows: list[tuple[Value, ...]] = []
    for axis in AXES:
        for s in scalings(runs, axis):
            first, last = (_shown(axis, run) for run in (s.start, s.end))
            rows.append(
                (
                    AXES[axis],
                    s.group,
                    first,
                    last,
                    label_of(s.resource),
                    s.performance_ratio,
                    s.resource_ratio,
                    s.efficiency,
                    s.efficiency_of_rounded,
                    s.note or None,
                )
            )
    columns = (
        Column("axis", "Scaled"),
        Column("group", "All else equal"),
        Column("start", "From"),
        Column("end", "To"),
        Column("resource", "Resource"),
        number_column("performance_ratio", "Performance ratio", decimals=4),
        number_column("resource_ratio", "Resource ratio", decimals=4),
        number_column("efficiency", "Scaling efficiency", decimals=4),
        number_column("rounded", "Efficiency of ratios rounded to 2 decimals", decimals=4),
        Column("note", "Rounding"),
    )
    note = "" if rows else "No two runs differ in one setting with performance and a resource known."
    return Table("scaling", "Scaling", columns, tuple(rows), len(rows), note)


def prediction_table(tables: Tables) -> Table:
    """What logs say beside what theory says for the same model and device."""
    found = prediction_errors(tables)
    rows = []
    for e in found:
        scale = metric_column(e.metric, [e.measured]).scale
        rows.append(
            (
                clean_text(e.run.label),
                e.run.get("model"),
                e.run.get("hardware"),
                e.phase,
                METRICS[e.metric].label,
                e.measured / scale.factor,
                e.predicted / scale.factor,
                scale.unit,
                e.error,
            )
        )
    columns = (
        Column("run", "Run"),
        Column("model", "Model"),
        Column("hardware", "Device"),
        Column("phase", "Phase"),
        Column("metric", "Metric"),
        number_column("measured", "From the log", decimals=3),
        number_column("predicted", "Predicted", decimals=3),
        Column("unit", "Unit"),
        number_column("error", "Error", decimals=1, unit="%", factor=0.01),
    )
    note = "" if rows else "No run has a model and a device of the catalogue and known lengths."
    return Table("prediction", "Prediction", columns, tuple(rows), len(rows), note)
