"""What each phase takes by the data sheet and by calibration, above the operators whose bounds make it up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from engine.report.charts.story import Story, label_of
from engine.report.numbers import Scale, each_scale
from engine.report.page import Column, Table, Value

if TYPE_CHECKING:
    import pyarrow as pa

_PHASES: Final = ("prefill", "decode", "decode_last", "request")
_COLUMNS: Final = (
    Column("point", label_of("point")),
    Column("phase", label_of("phase"), "decode is a mean step, decode_last the one of the longest context."),
    Column("bound_time_s", "Bound", "Time by the data sheet alone; no deployment is faster.", "number",
           each_scale("s")),
    Column("time_s", "Estimate", "Time with calibrated efficiencies; empty without a calibration.", "number",
           each_scale("s")),
    Column("ratio", "Estimate over bound", "", "number", Scale("", 1, 2)),
    Column("calibration", label_of("calibration")),
)  # fmt: skip


def phase_times(story: Story, points: Sequence[Mapping[str, Any]]) -> list[Table]:
    """One table of bound and estimate of each phase of these points; nothing where none was estimated."""
    numbers = [row["point"] for row in points if row.get("point") is not None]
    rows = _predicted(story.tables["summary"], numbers) if "summary" in story.tables else []
    if not any(row["basis"] == "estimate" for row in rows):
        return []
    names = {row["point"]: story.design_name(row) for row in points}
    order = {number: i for i, number in enumerate(numbers)}
    rows.sort(key=lambda row: (order[row["point"]], _PHASES.index(row["phase"])))
    values = tuple(_cells(names[row["point"]], row) for row in rows)
    between = tuple((None, None, None, _between(row), None, None) for row in rows)
    note = (
        "The operators below add up to these times, bounds and estimates alike, where a phase is one step of "
        "one micro-batch; brackets hold 90 % bands."
    )
    units = ("", "", "s", "s", "", "")
    return [Table("operators-phases", "Bound and estimate of each phase", _COLUMNS, values, len(values), note,
                  units, between)]  # fmt: skip


def _predicted(summary: pa.Table, numbers: Sequence[int]) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    mine = pc.and_(
        pc.is_in(summary["point"], value_set=pa.array(list(numbers), pa.int64())),
        pc.equal(summary["source"].cast(pa.string()), "predicted"),
    )
    rows: list[dict[str, Any]] = summary.filter(mine).to_pylist()
    return [row for row in rows if row["phase"] in _PHASES and row.get("time_s") is not None]


def _cells(name: str, row: Mapping[str, Any]) -> tuple[Value, ...]:
    estimated = row["basis"] == "estimate"
    bound = row.get("bound_time_s") if estimated else row["time_s"]
    time = row["time_s"] if estimated else None
    return name, row["phase"], bound, time, time / bound if time and bound else None, row.get("calibration")


def _between(row: Mapping[str, Any]) -> tuple[float, float] | None:
    # A request's time is its latency: the band stands under that name.
    for name in ("time_s", "e2e_s") if row["phase"] == "request" else ("time_s",):
        low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
        if row["basis"] == "estimate" and low is not None and high is not None:
            return low, high
    return None
