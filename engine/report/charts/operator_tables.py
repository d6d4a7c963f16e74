"""The operator table of a point: what each operator does, its bound, and its estimate where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.report.charts.roofline import operator_rows
from engine.report.charts.story import Story
from engine.report.numbers import each_scale, scale_for
from engine.report.page import Column, Table
from engine.results.tables import OPERATORS
from engine.results.tables import Column as Declared

_DECLARED: Final = {column.name: column for column in OPERATORS}
_LABELS: Final = {
    "operator": "Operator",
    "layer_kind": "Layer",
    "count": "Count",
    "flops": "FLOPs",
    "total_bytes": "Traffic",
    "intensity_flops_per_byte": "Intensity",
    "bound": "Limited by",
    "time_s": "Bound, one",
    "estimate_s": "Estimate, one",
    "estimate_note": "About the estimate",
    "formula": "Formula",
    "phase": "Phase",
    "parameters": "Parameters",
    "attainable_flops_per_s": "Attainable",
    "weight_bytes": "Weights read",
    "kv_read_bytes": "Cache read",
    "kv_write_bytes": "Cache written",
    "input_bytes": "Activations read",
    "output_bytes": "Activations written",
    "peak_flops_per_s": "Peak",
}
_SHOWN: Final = (
    "phase", "layer_kind", "operator", "count", "flops", "total_bytes", "intensity_flops_per_byte", "bound",
    "time_s", "estimate_s", "estimate_note", "formula",
)  # fmt: skip
_ESTIMATED: Final = ("estimate_s", "estimate_note")


def operator_tables(story: Story, points: Sequence[Mapping[str, Any]]) -> list[Table]:
    """The operator table of each of these points, formulas included."""
    found = []
    for row in points:
        listed = operator_rows(story, row["point"])
        if not listed:
            continue
        estimated = any(r["estimate_s"] is not None for r in listed)
        shown = [name for name in _SHOWN if estimated or name not in _ESTIMATED]
        columns = tuple(_operator_column(_DECLARED[name], [r[name] for r in listed]) for name in shown)
        values = tuple(
            tuple(r[name] or "" if name == "estimate_note" else r[name] for name in shown) for r in listed
        )
        between = tuple(tuple(_band(r) if name == "estimate_s" else None for name in shown) for r in listed)
        found.append(
            Table(f"operators-{row['point']}", story.design_name(row), columns, values, len(listed),
                  _ESTIMATES_NOTE if estimated else _bounds_note(listed),
                  tuple(_DECLARED[name].unit for name in shown), between if estimated else ())
        )  # fmt: skip
    return found


_ESTIMATES_NOTE: Final = (
    "One step of each phase on the busiest device; brackets hold 90 % bands. Operators that run in one "
    "kernel share its time as they share its bounds. Estimates times counts add up to the estimate of the "
    "step; bands do not, since errors of different kernels cancel in part."
)


def _bounds_note(rows: Sequence[Mapping[str, Any]]) -> str:
    why = next((row["estimate_note"] for row in rows if row["estimate_note"]), None)
    return f"Times are bounds: {why}." if why else ""


def _band(row: Mapping[str, Any]) -> tuple[float, float] | None:
    low, high = row["estimate_low_s"], row["estimate_high_s"]
    return None if low is None or high is None else (low, high)


def _operator_column(declared: Declared, values: Sequence[Any]) -> Column:
    label = _LABELS.get(declared.name, declared.name.replace("_", " ").capitalize())
    if declared.kind == "int":
        return Column(declared.name, label, declared.meaning, "number")
    if declared.kind == "float":
        scale = (
            each_scale(declared.unit) if declared.unit != "FLOP/B" else scale_for("", declared.unit, values)
        )
        return Column(declared.name, label, declared.meaning, "number", scale)
    return Column(declared.name, label, declared.meaning)
